"""The formats of labels from and for other tools, named once: REST, jobs and the command take them from here."""

from typing import Literal

ImportFormat = Literal["png", "coco"]
ExportFormat = Literal["png", "coco"]
