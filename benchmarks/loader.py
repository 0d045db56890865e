"""Random 256² crops with augmentation in batches of 8, against the training rate and a DataLoader.

Peer: torch `DataLoader` with two workers and albumentations that does the same kind of things: crop, scale, turn,
mirror, brightness, contrast, gamma, noise, blur, normalise. Target: 5 × the crops that a training step takes; the
comparison with the DataLoader has no target.
"""

import itertools
import statistics
from pathlib import Path

import albumentations
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from torch.utils.data import DataLoader, Dataset

from axons.train.crops import prefetched
from axons.train.loop import TrainingLoop
from benchmarks.drawn import draw_field, freeze_fields, make_loop
from benchmarks.measuring import Result, alternate, rate

_BATCH, _CROP, _SIDE, _IMAGES = 8, 256, 1024, 4


class _Crops(Dataset):
    """Crops of images in memory, as many as are asked for."""

    def __init__(self, images: list[np.ndarray], masks: list[np.ndarray], length: int) -> None:
        self._images, self._masks, self._length = images, masks, length
        self._change = albumentations.Compose(
            [
                albumentations.RandomSizedCrop(min_max_height=(183, 366), size=(_CROP, _CROP)),
                albumentations.D4(),
                albumentations.RandomBrightnessContrast(0.25, 0.25, p=0.5),
                albumentations.RandomGamma((70, 150), p=0.5),
                albumentations.GaussNoise(std_range=(0, 0.04), p=0.2),
                albumentations.GaussianBlur(blur_limit=7, sigma_limit=(0.3, 1.2), p=0.2),
                albumentations.Normalize(mean=(0.5,), std=(0.2,)),
                ToTensorV2(),
            ]
        )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        which = index % len(self._images)
        changed = self._change(image=self._images[which], mask=self._masks[which])
        return changed["image"], changed["mask"].long()


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    batches = 10 if is_small else 60
    uri, training_set = freeze_fields(scratch, count=_IMAGES, side=_SIDE)
    loop = make_loop(uri, training_set, crop=_CROP, steps=3)
    fields = [draw_field(_SIDE, seed=i) for i in range(_IMAGES)]
    crops = _Crops([field.image for field in fields], [field.mask for field in fields], _BATCH * 100_000)
    peer = iter(DataLoader(crops, batch_size=_BATCH, num_workers=2, shuffle=True))

    def ours() -> None:
        _draw(loop, batches)

    def dataloader() -> None:
        for _ in itertools.islice(peer, batches):
            pass

    ours()
    dataloader()  # its workers have started, and their queues are full
    times = alternate(1 if is_small else 5, ours=ours, dataloader=dataloader)
    peer._shutdown_workers()  # leave the cores to the training
    training = statistics.median(loop.train_epoch().crops_per_second for _ in range(3))
    rates = {name: _BATCH * batches / statistics.median(values) for name, values in times.items()}
    return Result(
        figures=[
            rate("crops/s against a training step", rates["ours"], training, unit="/s", at_least=5),
            rate("crops/s against DataLoader + albumentations", rates["ours"], rates["dataloader"], unit="/s"),
        ]
    )


def _draw(loop: TrainingLoop, batches: int) -> None:
    """Batches as the loop makes them: cut in a thread, augmented and normalised on the device."""
    draws = torch.Generator().manual_seed(0)
    for batch in prefetched(loop._sampler, _BATCH, batches, rng=np.random.default_rng(0)):
        loop._to_device(batch, draws)
