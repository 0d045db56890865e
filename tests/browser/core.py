"""Calls the annotator's modules of pixels and polygons in the browser."""

import json
from typing import Any

import numpy as np
from playwright.sync_api import Page

_MODULES = ("values", "crc32", "r1", "layers", "strokes", "regions", "superpixels", "geometry", "merge")

_PRELUDE = """
const names = %s;
const m = Object.assign({}, ...(await Promise.all(names.map((name) => import(`/static/annotator/${name}.js`)))));
const tile = ([height, width]) => ({ row0: 0, col0: 0, row1: height, col1: width });
/** A region of the tile out of rows of 0 and 1, and back. */
const regionOfRows = (rows) => (
  { rect: tile([rows.length, rows[0].length]), inside: Uint8Array.from(rows.flat()) });
const pixels = (region, shape) => (
  Array.from(region ? m.within(region, tile(shape)).inside : new Uint8Array(shape[0] * shape[1])));
const polygon = (rings, value = 1, keep = []) => m.polygonLayer({ value, rings, keep });
const lists = (rings) => rings.map((ring) => Array.from(ring));
"""


def run(page: Page, body: str, **given: Any) -> Any:
    """What the body of an asynchronous function returns, which sees all exports as `m` and each of `given` by name."""
    # Playwright takes a minute for a million numbers; JSON takes a moment.
    script = f"""async (given) => {{
        {_PRELUDE % list(_MODULES)}
        const play = async ({{ {", ".join(given)} }}) => {{ {body} }};
        return JSON.stringify((await play(JSON.parse(given))) ?? null);
    }}"""
    return json.loads(page.evaluate(script, json.dumps(given, default=lambda array: array.tolist())))


def pixels(flat: list[int], shape: tuple[int, int]) -> np.ndarray:
    return np.array(flat, np.uint8).reshape(shape)


def blobs(seed: int, shape: tuple[int, int], *, threshold: float = 0.5) -> np.ndarray:
    """(H, W) of 0 and 1: random pieces, with holes and with pixels that touch at a corner."""
    rough = np.random.default_rng(seed).random((shape[0] // 3 + 2, shape[1] // 3 + 2)) > threshold
    fine = np.random.default_rng(seed + 1).random(shape) > 0.9
    return (np.kron(rough, np.ones((3, 3), bool))[: shape[0], : shape[1]] ^ fine).astype(np.uint8)


def rectangle(row0: int, col0: int, row1: int, col1: int) -> list[int]:
    """A ring around whole pixels."""
    return [16 * n for n in (row0, col0, row0, col1, row1, col1, row1, col0)]
