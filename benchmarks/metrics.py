"""Scores of 20 masks of 512² with 12 classes and ignored pixels, against torchmetrics.

Peer: `MulticlassJaccardIndex` with `ignore_index`, on tensors that are ready. Target: ten times as fast, and IoU and
Dice equal to those of segmentation-models-pytorch within 1e-6.
"""

from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from axons.data.layers import IGNORE_INDEX
from axons.train.metrics import ClassScores, class_scores, confusion_matrix
from benchmarks.measuring import Result, alternate, at_most, medians, seconds

_CLASSES = 12


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    rng = np.random.default_rng(0)
    count, side = (3, 128) if is_small else (20, 512)
    targets = rng.integers(0, _CLASSES, (count, side, side), dtype=np.uint8)
    predictions = np.where(rng.random(targets.shape) < 0.7, targets, rng.integers(0, _CLASSES, targets.shape))
    predictions = predictions.astype(np.uint8)
    targets[rng.random(targets.shape) < 0.1] = IGNORE_INDEX
    guessed, truth = torch.from_numpy(predictions).long(), torch.from_numpy(targets).long()
    found: dict[str, list[ClassScores]] = {}

    def ours() -> None:
        pairs = zip(predictions, targets, strict=True)
        found["ours"] = class_scores(sum(confusion_matrix(p, t, _CLASSES) for p, t in pairs))

    def torchmetrics() -> None:
        jaccard = MulticlassJaccardIndex(_CLASSES, average=None, ignore_index=IGNORE_INDEX, validate_args=False)
        for p, t in zip(guessed, truth, strict=True):
            jaccard.update(p[None], t[None])
        jaccard.compute()

    torchmetrics()  # its first call imports things
    took = medians(alternate(3, ours=ours, torchmetrics=torchmetrics))
    stats = smp.metrics.get_stats(guessed, truth, mode="multiclass", num_classes=_CLASSES, ignore_index=IGNORE_INDEX)
    pooled = [part.sum(dim=0, keepdim=True) for part in stats]
    iou, dice = smp.metrics.iou_score(*pooled)[0].numpy(), smp.metrics.f1_score(*pooled)[0].numpy()
    error = max(
        np.abs(iou - [scores.iou for scores in found["ours"]]).max(),
        np.abs(dice - [scores.dice for scores in found["ours"]]).max(),
    )
    return Result(
        figures=[
            seconds("time against torchmetrics", took["ours"], took["torchmetrics"], at_least=10),
            at_most("largest difference from segmentation-models-pytorch", float(error), 1e-6, unit=""),
        ]
    )
