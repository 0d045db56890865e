"""Shapes of other tools as rings of polygons, by one rule for each kind: docs/label-formats.md states them.

Shapes come in pixels, x to the right and y down, (0, 0) being the outer corner of the first pixel. Rings go out as
(V, 2) rows and columns in sixteenths of a pixel.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from axons.data.layers import MAX_SIDE, SUBPIXEL

POINT_RADIUS = 3.0
LINE_WIDTH = 3.0

_MAX_COORDINATE = 2 * MAX_SIDE
_MAX_DEVIATION = 1 / SUBPIXEL  # of a polygon from the circle that it stands for
_FULL_TURN = 2 * math.pi


def ring(points: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """A ring of (x, y) vertices.

    Raises:
        ValueError: a coordinate is not a number, or lies far outside any image.
    """
    vertices = np.array(points, np.float64).reshape(-1, 2)[:, ::-1]
    if not (np.abs(vertices) <= _MAX_COORDINATE).all():  # neither is NaN
        raise ValueError("a coordinate is not a number near the image")
    return np.rint(vertices * SUBPIXEL).astype(np.int64)


def box(left: float, top: float, right: float, bottom: float, *, turned: float = 0.0) -> np.ndarray:
    """A rectangle, turned clockwise about its centre by so many radians."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    straight = ring(corners)
    if not turned:
        return straight
    centre = corners.mean(axis=0)
    return ring(_turned(corners - centre, turned) + centre)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, *, turned: float = 0.0) -> np.ndarray:
    """An ellipse, turned clockwise about its centre by so many radians, as a polygon that is nowhere 1/16 px off it."""
    ring([[x, y], [radius_x, radius_y]])  # numbers, and not huge ones
    count = _num_vertices(max(abs(radius_x), abs(radius_y)))
    angles = np.arange(count) * (_FULL_TURN / count)
    points = np.column_stack([abs(radius_x) * np.cos(angles), abs(radius_y) * np.sin(angles)])
    return ring(_turned(points, turned) + np.array([x, y]))


def disk(x: float, y: float) -> np.ndarray:
    """A point, which has no area of its own: a disk of `POINT_RADIUS`."""
    return ellipse(x, y, POINT_RADIUS, POINT_RADIUS)


def capsule(start: Sequence[float], end: Sequence[float]) -> np.ndarray:
    """A piece of a line: all that is within half a `LINE_WIDTH` of it."""
    ring([start, end])
    radius = LINE_WIDTH / 2
    direction = math.atan2(end[1] - start[1], end[0] - start[0])
    half = np.linspace(-math.pi / 2, math.pi / 2, _num_vertices(radius) // 2 + 1) + direction
    arc = radius * np.column_stack([np.cos(half), np.sin(half)])
    return ring(np.concatenate([arc + np.array(end), np.array(start) - arc]))


def polyline(points: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """The pieces of a line through points.

    Raises:
        ValueError: there is only one point.
    """
    if len(points) < 2:
        raise ValueError("a line has only one point")
    return [capsule(start, end) for start, end in pairwise(points)]


def _turned(points: np.ndarray, radians: float) -> np.ndarray:
    """Clockwise, for y points down."""
    if not abs(radians) < 1e6:
        raise ValueError("an angle is not a number")
    cos, sin = math.cos(radians), math.sin(radians)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _num_vertices(radius: float) -> int:
    """So many that the polygon's edges keep within `_MAX_DEVIATION` of the circle."""
    if radius <= _MAX_DEVIATION:
        return 8
    return max(8, 2 * math.ceil(math.pi / math.acos(1 - _MAX_DEVIATION / radius) / 2))
