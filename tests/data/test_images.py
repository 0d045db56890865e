"""Reading working images: windows, smaller versions, 8-bit views."""

import io

import numpy as np
import psutil
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from axons.data.decoding import Decoder
from axons.data.images import ContrastLimits, WorkingImage, encode_jpeg, encode_png
from axons.data.tiles import TileGrid, Window, stitch

SHAPES = [(1, 1, 1), (5, 7, 3), (256, 256, 1), (257, 513, 3), (700, 901, 1)]


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as shared:
        yield shared


@pytest.fixture
def store(decoder, tmp_path):
    """Make a working image of an array, as an import does."""

    def normalise(pixels):
        interpretation = ["b-w", "grey16", "srgb", "rgb16"][2 * (pixels.shape[2] == 3) + (pixels.dtype == np.uint16)]
        source = pyvips.Image.new_from_array(pixels, interpretation=interpretation)
        (tmp_path / "source").write_bytes(source.pngsave_buffer(compression=1))
        decoder.normalise(tmp_path / "source", tmp_path / "target", name="drawn.png")
        return WorkingImage(tmp_path / "target")

    return normalise


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def ramp(height, width):
    """Grey that grows along the columns, from 0 to 65,535."""
    row = np.linspace(0, 65_535, width).astype(np.uint16)
    return np.broadcast_to(row, (height, width))[..., None].copy()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_working_image_describes_itself_and_gives_back_its_pixels(store, shape, dtype):
    pixels = noise(shape, dtype)
    image = store(pixels)
    assert (image.height, image.width, image.channels, image.dtype) == (*shape, np.dtype(dtype))
    assert np.array_equal(image.read_all(), pixels)
    assert image.read_all().dtype == dtype


@pytest.mark.parametrize("grid", [TileGrid(tile=100), TileGrid(tile=256), TileGrid(tile=300, overlap=70)])
def test_windows_are_parts_of_the_whole(store, grid):
    pixels = noise((700, 901, 3))
    image = store(pixels)
    tiles = [image.read(window) for window in grid.windows(700, 901)]
    assert np.array_equal(stitch(tiles, pixels.shape, grid), pixels)


@pytest.mark.parametrize(
    "window", [Window(0, 0, 1, 1), Window(699, 900, 1, 1), Window(255, 255, 2, 2), Window(0, 900, 700, 1)]
)
def test_a_window_may_lie_anywhere_in_the_image(store, window):
    pixels = noise((700, 901, 1), np.uint16)
    assert np.array_equal(store(pixels).read(window), pixels[window.slices])


@pytest.mark.parametrize("window", [Window(0, 0, 6, 7), Window(-1, 0, 2, 2), Window(0, 6, 1, 2)])
def test_a_window_outside_the_image_is_our_own_mistake(store, window):
    image = store(noise((5, 7, 3)))
    with pytest.raises(AssertionError):
        image.read(window)


def test_a_window_of_a_large_image_does_not_read_the_whole(tmp_path):
    pyvips.Image.black(12_000, 12_000, bands=3).tiffsave(
        tmp_path / "large.tif", tile=True, tile_width=256, tile_height=256, pyramid=True, compression="deflate", level=1
    )
    before = psutil.Process().memory_info().rss
    image = WorkingImage(tmp_path / "large.tif")
    [image.read(Window(row0, 6000, 512, 512)) for row0 in range(0, 11_000, 1000)]
    assert psutil.Process().memory_info().rss - before < 100 * 10**6


def test_a_file_written_anew_under_the_same_name_is_read_anew(store):
    store(noise((300, 300, 3))).read_all()
    assert np.array_equal(store(noise((300, 300, 1))).read_all(), noise((300, 300, 1)))


@given(height=st.integers(1, 260), width=st.integers(1, 260), data=st.data())
def test_a_shrunk_image_has_the_size_that_was_asked_for(tmp_path_factory, height, width, data):
    path = tmp_path_factory.mktemp("images") / "image.tif"
    pyvips.Image.new_from_array(noise((height, width, 3))).tiffsave(
        str(path), tile=True, tile_width=64, tile_height=64, pyramid=True
    )
    rows, cols = data.draw(st.integers(1, 2 * height)), data.draw(st.integers(1, 2 * width))
    assert WorkingImage(path).shrunk(rows, cols).shape == (rows, cols, 3)


@pytest.mark.parametrize("width", [300, 777, 1025, 2049])
@pytest.mark.parametrize("share", [0.5, 0.33, 0.1, 0.04])
def test_each_part_stays_in_its_place_when_shrunk(store, width, share):
    image = store(ramp(200, width))
    cols = round(share * width)
    small = image.shrunk(20, cols)[10, :, 0] / 65_535 * cols
    assert small[2:-2] == pytest.approx(np.arange(cols)[2:-2] + 0.5, abs=1.1)


def test_shrinking_averages(store):
    checked = np.zeros((512, 512, 1), np.uint8)
    checked[::2, ::2] = checked[1::2, 1::2] = 200
    small = store(checked).shrunk(64, 64).astype(int)
    assert np.abs(small - 100).max() <= 1


def test_a_flat_image_stays_flat(store):
    assert (store(np.full((300, 400, 3), 77, np.uint8)).shrunk(31, 47) == 77).all()


def test_full_limits_leave_8_bits_as_they_are():
    pixels = noise((9, 9, 3))
    assert ContrastLimits(0, 255).view(pixels) is pixels


@pytest.mark.parametrize(
    ("limits", "values", "seen"),
    [
        ((0, 65_535), [0, 257, 32_896, 65_535], [0, 1, 128, 255]),
        ((1000, 1255), [0, 1000, 1001, 1255, 65_535], [0, 0, 1, 255, 255]),
        ((5, 5), [4, 5, 6], [0, 0, 255]),
    ],
)
def test_a_view_of_16_bits_stretches_between_its_limits(limits, values, seen):
    view = ContrastLimits(*limits).view(np.array(values, np.uint16).reshape(1, -1, 1))
    assert view.dtype == np.uint8
    assert view.reshape(-1).tolist() == seen


def test_a_view_of_8_bits_stretches_between_narrow_limits():
    view = ContrastLimits(100, 151).view(np.array([[[0], [100], [101], [151], [255]]], np.uint8))
    assert view.reshape(-1).tolist() == [0, 0, 5, 255, 255]


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3)])
def test_a_png_gives_back_its_pixels(shape):
    pixels = noise(shape)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels.squeeze())


@pytest.mark.parametrize("shape", [(20, 30, 1), (20, 30, 3)])
def test_a_jpeg_looks_like_its_pixels(shape):
    pixels = np.full(shape, 130, np.uint8)
    seen = np.asarray(Image.open(io.BytesIO(encode_jpeg(pixels))))
    assert seen.shape == pixels.squeeze().shape
    assert np.abs(seen.astype(int) - 130).max() <= 2
