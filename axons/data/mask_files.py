"""Reading masks that a model made: class indices by windows."""

from pathlib import Path

import numpy as np
import PIL.Image

from axons.data.images import WorkingImage
from axons.data.tiles import Window


class MaskFile:
    """A stored mask, opened for reading windows: a palette PNG, or the tiled and pyramidal TIFF of a large image.

    Trusted: we have written the file ourselves.
    """

    def __init__(self, path: Path) -> None:
        self._tiff: WorkingImage | None = None
        if path.suffix == ".png":
            with PIL.Image.open(path) as picture:  # libvips would turn the palette into colours
                self._pixels = np.asarray(picture)
            self.height, self.width = self._pixels.shape
        else:
            self._tiff = WorkingImage(path)
            self.height, self.width = self._tiff.height, self._tiff.width

    def read(self, window: Window) -> np.ndarray:
        """(H, W) uint8 class indices of `window`."""
        return self._pixels[window.slices] if self._tiff is None else self._tiff.read(window)[..., 0]
