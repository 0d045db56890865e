import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axons.data.layers import (
    Annotation,
    MaskLayer,
    Origin,
    PolygonLayer,
    annotation_of,
    count_values,
    crc32,
    from_json,
    mask_to_layers,
    pack,
    render,
    to_json,
    training_mask,
    unpack,
)
from axons.errors import AnnotationRefused
from tests.data import r1_reference

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "r1.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_the_golden_vectors_hold(case):
    plane = from_json({"schema": 1, **case}).plane()
    assert crc32(plane) == case["crc32"]
    assert {str(value): count for value, count in count_values(plane).items()} == case["counts"]


_COORDINATE = st.integers(-100, 500)
_RING = st.lists(st.tuples(_COORDINATE, _COORDINATE), min_size=3, max_size=8).map(
    lambda vertices: [number for vertex in vertices for number in vertex]
)
_POLYGON = st.fixed_dictionaries(
    {
        "t": st.just("poly"),
        "value": st.sampled_from([0, 1, 2, 254, 255]),
        "rings": st.lists(_RING, min_size=1, max_size=3),
        "keep": st.lists(st.sampled_from([0, 1, 255]), max_size=1),
    }
)


@given(layers=st.lists(_POLYGON, max_size=5), height=st.integers(1, 25), width=st.integers(1, 25))
def test_rendering_agrees_with_the_rule_pixel_by_pixel(layers, height, width):
    plane = from_json({"schema": 1, "height": height, "width": width, "layers": layers}).plane()
    assert plane.tolist() == r1_reference.render(layers, height, width)


def test_a_triangle_covers_its_area():
    # Row 31 f: the mask made from a triangle has the triangle's area, within one outline pixel.
    triangle = np.array([[100, 100], [1500, 300], [400, 1600]])
    plane = render([PolygonLayer(value=1, rings=(triangle,))], 128, 128)
    (r0, c0), (r1, c1), (r2, c2) = triangle / 16
    area = abs((r1 - r0) * (c2 - c0) - (r2 - r0) * (c1 - c0)) / 2
    outline = sum(np.hypot(*(a - b)) for a, b in zip(triangle / 16, np.roll(triangle / 16, 1, axis=0), strict=True))
    assert abs(np.count_nonzero(plane == 1) - area) <= outline


def test_many_large_polygons_are_painted_piece_by_piece_like_one_by_one():
    rng = np.random.default_rng(3)
    polygons = [PolygonLayer(value=i % 7, rings=(rng.integers(0, 16 * 700, (5, 2)),)) for i in range(30)]
    together = render(polygons, 700, 700)
    one_by_one = np.full((700, 700), 255, np.uint8)
    for polygon in polygons:
        alone = render([polygon], 700, 700)
        one_by_one[alone != 255] = alone[alone != 255]
    assert np.array_equal(together, one_by_one)


@given(seed=st.integers(0, 10_000), height=st.integers(1, 30), width=st.integers(1, 30))
def test_a_mask_becomes_layers_that_render_to_it(seed, height, width):
    values = np.array([0, 1, 2, 254, 255, 255], np.uint8)
    plane = np.random.default_rng(seed).choice(values, (height, width))
    assert np.array_equal(render(mask_to_layers(plane), height, width), plane)


def test_an_unlabelled_mask_needs_no_layer():
    assert mask_to_layers(np.full((4, 4), 255, np.uint8)) == ()


def test_the_box_of_a_mask_layer_is_that_of_its_labels():
    plane = np.full((9, 9), 255, np.uint8)
    plane[3:5, 2:8] = 1
    (layer,) = mask_to_layers(plane)
    assert (layer.row0, layer.col0, layer.values.shape) == (3, 2, (2, 6))


def test_an_annotation_survives_packing():
    annotation = Annotation(
        height=8,
        width=9,
        layers=(
            PolygonLayer(
                value=1,
                rings=(np.array([[0, 0], [0, 90], [80, 80]]),),
                keep=frozenset({2}),
                origin=Origin(id="a", by="ana", at="2026-01-01"),
            ),
            MaskLayer(row0=1, col0=2, values=np.array([[253, 3]], np.uint8), origin=Origin(source="model:7")),
        ),
    )
    again = unpack(pack(annotation))
    assert to_json(again) == to_json(annotation)
    assert again.layers[0].origin == annotation.layers[0].origin
    assert pack(again) == pack(annotation)


def test_training_sees_ignored_and_unlabelled_as_ignore_index():
    assert training_mask(np.array([[0, 1, 252, 254, 255]], np.uint8)).tolist() == [[0, 1, 252, 255, 255]]


def test_the_checksum_is_that_of_the_bytes_row_by_row():
    plane = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert crc32(plane.T) == zlib.crc32(plane.T.copy().tobytes())


_SQUARE = {"t": "poly", "value": 1, "rings": [[0, 0, 0, 16, 16, 16, 16, 0]]}


def _document(**change):
    return {"schema": 1, "height": 4, "width": 4, "layers": [], **change}


def _layer(**change):
    return _document(layers=[{"t": "poly", "value": 1, "rings": [[0, 0, 0, 64, 64, 64]], **change}])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (_document(schema=2), "annotation schema is 2; this version reads 1"),
        (_document(height=0), "a tile of 0 x 4 px cannot be annotated"),
        (_document(width=9000), "its sides may be 1 to 8192 px"),
        (_document(crc32=1), "renders to another checksum than 1"),
        (_document(layers=[_SQUARE] * 20_001), "20001 layers on one tile"),
        ({"schema": 1}, "annotation is malformed"),
        ([], "annotation is malformed"),
        (_layer(value=253), "a layer has value 253; use a class index up to 252, 254 or 255"),
        (_layer(value=-1), "a layer has value -1"),
        (_layer(keep=[300]), "a layer has value 300"),
        (_layer(rings=[[0, 0, 1, 1]]), "a polygon ring has 4 numbers"),
        (_layer(rings=[[0.5, 0, 1, 1, 2, 2]]), "not whole sixteenths"),
        (_layer(rings=[[0, 0, 1, 1, 2, 10**9]]), "a polygon vertex lies at"),
        (_layer(t="star"), "a layer has type 'star'"),
        (_layer(by=7), "not a text"),
        (_layer(t="mask", box=[0, 0, 2, 2], rle=[3, 1]), "runs cover 3 px of a box of 4 px"),
        (_layer(t="mask", box=[0, 0, 2, 2], rle=[4]), "not pairs of length and value"),
        (_layer(t="mask", box=[0, 0, 2, 2], rle=[]), "not pairs of length and value"),
        (_layer(t="mask", box=[0, 0, 2, 2], rle=[5, 1, -1, 2]), "runs cover 4 px"),
        (_layer(t="mask", box=[0, 0, 2, 2], rle=[4, 900]), "a layer has value 900"),
        (_layer(t="mask", box=[3, 3, 2, 2], rle=[4, 1]), "leaves the tile of 4 x 4 px"),
        (_layer(t="mask", box=[0, 0, 10**6, 10**6], rle=[10**12, 1]), "its sides may be 1 to 8192 px"),
    ],
)
def test_a_wrong_annotation_is_refused_with_the_reason(document, message):
    with pytest.raises(AnnotationRefused, match=message):
        from_json(document)


def test_an_annotation_of_a_plane_renders_to_it():
    plane = np.array([[0, 1], [254, 255]], np.uint8)
    assert np.array_equal(annotation_of(plane).plane(), plane)
