"""A TIFF of 20,000² imported, cut into other tiles and predicted on Ray, with the memory of every process.

No peer. Target: no process of ours has more than 1.5 GB (peak PSS, sampled twice a second).
"""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyvips
import ray
import torch

from axons.data.importing import ImportedImage, Upload, import_images, tile_images
from axons.data.tiles import TileGrid
from axons.model.devices import num_cores
from axons.serve.large import LargeRequest, predict_large
from axons.serve.predictor import load_predictor, segment
from axons.train.metrics import class_scores, confusion_matrix
from benchmarks.drawn import draw_field, trained_model
from benchmarks.measuring import Figure, MemoryWatch, Result, at_most

_PATCH, _BANK = 512, 48
_MAX_PREDICTION_S = 10 * 60
_PROBE = 2048


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    side = 3_000 if is_small else 20_000
    # In a process that ends: the one that is watched shall hold what ours holds, not what prepared it.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as aside:
        model_uri, scale, per_mpx = aside.submit(_prepare, scratch, side, steps=10 if is_small else 60).result()
    upload, truth = scratch / "large.tif", _Truth(side)
    took: dict[str, float] = {}
    ray.init(address="local", num_cpus=max(4, num_cores()), include_dashboard=False, log_to_driver=False)
    with MemoryWatch() as memory:
        began = time.monotonic()
        uploads = [Upload(image_id="large", uri=str(upload), name=upload.name)]
        (image,) = import_images(uploads, target_uri=str(scratch / "images"), grid=TileGrid(tile=256))
        if not isinstance(image, ImportedImage):
            raise RuntimeError(image.reason)
        took["import"] = time.monotonic() - began
        ((_, tiles),) = tile_images([image], grid=TileGrid(tile=512))
        took["tile"] = time.monotonic() - began - took["import"]
        request = LargeRequest(
            working_uri=image.working_uri,
            height=image.height,
            width=image.width,
            mean=image.mean,
            std=image.std,
            model_uri=model_uri,
            target_uri=str(scratch / "prediction"),
            scale=scale,
            threads=num_cores(),
        )
        mask = pyvips.Image.new_from_file(predict_large(request).mask_uri)
        took["predict"] = time.monotonic() - began - sum(took.values())
    ray.shutdown()
    assert (mask.height, mask.width) == (side, side)
    peaks = memory.largest(8)
    return Result(
        figures=[
            at_most(f"largest process: {peaks[0].title}", peaks[0].pss / 1e9, 1.5, unit="GB"),
            *(_time(name, seconds) for name, seconds in took.items()),
        ],
        notes=[
            f"{side}² RGB, {upload.stat().st_size / 1e6:.0f} MB of TIFF; {len(image.tiles)} tiles of 256 px, "
            f"{len(tiles)} of 512 px; predicted at scale {scale:g} ({per_mpx:.2f} s for a Mpx before, on a part)",
            f"mean Dice of the foreground in nine windows of 1024²: {truth.dice(mask):.3f}",
            "peak PSS and peak resident memory with mapped files, GB: "
            + "; ".join(f"{peak.title} {peak.pss / 1e9:.2f} and {peak.resident / 1e9:.2f}" for peak in peaks),
        ],
    )


class _Truth:
    """A large picture of patches with disks, put together from a few dozen drawn ones, and its classes."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._across = -(-side // _PATCH)
        self._bank = [draw_field(_PATCH, seed=200 + i, channels=3) for i in range(_BANK)]
        self._which = np.random.default_rng(0).integers(0, _BANK, (self._across, self._across))

    def write(self, path: Path) -> None:
        """As a tiled TIFF, streamed."""
        images = [pyvips.Image.new_from_array(drawing.image) for drawing in self._bank]
        picture = pyvips.Image.arrayjoin([images[i] for i in self._which.reshape(-1)], across=self._across)
        picture.crop(0, 0, self._side, self._side).tiffsave(
            str(path),
            tile=True,
            tile_width=256,
            tile_height=256,
            compression="deflate",
            level=1,
            predictor="horizontal",
        )

    def part(self, side: int) -> np.ndarray:
        """The pixels of the upper left corner."""
        count = -(-side // _PATCH)
        rows = [np.concatenate([self._bank[i].image for i in line[:count]], axis=1) for line in self._which[:count]]
        return np.concatenate(rows)[:side, :side]

    def dice(self, mask: pyvips.Image) -> float:
        """Mean Dice of the foreground in windows all over the mask."""
        confusion = np.zeros((3, 3), np.int64)
        size = 2 * _PATCH
        for row in np.linspace(0, self._side // _PATCH - 2, 3).astype(int):
            for col in np.linspace(0, self._side // _PATCH - 2, 3).astype(int):
                found = mask.crop(int(col) * _PATCH, int(row) * _PATCH, size, size).numpy()
                patches = [[self._bank[self._which[row + i, col + j]].mask for j in range(2)] for i in range(2)]
                confusion += confusion_matrix(found, np.block(patches), 3)
        return float(np.mean([scores.dice for scores in class_scores(confusion)[1:]]))


def _prepare(scratch: Path, side: int, *, steps: int) -> tuple[str, float, float]:
    """The model, and what `_choose_scale` says; the image lies in `scratch`."""
    model_uri, truth = trained_model(scratch, channels=3, steps=steps), _Truth(side)
    truth.write(scratch / "large.tif")
    return model_uri, *_choose_scale(model_uri, truth, side)


def _choose_scale(model_uri: str, truth: _Truth, side: int) -> tuple[float, float]:
    """The scale at which the whole image is predicted in ten minutes, and the seconds of a Mpx at full size."""
    predictor = load_predictor(model_uri, device=torch.device("cpu"))
    part = truth.part(min(side, _PROBE))
    began = time.monotonic()
    segment(part, predictor)
    per_mpx = (time.monotonic() - began) / (part.shape[0] * part.shape[1] / 1e6)
    expected = per_mpx * side**2 / 1e6
    return (1.0 if expected <= _MAX_PREDICTION_S else 0.5), per_mpx


def _time(name: str, seconds: float) -> Figure:
    return Figure(what=f"time to {name}", ours=seconds, unit="s")
