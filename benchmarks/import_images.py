"""Sixteen photos and one JPEG of 8192² to working images with pyramid, against libvips and Pillow.

Ours: `Decoder.normalise` in its confined child process. Peers, in a process of their own too: pyvips `tiffsave` with
the same options, and a loop of Pillow and tifffile that writes the same kind of file. Each has one thread, as an import
worker has. Target: 0.7 × libvips, 3 × Pillow, and at most 400 MB for the large one.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pyvips
import tifffile
from PIL import Image

from axons.data.decode_child import _WORKING_TIFF
from axons.data.decoding import Decoder
from axons.data.images import WorkingImage
from axons.data.measuring import measure as measure_image
from axons.data.measuring import thumbnail_sheet
from axons.data.tiles import TileGrid
from benchmarks.measuring import Result, alternate, at_most, medians, peak_resident, seconds

_NUM_PHOTOS = 16
_TILE = 256


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    rng = np.random.default_rng(0)
    photos = [scratch / f"photo-{i}.jpg" for i in range(_NUM_PHOTOS)]
    for photo in photos:
        _draw(photo, *((300, 400) if is_small else (1200, 1600)), seed=int(rng.integers(1 << 30)))
    large = scratch / "large.jpg"
    _draw(large, *((1024, 1024) if is_small else (8192, 8192)), seed=1)
    sources = [*photos, large]
    one_thread = {"VIPS_CONCURRENCY": "1"}
    os.environ.update(one_thread)  # for the peers, whose process is started below
    targets = {name: scratch / name for name in ("ours", "libvips", "pillow")}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as peer, Decoder() as decoder:

        def ours() -> None:
            for source in sources:
                decoder.normalise(source, _target(targets["ours"], source), name=source.name)

        def in_peer(write: Callable[[Path, Path], None], name: str) -> None:
            for source in sources:
                peer.submit(write, source, _target(targets[name], source)).result()

        decoder.normalise(photos[0], scratch / "first.tif", name="first")
        peer.submit(_with_libvips, photos[0], scratch / "first.tif").result()
        took = medians(
            alternate(
                1 if is_small else 3,
                ours=ours,
                libvips=lambda: in_peer(_with_libvips, "libvips"),
                pillow=lambda: in_peer(_with_pillow, "pillow"),
            )
        )
    peak = _peak_of_large(large, scratch)
    stored = sum(_target(targets["ours"], source).stat().st_size for source in sources)
    uploaded = sum(source.stat().st_size for source in sources)
    measuring, sheets = _other_costs([_target(targets["ours"], source) for source in sources])
    return Result(
        figures=[
            seconds("pyvips tiffsave, same options", took["ours"], took["libvips"], at_least=0.7),
            seconds("Pillow and tifffile", took["ours"], took["pillow"], at_least=3),
            at_most("peak memory of the child, large image", peak / 1e6, 400, unit="MB"),
        ],
        notes=[
            f"stored bytes ÷ uploaded bytes: {stored / uploaded:.1f} (lossless TIFF with pyramid from JPEG; those of "
            f"Pillow and tifffile are {_size(targets['pillow']) / stored:.2f} times as large)",
            f"besides, an import measures tiles in {measuring:.2f} s and makes thumbnail sheets in {sheets:.2f} s",
        ],
    )


def _draw(path: Path, height: int, width: int, *, seed: int) -> None:
    """A JPEG with the statistics of a photo: clouds of three sizes, each colour its own, and a little sensor noise."""
    bands = []
    for band in range(3):
        clouds = sum(
            pyvips.Image.perlin(width, height, cell_size=size, seed=seed % 10_000 + 17 * band + size) * weight
            for size, weight in ((512, 80), (64, 40), (8, 25))
        )
        bands.append(clouds + pyvips.Image.gaussnoise(width, height, sigma=5, mean=128, seed=seed % 10_000 + band))
    pyvips.Image.bandjoin(bands[0], bands[1:]).cast("uchar").copy(interpretation="srgb").jpegsave(str(path), Q=90)


def _target(folder: Path, source: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / f"{source.stem}.tif"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _with_libvips(source: Path, target: Path) -> None:
    pyvips.Image.new_from_file(str(source), access="sequential").tiffsave(str(target), **_WORKING_TIFF)


def _with_pillow(source: Path, target: Path) -> None:
    """The whole image in memory, halved until it fits in a tile."""
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(source) as opened, tifffile.TiffWriter(target) as tiff:
        level = opened.convert("RGB")
        is_first = True
        while is_first or max(level.size) > _TILE // 2:
            tiff.write(
                np.asarray(level),
                photometric="rgb",
                tile=(_TILE, _TILE),
                compression="zlib",
                compressionargs={"level": 2},
                predictor=True,
                subfiletype=0 if is_first else 1,
                maxworkers=1,
            )
            level, is_first = level.reduce(2), False


def _peak_of_large(source: Path, scratch: Path) -> int:
    """Most resident memory of a fresh child that has decoded one large image."""
    with Decoder() as decoder:
        before = {child.pid for child in psutil.Process().children()}
        decoder.normalise(source, scratch / "peak.tif", name=source.name)
        (child,) = [child for child in psutil.Process().children() if child.pid not in before]
        return peak_resident(child.pid)


def _other_costs(working: list[Path]) -> tuple[float, float]:
    """Seconds of measuring every tile of the images, and of their thumbnail sheets."""
    grid, measuring, sheets = TileGrid(tile=_TILE), 0.0, 0.0
    for path in working:
        image = WorkingImage(path)
        began = time.perf_counter()
        measured = measure_image(image, grid)
        measuring += time.perf_counter() - began
        began = time.perf_counter()
        thumbnail_sheet(image, grid, measured.contrast_limits)
        sheets += time.perf_counter() - began
    return measuring, sheets
