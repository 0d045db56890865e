"""Label Studio JSON: planes as brush regions."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from axons.data.layers import UNLABELLED

FROM_NAME, TO_NAME = "label", "image"

_WORD_BITS = 8
_SIZE_BITS = (3, 4, 8, 16)  # how many bits the length of a run may take; each run says which
_MAX_RUN = 1 << _SIZE_BITS[-1]


def label_studio_task(plane: np.ndarray, names: Mapping[int, str], *, image_path: str) -> bytes:
    """The task of an (H, W) plane of values: one annotation with a brush region for each value; `names` are theirs."""
    present = [value for value in np.unique(plane).tolist() if value != UNLABELLED]
    regions = [_region(plane == value, names[value], f"value-{value}") for value in present]
    return json.dumps({"data": {TO_NAME: image_path}, "annotations": [{"result": regions}]}).encode()


def label_studio_config(labels: Iterable[tuple[str, str]]) -> str:
    """The labelling interface of a project with these names and colours."""
    listed = "\n".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(colour)}/>" for name, colour in labels
    )
    image = f'  <Image name="{TO_NAME}" value="${TO_NAME}" zoom="true"/>'
    brush = f'  <BrushLabels name="{FROM_NAME}" toName="{TO_NAME}">\n{listed}\n  </BrushLabels>'
    return f"<View>\n{image}\n{brush}\n</View>\n"


def encode_brush(inside: np.ndarray) -> list[int]:
    """The bytes that Label Studio keeps of an (H, W) bool mask.

    They are bits: the number of values in 32, the bits of a value - 1 in 5, the four widths of a length - 1 in 4 each,
    then the runs of the flattened RGBA image, 255 inside and 0 outside. A run is 1, which width in 2 bits, its length
    - 1, and its value; what is one value long, which a pixel of four channels never is, would begin with 0.
    """
    flat = inside.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = 4 * np.diff(np.append(starts, flat.size))
    values = np.where(flat[starts], np.int64(255), np.int64(0))
    # What is longer than a length can say comes in several runs, the last of them with the rest.
    pieces = -(-lengths // _MAX_RUN)
    rest = lengths - (pieces - 1) * _MAX_RUN
    values = np.repeat(values, pieces)
    sizes = np.full(len(values), _MAX_RUN)
    sizes[np.cumsum(pieces) - 1] = rest
    which = np.searchsorted([1 << bits for bits in _SIZE_BITS], sizes)
    widths = np.array(_SIZE_BITS)[which]
    codes = (((1 << 2 | which) << widths | (sizes - 1)) << _WORD_BITS) | values
    head = [(4 * flat.size, 32), (_WORD_BITS - 1, 5), *((bits - 1, 4) for bits in _SIZE_BITS)]
    numbers = np.concatenate([[number for number, _ in head], codes])
    bits = np.concatenate([[width for _, width in head], 3 + widths + _WORD_BITS])
    return np.packbits(_to_bits(numbers, bits)).tolist()


def _region(inside: np.ndarray, label: str, identity: str) -> dict[str, Any]:
    height, width = inside.shape
    return {
        "id": identity,
        "type": "brushlabels",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "origin": "manual",
        "value": {"format": "rle", "rle": encode_brush(inside), "brushlabels": [label]},
    }


def _to_bits(numbers: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Numbers of so many bits each, one after the other, the highest bit first."""
    ends = np.cumsum(widths)
    place = np.repeat(ends, widths) - 1 - np.arange(ends[-1])
    return (np.repeat(numbers, widths) >> place & 1).astype(np.uint8)
