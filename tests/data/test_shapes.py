"""The rules by which shapes of other tools are drawn: the pixels that they cover."""

import math

import numpy as np
import pytest

from axons.data import shapes
from axons.data.layers import PolygonLayer, render


def pixels(*rings, size=40):
    return render([PolygonLayer(value=1, rings=(ring,)) for ring in rings], size, size) == 1


def centres(size=40):
    rows, cols = np.mgrid[:size, :size] + 0.5
    return rows, cols


def test_a_box_covers_the_pixels_between_its_edges():
    assert np.array_equal(np.argwhere(pixels(shapes.box(3, 5, 7, 6))), [[5, 3], [5, 4], [5, 5], [5, 6]])


def test_a_box_is_turned_clockwise_about_its_centre():
    turned = pixels(shapes.box(10, 18, 30, 22, turned=math.radians(30)))
    rows, cols = centres()
    along = (cols - 20) * math.cos(math.pi / 6) + (rows - 20) * math.sin(math.pi / 6)
    across = (rows - 20) * math.cos(math.pi / 6) - (cols - 20) * math.sin(math.pi / 6)
    assert (turned != ((abs(along) < 10) & (abs(across) < 2))).sum() <= 2
    assert turned[24, 27]  # the right end has gone down


@pytest.mark.parametrize("turned", [0, 0.7, -2])
def test_an_ellipse_covers_the_pixels_whose_centres_are_in_it(turned):
    rows, cols = centres()
    along = (cols - 19.3) * math.cos(turned) + (rows - 21) * math.sin(turned)
    across = (rows - 21) * math.cos(turned) - (cols - 19.3) * math.sin(turned)
    expected = (along / 15) ** 2 + (across / 6) ** 2 <= 1
    found = pixels(shapes.ellipse(19.3, 21, 15, 6, turned=turned))
    assert (found != expected).sum() <= 6


@pytest.mark.parametrize(("radius", "most"), [(0.01, 8), (3, 16), (100, 100), (10_000, 1000)])
def test_large_circles_have_more_vertices_but_never_many(radius, most):
    ring = shapes.ellipse(0, 0, radius, radius)
    assert 8 <= len(ring) <= most
    middles = (ring + np.roll(ring, 1, axis=0)) / 32
    assert radius - np.hypot(*middles.T).min() < 3 / 16


def test_a_point_is_a_disk_of_radius_3():
    rows, cols = centres()
    assert np.array_equal(pixels(shapes.disk(20, 10)), np.hypot(cols - 20, rows - 10) < 3)


def test_a_line_is_3_px_wide():
    rows, cols = centres()
    distance = np.hypot(cols - np.clip(cols, 5, 25), rows - 10.4)
    assert np.array_equal(pixels(*shapes.polyline([[5, 10.4], [25, 10.4]])), distance < 1.5)


def test_a_line_through_points_has_a_piece_between_each_two():
    pieces = shapes.polyline([[5, 5], [20, 20], [5, 30]])
    rows, cols = centres()
    found = pixels(*pieces)
    assert len(pieces) == 2
    assert found[19, 19]
    assert not found[abs(rows - cols) > 30].any()


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e300, -20_000, None])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: shapes.ring([[0, 0], [4, 0], [x, 3]]),
        lambda x: shapes.box(0, 0, 4, x),
        lambda x: shapes.ellipse(0, 0, 3, x),
        lambda x: shapes.ellipse(x, 0, 3, 3),
        lambda x: shapes.disk(0, x),
        lambda x: shapes.polyline([[0, 0], [1, x]]),
        lambda x: shapes.polyline([[x, 0], [1, 0], [2, 0]]),
    ],
)
def test_a_number_that_cannot_be_is_an_error(make, number):
    with pytest.raises((ValueError, TypeError)):
        make(number)


@pytest.mark.parametrize("turned", [math.nan, math.inf, 1e300])
def test_an_angle_that_cannot_be_is_an_error(turned):
    with pytest.raises(ValueError, match="an angle is not a number"):
        shapes.ellipse(0, 0, 3, 3, turned=turned)


def test_a_line_of_one_point_is_an_error():
    with pytest.raises(ValueError, match="a line has only one point"):
        shapes.polyline([[1, 2]])
