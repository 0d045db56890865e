"""A mask carries the geo-reference of the image that it was predicted from."""

import numpy as np
import pytest
import tifffile

from axons.data.geotiff import GEO_MASK, add_geotiff
from axons.data.pictures import encode_mask
from axons.data.storage import open_storage

CLASSES = [("background", "#000000"), ("forêt & eau", "#ff0000")]
KEYS = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632]
NORTH_UP = {
    "33550": [0.5, 0.5, 0.0],
    "33922": [0.0, 0.0, 0.0, 431000.25, 5432000.75, 0.0],
    "34735": KEYS,
    "34736": [6378137.0, 298.257223563],
    "34737": "WGS 84 / UTM zone 32N|",
}
TURNED = {"34264": [0.4, 0.3, 0, 4e5, 0.3, -0.4, 0, 5e6, 0, 0, 0, 0, 0, 0, 0, 1], "34735": KEYS}


@pytest.fixture
def mask(tmp_path):
    mask = np.random.default_rng(3).integers(0, 2, (300, 517), dtype=np.uint8)
    open_storage(str(tmp_path)).write("mask.png", encode_mask(mask, [colour for _, colour in CLASSES]))
    return mask


@pytest.mark.parametrize("geo", [NORTH_UP, TURNED], ids=["north up", "turned"])
def test_tags_and_pixels_are_kept_tiled_and_compressed(tmp_path, mask, geo):
    assert add_geotiff(str(tmp_path), "mask.png", geo, CLASSES) == []
    with tifffile.TiffFile(tmp_path / GEO_MASK) as tiff:
        page = tiff.pages[0]
        found = {code: page.tags[int(code)].value for code in geo}
        assert {code: list(v) if isinstance(v, tuple) else v for code, v in found.items()} == geo
        assert np.array_equal(page.asarray(), mask)
        assert (page.tile, page.compression.name) == ((256, 256), "ADOBE_DEFLATE")
        assert page.tags[42112].value.count("<Item") == len(CLASSES)


def test_a_malformed_geo_reference_is_left_out_and_told(tmp_path, mask):
    notices = add_geotiff(str(tmp_path), "mask.png", {"34735": [1, -7, "x"]}, CLASSES)
    assert notices == ["the geo-reference of the image is malformed; the mask has none"]
    assert not (tmp_path / GEO_MASK).exists()
