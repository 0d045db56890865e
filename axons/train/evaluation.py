"""What a trained network is worth: scores of a split, image by image and pooled, its worst tiles, and its speed."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from axons.data.images import ContrastLimits
from axons.data.layers import IGNORE_INDEX
from axons.data.pictures import difference, encode_picture, overlay, side_by_side
from axons.data.rows import Row
from axons.data.shards import ShardReader
from axons.data.storage import Storage
from axons.data.tiles import TileGrid, Window
from axons.data.training_set import Record, Split, TrainingSet
from axons.model.normalisation import Normalisation
from axons.model.windows import ImageSource, blocks, region_logits, torch_forward
from axons.train.metrics import (
    BOUNDARY_TOLERANCE,
    boundary_f_score,
    class_scores,
    confusion_matrix,
    interval,
    mean_iou,
    pixel_accuracy,
)
from axons.train.thresholds import ProbabilityCounter, ProbabilityCounts
from axons.train.validation import none_if_nan

NUM_WORST = 6

_TILE = 256
_MIN_JUDGED_SHARE = 0.25  # of a tile, to be among the worst


class ClassEvaluation(Row):
    """Scores of one class, 0 to 1; None where they are not defined (see `metrics.ClassScores`).

    Args:
        probabilities: what other thresholds would give; never of the test, on which nothing may be chosen.
    """

    name: str
    iou: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    boundary_f: float | None
    pixels: int
    probabilities: ProbabilityCounts | None = None


class ImageEvaluation(Row):
    """Scores of one image, over its labelled pixels."""

    image_id: str
    name: str
    mean_iou: float | None
    pixel_accuracy: float | None
    iou: list[float | None]
    confusion: list[list[int]]


class WorstTile(Row):
    """A tile with many errors: where it lies at the set's scale, and keys of its pictures in the run folder."""

    image_id: str
    name: str
    row0: int
    col0: int
    height: int
    width: int
    error_rate: float
    truth: str
    prediction: str
    difference: str


class SplitEvaluation(Row):
    """Scores of a split.

    Args:
        mean_iou, pixel_accuracy, classes: of one confusion matrix pooled over the images; `boundary_f` is the mean
            over images.
        confusion: pixels by true class (row) and predicted class (column).
        mean_iou_interval: 95 % interval of the mean over images; None for one image.
        ms_per_tile, images_per_minute: of predicting whole images by windows of `window` px on `device`.
    """

    num_images: int
    mean_iou: float | None
    pixel_accuracy: float | None
    error_rate: float | None
    mean_iou_per_image: float | None
    mean_iou_interval: tuple[float, float] | None
    classes: list[ClassEvaluation]
    confusion: list[list[int]]
    images: list[ImageEvaluation]
    worst: list[WorstTile]
    num_tiles: int
    seconds: float
    ms_per_tile: float
    images_per_minute: float


class Evaluation(Row):
    """evaluation.json."""

    classes: list[str]
    window: int
    overlap: int
    device: str
    boundary_tolerance: int = BOUNDARY_TOLERANCE
    splits: dict[Split, SplitEvaluation]


class Evaluator:
    """Predicts the images of a training set whole, by the windows that serving uses, and scores them."""

    def __init__(
        self,
        network: nn.Module,
        reader: ShardReader,
        training_set: TrainingSet,
        normalisation: Normalisation,
        *,
        grid: TileGrid,
        device: torch.device,
    ) -> None:
        self._forward = torch_forward(network.eval(), device)
        self._reader = reader
        self._set = training_set
        self._normalisation = normalisation
        self._grid = grid
        self._device = device

    def evaluate(self, split: Split, *, pictures: Storage) -> SplitEvaluation:
        """Score a split that has images; pictures of its worst tiles go to `pictures/evaluation/`."""
        began = time.monotonic()
        num_tiles, predicting = 0, 0.0
        images: list[ImageEvaluation] = []
        boundaries: list[list[float]] = []
        worst: list[tuple[float, Record, Window, np.ndarray]] = []
        counter = ProbabilityCounter(self._set.num_classes)
        for index in self._set.images_of(split):
            confusion = np.zeros((self._set.num_classes,) * 2, np.int64)
            for record in (record for record in self._set.records_of(split) if record.image == index):
                started = time.monotonic()
                image, truth = self._reader.read(record)
                prediction = self._predict(record, image, truth, counter)
                predicting += time.monotonic() - started
                num_tiles += len(self._grid.windows(record.height, record.width))
                confusion += confusion_matrix(prediction, truth, self._set.num_classes)
                boundaries.append(self._boundaries(prediction, truth))
                worst = sorted([*worst, *_errors(record, prediction, truth)], key=lambda item: -item[0])[:NUM_WORST]
            images.append(self._image(index, confusion))
        return self._split(
            images,
            boundaries,
            counter if split != "test" else None,
            [self._write_worst(rank, split, item, pictures) for rank, item in enumerate(worst, start=1)],
            num_tiles=num_tiles,
            seconds=time.monotonic() - began,
            ms_per_tile=1000 * predicting / max(1, num_tiles),
            images_per_minute=60 * len(images) / max(predicting, 1e-9),
        )

    def _predict(self, record: Record, image: np.ndarray, truth: np.ndarray, counter: ProbabilityCounter) -> np.ndarray:
        """The class indices of a record, (H, W) uint8; its probabilities are counted."""
        frozen = self._set.images[record.image]
        source = ImageSource.of_array(image, *self._normalisation.of_image(frozen.mean, frozen.std))
        mask = np.empty((source.height, source.width), np.uint8)
        for region in blocks(source.height, source.width, self._set.num_classes):
            parts = region_logits(
                source,
                region,
                grid=self._grid,
                num_classes=self._set.num_classes,
                forward=self._forward,
                device=self._device,
            )
            for strip, logits in parts:
                mask[strip.slices] = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
                counter.add(logits, truth[strip.slices])
        return mask

    def _boundaries(self, prediction: np.ndarray, truth: np.ndarray) -> list[float]:
        return [boundary_f_score(prediction, truth, class_index=k) for k in range(self._set.num_classes)]

    def _image(self, index: int, confusion: np.ndarray) -> ImageEvaluation:
        return ImageEvaluation(
            image_id=self._set.images[index].image_id,
            name=self._set.images[index].name,
            mean_iou=none_if_nan(mean_iou(confusion)),
            pixel_accuracy=none_if_nan(pixel_accuracy(confusion)),
            iou=[none_if_nan(scores.iou) for scores in class_scores(confusion)],
            confusion=confusion.tolist(),
        )

    def _split(
        self,
        images: list[ImageEvaluation],
        boundaries: list[list[float]],
        counter: ProbabilityCounter | None,
        worst: list[WorstTile],
        **timing: Any,
    ) -> SplitEvaluation:
        confusion = np.sum([image.confusion for image in images], axis=0)
        per_image = [image.mean_iou for image in images if image.mean_iou is not None]
        accuracy = pixel_accuracy(confusion)
        boundary = [_mean([row[k] for row in boundaries]) for k in range(self._set.num_classes)]
        classes = [
            ClassEvaluation(
                name=label_class.name,
                iou=none_if_nan(scores.iou),
                dice=none_if_nan(scores.dice),
                precision=none_if_nan(scores.precision),
                recall=none_if_nan(scores.recall),
                boundary_f=boundary_f,
                pixels=scores.pixels,
                probabilities=counter.of(k) if counter else None,
            )
            for k, (label_class, scores, boundary_f) in enumerate(
                zip(self._set.classes, class_scores(confusion), boundary, strict=True)
            )
        ]
        return SplitEvaluation(
            num_images=len(images),
            mean_iou=none_if_nan(mean_iou(confusion)),
            pixel_accuracy=none_if_nan(accuracy),
            error_rate=none_if_nan(1 - accuracy),
            mean_iou_per_image=_mean(per_image),
            mean_iou_interval=interval(per_image),
            classes=classes,
            confusion=confusion.tolist(),
            images=images,
            worst=worst,
            **timing,
        )

    def _write_worst(
        self, rank: int, split: Split, item: tuple[float, Record, Window, np.ndarray], pictures: Storage
    ) -> WorstTile:
        error_rate, record, window, prediction = item
        image, truth = self._reader.crop(record, window)
        view = ContrastLimits(float(image.min()), float(max(image.max(), image.min() + 1))).view(image)
        colours = [label_class.colour for label_class in self._set.classes]
        drawn = {
            "truth": overlay(view, truth, colours),
            "prediction": overlay(view, prediction, colours),
            "difference": difference(view, truth, prediction),
        }
        keys = {name: f"evaluation/{split}-{rank}-{name}.png" for name in drawn}
        for name, picture in drawn.items():
            pictures.replace(keys[name], encode_picture(picture))
        place = Window(record.row0 + window.row0, record.col0 + window.col0, window.height, window.width)
        frozen = self._set.images[record.image]
        return WorstTile(
            image_id=frozen.image_id,
            name=frozen.name,
            row0=place.row0,
            col0=place.col0,
            height=place.height,
            width=place.width,
            error_rate=error_rate,
            **keys,
        )


def sample_picture(pixels: np.ndarray, masks: np.ndarray, colours: list[str]) -> bytes:
    """Crops (N, T, T, C) with masks (N, T, T) laid over them, side by side, as PNG."""
    views = [
        ContrastLimits(float(image.min()), float(max(image.max(), image.min() + 1))).view(image) for image in pixels
    ]
    drawn = [overlay(view, mask, colours) for view, mask in zip(views, masks, strict=True)]
    return encode_picture(side_by_side(drawn))


def _errors(
    record: Record, prediction: np.ndarray, truth: np.ndarray
) -> Iterator[tuple[float, Record, Window, np.ndarray]]:
    """The share of wrong pixels of each tile of a record, with the prediction there."""
    for window in TileGrid(tile=_TILE).windows(record.height, record.width):
        judged = truth[window.slices] != IGNORE_INDEX
        count = np.count_nonzero(judged)
        if count >= _MIN_JUDGED_SHARE * min(_TILE**2, record.window.area):
            wrong = np.count_nonzero(judged & (truth[window.slices] != prediction[window.slices]))
            yield wrong / count, record, window, prediction[window.slices].copy()


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None
