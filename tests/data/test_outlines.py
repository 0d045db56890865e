"""From masks to polygons along the edges of pixels, and back to exactly the mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from axons.data import outlines
from axons.data.layers import IGNORED, UNLABELLED, count_values, render
from axons.data.outlines import parts_of, plane_to_polygons, trace
from tests.drawing import draw_disks

PLANES = arrays(
    np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.sampled_from([0, 1, 2, 254, 255])
)


def as_points(ring):
    return {tuple(point) for point in ring.tolist()}


def test_the_outline_of_a_box_is_its_four_corners():
    inside = np.zeros((10, 12), bool)
    inside[2:5, 3:9] = True
    [ring] = trace(inside)
    assert as_points(ring) == {(2, 3), (2, 9), (5, 9), (5, 3)}


def test_a_hole_is_a_ring_of_its_own():
    inside = np.ones((5, 5), bool)
    inside[1:3, 2] = False
    outer, hole = sorted(trace(inside), key=len)
    assert {len(outer), len(hole)} == {4}
    assert as_points(outer) ^ as_points(hole) == {(0, 0), (0, 5), (5, 5), (5, 0), (1, 2), (1, 3), (3, 3), (3, 2)}


@pytest.mark.parametrize(
    "inside", [np.eye(2, dtype=bool), ~np.eye(2, dtype=bool), np.indices((6, 7)).sum(axis=0) % 2 == 0]
)
def test_pixels_that_share_only_a_corner_have_rings_of_their_own(inside):
    rings = trace(inside)
    assert [len(ring) for ring in rings] == [4] * int(inside.sum())


def test_outlines_run_along_the_edges_of_pixels():
    for ring in trace(draw_disks(90, 70).mask == 1):
        steps = np.diff(np.vstack([ring, ring[:1]]), axis=0)
        assert ((steps != 0).sum(axis=1) == 1).all()


def test_an_empty_mask_has_no_outline():
    assert trace(np.zeros((4, 5), bool)) == []


@given(PLANES)
def test_the_polygons_of_any_plane_render_to_it(plane):
    assert np.array_equal(render(plane_to_polygons(plane), *plane.shape), plane)


@given(PLANES)
def test_parts_cover_each_labelled_pixel_once(plane):
    counts = np.zeros(plane.shape, int)
    for part in parts_of(plane):
        height, width = part.inside.shape
        window = (slice(part.row0, part.row0 + height), slice(part.col0, part.col0 + width))
        counts[window] += part.inside
        assert (plane[window][part.inside] == part.value).all()
    assert np.array_equal(counts, plane != UNLABELLED)


def test_background_is_one_part_and_other_values_are_one_for_each_piece():
    plane = np.full((5, 9), UNLABELLED, np.uint8)
    plane[0, [0, 4]] = 0
    plane[2, [0, 1, 4]] = 1
    plane[4, [0, 8]] = IGNORED
    assert [part.value for part in parts_of(plane)] == [0, 1, 1, IGNORED, IGNORED]


def test_a_part_with_too_many_vertices_comes_in_pieces(monkeypatch):
    monkeypatch.setattr(outlines, "_MAX_VERTICES", 50)
    plane = np.where(np.random.default_rng(3).random((40, 60)) < 0.6, np.uint8(0), np.uint8(UNLABELLED))
    polygons = plane_to_polygons(plane)
    assert len(polygons) > 10
    assert np.array_equal(render(polygons, 40, 60), plane)


def test_a_histogram_counts_the_pixels_of_each_value():
    plane = np.array([[0, 0, 3], [254, 3, 3]], np.uint8)
    assert count_values(plane) == {0: 2, 3: 3, 254: 1}
