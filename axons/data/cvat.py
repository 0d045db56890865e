"""CVAT XML 1.1 ("CVAT for images"): shapes as layers, and planes as masks."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from axons.data import shapes
from axons.data.label_files import ImageLabels, LayerMaker, check_file_size, refusing_malformed, short
from axons.data.layers import Layer
from axons.data.outlines import Part, parts_of
from axons.errors import AnnotationRefused

Attributes = dict[str, str]

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WITHOUT_AREA = "tag"


def read_cvat(path: Path, classes: Mapping[str, int], *, name: str) -> list[ImageLabels]:
    """The labels of each image of a CVAT file; a label belongs to the class of the same name.

    Shapes are painted by `z_order`, those of one order as the file has them. Coordinates are pixel edges, as ours. What
    no shape covers is unlabelled; tags, which say something of the whole image, are left out.

    Raises:
        AnnotationRefused: the file as a whole cannot be read; a fault of one image is told in its `refusal`.
    """
    maker = LayerMaker(name, classes)
    found = []
    with refusing_malformed(name, what="a CVAT file", needs="images with a name, a width and a height"):
        for image, elements in _images(path, name):
            size = (int(image["height"]), int(image["width"]))
            found.append(_image(short(image["name"]), size, elements, maker))
    return found


def cvat_image(number: int, name: str, plane: np.ndarray, names: Mapping[int, str]) -> str:
    """The `<image>` element of an (H, W) plane of values, one mask for each part; `names` are those of the values."""
    height, width = plane.shape
    image = _attributes(id=number, name=name, width=width, height=height)
    masks = "\n".join(f"    <mask {_attributes(**_mask(part, names))}></mask>" for part in parts_of(plane))
    return f"  <image {image}>\n{masks}\n  </image>\n"


def cvat_document(task: str, labels: Iterable[tuple[str, str]], images: Iterable[str]) -> Iterator[str]:
    """A CVAT file, piece by piece.

    Args:
        labels: names and colours.
        images: of `cvat_image`.
    """
    listed = "".join(
        f"<label><name>{_text(name)}</name><color>{_text(colour)}</color><type>any</type><attributes/></label>"
        for name, colour in labels
    )
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    yield f"  <meta><task><name>{_text(task)}</name><mode>annotation</mode><labels>{listed}</labels></task></meta>\n"
    yield from images
    yield "</annotations>\n"


def _images(path: Path, name: str) -> list[tuple[Attributes, list[tuple[str, Attributes]]]]:
    """Attributes of each image, with the tags and attributes of the elements in it."""
    check_file_size(path, name)
    found: list[tuple[Attributes, list[tuple[str, Attributes]]]] = []
    open_tags: list[str] = []

    def start(tag: str, attributes: Attributes) -> None:
        if not open_tags and tag != "annotations":
            raise AnnotationRefused(f"{name!r} is not a CVAT file but holds {short(tag)!r}; export CVAT for images 1.1")
        if tag == "track":
            raise AnnotationRefused(f"{name!r} is a CVAT file for videos; export CVAT for images 1.1")
        if tag == "image":
            found.append((attributes, []))
        elif open_tags and open_tags[-1] == "image":
            found[-1][1].append((tag, attributes))
        open_tags.append(tag)

    def refuse(*_: object) -> None:
        # A document type can name other files and unfold without end; CVAT never writes one.
        raise AnnotationRefused(f"{name!r} has a document type definition, which is not allowed; export it again")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _tag: open_tags.pop()
    parser.StartDoctypeDeclHandler = refuse
    try:
        # All at once: fed in pieces, expat begins each long attribute again with every piece.
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise AnnotationRefused(f"{name!r} is not XML ({short(error)}); export it again") from error
    return found


def _image(
    name: str, size: tuple[int, int], elements: Sequence[tuple[str, Attributes]], maker: LayerMaker
) -> ImageLabels:
    drawn = [element for element in elements if element[0] != _WITHOUT_AREA]
    num_tags = len(elements) - len(drawn)

    def make() -> list[Layer]:
        maker.check_classes(attributes["label"] for _, attributes in drawn)
        ordered = sorted(drawn, key=lambda element: int(element[1].get("z_order", "0")))
        return [layer for tag, attributes in ordered for layer in _layers(tag, attributes, size, maker)]

    notices = [f"{num_tags} tags of the whole image {name!r} were left out"] if num_tags else []
    return maker.image(name, size, make, notices=notices)


def _layers(tag: str, attributes: Attributes, size: tuple[int, int], maker: LayerMaker) -> list[Layer]:
    label = attributes["label"]
    if tag == "mask":
        row0, col0, inside = _decoded(attributes, size, maker)
        return [maker.mask(label, row0, col0, inside)]
    if tag not in _RINGS:
        raise AnnotationRefused(f"a {short(tag)!r} has no area that could be painted; leave it out of the file")
    return [maker.polygon(label, [ring]) for ring in _RINGS[tag](attributes)]


def _decoded(attributes: Attributes, size: tuple[int, int], maker: LayerMaker) -> tuple[int, int, np.ndarray]:
    """Corner and (H, W) bool mask; its runs go along the rows of its box and begin with background."""
    left, top, width, height = (int(attributes[side]) for side in ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(width, height) < 1 or top + height > size[0] or left + width > size[1]:
        raise AnnotationRefused(
            f"a mask of {height} x {width} px at ({top}, {left}) leaves the image of {size[0]} x {size[1]} px; "
            "export the file again"
        )
    maker.reserve(height * width)
    runs = np.array([int(run) for run in attributes["rle"].split(",")])
    if runs.dtype.kind != "i" or runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise AnnotationRefused(f"a mask's runs do not add up to its {height * width} px; export the file again")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return top, left, inside


def _mask(part: Part, names: Mapping[int, str]) -> dict[str, Any]:
    """The attributes of a mask; see `_decoded`."""
    flat = np.concatenate([[False], part.inside.reshape(-1)])
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)), [part.inside.size]])
    height, width = part.inside.shape
    return {
        "label": names[part.value],
        "source": "manual",
        "occluded": 0,
        "rle": ", ".join(map(str, np.diff(edges).tolist())),
        "left": part.col0,
        "top": part.row0,
        "width": width,
        "height": height,
        "z_order": 0,
    }


def _points(attributes: Attributes) -> list[list[float]]:
    return [[float(number) for number in pair.split(",")] for pair in attributes["points"].split(";")]


def _box(attributes: Attributes) -> list[np.ndarray]:
    left, top, right, bottom = (float(attributes[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
    return [shapes.box(left, top, right, bottom, turned=_turned(attributes))]


def _ellipse(attributes: Attributes) -> list[np.ndarray]:
    x, y, radius_x, radius_y = (float(attributes[side]) for side in ("cx", "cy", "rx", "ry"))
    return [shapes.ellipse(x, y, radius_x, radius_y, turned=_turned(attributes))]


def _turned(attributes: Attributes) -> float:
    return math.radians(float(attributes.get("rotation", "0")))


_RINGS: dict[str, Callable[[Attributes], list[np.ndarray]]] = {
    "polygon": lambda attributes: [shapes.ring(_points(attributes))],
    "box": _box,
    "ellipse": _ellipse,
    "points": lambda attributes: [shapes.disk(x, y) for x, y in _points(attributes)],
    "polyline": lambda attributes: shapes.polyline(_points(attributes)),
}


def _attributes(**values: object) -> str:
    return " ".join(f"{key}={quoteattr(_NO_XML.sub('?', str(value)))}" for key, value in values.items())


def _text(value: str) -> str:
    return escape(_NO_XML.sub("?", value))
