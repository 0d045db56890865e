"""Validation while training: a fixed choice of windows of the validation images, and a few crops to look at."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from axons.data.shards import ShardReader
from axons.data.tiles import TileGrid, Window
from axons.data.training_set import Record, TrainingSet
from axons.model.normalisation import normalise
from axons.model.windows import torch_forward
from axons.train.config import ResolvedConfig
from axons.train.losses import loss_of
from axons.train.metrics import class_scores, confusion_matrix, mean_iou

NUM_SAMPLES = 4

_BATCH = 8
_CROPS_PER_WINDOW = 4  # training crops for each validation window: validation costs a twelfth of the time at most
_MIN_WINDOWS = 16


@dataclass(frozen=True, kw_only=True)
class ValidationScores:
    """Loss, IoU of each class (None where absent) and their mean (None if nothing is labelled)."""

    loss: float
    mean_iou: float | None
    iou: list[float | None]


class Validation:
    """Scores a network on the same windows each time; `seconds` is what the last scoring took."""

    def __init__(
        self, reader: ShardReader, training_set: TrainingSet, resolved: ResolvedConfig, *, device: torch.device
    ) -> None:
        self._reader = reader
        self._training_set = training_set
        self._resolved = resolved
        self._device = device
        self.seconds = 0.0
        most = max(_MIN_WINDOWS, resolved.steps_per_epoch * resolved.batch // _CROPS_PER_WINDOW)
        self._windows = _choose(_windows(training_set.records_of("val"), resolved.crop), most, resolved.config.seed)
        # Without validation images, look at training crops.
        seen = self._windows or _windows(training_set.records_of("train"), resolved.crop)
        self._samples = _choose(seen, NUM_SAMPLES, resolved.config.seed)

    def score(self, network: nn.Module) -> ValidationScores | None:
        """The scores of a network; None without validation images."""
        if not self._windows:
            return None
        began = time.monotonic()
        forward = torch_forward(network.eval(), self._device)
        num_classes = self._training_set.num_classes
        confusion = np.zeros((num_classes, num_classes), np.int64)
        losses = []
        for start in range(0, len(self._windows), _BATCH):
            images, masks = self._read(self._windows[start : start + _BATCH])
            logits = forward(images.to(self._device))
            targets = torch.from_numpy(masks).long().to(self._device)
            losses.append(float(loss_of(logits, targets, self._resolved.config.loss)) * len(masks))
            prediction = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
            confusion += confusion_matrix(prediction, masks, num_classes)
        self.seconds = time.monotonic() - began
        return ValidationScores(
            loss=sum(losses) / len(self._windows),
            mean_iou=none_if_nan(mean_iou(confusion)),
            iou=[none_if_nan(scores.iou) for scores in class_scores(confusion)],
        )

    def samples(self) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        """The crops to look at: normalised (N, C, T, T), as stored (N, T, T, C), and their masks (N, T, T)."""
        pixels = np.stack([self._crop(record, window)[0] for record, window in self._samples])
        images, masks = self._read(self._samples)
        return images, pixels, masks

    def predict_samples(self, network: nn.Module) -> np.ndarray:
        """What a network makes of the crops to look at: (N, T, T) uint8."""
        forward = torch_forward(network.eval(), self._device)
        images, _ = self._read(self._samples)
        return forward(images.to(self._device)).argmax(dim=1).to(torch.uint8).cpu().numpy()

    def _read(self, places: list[tuple[Record, Window]]) -> tuple[torch.Tensor, np.ndarray]:
        images, masks = [], []
        for record, window in places:
            image, mask = self._crop(record, window)
            frozen = self._training_set.images[record.image]
            images.append(normalise(image, *self._resolved.normalisation.of_image(frozen.mean, frozen.std)))
            masks.append(mask)
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), np.stack(masks)

    def _crop(self, record: Record, window: Window) -> tuple[np.ndarray, np.ndarray]:
        return self._reader.crop(record, Window(window.row0, window.col0, self._resolved.crop, self._resolved.crop))


def none_if_nan(value: float) -> float | None:
    """A score for a JSON file: None where it is not defined."""
    return None if np.isnan(value) else float(value)


def _windows(records: list[Record], side: int) -> list[tuple[Record, Window]]:
    grid = TileGrid(tile=side)
    return [(record, window) for record in records for window in grid.windows(record.height, record.width)]


def _choose(places: list[tuple[Record, Window]], most: int, seed: int) -> list[tuple[Record, Window]]:
    """At most so many, drawn once and in order; a whole window is preferred to a piece at the edge."""
    if len(places) <= most:
        return places
    largest = max(window.area for _, window in places)
    order = np.random.default_rng(seed).permutation(len(places))
    whole_first = sorted(order, key=lambda i: places[i][1].area < largest)
    return [places[i] for i in sorted(whole_first[:most])]
