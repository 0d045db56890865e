"""What a prediction says of a tile."""

import numpy as np
import pytest

from axons.data.usefulness import usefulness


def test_a_thin_border_of_doubt_counts_and_one_odd_pixel_does_not():
    sure = np.full((100, 100), 250, np.uint8)
    odd, border = sure.copy(), sure.copy()
    odd[0, 0] = 90
    border[:, 50:56] = 90
    values = np.zeros((100, 100), np.uint8)
    assert usefulness(values, odd).score == pytest.approx(5 / 255)
    assert usefulness(values, border).score == pytest.approx(165 / 255)


def test_unsure_is_what_has_less_than_60_percent():
    confidence = np.full((10, 10), 153, np.uint8)
    confidence[0] = 152
    assert usefulness(np.zeros((10, 10), np.uint8), confidence).unsure_share == pytest.approx(0.1)


def test_pixels_are_counted_by_value():
    values = np.array([[0, 0, 2], [255, 2, 2]], np.uint8)
    assert usefulness(values, np.full((2, 3), 255, np.uint8)).class_pixels == {0: 2, 2: 3, 255: 1}
