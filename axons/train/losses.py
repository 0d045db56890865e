"""What training makes small."""

import torch
from torch.nn import functional

from axons.data.layers import IGNORE_INDEX
from axons.train.config import Loss


def loss_of(logits: torch.Tensor, target: torch.Tensor, kind: Loss) -> torch.Tensor:
    """The loss of (N, K, H, W) float32 logits against (N, H, W) int64 classes; `IGNORE_INDEX` does not count."""
    if kind == "cross-entropy":
        return cross_entropy(logits, target)
    if kind == "dice":
        return soft_dice_loss(logits, target)
    return cross_entropy(logits, target) + soft_dice_loss(logits, target)


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the labelled pixels; 0 if there are none."""
    total = functional.cross_entropy(logits, target, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (target != IGNORE_INDEX).sum().clamp(min=1)


def soft_dice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 minus the soft Dice coefficient of the batch, averaged over the classes that its truth has; 0 if it has none.

    Source: Milletari et al., V-Net, 3DV 2016, arXiv:1606.04797, with the batch as one volume.
    """
    probabilities = torch.softmax(logits, dim=1)
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    truth = target[:, None] == classes  # (N, K, H, W), false in all planes where the pixel is ignored
    hits = torch.where(truth, probabilities, 0).sum(dim=(0, 2, 3))
    predicted = torch.where((target != IGNORE_INDEX)[:, None], probabilities, 0).sum(dim=(0, 2, 3))
    expected = truth.sum(dim=(0, 2, 3))
    dice = 2 * hits / (predicted + expected).clamp(min=1e-6)
    present = expected > 0
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)
