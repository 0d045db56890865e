"""Pictures of masks: palettes, overlays, differences."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from axons.data.layers import IGNORE_INDEX
from axons.data.masks import palette_of

# Colour-blind-safe (Okabe and Ito, 2008), background first; further classes begin again at the second.
CLASS_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")

_MISSED, _WRONG = (0, 114, 178), (213, 94, 0)  # blue, vermilion
_IGNORED = (160, 160, 160)


def class_colours(count: int) -> list[str]:
    """Colours for so many classes."""
    others = CLASS_COLOURS[1:]
    return [CLASS_COLOURS[0], *(others[i % len(others)] for i in range(count - 1))]


def encode_mask(mask: np.ndarray, colours: Sequence[str], *, clear: int | None = None) -> bytes:
    """An (H, W) mask of class indices as palette PNG: the pixels are the indices, the palette shows the classes.

    Args:
        clear: a value that is seen through; some tools read such a file as colours with alpha.
    """
    picture = Image.fromarray(mask)
    picture.putpalette(palette_of(colours))
    return _png(picture) if clear is None else _png(picture, transparency=clear)


def encode_picture(picture: np.ndarray) -> bytes:
    """An (H, W, 3) uint8 picture as PNG."""
    return _png(Image.fromarray(picture))


def as_colour(view: np.ndarray) -> np.ndarray:
    """An (H, W, 1 or 3) uint8 view as (H, W, 3)."""
    return np.broadcast_to(view, (*view.shape[:2], 3))


def colourise(mask: np.ndarray, colours: Sequence[str]) -> np.ndarray:
    """(H, W) class indices as an (H, W, 3) uint8 picture."""
    palette = np.array(palette_of(colours), np.uint8).reshape(256, 3)
    return palette[mask]


def overlay(view: np.ndarray, mask: np.ndarray, colours: Sequence[str], *, opacity: float = 0.45) -> np.ndarray:
    """The classes laid over an (H, W, C) view, (H, W, 3) uint8; background and unlabelled pixels stay clear."""
    base = as_colour(view).astype(np.float32)
    paint = colourise(mask, colours).astype(np.float32)
    strength = np.where((mask == 0) | (mask == IGNORE_INDEX), 0.0, opacity)[..., None]
    return (base + (paint - base) * strength).astype(np.uint8)


def outlined(view: np.ndarray, mask: np.ndarray, colours: Sequence[str], *, opacity: float = 0.25) -> np.ndarray:
    """As `overlay`, with every region bordered in its full colour."""
    picture = overlay(view, mask, colours, opacity=opacity)
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    is_border = np.logical_or.reduce([inner != other for other in beside]) & (mask != 0) & (mask != IGNORE_INDEX)
    picture[is_border] = colourise(mask[is_border], colours)
    return picture


def difference(view: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Where a prediction errs, over an (H, W, C) view: vermilion where it paints too much, blue where it misses.

    Painting too much is a class where the truth is background, or another class; missing is background where the truth
    has a class. What is not judged is grey.
    """
    picture = (as_colour(view).astype(np.float32) * 0.5 + 96).astype(np.uint8)
    judged = truth != IGNORE_INDEX
    wrong = judged & (truth != prediction)
    picture[wrong & (prediction != 0)] = _WRONG
    picture[wrong & (prediction == 0)] = _MISSED
    picture[~judged] = _IGNORED
    return picture


def side_by_side(pictures: Sequence[np.ndarray], *, gap: int = 4) -> np.ndarray:
    """(H, W, 3) pictures of one height in a row, with white gaps."""
    white = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, white)]
    return np.concatenate(parts[:-1], axis=1)


def _png(picture: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()
