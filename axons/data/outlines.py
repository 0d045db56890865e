"""From masks to polygons: the parts of a plane, and their outlines along the edges of pixels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from axons.data.layers import SUBPIXEL, UNLABELLED, Origin, PolygonLayer

_MAX_VERTICES = 5_000  # of one polygon; what has more is cut into pieces, so that a tile gets only what is near it


@dataclass(frozen=True, kw_only=True)
class Part:
    """Pixels of one value: `inside` is an (H, W) bool mask whose corner lies at (row0, col0) of the plane."""

    value: int
    row0: int
    col0: int
    inside: np.ndarray


def parts_of(plane: np.ndarray) -> Iterator[Part]:
    """The parts of an (H, W) plane of values: all of the background is one, of other values each connected piece.

    Pieces are connected by the sides of pixels. Unlabelled pixels are no part.
    """
    for value in np.unique(plane).tolist():
        if value == UNLABELLED:
            continue
        here = plane == value
        numbers = here.astype(np.int32) if value == 0 else ndimage.label(here)[0]
        for number, box in enumerate(ndimage.find_objects(numbers), start=1):
            inside = numbers[box] == number
            yield Part(value=value, row0=box[0].start, col0=box[1].start, inside=inside)


def trace(inside: np.ndarray) -> list[np.ndarray]:
    """The outlines of an (H, W) bool mask, holes too: rings of (V, 2) rows and columns in pixels.

    They run along the edges of pixels, so that R1 renders them (even-odd) to exactly the mask. Pixels that share only a
    corner get rings of their own.
    """
    rows, cols, across, down = _corners(inside)
    # In each row the corners are joined two by two, and so they are in each column: from those pairs come the rings.
    by_row, by_col = _partners(rows, cols, across), _partners(cols, rows, down)
    rings, is_seen = [], bytearray(len(rows))
    for start in range(len(rows)):
        if is_seen[start]:
            continue
        members, corner = [], start
        while not is_seen[corner]:
            partner = by_row[corner]
            is_seen[corner] = is_seen[partner] = True
            members += [corner, partner]
            corner = by_col[partner]
        rings.append(np.column_stack([rows[members], cols[members]]))
    return rings


def plane_to_polygons(plane: np.ndarray, *, origin: Origin = Origin()) -> list[PolygonLayer]:
    """Polygons that render to an (H, W) plane of values, one for each part of it."""
    return [
        PolygonLayer(value=part.value, rings=tuple(ring * SUBPIXEL for ring in rings), origin=origin)
        for part in parts_of(plane)
        for rings in traced_pieces(part)
    ]


def traced_pieces(part: Part) -> Iterator[list[np.ndarray]]:
    """The rings of a part, in pixels of the plane; a part with very many vertices comes in several pieces."""
    pending = [(part.row0, part.col0, part.inside)]
    while pending:
        row0, col0, inside = pending.pop()
        if len(_corners(inside)[0]) > _MAX_VERTICES:
            height, width = inside.shape
            if height >= width:
                pending += [(row0 + height // 2, col0, inside[height // 2 :]), (row0, col0, inside[: height // 2])]
            else:
                pending += [(row0, col0 + width // 2, inside[:, width // 2 :]), (row0, col0, inside[:, : width // 2])]
        elif inside.any():
            corner = np.array([row0, col0])
            yield [ring + corner for ring in trace(inside)]


def _corners(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where outlines turn: row, column, and the corner's rank among those of its place along its row and its column.

    Where two pixels touch by a corner there are two: the ranks pair each pixel's own edges.
    """
    grown = np.pad(inside, 1)
    upper_left, upper_right, lower_left, lower_right = (
        grown[:-1, :-1],
        grown[:-1, 1:],
        grown[1:, :-1],
        grown[1:, 1:],
    )
    single = np.argwhere(upper_left ^ upper_right ^ lower_left ^ lower_right)
    crossed = (upper_left == lower_right) & (upper_right == lower_left) & (upper_left != upper_right)
    double = np.argwhere(crossed)
    is_falling = upper_left[crossed].astype(np.int64)  # the two pixels are the upper left and the lower right one
    zeros, ones = np.zeros(len(double), np.int64), np.ones(len(double), np.int64)
    none = np.zeros(len(single), np.int64)
    places = np.concatenate([single, double, double])
    # The first of two has the edge to the left; of a falling pair that is the pixel above, whose edge leads up.
    across = np.concatenate([none, zeros, ones])
    down = np.concatenate([none, 1 - is_falling, is_falling])
    return places[:, 0], places[:, 1], across, down


def _partners(lines: np.ndarray, places: np.ndarray, ranks: np.ndarray) -> list[int]:
    """For each corner the one that it is joined to along its line: the first and second, the third and fourth."""
    order = np.lexsort([ranks, places, lines])
    partners = np.empty(len(order), np.int64)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners.tolist()
