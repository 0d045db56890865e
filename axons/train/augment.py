"""Random changes of training crops, on the device they train on."""

import math

import torch
from kornia.filters import gaussian_blur2d
from torch.nn import functional

from axons.data.layers import IGNORE_INDEX
from axons.train.config import TrainConfig

_BRIGHTNESS = 0.25
_CONTRAST = 0.25
_GAMMA = (0.7, 1.5)
_NOISE_STD = 0.04
_BLUR_SIGMA = (0.3, 1.2)
_BLUR_KERNEL = 7
_OFTEN, _SELDOM = 0.5, 0.2


def source_side(crop: int, config: TrainConfig) -> int:
    """Side of the window from which a crop of `crop` px is drawn, so that the most shrunk crop still finds pixels."""
    return math.ceil(crop / config.scale_min)


def random_crops(
    images: torch.Tensor, masks: torch.Tensor, *, crop: int, config: TrainConfig, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn, mirror, scale and recolour crops, each by its own draw.

    Args:
        images: (N, C, S, S) float32, 0 to 1, S as `source_side` says; the crop lies in the middle.
        masks: (N, S, S) uint8.
        rng: on the CPU, so that the draws are the same on every device.
    Returns:
        (N, C, crop, crop) float32, about 0 to 1, and (N, crop, crop) int64.
    """
    grid = functional.affine_grid(
        _transforms(len(images), crop / images.shape[-1], config, rng).to(images.device),
        [len(images), 1, crop, crop],
        align_corners=False,
    )
    cropped = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    # Shifted so that what lies outside the window, which reads as 0, is ignored.
    shifted = masks[:, None].float() - IGNORE_INDEX
    labels = functional.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return _recolour(cropped, config.intensity, rng), (labels[:, 0] + IGNORE_INDEX).long()


def _transforms(count: int, share: float, config: TrainConfig, rng: torch.Generator) -> torch.Tensor:
    """(N, 2, 3) affine maps from the crop to the window: scale, quarter turn, mirror."""
    low, high = math.log(config.scale_min), math.log(config.scale_max)
    size = share / torch.exp(_uniform(count, low, high, rng))
    mirror = 1 - 2 * torch.randint(0, 2, (count,), generator=rng)
    quarter = torch.randint(0, 4, (count,), generator=rng) if config.orientation == "any" else torch.zeros(count)
    cosine, sine = torch.cos(quarter * math.pi / 2).round(), torch.sin(quarter * math.pi / 2).round()
    zero = torch.zeros(count)
    rows = [size * cosine * mirror, -size * sine, zero, size * sine * mirror, size * cosine, zero]
    return torch.stack(rows, dim=1).reshape(count, 2, 3)


def _recolour(images: torch.Tensor, strength: float, rng: torch.Generator) -> torch.Tensor:
    """Brightness, contrast, gamma, noise and blur; each happens to some of the images."""
    if strength == 0:
        return images
    count, device = len(images), images.device
    brightness = _factor(count, _BRIGHTNESS * strength, rng)
    contrast = _factor(count, _CONTRAST * strength, rng)
    gamma = torch.exp(
        _sometimes(count, _uniform(count, math.log(_GAMMA[0]), math.log(_GAMMA[1]), rng), _OFTEN, rng) * strength
    )
    noise = _sometimes(count, _uniform(count, 0, _NOISE_STD * strength, rng), _SELDOM, rng)
    brightness, contrast, gamma, noise = (
        value.to(device)[:, None, None, None] for value in (brightness, contrast, gamma, noise)
    )
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = ((images - mean) * contrast + mean) * brightness
    images = images.clamp(min=1e-4) ** gamma
    if noise.any():
        seed = int(torch.randint(0, 2**31, (1,), generator=rng))
        on_device = torch.Generator(device=device).manual_seed(seed)
        images = images + noise * torch.randn(images.shape, generator=on_device, device=device)
    blurred = torch.nonzero(torch.rand(count, generator=rng) < _SELDOM * min(1, strength))[:, 0].to(device)
    if len(blurred):
        sigma = _uniform(len(blurred), *_BLUR_SIGMA, rng).to(device)[:, None].expand(-1, 2)
        images = images.index_copy(0, blurred, gaussian_blur2d(images[blurred], (_BLUR_KERNEL, _BLUR_KERNEL), sigma))
    return images


def _uniform(count: int, low: float, high: float, rng: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, generator=rng)


def _factor(count: int, spread: float, rng: torch.Generator) -> torch.Tensor:
    return 1 + _sometimes(count, _uniform(count, -spread, spread, rng), _OFTEN, rng)


def _sometimes(count: int, values: torch.Tensor, share: float, rng: torch.Generator) -> torch.Tensor:
    return torch.where(torch.rand(count, generator=rng) < share, values, 0.0)
