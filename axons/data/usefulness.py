"""How much a person's labels of a tile would teach a model that has predicted it."""

from dataclasses import dataclass

import numpy as np

from axons.data.layers import count_values

_UNSURE_BELOW = 0.6
_PERCENTILE = 95


@dataclass(frozen=True, kw_only=True)
class Usefulness:
    """What a prediction says of a tile.

    Args:
        score: 95th percentile of 1 - confidence, 0 to 1: thin borders count, and one odd pixel does not.
        unsure_share: of the pixels with a confidence below 60 %.
        class_pixels: pixels of each value that was predicted.
    """

    score: float
    unsure_share: float
    class_pixels: dict[int, int]


def usefulness(values: np.ndarray, confidence: np.ndarray) -> Usefulness:
    """Judge a tile by its prediction.

    Args:
        values: (H, W) uint8.
        confidence: (H, W) uint8, 255 for certain.
    """
    return Usefulness(
        score=1 - float(np.percentile(confidence, 100 - _PERCENTILE)) / 255,
        unsure_share=float((confidence < _UNSURE_BELOW * 255).mean()),
        class_pixels=count_values(values),
    )
