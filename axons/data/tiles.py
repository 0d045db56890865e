"""Where tiles and inference windows lie in an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels: rows `row0` to `row0 + height`, columns `col0` to `col0 + width`, half-open."""

    row0: int
    col0: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """To index an (H, W, ...) array."""
        return slice(self.row0, self.row0 + self.height), slice(self.col0, self.col0 + self.width)

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self.height * self.width

    def intersection(self, other: "Window") -> "Window | None":
        """What both cover; None if they do not meet."""
        row0, col0 = max(self.row0, other.row0), max(self.col0, other.col0)
        height = min(self.row0 + self.height, other.row0 + other.height) - row0
        width = min(self.col0 + self.width, other.col0 + other.width) - col0
        return Window(row0, col0, height, width) if height > 0 and width > 0 else None

    def grown(self, margin: int, height: int, width: int) -> "Window":
        """This window with `margin` px more on each side, inside an image of `height` by `width`."""
        row0, col0 = max(0, self.row0 - margin), max(0, self.col0 - margin)
        row1 = min(height, self.row0 + self.height + margin)
        col1 = min(width, self.col0 + self.width + margin)
        return Window(row0, col0, row1 - row0, col1 - col0)

    def seen_from(self, other: "Window") -> "Window":
        """The same pixels counted from the corner of `other`."""
        return Window(self.row0 - other.row0, self.col0 - other.col0, self.height, self.width)


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Square tiles of `tile` px; neighbours share `overlap` px.

    Without overlap each pixel has one owner, and the tiles of the last row and column keep their true, smaller size.
    With overlap all tiles are whole where the image is large enough: the last ones move inward.
    """

    tile: int
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.tile < 1:
            raise ValueError(f"tile is {self.tile} px; choose at least 1")
        if not 0 <= self.overlap < self.tile:
            raise ValueError(
                f"overlap is {self.overlap} px for tiles of {self.tile} px; choose an overlap from 0 to {self.tile - 1}"
            )

    @property
    def stride(self) -> int:
        """Pixels from one tile to the next."""
        return self.tile - self.overlap

    def windows(self, height: int, width: int) -> list[Window]:
        """The tiles of an image of `height` by `width` px, row by row."""
        return [
            Window(row0, col0, min(self.tile, height - row0), min(self.tile, width - col0))
            for row0 in self._starts(height)
            for col0 in self._starts(width)
        ]

    def windows_meeting(self, region: Window, height: int, width: int) -> list[Window]:
        """Those tiles of an image of `height` by `width` px that share a pixel with `region`."""
        return [
            Window(row0, col0, min(self.tile, height - row0), min(self.tile, width - col0))
            for row0 in self._starts(height)
            if row0 < region.row0 + region.height and row0 + self.tile > region.row0
            for col0 in self._starts(width)
            if col0 < region.col0 + region.width and col0 + self.tile > region.col0
        ]

    def _starts(self, length: int) -> Sequence[int]:
        if self.overlap == 0:
            return range(0, length, self.tile)
        last = max(0, length - self.tile)
        # Move the last tile inward instead of padding: padded pixels would be scored as background.
        return [*range(0, last, self.stride), last]


def cut(image: np.ndarray, grid: TileGrid) -> list[np.ndarray]:
    """The tiles of an (H, W, ...) array as views, in the order of `grid.windows`."""
    return [image[window.slices] for window in grid.windows(image.shape[0], image.shape[1])]


def stitch(tiles: Sequence[np.ndarray], shape: tuple[int, ...], grid: TileGrid) -> np.ndarray:
    """The exact inverse of `cut`: an array of `shape` from its tiles; where tiles overlap the later one counts.

    Raises:
        ValueError: the number of tiles is not that of the grid.
    """
    windows = grid.windows(shape[0], shape[1])
    if len(tiles) != len(windows):
        raise ValueError(f"{len(tiles)} tiles for a grid of {len(windows)}; give all of them, in the grid's order")
    image = np.empty(shape, dtype=tiles[0].dtype)
    for tile, window in zip(tiles, windows, strict=True):
        image[window.slices] = tile
    return image
