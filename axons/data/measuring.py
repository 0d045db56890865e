"""What is measured of an image at import: statistics, flags, contrast limits, hashes, thumbnails."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from scipy.fft import dctn

from axons.data.images import ContrastLimits, WorkingImage, encode_jpeg
from axons.data.tiles import TileGrid, Window

BLANK_CONTRAST = 0.02  # of the image's contrast limits: less is paper, slide or sky
BLURRED_SHARPNESS = 0.005  # micrographs in focus have 0.04 to 3; blurred by a Gaussian of 3 px, 0.0004 to 0.006
MAX_SHEET_SIDE = 8192

_THUMBNAIL = 96
_CLIPPED_SHARE = 0.001  # of the pixels at either end do not count for the contrast limits of 16-bit images
_HASH_SIDE = 8
_MIN_SIDE_FOR_BLUR = 32
_NEAR_DUPLICATE_BITS = 6  # of 64; unrelated images differ in 32, recompressed and resized copies in 0 to 4


@dataclass(frozen=True, kw_only=True)
class MeasuredTile:
    """One tile and what was measured of it.

    Args:
        mean: average value, 0 to 1 between the image's contrast limits.
        contrast: standard deviation in the same unit.
        sharpness: variance of the Laplacian divided by the variance; 20 for white noise, towards 0 for blur.
    """

    window: Window
    mean: float
    contrast: float
    sharpness: float

    @property
    def is_blank(self) -> bool:
        """Nothing to see: less contrast than `BLANK_CONTRAST`."""
        return self.contrast < BLANK_CONTRAST

    @property
    def is_blurred(self) -> bool:
        """Something to see, without fine detail: less sharpness than `BLURRED_SHARPNESS`."""
        is_large_enough = min(self.window.height, self.window.width) >= _MIN_SIDE_FOR_BLUR
        return is_large_enough and not self.is_blank and self.sharpness < BLURRED_SHARPNESS


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """An image in numbers.

    Args:
        mean, std: per channel over all pixels, 0 to 1 of the data type's range.
        contrast_limits: values shown as black and white.
        dark_share, bright_share: pixels at the lowest and the highest value of the data type.
        hashes: perceptual hash of the image and of its seven mirrored and turned versions; empty for a blank image.
        tiles: row by row.
    """

    mean: list[float]
    std: list[float]
    contrast_limits: ContrastLimits
    dark_share: float
    bright_share: float
    hashes: list[str]
    tiles: list[MeasuredTile]


def measure(image: WorkingImage, grid: TileGrid) -> Measurements:
    """Read the image once, one row of tiles at a time, and measure it.

    Raises:
        ValueError: the tiles of `grid` overlap, which would count pixels twice.
    """
    if grid.overlap:
        raise ValueError(f"overlap is {grid.overlap} px; measure by tiles without overlap")
    total = _Total(image)
    raw = [tile for window, pixels in _tiles(image, grid) for tile in [_RawTile.of(window, pixels, total)]]
    limits = total.contrast_limits()
    thumbnail = limits.view(image.shrunk(4 * _HASH_SIDE, 4 * _HASH_SIDE))
    return Measurements(
        mean=total.mean().tolist(),
        std=total.std().tolist(),
        contrast_limits=limits,
        dark_share=total.share(0),
        bright_share=total.share(-1),
        hashes=perceptual_hashes(thumbnail),
        tiles=[tile.between(limits) for tile in raw],
    )


def measure_tiles(image: WorkingImage, grid: TileGrid, limits: ContrastLimits) -> list[MeasuredTile]:
    """The tiles of another grid on an image measured before."""
    return [_RawTile.of(window, pixels).between(limits) for window, pixels in _tiles(image, grid)]


def thumbnail_sheet(image: WorkingImage, grid: TileGrid, limits: ContrastLimits) -> tuple[bytes, int]:
    """All tiles small in one JPEG, each where it lies in the image; returns it and the pixels from tile to tile.

    A tile of `grid` (without overlap) whose window begins at (row0, col0) begins in the sheet at
    (row0, col0) * pixels / tile.
    """
    step = min(_THUMBNAIL, grid.tile, max(1, MAX_SHEET_SIDE * grid.tile // max(image.height, image.width)))
    # Rounded up, so that a last tile of a few pixels has its place too.
    small = image.shrunk(-(-image.height * step // grid.tile), -(-image.width * step // grid.tile))
    return encode_jpeg(limits.view(small)), step


def perceptual_hashes(view: np.ndarray) -> list[str]:
    """Hashes (16 hex digits) of a (32, 32, C) uint8 thumbnail as it is, mirrored and turned: 8 in all.

    The signs of the lowest 8 x 8 cosine frequencies against their median, as in pHash (Zauner, 2010); none if the
    thumbnail is flat, whose hash would be noise.
    """
    grey = view.astype(np.float64).mean(axis=2)
    if grey.std() < 1:
        return []
    turned = [np.rot90(side, k) for side in (grey, grey[:, ::-1]) for k in range(4)]
    return [_hash(dctn(version, norm="ortho")[:_HASH_SIDE, :_HASH_SIDE]) for version in turned]


def near_duplicates(hashes: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Pairs (i < j) of images that look the same, also mirrored or turned; `hashes` are those of each image."""
    known = [i for i, versions in enumerate(hashes) if versions]
    if len(known) < 2:
        return []
    own = np.array([int(hashes[i][0], 16) for i in known], np.uint64)
    versions = np.array([[int(text, 16) for text in hashes[i]] for i in known], np.uint64)
    pairs = []
    for a, bits in enumerate(own):
        distance = np.bitwise_count(versions[a + 1 :] ^ bits).min(axis=1, initial=64)
        pairs += [(known[a], known[a + 1 + int(b)]) for b in np.flatnonzero(distance <= _NEAR_DUPLICATE_BITS)]
    return pairs


@dataclass
class _Total:
    """Histogram of each channel of the pixels seen so far."""

    image: WorkingImage
    histograms: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.histograms = np.zeros((self.image.channels, 256**self.image.dtype.itemsize), np.int64)

    def add(self, pixels: np.ndarray) -> None:
        for channel, histogram in enumerate(self.histograms):
            histogram += np.bincount(pixels[..., channel].reshape(-1), minlength=len(histogram))

    def mean(self) -> np.ndarray:
        return np.asarray(self.histograms @ self._values() / self._pixels())

    def std(self) -> np.ndarray:
        distance = self._values() - self.mean()[:, None]
        return np.sqrt((self.histograms * distance**2).sum(axis=1) / self._pixels())

    def share(self, value: int) -> float:
        return float(self.histograms[:, value].sum() / self.histograms.sum())

    def contrast_limits(self) -> ContrastLimits:
        if self.image.dtype == np.uint8:
            return ContrastLimits(0, 255)
        cumulated = np.cumsum(self.histograms.sum(axis=0)) / self.histograms.sum()
        low, high = np.searchsorted(cumulated, [_CLIPPED_SHARE, 1 - _CLIPPED_SHARE])
        return ContrastLimits(float(low), float(max(high, low + 1)))

    def _values(self) -> np.ndarray:
        return np.linspace(0, 1, self.histograms.shape[1])

    def _pixels(self) -> int:
        return self.image.height * self.image.width


@dataclass(frozen=True)
class _RawTile:
    """A tile measured in the data's own values."""

    window: Window
    mean: float
    std: float
    sharpness: float

    @classmethod
    def of(cls, window: Window, pixels: np.ndarray, total: _Total | None = None) -> "_RawTile":
        if total is not None:
            total.add(pixels)
        grey = pixels.mean(axis=2, dtype=np.float32)
        variance = float(grey.var())
        return cls(window, float(grey.mean()), variance**0.5, _laplacian_variance(grey) / max(variance, 1e-9))

    def between(self, limits: ContrastLimits) -> MeasuredTile:
        span = limits.high - limits.low
        return MeasuredTile(
            window=self.window,
            mean=(self.mean - limits.low) / span,
            contrast=self.std / span,
            sharpness=self.sharpness,
        )


def _tiles(image: WorkingImage, grid: TileGrid) -> Iterator[tuple[Window, np.ndarray]]:
    for row0, windows in groupby(grid.windows(image.height, image.width), key=lambda window: window.row0):
        row = list(windows)
        band = image.read(Window(row0, 0, row[0].height, image.width))
        for window in row:
            yield window, band[:, window.col0 : window.col0 + window.width]


def _laplacian_variance(grey: np.ndarray) -> float:
    if min(grey.shape) < 3:
        return 0.0
    middle = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle).var())


def _hash(frequencies: np.ndarray) -> str:
    bits = (frequencies > np.median(frequencies)).reshape(-1)
    return np.packbits(bits).tobytes().hex()
