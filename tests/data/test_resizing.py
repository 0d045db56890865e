"""Images and masks at another size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axons.data.resizing import resize_image, resize_mask

SIDE = st.integers(1, 40)


def noise(height, width, channels=1, dtype=np.uint8):
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_at_its_own_size_stays_as_it_is(dtype, channels):
    image = noise(7, 9, channels, dtype)
    assert np.array_equal(resize_image(image, 7, 9), image)


@given(height=SIDE, width=SIDE, new_height=SIDE, new_width=SIDE)
def test_an_image_gets_the_size_that_was_asked_for_in_its_own_depth(height, width, new_height, new_width):
    resized = resize_image(noise(height, width, 3, np.uint16), new_height, new_width)
    assert (resized.shape, resized.dtype) == ((new_height, new_width, 3), np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_smaller_image_has_the_mean_of_the_pixels_it_stands_for(dtype):
    image = noise(8, 12, 3, dtype)
    blocks = image.reshape(4, 2, 4, 3, 3).astype(np.float64).mean(axis=(1, 3))
    assert np.abs(resize_image(image, 4, 4).astype(np.float64) - blocks).max() <= 0.5


@pytest.mark.parametrize(("value", "dtype"), [(0, np.uint8), (255, np.uint8), (65_535, np.uint16), (40_001, np.uint16)])
@pytest.mark.parametrize("side", [3, 40])
def test_a_flat_image_stays_flat(value, dtype, side):
    assert (resize_image(np.full((10, 10, 1), value, dtype), side, side) == value).all()


def test_a_sharp_edge_does_not_wrap_around_when_enlarged():
    edge = np.repeat(np.array([0, 0, 255, 255], np.uint8), 4).reshape(16, 1)[None].repeat(16, axis=0)
    enlarged = resize_image(edge, 64, 64).astype(int)
    assert (enlarged[:, :20] < 30).all()
    assert (enlarged[:, -20:] > 225).all()


@given(height=SIDE, width=SIDE, new_height=SIDE, new_width=SIDE)
def test_a_mask_at_another_size_has_no_new_values(height, width, new_height, new_width):
    values = np.array([0, 3, 252, 255], np.uint8)
    mask = np.random.default_rng(3).choice(values, (height, width))
    resized = resize_mask(mask, new_height, new_width)
    assert resized.shape == (new_height, new_width)
    assert set(np.unique(resized)) <= set(np.unique(mask))


@given(height=SIDE, width=SIDE, factor=st.integers(1, 4))
def test_a_mask_enlarged_by_a_whole_factor_and_shrunk_again_is_the_same(height, width, factor):
    mask = np.random.default_rng(4).integers(0, 256, (height, width), dtype=np.uint8)
    larger = resize_mask(mask, factor * height, factor * width)
    assert np.array_equal(larger, mask.repeat(factor, axis=0).repeat(factor, axis=1))
    assert np.array_equal(resize_mask(larger, height, width), mask)


def test_image_and_mask_stay_aligned():
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 30:60] = 1
    image = (200 * mask)[..., None]
    assert np.array_equal(resize_image(image, 30, 45)[..., 0] > 100, resize_mask(mask, 30, 45) == 1)
