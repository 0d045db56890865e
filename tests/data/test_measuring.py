"""What is measured of an image: statistics against NumPy, flags, hashes and the sheet of thumbnails."""

import io

import numpy as np
import pytest
import pyvips
from PIL import Image
from scipy import ndimage

from axons.data.images import ContrastLimits, WorkingImage
from axons.data.measuring import (
    MAX_SHEET_SIDE,
    measure,
    measure_tiles,
    near_duplicates,
    perceptual_hashes,
    thumbnail_sheet,
)
from axons.data.sample import draw_micrograph
from axons.data.tiles import TileGrid

FULL = ContrastLimits(0, 255)


@pytest.fixture
def store(tmp_path):
    """A working image of an array."""

    def write(pixels):
        path = tmp_path / "image.tif"
        pyvips.Image.new_from_array(np.ascontiguousarray(pixels)).tiffsave(
            str(path), tile=True, tile_width=256, tile_height=256, pyramid=True, compression="deflate", level=1
        )
        return WorkingImage(path)

    return write


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture(scope="module")
def micrographs():
    return [draw_micrograph(np.random.default_rng(seed), size=256).image for seed in range(12)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (300, 411, 1), (300, 411, 3)])
@pytest.mark.parametrize("tile", [64, 100, 256, 5000])
def test_mean_and_deviation_are_those_of_numpy(store, dtype, shape, tile):
    pixels = noise(shape, dtype)
    measured = measure(store(pixels), TileGrid(tile=tile))
    unit = pixels.astype(np.float64) / np.iinfo(dtype).max
    assert measured.mean == pytest.approx(unit.mean(axis=(0, 1)), rel=1e-12)
    assert measured.std == pytest.approx(unit.std(axis=(0, 1)), rel=1e-9, abs=1e-12)


def test_a_small_deviation_on_a_large_mean_is_not_lost(store):
    pixels = 60_000 + noise((200, 200, 1), np.uint16) % 2
    measured = measure(store(pixels), TileGrid(tile=64))
    assert measured.std == pytest.approx([pixels.std() / 65_535], rel=1e-9)


def test_any_grid_measures_the_same_image_the_same(store):
    image = store(noise((333, 200, 3)))
    first, second = measure(image, TileGrid(tile=64)), measure(image, TileGrid(tile=97))
    assert (first.mean, first.std, first.hashes, first.contrast_limits) == (
        second.mean,
        second.std,
        second.hashes,
        second.contrast_limits,
    )


def test_tiles_that_overlap_are_refused(store):
    with pytest.raises(ValueError, match="overlap is 16 px; measure by tiles without overlap"):
        measure(store(noise((64, 64, 1))), TileGrid(tile=64, overlap=16))


def test_each_tile_has_its_own_mean_and_contrast(store):
    pixels = np.zeros((100, 100, 1), np.uint8)
    pixels[:50, 50:] = 255
    pixels[50:, :50] = noise((50, 50, 1))
    tiles = measure(store(pixels), TileGrid(tile=50)).tiles
    assert [tile.window for tile in tiles] == TileGrid(tile=50).windows(100, 100)
    assert [tile.mean for tile in tiles] == pytest.approx([0, 1, pixels[50:, :50].mean() / 255, 0], abs=1e-6)
    assert [tile.contrast for tile in tiles] == pytest.approx([0, 0, pixels[50:, :50].std() / 255, 0], abs=1e-6)


def test_tiles_of_another_grid_are_measured_alike(store):
    image = store(noise((300, 300, 3), np.uint16))
    measured = measure(image, TileGrid(tile=128))
    assert measure_tiles(image, TileGrid(tile=128), measured.contrast_limits) == measured.tiles


def test_tiles_of_another_grid_may_overlap(store):
    grid = TileGrid(tile=128, overlap=32)
    tiles = measure_tiles(store(noise((300, 300, 3))), grid, FULL)
    assert [tile.window for tile in tiles] == grid.windows(300, 300)


def test_8_bits_are_shown_as_they_are(store):
    assert measure(store(noise((50, 50, 1)) // 4), TileGrid(tile=50)).contrast_limits == FULL


def test_16_bits_are_shown_between_what_occurs_without_a_thousandth_at_each_end(store):
    pixels = np.linspace(1000, 3000, 100_000).astype(np.uint16)
    pixels[:50], pixels[-50:] = 0, 65_535
    limits = measure(store(pixels.reshape(250, 400, 1)), TileGrid(tile=100)).contrast_limits
    assert (limits.low, limits.high) == pytest.approx((1002, 2998), abs=1)


def test_a_flat_image_of_16_bits_has_limits_that_differ(store):
    measured = measure(store(np.full((50, 50, 1), 500, np.uint16)), TileGrid(tile=50))
    assert measured.contrast_limits == ContrastLimits(500, 501)
    assert measured.tiles[0].is_blank


def test_the_shares_of_darkest_and_brightest_values_are_counted(store):
    pixels = np.full((100, 100, 3), 90, np.uint8)
    pixels[:25], pixels[90:] = 0, 255
    measured = measure(store(pixels), TileGrid(tile=33))
    assert (measured.dark_share, measured.bright_share) == (0.25, 0.1)


# Flags


def flags(store, pixels, tile=256):
    [measured] = measure(store(pixels), TileGrid(tile=tile)).tiles
    return measured.is_blank, measured.is_blurred


@pytest.mark.parametrize("seed", range(4))
def test_a_micrograph_in_focus_has_no_flag(store, micrographs, seed):
    assert flags(store, micrographs[seed]) == (False, False)


@pytest.mark.parametrize("seed", range(4))
def test_a_micrograph_out_of_focus_is_blurred(store, micrographs, seed):
    blurred = ndimage.gaussian_filter(micrographs[seed], (6, 6, 0))
    assert flags(store, blurred) == (False, True)


@pytest.mark.parametrize("level", [0, 128, 240, 255])
def test_paper_is_blank_and_not_blurred(store, level):
    grain = np.random.default_rng(1).normal(level, 2, (256, 256, 3)).clip(0, 255).astype(np.uint8)
    assert flags(store, grain) == (True, False)


def test_noise_is_sharp(store):
    [tile] = measure(store(noise((256, 256, 1))), TileGrid(tile=256)).tiles
    assert tile.sharpness == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("side", [1, 2, 3, 31])
def test_a_tile_too_small_to_tell_is_not_called_blurred(store, side):
    ramp = np.broadcast_to(np.linspace(0, 255, side).astype(np.uint8)[:, None, None], (side, side, 1))
    assert not flags(store, ramp)[1]


def test_real_micrographs_are_not_blank(store, real_images):
    pixels = np.asarray(Image.open(real_images / "images" / "sub-rat3_data9.png"))
    tiles = measure(store(pixels.reshape(*pixels.shape[:2], -1)), TileGrid(tile=256)).tiles
    assert sum(tile.is_blank or tile.is_blurred for tile in tiles) <= len(tiles) / 10


# Near duplicates


def hashes(store, pixels):
    return measure(store(pixels), TileGrid(tile=256)).hashes


def recompressed(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(pixels, height, width):
    return np.asarray(Image.fromarray(pixels).resize((width, height)))


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: recompressed(pixels, 90),
        lambda pixels: recompressed(pixels, 30),
        lambda pixels: resized(pixels, 128, 128),
        lambda pixels: resized(pixels, 700, 700),
        lambda pixels: resized(pixels, 200, 300),
        lambda pixels: pixels[:, ::-1],
        lambda pixels: pixels[::-1],
        lambda pixels: np.rot90(pixels),
        lambda pixels: np.rot90(pixels, 2),
        lambda pixels: np.rot90(pixels, 3),
        lambda pixels: pixels.swapaxes(0, 1),
        lambda pixels: recompressed(np.rot90(pixels[:, ::-1]), 70),
        lambda pixels: np.clip(pixels * 0.8 + 40, 0, 255).astype(np.uint8),
        lambda pixels: np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2),
        lambda pixels: pixels.astype(np.uint16) * 257,
    ],
    ids=[
        *("JPEG 90", "JPEG 30", "halved", "enlarged", "stretched", "mirrored", "upside down", "left", "turned"),
        *("right", "transposed", "right, mirrored, JPEG", "brightened", "grey", "16 bits"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_changed_copy_is_a_near_duplicate(store, micrographs, seed, change):
    original, copy = hashes(store, micrographs[seed]), hashes(store, change(micrographs[seed]))
    assert near_duplicates([original, copy]) == near_duplicates([copy, original]) == [(0, 1)]


def test_unrelated_images_are_not_paired(store, micrographs):
    assert near_duplicates([hashes(store, pixels) for pixels in micrographs]) == []


def test_pairs_are_told_by_position(store, micrographs):
    first, second, blank = hashes(store, micrographs[0]), hashes(store, micrographs[1]), []
    assert near_duplicates([blank, first, second, blank, second, first]) == [(1, 5), (2, 4)]


@pytest.mark.parametrize("known", [[], [[]], [["0" * 16] * 8], [[], []]])
def test_fewer_than_two_images_make_no_pair(known):
    assert near_duplicates(known) == []


def test_a_blank_image_has_no_hash_and_no_double(store):
    blank = hashes(store, np.full((300, 300, 3), 200, np.uint8))
    assert blank == []
    assert near_duplicates([blank, blank]) == []


def test_there_is_a_hash_for_each_way_to_turn_and_mirror():
    found = perceptual_hashes(noise((32, 32, 3)))
    assert len(set(found)) == 8
    assert {len(text) for text in found} == {16}


def test_real_micrographs_are_not_taken_for_each_other(store, real_images):
    names = sorted(path.name for path in (real_images / "images").iterdir())[:6]
    pictures = [np.asarray(Image.open(real_images / "images" / name).convert("L"))[..., None] for name in names]
    assert near_duplicates([hashes(store, picture) for picture in pictures]) == []


# Sheets of thumbnails


def sheet(store, pixels, tile, limits=FULL):
    data, step = thumbnail_sheet(store(pixels), TileGrid(tile=tile), limits)
    return np.asarray(Image.open(io.BytesIO(data))).astype(int), step


@pytest.mark.parametrize(("tile", "step"), [(256, 96), (96, 96), (64, 64), (1024, 96)])
def test_a_tile_is_96_px_in_the_sheet_unless_it_is_smaller(store, tile, step):
    assert sheet(store, np.zeros((1100, 1100, 1), np.uint8), tile)[1] == step


@pytest.mark.parametrize(("height", "width"), [(1024, 768), (1000, 700), (300, 600), (200, 100)])
def test_each_tile_lies_in_the_sheet_where_it_was_promised(store, height, width):
    grid = TileGrid(tile=256)
    windows = grid.windows(height, width)
    levels = np.linspace(20, 235, len(windows)).astype(int)
    pixels = np.zeros((height, width, 1), np.uint8)
    for window, level in zip(windows, levels, strict=True):
        pixels[window.slices] = level
    found, step = sheet(store, pixels, 256)
    seen = [middle_of(found, window, step / 256) for window in windows]
    assert seen == pytest.approx(levels, abs=6)


def middle_of(found, window, scale):
    row = min(int((window.row0 + window.height / 2) * scale), found.shape[0] - 1)
    col = min(int((window.col0 + window.width / 2) * scale), found.shape[1] - 1)
    return found[row, col]


@pytest.mark.parametrize(("height", "width"), [(257, 257), (1, 1), (1025, 3), (512, 512)])
def test_the_last_tile_has_its_place_in_the_sheet_even_if_narrow(store, height, width):
    found, step = sheet(store, noise((height, width, 1)), 256)
    last = TileGrid(tile=256).windows(height, width)[-1]
    assert found.shape[0] > last.row0 * step / 256
    assert found.shape[1] > last.col0 * step / 256


def test_a_sheet_stays_small_enough_for_a_browser(store):
    found, step = sheet(store, np.zeros((300, 30_000, 1), np.uint8), 64)
    assert found.shape[1] <= MAX_SHEET_SIDE
    assert step == 17


def test_a_sheet_shows_16_bits_between_the_limits(store):
    pixels = np.full((256, 256, 1), 1500, np.uint16)
    found, _ = sheet(store, pixels, 256, ContrastLimits(1000, 2000))
    assert np.abs(found - 128).max() <= 2
