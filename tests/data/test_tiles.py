import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axons.data.tiles import TileGrid, Window, cut, stitch


@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    tile=st.integers(1, 70),
    overlap=st.floats(0, 0.99),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_stitching_the_tiles_of_an_image_gives_back_the_image(height, width, tile, overlap, dtype):
    grid = TileGrid(tile=tile, overlap=int(overlap * tile))
    image = np.random.default_rng(7).integers(0, 255, (height, width, 3)).astype(dtype)
    assert np.array_equal(stitch(cut(image, grid), image.shape, grid), image)


@given(height=st.integers(1, 200), width=st.integers(1, 200), tile=st.integers(1, 70))
def test_without_overlap_each_pixel_has_one_owner(height, width, tile):
    owners = np.zeros((height, width), int)
    for window in TileGrid(tile=tile).windows(height, width):
        owners[window.slices] += 1
    assert (owners == 1).all()


def test_the_tile_count_is_the_computed_one():
    assert len(TileGrid(tile=256, overlap=32).windows(700, 1000)) == 3 * 5
    assert len(TileGrid(tile=256).windows(700, 1000)) == 3 * 4


def test_a_ragged_edge_keeps_its_true_size():
    assert TileGrid(tile=64).windows(65, 100)[-1] == Window(64, 64, 1, 36)


def test_with_overlap_the_last_tile_moves_inward():
    assert TileGrid(tile=64, overlap=16).windows(64, 100) == [Window(0, 0, 64, 64), Window(0, 36, 64, 64)]


def test_an_image_smaller_than_a_tile_is_one_window():
    assert TileGrid(tile=64, overlap=16).windows(5, 7) == [Window(0, 0, 5, 7)]


@pytest.mark.parametrize("overlap", [-1, 256, 300])
def test_an_overlap_wider_than_the_tile_is_refused(overlap):
    with pytest.raises(
        ValueError, match=f"overlap is {overlap} px for tiles of 256 px; choose an overlap from 0 to 255"
    ):
        TileGrid(tile=256, overlap=overlap)


def test_a_tile_without_pixels_is_refused():
    with pytest.raises(ValueError, match="tile is 0 px"):
        TileGrid(tile=0)


def test_stitching_needs_every_tile():
    grid = TileGrid(tile=4)
    with pytest.raises(ValueError, match="3 tiles for a grid of 4"):
        stitch(cut(np.zeros((8, 8)), grid)[:3], (8, 8), grid)


def test_windows_meeting_a_region_are_those_that_share_a_pixel_with_it():
    grid = TileGrid(tile=64, overlap=16)
    region = Window(100, 40, 30, 200)
    expected = [window for window in grid.windows(500, 400) if window.intersection(region)]
    assert grid.windows_meeting(region, 500, 400) == expected


def test_a_grown_window_stays_inside_the_image():
    assert Window(10, 90, 20, 10).grown(15, 40, 100) == Window(0, 75, 40, 25)


def test_intersection_and_view_from_another_corner():
    assert Window(0, 0, 10, 10).intersection(Window(5, 7, 10, 10)) == Window(5, 7, 5, 3)
    assert Window(0, 0, 10, 10).intersection(Window(10, 0, 5, 5)) is None
    assert Window(5, 7, 5, 3).seen_from(Window(5, 5, 9, 9)) == Window(0, 2, 5, 3)
