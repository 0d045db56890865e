"""Labels of whole images as files for other tools, and cut into the labels of tiles."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from axons.data.layers import (
    IGNORED,
    SUBPIXEL,
    UNLABELLED,
    Annotation,
    Layer,
    MaskLayer,
    PolygonLayer,
    unpack,
)
from axons.data.tiles import TileGrid, Window


@dataclass(frozen=True, kw_only=True)
class PlacedLabels:
    """Packed labels (see `layers.pack`) and where in the image they lie."""

    window: Window
    packed: bytes

    def plane(self) -> np.ndarray:
        """(H, W) uint8 of values."""
        return unpack(self.packed).plane()


def mosaic(tiles: Sequence[PlacedLabels], region: Window) -> np.ndarray:
    """What tiles show of a region: (H, W) uint8 of values, unlabelled where there is none."""
    plane = np.full((region.height, region.width), UNLABELLED, np.uint8)
    for tile in tiles:
        if part := tile.window.intersection(region):
            plane[part.seen_from(region).slices] = tile.plane()[part.seen_from(tile.window).slices]
    return plane


def cut_annotation(annotation: Annotation, grid: TileGrid) -> Iterator[tuple[Window, Annotation]]:
    """The labels of an image as those of its tiles; polygons stay polygons, tiles without labels are left out."""
    for window in grid.windows(annotation.height, annotation.width):
        part = crop(annotation, window)
        if part.layers and (part.plane() != UNLABELLED).any():
            yield window, part


def crop(annotation: Annotation, window: Window) -> Annotation:
    """The annotation of a window, which renders to the same values as the whole does there."""
    cropped = (_cropped(layer, window) for layer in annotation.layers)
    layers = tuple(layer for layer in cropped if layer is not None)
    return Annotation(height=window.height, width=window.width, layers=layers)


def coco_annotations(plane: np.ndarray) -> tuple[list[dict[str, Any]], int]:
    """COCO annotations of an (H, W) plane of values, and the number of ignored pixels, which COCO cannot hold.

    Background is one annotation, each connected part of another class is one; `category_id` is the class index + 1.
    Masks are uncompressed runs, which read back to exactly these pixels.
    """
    found = []
    for value in np.unique(plane):
        if value in (IGNORED, UNLABELLED):
            continue
        here = plane == value
        parts = here.astype(np.int32) if value == 0 else ndimage.label(here)[0]
        for number, box in enumerate(ndimage.find_objects(parts), start=1):
            found.append({"category_id": int(value) + 1, **_coco_mask(parts[box] == number, box, plane.shape)})
    return found, int((plane == IGNORED).sum())


def _cropped(layer: Layer, window: Window) -> Layer | None:
    if isinstance(layer, PolygonLayer):
        return _cropped_polygon(layer, window)
    height, width = layer.values.shape
    part = Window(layer.row0, layer.col0, height, width).intersection(window)
    if part is None:
        return None
    values = layer.values[part.seen_from(Window(layer.row0, layer.col0, height, width)).slices]
    place = part.seen_from(window)
    return MaskLayer(row0=place.row0, col0=place.col0, values=np.ascontiguousarray(values), origin=layer.origin)


def _cropped_polygon(layer: PolygonLayer, window: Window) -> PolygonLayer | None:
    """The same polygon counted from the window's corner: whole pixels away, so it covers the same pixels."""
    points = np.concatenate(layer.rings) if layer.rings else np.zeros((1, 2), np.int64)
    (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0)
    row0, col0 = window.row0 * SUBPIXEL, window.col0 * SUBPIXEL
    if bottom <= row0 or right <= col0:
        return None
    if top >= row0 + window.height * SUBPIXEL or left >= col0 + window.width * SUBPIXEL:
        return None
    return replace(layer, rings=tuple(ring - (row0, col0) for ring in layer.rings))


def _coco_mask(inside: np.ndarray, box: Sequence[slice], shape: tuple[int, ...]) -> dict[str, Any]:
    """Segmentation, bounding box and area of one part; COCO counts down the columns, background first."""
    height, width = shape
    row0, col0 = box[0].start, box[1].start
    cols, rows = np.nonzero(inside.T)
    places = (cols + col0) * height + rows + row0
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    starts = places[np.concatenate([[0], breaks])]
    ends = places[np.concatenate([breaks - 1, [len(places) - 1]])] + 1
    edges = np.column_stack([starts, ends]).reshape(-1)
    counts = np.diff(np.concatenate([[0], edges, [height * width]])).tolist()
    return {
        "segmentation": {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]},
        "bbox": [col0, row0, inside.shape[1], inside.shape[0]],
        "area": len(places),
        "iscrowd": 0,
    }
