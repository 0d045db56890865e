"""labelme JSON, one file an image: shapes as layers, and planes as masks."""

import base64
import binascii
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from axons.data import shapes
from axons.data.label_files import ImageLabels, LayerMaker, read_json, refusing_malformed, short
from axons.data.layers import Layer
from axons.data.outlines import Part, parts_of
from axons.errors import AnnotationRefused

DecodeMask = Callable[[bytes], np.ndarray]

_VERSION = "5.3.0"  # the first with masks
_MAX_PNG_BYTES = 64 << 20


def read_labelme(path: Path, classes: Mapping[str, int], *, name: str, decode_mask: DecodeMask) -> list[ImageLabels]:
    """The labels of the one image of a labelme file, called like the file; a label belongs to the class of its name.

    Shapes are painted in the file's order, the later one on top. Coordinates are pixel edges, as ours. What no shape
    covers is unlabelled.

    Args:
        decode_mask: (H, W) or (H, W, C) values of an untrusted PNG; what is not 0 is inside.
    Raises:
        AnnotationRefused: the file as a whole cannot be read; a fault of a shape is told in the image's `refusal`.
    """
    document = read_json(path, name)
    with refusing_malformed(name, what="a labelme file", needs="shapes, imageHeight and imageWidth"):
        found: list[dict[str, Any]] = list(document["shapes"])
        sides = document.get("imageHeight"), document.get("imageWidth")
        size = None if None in sides else (int(sides[0]), int(sides[1]))
    maker = LayerMaker(name, classes)

    def make() -> list[Layer]:
        maker.check_classes(shape["label"] for shape in found)
        return [layer for shape in found for layer in _layers(shape, maker, decode_mask)]

    return [maker.image(name, size, make)]


def labelme_document(plane: np.ndarray, names: Mapping[int, str], *, image_path: str) -> bytes:
    """The labelme file of an (H, W) plane of values, one mask for each part.

    Args:
        names: of the values.
        image_path: where the image lies, seen from the file.
    """
    document = {
        "version": _VERSION,
        "flags": {},
        "shapes": [_mask(part, names) for part in parts_of(plane)],
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": plane.shape[0],
        "imageWidth": plane.shape[1],
    }
    return json.dumps(document).encode()


def _layers(shape: dict[str, Any], maker: LayerMaker, decode_mask: DecodeMask) -> list[Layer]:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind == "mask":
        return [_mask_layer(shape, maker, decode_mask)]
    if kind not in _RINGS:
        raise AnnotationRefused(f"a shape has the type {short(kind)!r}, which has no rule; draw it as a polygon")
    return [maker.polygon(shape["label"], [ring]) for ring in _RINGS[kind](points)]


def _mask_layer(shape: dict[str, Any], maker: LayerMaker, decode_mask: DecodeMask) -> Layer:
    """A PNG of a box, of which the file gives the first and the last pixel."""
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in shape["points"])
    height, width = bottom - top + 1, right - left + 1
    if height < 1 or width < 1:
        raise AnnotationRefused(f"a mask has a box of {height} x {width} px; export the file again")
    maker.reserve(height * width)
    values = decode_mask(_png(shape["mask"], height, width))
    inside = np.any(values.reshape(*values.shape[:2], -1), axis=2)
    return maker.mask(shape["label"], top, left, inside)


def _png(text: str, height: int, width: int) -> bytes:
    """The PNG in a mask; its size is looked at before it is unpacked."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AnnotationRefused(f"a mask is not base64 ({short(error)}); export the file again") from error
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) < 24 or len(data) > _MAX_PNG_BYTES:
        raise AnnotationRefused("a mask is not a PNG; export the file again")
    rows, cols = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if (rows, cols) != (height, width):
        raise AnnotationRefused(
            f"a mask has {rows} x {cols} px but its box is {height} x {width} px; export the file again"
        )
    return data


def _mask(part: Part, names: Mapping[int, str]) -> dict[str, Any]:
    height, width = part.inside.shape
    buffer = io.BytesIO()
    Image.fromarray(part.inside.astype(np.uint8) * 255).save(buffer, "PNG")
    return {
        "label": names[part.value],
        "points": [[part.col0, part.row0], [part.col0 + width - 1, part.row0 + height - 1]],
        "group_id": None,
        "description": "",
        "shape_type": "mask",
        "flags": {},
        "mask": base64.b64encode(buffer.getvalue()).decode(),
    }


def _rectangle(points: Sequence[Sequence[float]]) -> list[np.ndarray]:
    (left, top), (right, bottom) = points
    return [shapes.box(left, top, right, bottom)]


def _circle(points: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """The centre, and a point of the circle."""
    (x, y), (other_x, other_y) = points
    radius = math.hypot(other_x - x, other_y - y)
    return [shapes.ellipse(x, y, radius, radius)]


def _disks(points: Sequence[Sequence[float]]) -> list[np.ndarray]:
    return [shapes.disk(x, y) for x, y in points]


_RINGS: dict[str, Callable[[Sequence[Sequence[float]]], list[np.ndarray]]] = {
    "polygon": lambda points: [shapes.ring(points)],
    "oriented_rectangle": lambda points: [shapes.ring(points)],
    "rectangle": _rectangle,
    "circle": _circle,
    "point": _disks,
    "points": _disks,
    "line": shapes.polyline,
    "linestrip": shapes.polyline,
}
