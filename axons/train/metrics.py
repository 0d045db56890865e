"""Scores of a prediction against the truth, all from one confusion matrix, and the boundary F-score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from axons.data.layers import IGNORE_INDEX

BOUNDARY_TOLERANCE = 2  # px

_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Scores of one class, 0 to 1; NaN where they are not defined.

    `iou` and `dice` are NaN if neither prediction nor truth has the class, `precision` if the prediction lacks it,
    `recall` if the truth lacks it.
    """

    iou: float
    dice: float
    precision: float
    recall: float
    pixels: int


def confusion_matrix(prediction: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) int64: pixels by true class (row) and predicted class (column).

    Args:
        prediction: (H, W) uint8 class indices.
        target: (H, W) uint8 class indices; pixels equal to `IGNORE_INDEX` do not count.
    Raises:
        ValueError: the two differ in shape.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction is {prediction.shape} but target is {target.shape}; compare masks of one size")
    # Ignored pixels go to row 255, which is cut off: cheaper than picking out the others.
    pairs = np.multiply(target, num_classes, dtype=np.uint16)
    pairs += prediction
    counts = np.bincount(pairs.reshape(-1), minlength=num_classes**2)
    return counts[: num_classes**2].reshape(num_classes, num_classes)


def class_scores(confusion: np.ndarray) -> list[ClassScores]:
    """Scores of each class from a (K, K) confusion matrix.

    Source: Jaccard, New Phytologist 11(2), 1912; Dice, Ecology 26(3), 1945, doi:10.2307/1932409.
    """
    hits = np.diag(confusion).astype(np.float64)
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        iou = hits / (truth + predicted - hits)
        dice = 2 * hits / (truth + predicted)
        precision, recall = hits / predicted, hits / truth
    return [
        ClassScores(iou=float(i), dice=float(d), precision=float(p), recall=float(r), pixels=int(n))
        for i, d, p, r, n in zip(iou, dice, precision, recall, truth, strict=True)
    ]


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU over the classes that prediction or truth has; NaN if nothing was compared."""
    present = [scores.iou for scores in class_scores(confusion) if not np.isnan(scores.iou)]
    return float(np.mean(present)) if present else float("nan")


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of the compared pixels that have the right class; NaN if nothing was compared."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def boundary_f_score(
    prediction: np.ndarray, target: np.ndarray, *, class_index: int, tolerance: int = BOUNDARY_TOLERANCE
) -> float:
    """How well the outline of one class agrees, 0 to 1: F-score of boundary pixels near one of the other.

    Near is within `tolerance` px. NaN if neither mask has a boundary of the class. Pixels equal to `IGNORE_INDEX` in
    the target do not count.

    Source: Csurka et al., BMVC 2013, doi:10.5244/C.27.32.
    """
    judged = target != IGNORE_INDEX
    mine, theirs = (_boundary(mask == class_index, judged) for mask in (prediction, target))
    if not mine.any() and not theirs.any():
        return float("nan")
    precision = _share_near(mine, theirs, tolerance)
    recall = _share_near(theirs, mine, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of the mean over images, by resampling the images; None for fewer than two.

    Source: percentile bootstrap, Efron, Annals of Statistics 7(1), 1979, doi:10.1214/aos/1176344552.
    """
    known = np.array([value for value in values if not np.isnan(value)])
    if len(known) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = known[rng.integers(0, len(known), (_RESAMPLES, len(known)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _boundary(inside: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Pixels of a class with a neighbour (of four) of another class, neither of them ignored."""
    edge = np.zeros_like(inside)
    for mine, other in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = (inside[mine] != inside[other]) & judged[mine] & judged[other]
        edge[mine] |= differs & inside[mine]
        edge[other] |= differs & inside[other]
    return edge


def _share_near(edge: np.ndarray, other: np.ndarray, tolerance: int) -> float:
    if not edge.any():
        return 0.0
    reach = np.hypot(*np.ogrid[-tolerance : tolerance + 1, -tolerance : tolerance + 1]) <= tolerance
    near = ndimage.binary_dilation(other, structure=reach)
    return float(np.count_nonzero(edge & near) / np.count_nonzero(edge))
