"""Batches of training crops, read from mapped shards in proportion to labelled pixels."""

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from axons.data.shards import ShardReader
from axons.data.tiles import Window
from axons.data.training_set import Record, TrainingSet
from axons.model.normalisation import Normalisation

_RARE = 0.5  # a class with less than this share of its fair part of the pixels is rare


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Crops as they lie in storage, with what normalises them.

    Args:
        images: (N, S, S, C) uint8 or uint16.
        masks: (N, S, S) uint8.
        means, stds: (N, C) float32, 0 to 1.
    """

    images: np.ndarray
    masks: np.ndarray
    means: np.ndarray
    stds: np.ndarray


class CropSampler:
    """Random windows of the training records, `side` px wide.

    A window is centred near a labelled pixel drawn uniformly over all of them; with probability `rare_share` near one
    of a rare class instead: one with less than half of an equal part of the labelled pixels, else the rarest.
    """

    def __init__(
        self,
        reader: ShardReader,
        training_set: TrainingSet,
        normalisation: Normalisation,
        *,
        side: int,
        rare_share: float,
    ) -> None:
        self._reader = reader
        self._side = side
        self._rare_share = rare_share
        self._records = training_set.records_of("train")
        points = [reader.points(record) for record in self._records]
        self._points = np.concatenate([np.column_stack([np.full(len(p), i), p]) for i, p in enumerate(points)])
        self._weights = _weights(self._records, points)
        self._rare = _rare_classes(training_set.balance.pixels["train"])
        images = training_set.images
        self._normalised = [normalisation.of_image(image.mean, image.std) for image in images]

    def batch(self, size: int, *, rng: np.random.Generator) -> Batch:
        """Draw a batch."""
        images, masks, means, stds = zip(*(self._crop(rng) for _ in range(size)), strict=True)
        top = max(image.dtype.itemsize for image in images)
        if any(image.dtype.itemsize != top for image in images):  # 8-bit beside 16-bit images
            images = tuple(image if image.dtype.itemsize == top else image.astype(np.uint16) * 257 for image in images)
        return Batch(images=np.stack(images), masks=np.stack(masks), means=np.stack(means), stds=np.stack(stds))

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        class_index = rng.choice(self._rare) if rng.random() < self._rare_share else None
        candidates, cumulated = self._weights[class_index]
        index, _, row, col = self._points[
            candidates[np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right")]
        ]
        record = self._records[index]
        window = Window(
            _start(row, record.height, self._side, rng),
            _start(col, record.width, self._side, rng),
            self._side,
            self._side,
        )
        mean, std = self._normalised[record.image]
        return *self._reader.crop(record, window), mean, std


def prefetched(sampler: CropSampler, size: int, count: int, *, rng: np.random.Generator) -> Generator[Batch]:
    """`count` batches, the next one drawn while the current one is used."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="crops") as pool:
        following: Future[Batch] = pool.submit(sampler.batch, size, rng=rng)
        for i in range(count):
            batch = following.result()
            if i + 1 < count:
                following = pool.submit(sampler.batch, size, rng=rng)
            yield batch


def _start(position: int, length: int, side: int, rng: np.random.Generator) -> int:
    """First row or column of a window with `position` in its middle half, inside the record if it fits."""
    start = int(position) - side // 2 + int(rng.integers(-side // 4, side // 4 + 1))
    return min(max(start, 0), length - side) if length >= side else (length - side) // 2


def _weights(
    records: Sequence[Record], points: Sequence[np.ndarray]
) -> dict[int | None, tuple[np.ndarray, np.ndarray]]:
    """For each class, and for all (None): indices into the points, and their cumulated weights.

    A point stands for all pixels of its class in its record that were not drawn as points.
    """
    pixels = np.array([record.class_pixels for record in records], np.float64)
    classes = np.concatenate([p[:, 0] for p in points])
    stratum = np.repeat(np.arange(len(records)), [len(p) for p in points]) * pixels.shape[1] + classes
    weight = pixels.reshape(-1)[stratum] / np.bincount(stratum, minlength=pixels.size)[stratum]
    weights: dict[int | None, tuple[np.ndarray, np.ndarray]] = {None: (np.arange(len(classes)), np.cumsum(weight))}
    for class_index in range(pixels.shape[1]):
        chosen = np.flatnonzero(classes == class_index)
        weights[class_index] = (chosen, np.cumsum(weight[chosen]))
    return weights


def _rare_classes(pixels: Sequence[int]) -> list[int]:
    fair = sum(pixels) / len(pixels)
    return [k for k, count in enumerate(pixels) if count < _RARE * fair] or [int(np.argmin(pixels))]
