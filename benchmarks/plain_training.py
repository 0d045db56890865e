"""The training loop a practitioner writes in plain PyTorch: the peer of our loop in speed and in quality.

`python -m benchmarks.plain_training FOLDER --test GLOB --seconds 60 --seed 0` trains on `FOLDER/images` and
`FOLDER/masks` (class indices), predicts the held-out images whole and prints the Dice of each class as JSON.
"""

import argparse
import fnmatch
import json
import sys
import time
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from axons.data.layers import IGNORE_INDEX
from axons.data.tiles import TileGrid
from axons.model.windows import ImageSource, predict_image, torch_forward
from axons.train.metrics import class_scores, confusion_matrix

_CROP, _BATCH = 256, 8


class PlainLoop:
    """U-Net with resnet18, AdamW, cross-entropy + Dice.

    Args:
        dtype: of autocast; None computes in fp32.
    """

    def __init__(
        self, *, channels: int, num_classes: int, dtype: torch.dtype | None, memory_format: torch.memory_format
    ) -> None:
        network = smp.Unet("resnet18", encoder_weights=None, in_channels=channels, classes=num_classes)
        self.network: nn.Module = network.to(memory_format=memory_format).train()
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=1e-3, weight_decay=1e-4)
        self._dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE_INDEX)
        self._dtype = dtype
        self._memory_format = memory_format

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        """One update with (N, C, H, W) float32 images and (N, H, W) int64 classes."""
        with torch.autocast("cpu", dtype=self._dtype, enabled=self._dtype is not None):
            logits = self.network(images.contiguous(memory_format=self._memory_format))
        logits = logits.float()
        loss = functional.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX) + self._dice(logits, targets)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 12.0)
        self.optimiser.step()


def train_and_score(folder: Path, *, test: str, budget_s: float, seed: int) -> dict[str, object]:
    """Train on all images but those called like `test`, for so many seconds; Dice of each class on the others."""
    pairs = {path.name: (_read(path), _read(folder / "masks" / path.name)) for path in (folder / "images").iterdir()}
    train = [_z_scored(*pair) for name, pair in sorted(pairs.items()) if not fnmatch.fnmatch(name, test)]
    held_out = [pair for name, pair in sorted(pairs.items()) if fnmatch.fnmatch(name, test)]
    num_classes = 1 + max(int(mask[mask != IGNORE_INDEX].max()) for _, mask in train)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    loop = PlainLoop(channels=1, num_classes=num_classes, dtype=torch.bfloat16, memory_format=torch.channels_last)
    began, steps = time.monotonic(), 0
    while (share := (time.monotonic() - began) / budget_s) < 1:
        loop.optimiser.param_groups[0]["lr"] = 1e-3 * (1 - share) ** 0.9
        loop.step(*_batch(train, rng))
        steps += 1
    return {"dice": _score(loop.network, held_out, num_classes), "steps": steps}


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def _z_scored(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ((image - image.mean()) / image.std()).astype(np.float32), mask


def _batch(train: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random crops, images in proportion to their size, turned and mirrored."""
    sizes = np.array([mask.size for _, mask in train])
    images, masks = [], []
    for index in rng.choice(len(train), _BATCH, p=sizes / sizes.sum()):
        image, mask = train[index]
        row0, col0 = (int(rng.integers(0, length - _CROP + 1)) for length in mask.shape)
        turns, is_mirrored = int(rng.integers(4)), rng.random() < 0.5
        for source, crops in ((image, images), (mask, masks)):
            crop = np.rot90(source[row0 : row0 + _CROP, col0 : col0 + _CROP], turns)
            crops.append(np.ascontiguousarray(crop[:, ::-1] if is_mirrored else crop))
    return torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(masks)).long()


def _score(network: nn.Module, held_out: list[tuple[np.ndarray, np.ndarray]], num_classes: int) -> list[float]:
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for image, mask in held_out:
        mean, std = image.mean() / 255, image.std() / 255
        source = ImageSource.of_array(image[..., None], np.float32([mean]), np.float32([std]))
        prediction = predict_image(
            source,
            grid=TileGrid(tile=_CROP, overlap=_CROP // 4),
            num_classes=num_classes,
            forward=torch_forward(network.eval(), torch.device("cpu")),
            device=torch.device("cpu"),
        )
        confusion += confusion_matrix(prediction.mask, mask, num_classes)
    return [scores.dice for scores in class_scores(confusion)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--test", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = train_and_score(options.folder, test=options.test, budget_s=options.seconds, seed=options.seed)
    sys.stdout.write(json.dumps(found) + "\n")
