"""Reading working images: windows without the whole image, 8-bit views, thumbnails."""

import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips
from PIL import Image

from axons.data.tiles import Window


@dataclass(frozen=True)
class ContrastLimits:
    """The values shown as black and as white in an 8-bit view."""

    low: float
    high: float

    def view(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, C) uint8 as a person sees `pixels`; uint8 with full limits comes back unchanged."""
        if pixels.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            return pixels
        scaled = (pixels.astype(np.float32) - self.low) * (255 / max(self.high - self.low, 1e-9))
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


class WorkingImage:
    """A working TIFF, opened for reading windows; `height`, `width`, `channels` and `dtype` describe it.

    Trusted: we have written the file ourselves.
    """

    def __init__(self, path: Path) -> None:
        self._image = pyvips.Image.new_from_file(str(path), access="random", revalidate=True)
        self._path = path
        self.height: int = self._image.height
        self.width: int = self._image.width
        self.channels: int = self._image.bands
        self.dtype = np.dtype(np.uint8 if self._image.format == "uchar" else np.uint16)

    def read(self, window: Window) -> np.ndarray:
        """The pixels of `window`: (H, W, C)."""
        assert window.row0 >= 0 and window.col0 >= 0
        assert window.row0 + window.height <= self.height and window.col0 + window.width <= self.width
        pixels = self._image.crop(window.col0, window.row0, window.width, window.height).numpy()
        return np.asarray(pixels).reshape(window.height, window.width, self.channels)

    def read_all(self) -> np.ndarray:
        """All pixels: (H, W, C); only for images known to be small."""
        return self.read(Window(0, 0, self.height, self.width))

    def shrunk(self, height: int, width: int) -> np.ndarray:
        """The whole image averaged down to (`height`, `width`, C), from the nearest level of its pyramid."""
        level = self._image
        for page in range(1, self._image.get("n-pages")):
            smaller = pyvips.Image.new_from_file(str(self._path), page=page, revalidate=True)
            if smaller.height < height or smaller.width < width:
                break
            level = smaller
        small = level.resize(width / level.width, vscale=height / level.height, kernel="linear")
        return np.asarray(small.numpy()).reshape(height, width, self.channels)

    @property
    def levels(self) -> int:
        """Levels of its pyramid: level 0 is the image itself, each further one half as large."""
        return int(self._image.get("n-pages"))

    def level_size(self, level: int) -> tuple[int, int]:
        """Height and width of a level, a last half pixel counted."""
        return -(-self.height >> level), -(-self.width >> level)

    def read_level(self, level: int, window: Window) -> np.ndarray:
        """The pixels of `window` in a level of the pyramid: (H, W, C)."""
        if level == 0:
            return self.read(window)
        height, width = self.level_size(level)
        page = pyvips.Image.new_from_file(str(self._path), page=level, revalidate=True)
        # The file's levels leave a last half pixel out.
        whole = page.embed(0, 0, width, height, extend="copy")
        pixels = whole.crop(window.col0, window.row0, window.width, window.height).numpy()
        return np.asarray(pixels).reshape(window.height, window.width, self.channels)


def encode_jpeg(view: np.ndarray, *, quality: int = 85) -> bytes:
    """An (H, W, C) uint8 view as JPEG."""
    return _encode(view, "JPEG", quality=quality)


def encode_png(view: np.ndarray) -> bytes:
    """An (H, W) or (H, W, C) uint8 array as PNG, fast rather than small."""
    # Runs alone: in the noise of a micrograph zlib's search for longer repeats finds none, and takes as long again.
    return _encode(view, "PNG", compress_level=1, compress_type=zlib.Z_RLE)


def _encode(view: np.ndarray, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(view[..., 0] if view.ndim == 3 and view.shape[2] == 1 else view).save(buffer, kind, **options)
    return buffer.getvalue()
