"""The layers a person draws on a tile, and rule R1 that renders them to one plane of values.

Values: 0 to 252 are class indices (0 background), 254 is "ignored on purpose", 255 is unlabelled; inside mask layers
253 is see-through. The browser renders by the same rule, byte for byte; `tests/golden/r1.json` holds both to it.
"""

import gzip
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import orjson

from axons.errors import AnnotationRefused

IGNORE_INDEX = 255
UNLABELLED = 255
IGNORED = 254
SEE_THROUGH = 253
MAX_CLASS_INDEX = 252

MAX_SIDE = 8192
MAX_ROW_CROSSINGS = 1 << 24  # see `row_crossings`: each costs some 50 bytes while it is rendered
SUBPIXEL = 16  # polygon coordinates are whole sixteenths of a pixel; (0, 0) is the outer corner of the first pixel

_SCHEMA = 1
_CENTRE = SUBPIXEL // 2
_MAX_VERTICES = 200_000
_MAX_LAYERS = 20_000
_PIXELS_AT_ONCE = 1 << 16
_PAINTABLE = frozenset({*range(MAX_CLASS_INDEX + 1), IGNORED, UNLABELLED})


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Who made a layer (`by`), when (`at`, ISO 8601), and how (`source`: "manual", "model:<id>", "import:<file>")."""

    id: str = ""
    by: str = ""
    at: str = ""
    source: str = "manual"


@dataclass(frozen=True, kw_only=True)
class PolygonLayer:
    """One value painted inside rings, by the even-odd rule.

    Args:
        value: class index, 254 or 255.
        rings: each (V, 2) integers: row and column in sixteenths of a pixel; the last vertex joins the first.
        keep: values this polygon does not paint over.
    """

    value: int
    rings: tuple[np.ndarray, ...]
    keep: frozenset[int] = frozenset()
    origin: Origin = Origin()

    def __post_init__(self) -> None:
        _check_values({self.value, *self.keep}, allowed=_PAINTABLE)
        if (vertices := sum(len(ring) for ring in self.rings)) > _MAX_VERTICES:
            raise AnnotationRefused(f"a polygon has {vertices} vertices; simplify it to at most {_MAX_VERTICES}")
        for ring in self.rings:
            if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
                raise AnnotationRefused(
                    f"a polygon ring has shape {ring.shape}; give at least 3 pairs of row and column"
                )
            if ring.size and np.abs(ring).max() > 2 * MAX_SIDE * SUBPIXEL:
                raise AnnotationRefused(
                    f"a polygon vertex lies at {np.abs(ring).max() / SUBPIXEL:.0f} px; keep vertices near the tile"
                )


@dataclass(frozen=True, kw_only=True)
class MaskLayer:
    """Values painted pixel by pixel inside a box.

    Args:
        row0, col0: corner of the box in the tile.
        values: (H, W) uint8; `SEE_THROUGH` leaves what is below.
    """

    row0: int
    col0: int
    values: np.ndarray
    origin: Origin = Origin()

    def __post_init__(self) -> None:
        assert self.values.dtype == np.uint8 and self.values.ndim == 2


Layer = PolygonLayer | MaskLayer


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """The labels of one tile of `height` by `width` px: layers from the lowest to the topmost."""

    height: int
    width: int
    layers: tuple[Layer, ...] = ()

    def __post_init__(self) -> None:
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise AnnotationRefused(
                f"a tile of {self.height} x {self.width} px cannot be annotated; its sides may be 1 to {MAX_SIDE} px"
            )
        if len(self.layers) > _MAX_LAYERS:
            raise AnnotationRefused(f"{len(self.layers)} layers on one tile; flatten them to at most {_MAX_LAYERS}")
        for layer in self.layers:
            if isinstance(layer, MaskLayer):
                _check_box(layer, self.height, self.width)

    def plane(self) -> np.ndarray:
        """Render by R1: (height, width) uint8 of values."""
        return render(self.layers, self.height, self.width)


def render(layers: Sequence[Layer], height: int, width: int) -> np.ndarray:
    """Rule R1: start with 255; each layer in order writes its value on the pixels it covers.

    A polygon covers the pixels whose centre lies inside its rings (even-odd); an edge reaches from its upper end down
    to just above its lower end. Pixels whose current value is in the polygon's `keep` stay as they are.
    """
    plane = np.full((height, width), UNLABELLED, dtype=np.uint8)
    for is_polygon, run in groupby(layers, key=lambda layer: isinstance(layer, PolygonLayer)):
        if is_polygon:
            _paint_polygons(plane, list(run))  # type: ignore[arg-type]  # groupby has sorted them out
        else:
            for layer in run:
                assert isinstance(layer, MaskLayer)
                _paint_mask(plane, layer)
    return plane


def crc32(plane: np.ndarray) -> int:
    """Checksum of a plane's bytes, row by row, as the browser computes it."""
    return zlib.crc32(np.ascontiguousarray(plane).tobytes())


def count_values(plane: np.ndarray) -> dict[int, int]:
    """Pixels of each value that occurs."""
    counts = np.bincount(plane.ravel(), minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def row_crossings(annotation: Annotation) -> int:
    """How often the edges of polygons cross a row of pixels: what it costs to render them."""
    rings = [ring for layer in annotation.layers if isinstance(layer, PolygonLayer) for ring in layer.rings]
    rows = (np.clip(ring[:, 0], 0, annotation.height * SUBPIXEL) for ring in rings)
    return sum(int(np.abs(row - np.roll(row, 1)).sum()) for row in rows) // SUBPIXEL


def training_mask(plane: np.ndarray) -> np.ndarray:
    """What training sees of a plane: ignored and unlabelled pixels are both `IGNORE_INDEX`."""
    return np.where(plane >= SEE_THROUGH, np.uint8(IGNORE_INDEX), plane)


def mask_to_layers(plane: np.ndarray, *, origin: Origin = Origin()) -> tuple[MaskLayer, ...]:
    """One mask layer that renders to `plane` ((H, W) uint8 of values); none if everything is unlabelled."""
    labelled = plane != UNLABELLED
    if not labelled.any():
        return ()
    rows, cols = np.flatnonzero(labelled.any(axis=1)), np.flatnonzero(labelled.any(axis=0))
    box = plane[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    values = np.where(box == UNLABELLED, np.uint8(SEE_THROUGH), box)
    return (MaskLayer(row0=int(rows[0]), col0=int(cols[0]), values=values, origin=origin),)


def annotation_of(plane: np.ndarray, *, origin: Origin = Origin()) -> Annotation:
    """The annotation that renders to `plane`."""
    return Annotation(height=plane.shape[0], width=plane.shape[1], layers=mask_to_layers(plane, origin=origin))


def to_json(annotation: Annotation) -> dict[str, Any]:
    """The annotation as plain JSON values, with its checksum and pixel counts."""
    plane = annotation.plane()
    return {
        "schema": _SCHEMA,
        "height": annotation.height,
        "width": annotation.width,
        "layers": [_layer_to_json(layer) for layer in annotation.layers],
        "crc32": crc32(plane),
        "counts": {str(value): count for value, count in count_values(plane).items()},
    }


def from_json(document: Any) -> Annotation:
    """The annotation of a JSON document, checked in every part.

    Raises:
        AnnotationRefused: what is wrong with it; also if its checksum is not that of its rendering.
    """
    try:
        if document["schema"] != _SCHEMA:
            raise AnnotationRefused(f"annotation schema is {document['schema']!r}; this version reads {_SCHEMA}")
        layers = tuple(_layer_from_json(layer) for layer in document["layers"])
        annotation = Annotation(height=int(document["height"]), width=int(document["width"]), layers=layers)
        expected = document.get("crc32")
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise AnnotationRefused(
            f"annotation is malformed ({type(error).__name__}: {error}); send what the editor saved"
        ) from error
    if expected is not None and crc32(annotation.plane()) != expected:
        raise AnnotationRefused(
            f"annotation renders to another checksum than {expected}; reload the tile and save again"
        )
    return annotation


def pack(annotation: Annotation) -> bytes:
    """The annotation as gzipped JSON, the same bytes each time."""
    return pack_json(to_json(annotation))


def pack_json(document: dict[str, Any]) -> bytes:
    """What `to_json` has made, as `pack` does."""
    # Level 9 takes twelve times as long and saves 7 %.
    return gzip.compress(orjson.dumps(document), compresslevel=5, mtime=0)


def unpack(data: bytes) -> Annotation:
    """The inverse of `pack`."""
    return from_json(orjson.loads(gzip.decompress(data)))


def _paint_polygons(plane: np.ndarray, polygons: Sequence[PolygonLayer]) -> None:
    """All crossings of all polygons at once: one polygon at a time spends its time in calls, not in work."""
    flat = plane.reshape(-1)
    starts, lengths, bounds = _spans(polygons, *plane.shape)
    covered = np.concatenate([[0], np.cumsum(lengths)])  # pixels covered before each run
    # As many runs at a time as keep their pixels' indices in the processor's cache.
    cuts = np.searchsorted(covered, np.arange(_PIXELS_AT_ONCE, covered[-1], _PIXELS_AT_ONCE)).tolist()
    for first, last in pairwise([0, *cuts, len(lengths)]):
        pixels = _pixels(starts[first:last], lengths[first:last])
        for i in range(bisect_right(bounds, first) - 1, bisect_left(bounds, last)):
            begin, end = covered[max(bounds[i], first)], covered[min(bounds[i + 1], last)]
            mine = pixels[begin - covered[first] : end - covered[first]]
            if polygons[i].keep:
                mine = mine[~np.isin(flat[mine], list(polygons[i].keep))]
            flat[mine] = polygons[i].value


def _spans(polygons: Sequence[PolygonLayer], height: int, width: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Flat start and length of the runs of pixels that polygons cover, and where the runs of each polygon begin."""
    # One sortable number per crossing: polygon, row and column, each in bits of its own.
    bits = max(height, width).bit_length()
    crossings = np.sort(_crossings(polygons, height, width, bits))
    start, end = crossings[0::2], crossings[1::2]
    bounds = np.searchsorted(start, np.arange(len(polygons) + 1) << 2 * bits).tolist()
    in_image = start & ((1 << 2 * bits) - 1)
    return (in_image >> bits) * width + (in_image & ((1 << bits) - 1)), end - start, bounds


def _crossings(polygons: Sequence[PolygonLayer], height: int, width: int, bits: int) -> np.ndarray:
    """Where edges cross the lines through pixel centres: polygon, row, and first column right of the crossing."""
    rings = [ring for polygon in polygons for ring in polygon.rings]
    if not rings:
        return np.zeros(0, np.int64)
    sizes = np.array([len(ring) for ring in rings])
    owner = np.repeat(np.repeat(np.arange(len(polygons)), [len(polygon.rings) for polygon in polygons]), sizes)
    row0, col0 = np.concatenate(rings).astype(np.int64).T
    following = np.arange(1, len(row0) + 1)
    ends = np.cumsum(sizes)
    following[ends - 1] = ends - sizes  # the last vertex of a ring joins its first
    row1, col1 = row0[following], col0[following]
    # From the upper end down to just above the lower end, in lines through pixel centres.
    first = np.clip((np.minimum(row0, row1) + _CENTRE - 1) // SUBPIXEL, 0, height)
    count = np.clip((np.maximum(row0, row1) + _CENTRE - 1) // SUBPIXEL, 0, height) - first
    row = np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)
    # column = ceil(numerator / (16 * den)); the numerator is linear in the row. All numbers stay below 2**53 and a
    # quotient that is not whole is at least 2**-23 away from the next whole number, so doubles give the exact answer.
    den = row1 - row0
    numerator = ((col0 - _CENTRE) * den + (_CENTRE - row0) * (col1 - col0)).astype(np.float64)
    slope = (SUBPIXEL * (col1 - col0)).astype(np.float64)
    column = row * np.repeat(slope, count)
    column += np.repeat(numerator, count)
    column /= np.repeat((SUBPIXEL * den).astype(np.float64), count)
    column = np.minimum(np.maximum(np.ceil(column, out=column), 0), width).astype(np.int64)
    return np.repeat(owner << 2 * bits, count) + (row << bits) + column


def _pixels(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Flat indices of the pixels of runs, one run after the other."""
    pixels = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    pixels += np.arange(len(pixels))
    return pixels


def _paint_mask(plane: np.ndarray, layer: MaskLayer) -> None:
    height, width = layer.values.shape
    below = plane[layer.row0 : layer.row0 + height, layer.col0 : layer.col0 + width]
    np.copyto(below, layer.values, where=layer.values != SEE_THROUGH)


def _check_values(values: set[int], *, allowed: frozenset[int]) -> None:
    if wrong := sorted(values - allowed):
        raise AnnotationRefused(f"a layer has value {wrong[0]}; use a class index up to {MAX_CLASS_INDEX}, 254 or 255")


def _check_box(layer: MaskLayer, height: int, width: int) -> None:
    rows, cols = layer.values.shape
    if layer.row0 < 0 or layer.col0 < 0 or layer.row0 + rows > height or layer.col0 + cols > width:
        raise AnnotationRefused(
            f"a mask layer of {rows} x {cols} px at ({layer.row0}, {layer.col0}) leaves the tile of "
            f"{height} x {width} px; keep it inside"
        )


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    origin = {"id": layer.origin.id, "by": layer.origin.by, "at": layer.origin.at, "src": layer.origin.source}
    if isinstance(layer, PolygonLayer):
        rings = [ring.reshape(-1).tolist() for ring in layer.rings]
        return {"t": "poly", "value": layer.value, "keep": sorted(layer.keep), "rings": rings, **origin}
    height, width = layer.values.shape
    return {"t": "mask", "box": [layer.row0, layer.col0, height, width], "rle": _encode_runs(layer.values), **origin}


def _layer_from_json(layer: dict[str, Any]) -> Layer:
    origin = Origin(
        id=_text(layer.get("id", "")),
        by=_text(layer.get("by", "")),
        at=_text(layer.get("at", "")),
        source=_text(layer.get("src", "manual")),
    )
    if layer["t"] == "poly":
        rings = tuple(_ring(flat) for flat in layer["rings"])
        keep = frozenset(int(value) for value in layer.get("keep", ()))
        return PolygonLayer(value=int(layer["value"]), rings=rings, keep=keep, origin=origin)
    if layer["t"] == "mask":
        row0, col0, height, width = (int(number) for number in layer["box"])
        return MaskLayer(row0=row0, col0=col0, values=_decode_runs(layer["rle"], height, width), origin=origin)
    raise AnnotationRefused(f"a layer has type {layer['t']!r}; use 'poly' or 'mask'")


def _ring(flat: Sequence[int]) -> np.ndarray:
    if len(flat) % 2 or not 6 <= len(flat) <= 2 * _MAX_VERTICES:
        raise AnnotationRefused(
            f"a polygon ring has {len(flat)} numbers; give rows and columns of 3 to {_MAX_VERTICES} vertices"
        )
    numbers = np.array(flat)
    if numbers.dtype.kind != "i":
        raise AnnotationRefused(
            "a polygon has coordinates that are not whole sixteenths of a pixel; multiply by 16 and round"
        )
    return numbers.reshape(-1, 2)


def _encode_runs(values: np.ndarray) -> list[int]:
    """[length, value, length, value, ...] row by row."""
    flat = values.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    return np.column_stack([lengths, flat[starts]]).reshape(-1).tolist()


def _decode_runs(runs: Sequence[int], height: int, width: int) -> np.ndarray:
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise AnnotationRefused(f"a mask layer's box is {height} x {width} px; its sides may be 1 to {MAX_SIDE} px")
    numbers = np.array(runs, dtype=object if not len(runs) else None)
    if len(runs) % 2 or numbers.dtype.kind != "i" or numbers.ndim != 1:
        raise AnnotationRefused("a mask layer's runs are not pairs of length and value; send whole numbers")
    lengths, values = numbers[0::2], numbers[1::2]
    if lengths.min() < 1 or lengths.sum() != height * width:
        raise AnnotationRefused(
            f"a mask layer's runs cover {lengths.sum()} px of a box of {height * width} px; send all of them"
        )
    _check_values(set(np.unique(values).tolist()), allowed=_PAINTABLE | {SEE_THROUGH})
    return np.repeat(values.astype(np.uint8), lengths).reshape(height, width)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise AnnotationRefused("a layer's id, author, date or source is not a text of at most 200 characters")
    return value
