"""A training step of U-Net resnet18 on 8 crops of 256², against the same loop in plain PyTorch.

Both cut crops from images, augment them in the same way, and update. Peers: plain PyTorch in bf16 with channels_last,
and in fp32 NCHW, as a beginner writes it. Target: the median of 7 interleaved ratios is 0.95 and 2.5 at least.
"""

import statistics
import time
from pathlib import Path

import numpy as np
import torch

from axons.model.devices import autocast_dtype
from axons.train.augment import random_crops, source_side
from axons.train.config import TrainConfig
from benchmarks.drawn import CPU, draw_field, freeze_fields, make_loop
from benchmarks.measuring import Result, median_ratio, rate
from benchmarks.plain_training import PlainLoop

_BATCH, _CROP, _SIDE = 8, 256, 768


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    steps, pairs = (1, 2) if is_small else (2, 7)
    loop = make_loop(*freeze_fields(scratch, count=2, side=_SIDE), crop=_CROP, steps=steps)
    drawings = [draw_field(_SIDE, seed=i) for i in range(2)]
    arrays = [(_z_scored(drawing.image), drawing.mask) for drawing in drawings]
    rng, draws = np.random.default_rng(0), torch.Generator().manual_seed(0)
    plain = {
        "bf16": PlainLoop(channels=1, num_classes=3, dtype=torch.bfloat16, memory_format=torch.channels_last),
        "fp32": PlainLoop(channels=1, num_classes=3, dtype=None, memory_format=torch.contiguous_format),
    }

    def ours() -> float:
        # The loop's own count: the time between two epochs, when it keeps the best weights, is no step.
        return _BATCH * steps / loop.train_epoch().crops_per_second

    def theirs(name: str) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            plain[name].step(*_batch(arrays, rng, draws))
        return time.perf_counter() - began

    took: dict[str, list[float]] = {"ours": [], "bf16": [], "fp32": []}
    for i in range(pairs + 1):  # the first round warms up
        for name in sorted(took, reverse=i % 2 == 1):
            took[name].append(ours() if name == "ours" else theirs(name))
    took = {name: times[1:] for name, times in took.items()}
    rates = {name: _BATCH * steps / statistics.median(times) for name, times in took.items()}
    ready = _batch(arrays, rng, draws)
    without = statistics.median(_seconds_of(plain["bf16"], ready) for _ in range(3))
    figures = [
        rate(
            f"crops/s against plain PyTorch, {name}", rates["ours"], rates[key], unit="/s", at_least=least, ratio=ratio
        )
        for name, key, least in (("bf16, channels_last", "bf16", 0.95), ("fp32, NCHW", "fp32", 2.5))
        for ratio in [median_ratio(took["ours"], took[key])]
    ]
    return Result(
        figures=figures,
        notes=[
            f"ratios are medians of {pairs} interleaved pairs; plain bf16 does {_BATCH / without:.1f} crops/s on one "
            f"ready batch, without cutting and augmenting; we train in {autocast_dtype(CPU) or 'fp32'} here"
        ],
    )


def _z_scored(image: np.ndarray) -> np.ndarray:
    return ((image - image.mean()) / image.std()).astype(np.float32)


def _batch(
    arrays: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator, draws: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows from arrays in memory, augmented as ours are."""
    side = source_side(_CROP, TrainConfig())
    images, masks = [], []
    for index in rng.integers(0, len(arrays), _BATCH):
        row0, col0 = rng.integers(0, _SIDE - side + 1, 2)
        window = np.s_[row0 : row0 + side, col0 : col0 + side]
        images.append(arrays[index][0][window])
        masks.append(arrays[index][1][window])
    images_nchw = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return random_crops(images_nchw, torch.from_numpy(np.stack(masks)), crop=_CROP, config=TrainConfig(), rng=draws)


def _seconds_of(loop: PlainLoop, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    began = time.perf_counter()
    loop.step(*batch)
    return time.perf_counter() - began
