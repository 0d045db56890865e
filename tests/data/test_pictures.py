"""Pictures of masks, read back pixel by pixel."""

import io

import numpy as np
import pytest
from PIL import Image

from axons.data.pictures import (
    CLASS_COLOURS,
    as_colour,
    class_colours,
    colourise,
    difference,
    encode_mask,
    encode_picture,
    overlay,
    side_by_side,
)

COLOURS = ["#000000", "#ff8000", "#0000ff"]
GREY = np.full((1, 5, 1), 100, np.uint8)


@pytest.mark.parametrize("count", [1, 2, 8, 9, 253])
def test_there_are_colours_for_any_number_of_classes(count):
    colours = class_colours(count)
    assert len(colours) == count
    assert colours[:8] == list(CLASS_COLOURS[:count])
    assert CLASS_COLOURS[0] not in colours[1:]


def test_the_pixels_of_an_encoded_mask_are_its_indices():
    mask = np.array([[0, 1, 2], [252, 254, 255]], np.uint8)
    picture = Image.open(io.BytesIO(encode_mask(mask, COLOURS)))
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), mask)


def test_an_encoded_mask_shows_the_colours_of_its_classes():
    picture = Image.open(io.BytesIO(encode_mask(np.array([[0, 1, 2, 254, 255]], np.uint8), COLOURS))).convert("RGB")
    assert np.asarray(picture).tolist() == [[[0] * 3, [255, 128, 0], [0, 0, 255], [128] * 3, [255] * 3]]


def test_an_encoded_picture_reads_back():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_picture(picture)))), picture)


def test_a_grey_view_becomes_colour():
    assert as_colour(GREY).tolist() == [[[100, 100, 100]] * 5]


def test_class_indices_become_colours():
    assert colourise(np.array([[2, 1]], np.uint8), COLOURS).tolist() == [[[0, 0, 255], [255, 128, 0]]]


def test_an_overlay_leaves_background_and_unlabelled_pixels_clear():
    laid = overlay(GREY, np.array([[0, 1, 2, 255, 1]], np.uint8), COLOURS, opacity=0.5)
    assert laid.tolist() == [[[100] * 3, [177, 114, 50], [50, 50, 177], [100] * 3, [177, 114, 50]]]


def test_a_difference_tells_what_was_missed_painted_too_much_and_not_judged():
    truth = np.array([[1, 1, 0, 255, 1]], np.uint8)
    prediction = np.array([[1, 0, 1, 1, 2]], np.uint8)
    right, missed, too_much, ignored, confused = difference(GREY, truth, prediction)[0].tolist()
    assert right == [146] * 3
    assert missed == [0, 114, 178]
    assert too_much == confused == [213, 94, 0]
    assert ignored == [160] * 3


def test_pictures_side_by_side_have_a_white_gap_between_them():
    black = np.zeros((2, 3, 3), np.uint8)
    row = side_by_side([black, black], gap=4)
    assert row.shape == (2, 10, 3)
    assert (row[:, 3:7] == 255).all()
    assert not row[:, :3].any() and not row[:, 7:].any()


def test_a_value_of_a_mask_can_be_seen_through_and_stays_that_value():
    mask = np.array([[0, 1, 255]], np.uint8)
    picture = Image.open(io.BytesIO(encode_mask(mask, ["#000000", "#ffffff"], clear=255)))
    alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert (np.asarray(picture).tolist(), alpha.tolist()) == ([[0, 1, 255]], [[255, 255, 0]])
