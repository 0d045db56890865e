"""Django Labeller JSON, one file an image: labels as layers, and planes as polygons; and its schemas of classes."""

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from axons.data import shapes
from axons.data.label_files import ImageLabels, LayerMaker, read_json, refusing_malformed, short
from axons.data.layers import Layer
from axons.data.masks import parse_colour
from axons.data.outlines import parts_of, traced_pieces
from axons.errors import AnnotationRefused

SUFFIX = "__labels.json"
FINISHED = "finished"  # the task that stands for the "complete" of older files

_MAX_DEPTH = 20
_OBJECTS = uuid.UUID("5d4ad0ee-1b4f-4a9c-9b7e-6d5c1f3f8f21")


@dataclass(frozen=True)
class _Member:
    """A label with an area, and the class that it is painted with: of its group, where it is in one."""

    label: dict[str, Any]
    label_class: str


def read_labeller(path: Path, classes: Mapping[str, int], *, name: str) -> list[ImageLabels]:
    """The labels of the one image of a Django Labeller file, called like the file.

    Labels are painted in the file's order, the later one on top. Coordinates are pixel edges, as ours. What no label
    covers is unlabelled. The file does not tell the size of its image.

    Raises:
        AnnotationRefused: the file as a whole cannot be read; a fault of a label is told in the image's `refusal`.
    """
    document = read_json(path, name)
    with refusing_malformed(name, what="a Django Labeller file", needs="a list of labels"):
        header = {"labels": document} if isinstance(document, list) else document
        labels: list[Any] = list(header["labels"])
        tasks = header.get("completed_tasks", [FINISHED] if header.get("complete") else [])
        is_done = FINISHED in tasks
    maker, left_out = LayerMaker(name, classes), Counter[str]()

    def make() -> list[Layer]:
        members = _members(labels, None, left_out, depth=0)
        maker.check_classes(member.label_class for member in members)
        return [layer for member in members if (layer := _layer(member, maker, left_out)) is not None]

    image = maker.image(name, None, make, is_done=is_done)
    notices = [f"{count} {what} were left out" for what, count in sorted(left_out.items())]
    return [image if image.refusal else replace(image, notices=tuple(notices))]


def labeller_document(plane: np.ndarray, names: Mapping[int, str], *, image_filename: str, is_done: bool) -> bytes:
    """The Django Labeller file of an (H, W) plane of values: one polygon for each part, along the edges of its pixels.

    Args:
        names: of the values.
        is_done: whether the image needs no more labels.
    """
    prefix = uuid.uuid5(_OBJECTS, image_filename)
    pieces = [(part.value, rings) for part in parts_of(plane) for rings in traced_pieces(part)]
    labels = [
        {
            "label_type": "polygon",
            "label_class": names[value],
            "source": "axons",
            "anno_data": {},
            "object_id": f"{prefix}__{number}",
            "regions": [[{"x": x, "y": y} for y, x in ring.tolist()] for ring in rings],
        }
        for number, (value, rings) in enumerate(pieces, start=1)
    ]
    tasks = [FINISHED] if is_done else []
    return json.dumps({"image_filename": image_filename, "completed_tasks": tasks, "labels": labels}).encode()


def labeller_schema(name: str, classes: Iterable[tuple[str, str]]) -> str:
    """The Django Labeller schema of classes with these names and colours."""
    listed = [
        {"name": name, "human_name": name, "colours": {"default": list(parse_colour(colour))}}
        for name, colour in classes
    ]
    groups = [{"group_name": "Classes", "group_classes": listed}]
    return json.dumps({"name": name, "description": "", "colour_schemes": [], "label_class_groups": groups}, indent=2)


def _members(labels: Sequence[Any], group_class: str | None, left_out: Counter[str], *, depth: int) -> list[_Member]:
    """Labels that have an area, groups resolved; what has none, or no class, is counted."""
    if depth > _MAX_DEPTH:
        raise AnnotationRefused(f"groups lie more than {_MAX_DEPTH} deep in each other; ungroup them")
    members: list[_Member] = []
    for label in labels:
        kind, label_class = label["label_type"], group_class or label["label_class"]
        if label.get("anno_data"):
            left_out["extra fields of labels"] += 1
        if kind == "group":
            members += _members(label["component_models"], label_class, left_out, depth=depth + 1)
        elif kind == "composite":
            left_out["composites, which only link other labels,"] += 1
        elif label_class is None:
            left_out["labels without a class"] += 1
        else:
            members.append(_Member(label, label_class))
    return members


def _layer(member: _Member, maker: LayerMaker, left_out: Counter[str]) -> Layer | None:
    rings = _rings(member.label)
    if not rings:
        left_out["polygons with fewer than 3 vertices"] += 1
        return None
    return maker.polygon(member.label_class, rings)


def _rings(label: dict[str, Any]) -> list[np.ndarray]:
    kind = label["label_type"]
    if kind == "polygon":
        regions = [label["vertices"]] if "vertices" in label else label["regions"]
        return [shapes.ring([_xy(vertex) for vertex in region]) for region in regions if len(region) >= 3]
    if kind == "point":
        return [shapes.disk(*_xy(label["position"]))]
    if kind not in ("box", "oriented_ellipse"):
        raise AnnotationRefused(f"a label has the type {short(kind)!r}, which has no rule; draw it as a polygon")
    x, y = _xy(label["centre"])
    if kind == "box":
        width, height = _xy(label["size"])
        return [shapes.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)]
    radius_x, radius_y = float(label["radius1"]), float(label["radius2"])
    return [shapes.ellipse(x, y, radius_x, radius_y, turned=float(label["orientation_radians"]))]


def _xy(point: Mapping[str, Any]) -> tuple[float, float]:
    return float(point["x"]), float(point["y"])
