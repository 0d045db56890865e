"""From the values of a mask file to class indices."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from axons.data.decoding import RawMask
from axons.data.layers import IGNORED, UNLABELLED
from axons.errors import AnnotationRefused

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class IndexCoding:
    """Pixel = class index (also the index of a palette); 254 is ignored on purpose, 255 unlabelled."""


@dataclass(frozen=True, kw_only=True)
class GreyCoding:
    """Grey value -> class index; a stray value counts as the nearest one of the table, and the result says so."""

    classes: Mapping[int, int]


@dataclass(frozen=True, kw_only=True)
class ColourCoding:
    """Colour (also of a palette) -> class index; a colour that is not in the table is refused."""

    classes: Mapping[Colour, int]


Coding = IndexCoding | GreyCoding | ColourCoding


@dataclass(frozen=True, kw_only=True)
class ClassMask:
    """(H, W) uint8 of class indices, 254 and 255, and what was changed on the way."""

    values: np.ndarray
    notices: list[str]


def to_classes(raw: RawMask, coding: Coding, *, name: str, num_classes: int) -> ClassMask:
    """The class indices of a mask file.

    Raises:
        AnnotationRefused: the mask has a value, colour or class that the coding or the classes do not know.
    """
    notices: list[str] = []
    if isinstance(coding, ColourCoding):
        values = _from_colours(_colours(raw, name), coding, name)
    elif raw.values.ndim == 3:
        values = _from_grey_colours(raw.values, name)
    else:
        values = raw.values
    if isinstance(coding, GreyCoding):
        values, notices = _from_grey(values, coding)
    _check_classes(values, name, num_classes)
    return ClassMask(values=values, notices=raw.notices + notices)


def check_size(mask: ClassMask, *, name: str, height: int, width: int) -> None:
    """Raises `AnnotationRefused` unless the mask has the size of its image."""
    rows, cols = mask.values.shape
    if (rows, cols) != (height, width):
        raise AnnotationRefused(
            f"mask {name!r} has {cols} x {rows} px but its image has {width} x {height} px; "
            "export the mask at the image's size"
        )


def guess_coding(values: Iterable[int], num_classes: int) -> IndexCoding | GreyCoding:
    """The coding of single-channel masks that together have these `values`.

    Index masks if every value is a class index, 254 or 255, and a class besides background occurs; else grey-coded,
    with the classes spread evenly from black to white, as most tools write them.
    """
    present = set(values)
    is_index = present <= {*range(num_classes), IGNORED, UNLABELLED} and present & set(range(1, num_classes))
    if is_index or not present - {0}:
        return IndexCoding()
    spread = [255 * i / max(1, num_classes - 1) for i in range(num_classes)]
    # Half of 255 is 127 to some tools and 128 to others: what occurs decides.
    tables = [{to_whole(value): i for i, value in enumerate(spread)} for to_whole in (int, round)]
    return GreyCoding(classes=max(tables, key=lambda table: len(present & table.keys())))


def _from_grey(values: np.ndarray, coding: GreyCoding) -> tuple[np.ndarray, list[str]]:
    known = np.array(sorted(coding.classes))
    nearest = known[np.abs(np.arange(256)[:, None] - known).argmin(axis=1)]
    table = np.array([coding.classes[int(value)] for value in nearest], np.uint8)
    strays = values.size - int(np.isin(values, known).sum())
    if not strays:
        return table[values], []
    notice = f"{strays} px had a grey value that is not one of {', '.join(map(str, known))}; the nearest was taken"
    return table[values], [notice]


def _from_colours(colours: np.ndarray, coding: ColourCoding, name: str) -> np.ndarray:
    packed = _packed(colours)
    values = np.zeros(packed.shape, np.uint8)
    known = np.zeros(packed.shape, bool)
    for colour, class_index in coding.classes.items():
        here = packed == _packed(np.array(colour))
        values[here] = class_index
        known |= here
    if not known.all():
        strange = packed[~known]
        colour, count = max(zip(*np.unique(strange, return_counts=True), strict=True), key=lambda pair: pair[1])
        raise AnnotationRefused(
            f"mask {name!r} has the colour #{colour:06x} on {count} px, which is no class; "
            "add it to the colours or repaint it"
        )
    return values


def _colours(raw: RawMask, name: str) -> np.ndarray:
    if raw.values.ndim == 3:
        return raw.values
    if not raw.palette:
        return np.repeat(raw.values[..., None], 3, axis=2)
    palette = np.array(raw.palette, np.uint8)
    if raw.values.max() >= len(palette):
        raise AnnotationRefused(f"mask {name!r} uses palette index {raw.values.max()} of {len(palette)}; save it again")
    return palette[raw.values]


def _from_grey_colours(colours: np.ndarray, name: str) -> np.ndarray:
    if not (colours == colours[..., :1]).all():
        raise AnnotationRefused(
            f"mask {name!r} is in colour; give a table from colour to class, or save it as class indices"
        )
    return np.ascontiguousarray(colours[..., 0])


def _packed(colours: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return np.asarray((red << 16) | (green << 8) | blue)


def _check_classes(values: np.ndarray, name: str, num_classes: int) -> None:
    counts = np.bincount(values.reshape(-1), minlength=256)
    wrong = [value for value in range(num_classes, IGNORED) if counts[value]]
    if wrong:
        raise AnnotationRefused(
            f"mask {name!r} has class index {wrong[0]} on {counts[wrong[0]]} px but there are {num_classes} classes; "
            "relabel the mask or add the class"
        )


def parse_colour(text: str) -> Colour:
    """`#rrggbb` -> (red, green, blue).

    Raises:
        ValueError: another form.
    """
    if not re.fullmatch("#?[0-9A-Fa-f]{6}", text):
        raise ValueError(f"colour is {text!r}; write it as #rrggbb")
    red, green, blue = bytes.fromhex(text[-6:])
    return red, green, blue


def palette_of(colours: Sequence[str]) -> list[int]:
    """256 colours for an index PNG: those of the classes, grey for ignored, white for unlabelled."""
    palette = [channel for colour in colours for channel in parse_colour(colour)]
    palette += [0] * (3 * 254 - len(palette))
    return [*palette, 128, 128, 128, 255, 255, 255]
