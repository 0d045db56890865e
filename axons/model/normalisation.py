"""From pixel values to what a network sees."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from axons.data.rows import Row

NormalisationKind = Literal["image", "training set"]

_SMALLEST_STD = 1 / 255  # a blank image must not become amplified noise
Statistics = tuple[Sequence[float], Sequence[float]]  # mean and std per channel

_Share = Annotated[float, Field(ge=0, le=1)]


class Normalisation(Row):
    """Subtract a mean, divide by a std: each image's own ("image"), or one for all, that of the training set.

    Args:
        mean, std: per channel, 0 to 1 of the data type's range; used with "training set".
    """

    kind: NormalisationKind
    mean: list[_Share]
    std: list[_Share]

    def of_image(self, mean: Sequence[float], std: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The mean and std, (C,) float32, for an image with this mean and std of its own."""
        chosen = (mean, std) if self.kind == "image" else (self.mean, self.std)
        return np.asarray(chosen[0], np.float32), np.maximum(np.asarray(chosen[1], np.float32), _SMALLEST_STD)


def statistics(image: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and std per channel of an (H, W, C) image, 0 to 1 of the data type's range."""
    pixels = image.reshape(-1, image.shape[-1])
    white = np.iinfo(image.dtype).max
    counts = [np.bincount(pixels[:, channel], minlength=white + 1) for channel in range(pixels.shape[1])]
    values = np.arange(white + 1) / white
    means = [float(count @ values / len(pixels)) for count in counts]
    stds = [
        float(np.sqrt(count @ (values - mean) ** 2 / len(pixels))) for count, mean in zip(counts, means, strict=True)
    ]
    return means, stds


def normalise(image: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(..., H, W, C) uint8 or uint16 -> float32 of the same shape with the mean taken off, in units of the std."""
    white = np.float32(np.iinfo(image.dtype).max)
    scaled = image.astype(np.float32)
    scaled *= 1 / (white * std)
    scaled -= mean / std
    return scaled
