"""Pictures that browsers see: 8-bit views of windows, thumbnails, masks; without any of the upload's metadata."""

import io
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
from cachetools import LRUCache, cached

from axons.app.tables import Image, Tile
from axons.data.images import ContrastLimits, WorkingImage, encode_jpeg, encode_png
from axons.data.storage import Storage
from axons.data.tiles import Window
from axons.errors import InvalidRequest, NotFound

PYRAMID_TILE = 256
_THUMBNAIL = 256
_SEEN_BYTES = 64 << 20


def tile_window(image: Image, tile: Tile, margin: int) -> Window:
    """A tile with a margin of its surroundings, as far as the image reaches."""
    return Window(tile.row0, tile.col0, tile.height, tile.width).grown(margin, image.height, image.width)


def chosen_limits(image: Image, low: float | None, high: float | None) -> ContrastLimits | None:
    """Contrast limits of a person's choice; None if nothing was chosen.

    Raises:
        InvalidRequest: only one of them, in the wrong order, or beyond what pixels of the image can be.
    """
    if low is None and high is None:
        return None
    if low is None or high is None:
        raise InvalidRequest("high" if high is None else "low", "one contrast limit alone was given; give both or none")
    white = np.iinfo(image.dtype).max
    if not low < high <= white:
        raise InvalidRequest("high", f"the contrast limits are {low:g} and {high:g}; choose low < high <= {white}")
    return ContrastLimits(low, high)


def view_png(storage: Storage, image: Image, window: Window, limits: ContrastLimits | None = None) -> bytes:
    """A window at full size; with limits of a person's choice instead of the image's own."""
    path = storage.local_path(image.working_key)
    return _seen_png(path, _limits(image), window) if limits is None else _view_png(path, limits, window)


# A class looks at copies of the same images: what one student has seen, the others get without work.
@cached(LRUCache[object, bytes](_SEEN_BYTES, getsizeof=len), lock=threading.Lock())
def _seen_png(path: Path, limits: ContrastLimits, window: Window) -> bytes:
    return _view_png(path, limits, window)


def _view_png(path: Path, limits: ContrastLimits, window: Window) -> bytes:
    return encode_png(limits.view(_open(path).read(window)))


def small_view(storage: Storage, image: Image, max_side: int, kind: Literal["png", "jpeg"]) -> bytes:
    """The whole image, its longer side at most so long."""
    factor = min(1.0, max_side / max(image.height, image.width))
    height, width = max(1, round(image.height * factor)), max(1, round(image.width * factor))
    view = _limits(image).view(_working(storage, image.working_key).shrunk(height, width))
    return encode_png(view) if kind == "png" else encode_jpeg(view)


def pyramid_tile(storage: Storage, image: Image, level: int, row: int, col: int) -> bytes:
    """One tile of a level of the image's pyramid as JPEG; tiles are `PYRAMID_TILE` px large, level 0 is the image.

    Raises:
        NotFound: the pyramid has no such tile.
    """
    working = _working(storage, image.working_key)
    height, width = working.level_size(level)
    row0, col0 = row * PYRAMID_TILE, col * PYRAMID_TILE
    if level >= working.levels or row0 >= height or col0 >= width:
        raise NotFound(f"image {image.name!r} has no tile {row}, {col} in level {level}; open the image again")
    window = Window(row0, col0, min(PYRAMID_TILE, height - row0), min(PYRAMID_TILE, width - col0))
    return encode_jpeg(_limits(image).view(working.read_level(level, window)))


def image_thumbnail(storage: Storage, image: Image) -> bytes:
    """The whole image small, from the sheet of its tiles."""
    sheet = _sheet(storage, image.sheet_key)
    factor = min(1.0, _THUMBNAIL / max(sheet.size))
    size = (max(1, round(sheet.width * factor)), max(1, round(sheet.height * factor)))
    return _jpeg(sheet.resize(size, PIL.Image.Resampling.BOX))


def tile_thumbnail(storage: Storage, image: Image, tile: Tile) -> bytes:
    """One tile small, cut from the sheet."""
    sheet = _sheet(storage, image.sheet_key)
    across, down = sheet.width / image.width, sheet.height / image.height
    left, top = int(tile.col0 * across), int(tile.row0 * down)
    right, bottom = round((tile.col0 + tile.width) * across), round((tile.row0 + tile.height) * down)
    return _jpeg(sheet.crop((left, top, max(left + 1, right), max(top + 1, bottom))))


def colours_by_index(classes: Sequence[tuple[int, str]]) -> list[str]:
    """The palette of masks: colours at the indices of their classes."""
    colours = dict(classes)
    return [colours.get(index, "#000000") for index in range(max(colours, default=0) + 1)]


def _limits(image: Image) -> ContrastLimits:
    return ContrastLimits(image.contrast_low, image.contrast_high)


def _working(storage: Storage, key: str) -> WorkingImage:
    return _open(storage.local_path(key))


# Working images are never changed, so one that is open stays right; what stays open is bounded.
@lru_cache(maxsize=64)
def _open(path: Path) -> WorkingImage:
    return WorkingImage(path)


def _sheet(storage: Storage, key: str) -> PIL.Image.Image:
    return _decoded(storage.local_path(key))


@lru_cache(maxsize=2)  # the largest has 200 MB
def _decoded(path: Path) -> PIL.Image.Image:
    """A page of thumbnails asks for the same sheet again and again."""
    sheet = PIL.Image.open(path)
    sheet.load()
    return sheet


def _jpeg(picture: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
