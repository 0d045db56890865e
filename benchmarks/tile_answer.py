"""A tile's picture as PNG over HTTP with sign-in, when its image is warm.

No peer. Target: of tiles of 256 px 95 of 100 answers within 30 ms, one asked after the other.
"""

import time
from pathlib import Path

import httpx
import numpy as np

from axons.client import Client
from axons.data.sample import SAMPLE_CLASSES, draw_micrograph
from benchmarks.measuring import Figure, Result, at_most
from benchmarks.platform_up import percentile, project_with, running, write_pictures


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    count = 30 if is_small else 500
    files = write_pictures(scratch / "images", [_draw_section()])
    with running() as up:
        token = up.token()
        with Client(up.url, token) as client:
            tiles = {side: _tiles(client, files, side) for side in (256, 1024)}
        with httpx.Client(base_url=f"{up.url}/api/v1/", headers={"Authorization": f"Bearer {token}"}) as http:
            took = {side: _ask(http, found, count) for side, found in tiles.items()}
    small, large = (percentile(seconds, 0.95) for seconds in took.values())
    halves = ", ".join(f"{percentile(seconds, 0.5):.1f} ms ({side} px)" for side, seconds in took.items())
    return Result(
        figures=[
            at_most("95 of 100 answers, tiles of 256 px", small, 30, unit="ms"),
            Figure(what="95 of 100 answers, tiles of 1024 px", ours=large, unit="ms"),
        ],
        notes=[f"RGB micrograph of 2048²; {count} answers each on one connection; half of them within {halves}"],
    )


def _draw_section() -> np.ndarray:
    """(2048, 2048, 3) micrograph, of one that was drawn and its mirror images."""
    drawn = draw_micrograph(np.random.default_rng(7), size=512).image
    pair = np.concatenate([drawn, drawn[:, ::-1]], axis=1)
    return np.tile(np.concatenate([pair, pair[::-1]]), (2, 2, 1))


def _tiles(client: Client, files: list[Path], side: int) -> list[str]:
    project_id = project_with(client, files, classes=SAMPLE_CLASSES, tile=side)
    return [tile["id"] for tile in client.pages(f"projects/{project_id}/tiles")]


def _ask(http: httpx.Client, tiles: list[str], count: int) -> list[float]:
    """Seconds of each answer, after a first round that is not counted."""
    took = []
    for i in range(-len(tiles), count):
        began = time.perf_counter()
        http.get(f"tiles/{tiles[i % len(tiles)]}/image").raise_for_status()
        took.append(time.perf_counter() - began)
    return took[len(tiles) :]
