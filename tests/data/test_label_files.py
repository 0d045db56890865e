"""Labels of whole images cut into tiles, put together, and as COCO."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from axons.data.coco import read_coco
from axons.data.label_files import PlacedLabels, coco_annotations, crop, cut_annotation, mosaic
from axons.data.layers import (
    SEE_THROUGH,
    SUBPIXEL,
    UNLABELLED,
    Annotation,
    MaskLayer,
    PolygonLayer,
    annotation_of,
    pack,
)
from axons.data.tiles import TileGrid, Window
from tests.drawing import draw_disks


def drawn(seed, height=150, width=200):
    """Polygons, also with holes and far outside, and masks over each other."""
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(8):
        rings = tuple(rng.integers(-40 * SUBPIXEL, 240 * SUBPIXEL, (int(rng.integers(3, 9)), 2)) for _ in range(2))
        layers.append(PolygonLayer(value=int(rng.integers(0, 5)), rings=rings, keep=frozenset({1})))
        values = rng.choice(np.array([0, 2, 254, 255, SEE_THROUGH], np.uint8), (30, 40))
        row0, col0 = int(rng.integers(0, height - 30)), int(rng.integers(0, width - 40))
        layers.append(MaskLayer(row0=row0, col0=col0, values=values))
    return Annotation(height=height, width=width, layers=tuple(layers))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("tile", [16, 64, 1000])
def test_the_tiles_of_an_annotation_render_to_its_plane(seed, tile):
    annotation = drawn(seed)
    plane = np.full((150, 200), UNLABELLED, np.uint8)
    for window, part in cut_annotation(annotation, TileGrid(tile=tile)):
        plane[window.slices] = part.plane()
    assert np.array_equal(plane, annotation.plane())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.integers(0, 149), st.integers(0, 199), st.integers(1, 90), st.integers(1, 90))
def test_a_window_of_an_annotation_renders_to_that_window_of_its_plane(seed, row0, col0, height, width):
    annotation = drawn(seed)
    window = Window(row0, col0, min(height, 150 - row0), min(width, 200 - col0))
    assert np.array_equal(crop(annotation, window).plane(), annotation.plane()[window.slices])


def test_polygons_stay_polygons():
    ring = np.array([[10, 10], [10, 100], [100, 100], [100, 10]]) * SUBPIXEL
    annotation = Annotation(height=150, width=200, layers=(PolygonLayer(value=1, rings=(ring,)),))
    parts = list(cut_annotation(annotation, TileGrid(tile=64)))
    assert [window for window, _ in parts] == [Window(r, c, 64, 64) for r in (0, 64) for c in (0, 64)]
    assert all(isinstance(part.layers[0], PolygonLayer) for _, part in parts)


def test_a_mosaic_of_tiles_is_what_was_cut():
    mask = draw_disks(150, 200).mask
    windows = TileGrid(tile=64).windows(150, 200)
    tiles = [PlacedLabels(window=w, packed=pack(annotation_of(mask[w.slices]))) for w in windows]
    region = Window(30, 50, 90, 140)
    assert np.array_equal(mosaic(tiles, region), mask[region.slices])
    assert (mosaic([], region) == UNLABELLED).all()


def plane_of(seed):
    rng = np.random.default_rng(seed)
    plane = draw_disks(90, 70, seed=seed).mask
    plane[rng.random(plane.shape) < 0.05] = 255
    return plane


@pytest.mark.parametrize("seed", range(5))
def test_what_is_written_as_coco_reads_back_to_the_same_pixels(tmp_path, seed):
    plane = plane_of(seed)
    annotations, num_ignored = coco_annotations(plane)
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 90, "width": 70}],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate("abc")],
        "annotations": [{"id": n, "image_id": 1, **found} for n, found in enumerate(annotations)],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    [image] = read_coco(tmp_path / "a.json", list("abc"), name="a.json")
    assert np.array_equal(image.annotation.plane(), plane)
    assert num_ignored == 0


def test_masks_are_those_of_pycocotools():
    plane = plane_of(7)
    annotations, _ = coco_annotations(plane)
    for found in annotations:
        packed = reference.frPyObjects(found["segmentation"], 90, 70)
        assert reference.area(packed) == found["area"]
        assert reference.toBbox(packed).tolist() == found["bbox"]


def test_ignored_pixels_are_counted_and_left_out():
    plane = np.full((10, 10), 254, np.uint8)
    plane[0, 0] = 1
    annotations, num_ignored = coco_annotations(plane)
    assert (len(annotations), num_ignored) == (1, 99)
