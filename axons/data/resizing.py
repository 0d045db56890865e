"""Images and masks at another size."""

import numpy as np
from PIL import Image


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An (H, W, C) uint8 or uint16 image at another size: averaged when smaller, bicubic when larger."""
    if image.shape[:2] == (height, width):
        return image
    resample = Image.Resampling.BOX if height * width < image.shape[0] * image.shape[1] else Image.Resampling.BICUBIC
    channels = [
        np.asarray(
            Image.fromarray(image[..., channel].astype(np.float32)).resize((width, height), resample, reducing_gap=None)
        )
        for channel in range(image.shape[2])
    ]
    top = np.iinfo(image.dtype).max
    return np.clip(np.rint(np.stack(channels, axis=-1)), 0, top).astype(image.dtype)


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """An (H, W) mask at another size: each pixel takes the class under its centre."""
    if mask.shape == (height, width):
        return mask
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(int)
    cols = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(int)
    return mask[rows[:, None], cols]
