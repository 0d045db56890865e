"""Formats from and for other tools, and licences, named once: REST, jobs and the command take them from here."""

from typing import Literal

VectorFormat = Literal["labeller", "coco", "cvat", "labelme"]
ImportFormat = Literal["png", "labeller", "coco", "cvat", "labelme"]
ExportFormat = Literal["png", "coco", "cvat", "labelme", "labelstudio", "labeller"]

ModelFormat = Literal["onnx", "bioimageio"]
Licence = Literal["CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC0-1.0", "MIT", "BSD-3-Clause", "Apache-2.0"]

# Their files are called like the image that they are about; the others list images.
ONE_IMAGE_A_FILE = ("png", "labeller", "labelme")

# What is ignored on purpose is a class like any other to the tools that know none of it.
IGNORED_NAME = "__ignored__"
