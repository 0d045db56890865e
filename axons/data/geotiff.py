"""Masks as GeoTIFF: with the geo-reference of the image that was predicted, a palette, and the names of the classes."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from axons.data.mask_files import MaskFile
from axons.data.masks import palette_of
from axons.data.storage import open_storage
from axons.data.tiles import Window

GEO_MASK = "mask.geo.tif"

_TILE = 256
_DOUBLE, _SHORT, _ASCII = 12, 3, 2
# Pixel scale, tie points, transformation, directory of geo keys, and their numbers and texts (OGC GeoTIFF 1.1).
_TYPES = {33550: _DOUBLE, 33922: _DOUBLE, 34264: _DOUBLE, 34735: _SHORT, 34736: _DOUBLE, 34737: _ASCII}
_GDAL_METADATA = 42112
_CLASSIC_BYTES = 2 << 30


def add_geotiff(
    target_uri: str, mask_key: str, geo: Mapping[str, Any], classes: Sequence[tuple[str, str]]
) -> list[str]:
    """Put a mask in storage beside itself once more, as the GeoTIFF `GEO_MASK`; gives what a person should know.

    Args:
        geo: tags by number, as `ImportedImage.geo`.
        classes: name and colour of each.
    """
    storage = open_storage(target_uri)
    try:
        tags = _geo_tags(geo)
    except (TypeError, ValueError, OverflowError):
        return ["the geo-reference of the image is malformed; the mask has none"]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, GEO_MASK)
        _write(written, MaskFile(storage.local_path(mask_key)), tags, classes)
        storage.write(GEO_MASK, written)
    return []


def _write(target: Path, mask: MaskFile, tags: list[tuple[Any, ...]], classes: Sequence[tuple[str, str]]) -> None:
    """In bounded memory: a row of tiles at a time."""
    palette = np.array(palette_of([colour for _, colour in classes]), np.uint16).reshape(256, 3).T
    names = _names(classes)
    with tifffile.TiffWriter(target, bigtiff=mask.height * mask.width > _CLASSIC_BYTES) as tiff:
        tiff.write(
            _tiles(mask),
            shape=(mask.height, mask.width),
            dtype=np.uint8,
            tile=(_TILE, _TILE),
            compression="adobe_deflate",
            photometric="palette",
            colormap=palette * 257,
            metadata=None,
            software="",
            extratags=[*tags, (_GDAL_METADATA, _ASCII, len(names) + 1, names, True)],
        )


def _tiles(mask: MaskFile) -> Iterator[np.ndarray]:
    for row0 in range(0, mask.height, _TILE):
        rows = mask.read(Window(row0, 0, min(_TILE, mask.height - row0), mask.width))
        padded = np.pad(rows, ((0, _TILE - len(rows)), (0, -mask.width % _TILE)))
        yield from (padded[:, col0 : col0 + _TILE] for col0 in range(0, mask.width, _TILE))


def _geo_tags(geo: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The tags as tifffile writes them; other tags are left out.

    Raises:
        TypeError, ValueError, OverflowError: a value is not of its tag's type.
    """
    tags: list[tuple[Any, ...]] = []
    for code, kind in _TYPES.items():
        value = geo.get(str(code))
        if value is None:
            continue
        if kind == _ASCII:
            text = str(value).encode("ascii")
            tags.append((code, kind, len(text) + 1, text, True))
        else:
            dtype = np.float64 if kind == _DOUBLE else np.uint16
            numbers = np.atleast_1d(np.array(value, dtype)).reshape(-1).tolist()
            tags.append((code, kind, len(numbers), tuple(numbers), True))
    return tags


def _names(classes: Sequence[tuple[str, str]]) -> bytes:
    """GDAL's metadata, which tools show: CLASS_0=background and so on."""
    items = [f'<Item name="CLASS_{i}">{escape(name)}</Item>' for i, (name, _) in enumerate(classes)]
    return f"<GDALMetadata>{''.join(items)}</GDALMetadata>".encode("ascii", "xmlcharrefreplace")
