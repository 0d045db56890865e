"""Rule R1: 500 polygons rendered into 2048², against rasterio.

Peer: `rasterio.features.rasterize` of the same polygons. Target: no pixel differs from the centre rule, at least as
fast as rasterio. The rule is checked pixel by pixel in whole numbers, as tests/data/r1_reference.py words it.
"""

from pathlib import Path

import numpy as np
from rasterio.features import rasterize

from axons.data.layers import SUBPIXEL, PolygonLayer, render
from benchmarks.measuring import Result, alternate, at_most, medians, seconds

_ROUNDS = 25  # each takes milliseconds


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    side, count = (512, 50) if is_small else (2048, 500)
    rng = np.random.default_rng(0)
    rings = [_blob(rng, side) for _ in range(count)]
    values = [1 + i % 12 for i in range(count)]
    layers = [PolygonLayer(value=value, rings=(ring,)) for value, ring in zip(values, rings, strict=True)]
    shapes = [(_geometry(ring), value) for value, ring in zip(values, rings, strict=True)]
    planes: dict[str, np.ndarray] = {}

    def ours() -> None:
        planes["ours"] = render(layers, side, side)

    def rasterio() -> None:
        planes["rasterio"] = rasterize(shapes, out_shape=(side, side), fill=255, dtype="uint8")

    took = medians(alternate(_ROUNDS, ours=ours, rasterio=rasterio))
    truth = _by_the_rule(rings, values, side)
    differing = {name: int(np.count_nonzero(plane != truth)) for name, plane in planes.items()}
    return Result(
        figures=[
            at_most("pixels that differ from the centre rule", differing["ours"], 0, unit="px"),
            seconds("time against rasterio", took["ours"], took["rasterio"], at_least=1),
        ],
        notes=[f"rasterio differs from the centre rule on {differing['rasterio']} of {side**2} px"],
    )


def _blob(rng: np.random.Generator, side: int) -> np.ndarray:
    """(32, 2) vertices of an irregular outline, in sixteenths of a pixel."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 32))
    radii = rng.uniform(10, 60) * rng.uniform(0.7, 1.3, 32)
    centre = rng.uniform(0, side, 2)
    vertices = centre + radii[:, None] * np.column_stack([np.sin(angles), np.cos(angles)])
    return np.rint(vertices * SUBPIXEL).astype(np.int64)


def _geometry(ring: np.ndarray) -> dict:
    x_and_y = (ring[:, ::-1] / SUBPIXEL).tolist()
    return {"type": "Polygon", "coordinates": [[*x_and_y, x_and_y[0]]]}


def _by_the_rule(rings: list[np.ndarray], values: list[int], side: int) -> np.ndarray:
    plane = np.full((side, side), 255, np.uint8)
    for ring, value in zip(rings, values, strict=True):
        low = np.maximum(ring.min(axis=0) // SUBPIXEL - 1, 0)
        high = np.minimum(ring.max(axis=0) // SUBPIXEL + 2, side)
        box = plane[low[0] : high[0], low[1] : high[1]]
        box[_covered(ring, low, box.shape)] = value
    return plane


def _covered(ring: np.ndarray, low: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which pixel centres of a box lie inside, by counting the edges crossed on the way from the left."""
    row = SUBPIXEL * (low[0] + np.arange(shape[0]))[:, None] + SUBPIXEL // 2
    col = SUBPIXEL * (low[1] + np.arange(shape[1]))[None, :] + SUBPIXEL // 2
    crossings = np.zeros(shape, np.int64)
    for first, second in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        (row0, col0), (row1, col1) = sorted([tuple(first), tuple(second)])
        meets = (row0 <= row) & (row < row1)
        crossings += meets & ((col - col0) * (row1 - row0) >= (row - row0) * (col1 - col0))
    return crossings % 2 == 1
