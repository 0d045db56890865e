"""Prediction of an image of any size by windows of one fixed shape."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from axons.data.tiles import TileGrid, Window
from axons.model.devices import autocast_dtype
from axons.model.normalisation import normalise

ReadWindow = Callable[[Window], np.ndarray]
Forward = Callable[[torch.Tensor], torch.Tensor]

MAX_BLOCK_SIDE = 4096
MAX_ACCUMULATOR_BYTES = 128 << 20

_BATCH = 16
_STRIP = 256  # rows


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a network says of a region.

    Args:
        mask: (H, W) uint8 class indices.
        confidence: (H, W) uint8, probability of the predicted class, 255 for certain.
    """

    mask: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """An image to predict: its size, how to read a window of it as (H, W, C), and its normalisation, (C,) each."""

    height: int
    width: int
    read: ReadWindow
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of_array(cls, image: np.ndarray, mean: np.ndarray, std: np.ndarray) -> "ImageSource":
        """An (H, W, C) array as a source."""
        return cls(height=image.shape[0], width=image.shape[1], read=lambda w: image[w.slices], mean=mean, std=std)


def predict_region(
    source: ImageSource, region: Window, *, grid: TileGrid, num_classes: int, forward: Forward, device: torch.device
) -> Prediction:
    """Predict one region; see `region_logits`."""
    mask = np.empty((region.height, region.width), np.uint8)
    confidence = np.empty_like(mask)
    parts = region_logits(source, region, grid=grid, num_classes=num_classes, forward=forward, device=device)
    for strip, logits in parts:
        place = strip.seen_from(region).slices
        mask[place], confidence[place] = _decide(logits)
    return Prediction(mask=mask, confidence=confidence)


def region_logits(
    source: ImageSource, region: Window, *, grid: TileGrid, num_classes: int, forward: Forward, device: torch.device
) -> Iterator[tuple[Window, torch.Tensor]]:
    """The logits of one region from the windows of the image's own grid that meet it, blended with a Gaussian weight.

    Neighbouring regions therefore agree with the image predicted whole. They come strip by strip: where it lies in the
    image, and its (K, h, w) logits.

    Args:
        forward: (N, C, T, T) float32 windows to (N, K, T, T) float32 logits, on `device`.
    Raises:
        FloatingPointError: the network's output is not finite.
    """
    logits = torch.zeros(num_classes, region.height, region.width, device=device)
    weights = torch.zeros(region.height, region.width, device=device)
    weight = _gaussian(grid.tile).to(device)
    windows = grid.windows_meeting(region, source.height, source.width)
    for batch in _batches(windows):
        pixels = np.stack([_read_square(source, window, grid.tile) for window in batch])
        outputs = forward(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(device))
        for output, window in zip(outputs, batch, strict=True):
            shared = window.intersection(region)
            assert shared is not None
            rows, cols = shared.seen_from(window).slices
            into = shared.seen_from(region).slices
            logits[:, *into] += output[:, rows, cols] * weight[rows, cols]
            weights[into] += weight[rows, cols]
    for row in range(0, region.height, _STRIP):  # the sums of the whole region at once would take three times as much
        height = min(_STRIP, region.height - row)
        strip = slice(row, row + height)
        part = logits[:, strip] / weights[strip]
        if not torch.isfinite(part.sum()):
            raise FloatingPointError("the network's output is not finite")
        yield Window(region.row0 + row, region.col0, height, region.width), part


def blocks(height: int, width: int, num_classes: int) -> list[Window]:
    """The regions into which an image is cut so that the accumulators of one stay below 128 MB."""
    pixels = MAX_ACCUMULATOR_BYTES // (4 * (num_classes + 1))
    return TileGrid(tile=min(MAX_BLOCK_SIDE, int(pixels**0.5))).windows(height, width)


def predict_image(
    source: ImageSource, *, grid: TileGrid, num_classes: int, forward: Forward, device: torch.device
) -> Prediction:
    """Predict a whole image that fits in memory; the result has exactly its size."""
    mask = np.empty((source.height, source.width), np.uint8)
    confidence = np.empty_like(mask)
    for region in blocks(source.height, source.width, num_classes):
        part = predict_region(source, region, grid=grid, num_classes=num_classes, forward=forward, device=device)
        mask[region.slices], confidence[region.slices] = part.mask, part.confidence
    return Prediction(mask=mask, confidence=confidence)


def torch_forward(network: nn.Module, device: torch.device) -> Forward:
    """A network in evaluation mode as a `Forward`: no gradients, and the fastest precision that keeps the classes."""
    dtype = autocast_dtype(device)

    def forward(windows: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits: torch.Tensor = network(windows.contiguous(memory_format=torch.channels_last))
        return logits.float()

    return forward


def _decide(logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mask and confidence, as in `Prediction`, of (K, H, W) logits."""
    top, mask = torch.max(logits, dim=0)
    probability = torch.exp(top - torch.logsumexp(logits, dim=0))
    return mask.to(torch.uint8).cpu().numpy(), (probability * 255).round().to(torch.uint8).cpu().numpy()


def _read_square(source: ImageSource, window: Window, side: int) -> np.ndarray:
    """The pixels of a window, normalised, (side, side, C); reflected where the image is smaller than a window."""
    pixels = normalise(source.read(window), source.mean, source.std)
    if window.height == window.width == side:
        return pixels
    return np.pad(pixels, ((0, side - window.height), (0, side - window.width), (0, 0)), mode="symmetric")


def _batches(windows: Sequence[Window]) -> Iterator[Sequence[Window]]:
    for start in range(0, len(windows), _BATCH):
        yield windows[start : start + _BATCH]


@lru_cache(maxsize=8)
def _gaussian(side: int) -> torch.Tensor:
    """(side, side) weight, 1 in the middle: sigma is an eighth of the side, as in nnU-Net (Isensee et al., 2021)."""
    offset = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    line = torch.exp(-0.5 * (offset / (side / 8)) ** 2)
    return torch.clamp(line[:, None] * line[None, :], min=1e-3)
