"""Objects of a class are those of scikit-image, and of geometry where that is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label, regionprops

from axons.errors import PredictionRefused
from axons.serve.objects import measure_objects, objects_csv

SIDE = st.integers(1, 24)
MASKS = st.tuples(SIDE, SIDE).flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3)))


def rectangle(rows, cols, *, shape=(20, 30), class_index=1):
    mask = np.zeros(shape, np.uint8)
    mask[slice(*rows), slice(*cols)] = class_index
    return mask


@given(mask=MASKS, class_index=st.integers(0, 3))
def test_count_area_diameter_and_centroid_are_those_of_scikit_image(mask, class_index):
    found = measure_objects(mask, class_index=class_index)
    expected = regionprops(label(mask == class_index, connectivity=2))
    assert [o.area for o in found] == [r.area for r in expected]
    assert [o.diameter for o in found] == pytest.approx([r.equivalent_diameter_area for r in expected])
    assert [(o.row, o.col) for o in found] == [pytest.approx(r.centroid) for r in expected]


@given(mask=MASKS, pixel_size_um=st.floats(0.001, 1000))
def test_with_a_pixel_size_areas_and_diameters_are_in_micrometres_too(mask, pixel_size_um):
    found = measure_objects(mask, class_index=1, pixel_size_um=pixel_size_um)
    assert [o.area_um2 for o in found] == pytest.approx([o.area * pixel_size_um**2 for o in found])
    assert [o.diameter_um for o in found] == pytest.approx([o.diameter * pixel_size_um for o in found])


@given(mask=MASKS, class_index=st.integers(0, 3))
def test_the_areas_add_up_to_the_pixels_of_the_class(mask, class_index):
    assert sum(o.area for o in measure_objects(mask, class_index=class_index)) == (mask == class_index).sum()


def test_without_a_pixel_size_there_are_no_micrometres():
    (found,) = measure_objects(rectangle((2, 6), (3, 9)), class_index=1)
    assert (found.area_um2, found.diameter_um) == (None, None)


def test_a_rectangle_has_its_area_and_its_middle():
    (found,) = measure_objects(rectangle((2, 6), (3, 10)), class_index=1)
    assert (found.area, found.row, found.col) == (28, 3.5, 6.0)
    assert found.diameter == pytest.approx(np.sqrt(4 * 28 / np.pi))


@pytest.mark.parametrize(
    ("rows", "cols"), [((0, 4), (0, 5)), ((16, 20), (25, 30)), ((0, 20), (0, 30)), ((0, 1), (0, 1))]
)
def test_an_object_that_touches_the_border_is_measured_like_any(rows, cols):
    (found,) = measure_objects(rectangle(rows, cols), class_index=1)
    assert found.area == (rows[1] - rows[0]) * (cols[1] - cols[0])
    assert (found.row, found.col) == (sum(rows) / 2 - 0.5, sum(cols) / 2 - 0.5)


def test_pixels_that_meet_at_a_corner_are_one_object():
    assert len(measure_objects(np.eye(4, dtype=np.uint8), class_index=1)) == 1


def test_neighbours_of_another_class_are_not_joined():
    mask = np.array([[1, 2, 1]], np.uint8)
    assert [o.area for o in measure_objects(mask, class_index=1)] == [1, 1]


def test_a_class_that_does_not_occur_has_no_objects():
    assert measure_objects(rectangle((0, 4), (0, 5)), class_index=2) == []


def test_objects_are_numbered_by_their_first_pixels():
    mask = rectangle((0, 2), (10, 12)) + rectangle((5, 7), (0, 2))
    assert [(o.label, o.row) for o in measure_objects(mask, class_index=1)] == [(1, 0.5), (2, 5.5)]


def test_a_mask_that_is_too_large_is_refused():
    mask = np.broadcast_to(np.uint8(0), (20_001, 10_000))
    with pytest.raises(PredictionRefused, match="up to 200 Mpx, this one has 200 Mpx; measure parts of it"):
        measure_objects(mask, class_index=1)


def test_the_csv_has_one_line_for_each_object():
    text = objects_csv(measure_objects(rectangle((2, 6), (3, 10)), class_index=1))
    assert text == "label,area,diameter,row,col\n1,28,5.970821321,3.5,6\n"


def test_the_csv_has_micrometres_where_the_pixel_size_is_known():
    text = objects_csv(measure_objects(rectangle((2, 6), (3, 10)), class_index=1, pixel_size_um=0.5))
    assert text == "label,area,diameter,row,col,area_um2,diameter_um\n1,28,5.970821321,3.5,6,7,2.985410661\n"


def test_the_csv_of_no_objects_is_its_header():
    assert objects_csv([]) == "label,area,diameter,row,col\n"
