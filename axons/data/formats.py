"""The formats of labels from and for other tools, named once: REST, jobs and the command take them from here."""

from typing import Literal

VectorFormat = Literal["labeller", "coco", "cvat", "labelme"]
ImportFormat = Literal["png", "labeller", "coco", "cvat", "labelme"]
ExportFormat = Literal["png", "coco", "cvat", "labelme", "labelstudio", "labeller"]

# Their files are called like the image that they are about; the others list images.
ONE_IMAGE_A_FILE = ("png", "labeller", "labelme")

# What is ignored on purpose is a class like any other to the tools that know none of it.
IGNORED_NAME = "__ignored__"
