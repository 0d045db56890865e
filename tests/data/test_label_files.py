"""Labels of whole images: made from the shapes of files, cut into tiles, put together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axons.data import label_files, shapes
from axons.data.label_files import LayerMaker, PlacedLabels, crop, cut_layers, import_origin, mosaic, read_json
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
from axons.errors import AnnotationRefused
from tests.drawing import draw_disks


def drawn(seed, height=150, width=200):
    """Polygons, also with holes and far outside, and masks over each other."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(8):
        rings = tuple(rng.integers(-40 * SUBPIXEL, 240 * SUBPIXEL, (int(rng.integers(3, 9)), 2)) for _ in range(2))
        found.append(PolygonLayer(value=int(rng.integers(0, 5)), rings=rings, keep=frozenset({1})))
        values = rng.choice(np.array([0, 2, 254, 255, SEE_THROUGH], np.uint8), (30, 40))
        row0, col0 = int(rng.integers(0, height - 30)), int(rng.integers(0, width - 40))
        found.append(MaskLayer(row0=row0, col0=col0, values=values))
    return Annotation(height=height, width=width, layers=tuple(found))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("tile", [16, 64, 1000])
def test_the_tiles_of_an_annotation_render_to_its_plane(seed, tile):
    annotation = drawn(seed)
    plane = np.full((150, 200), UNLABELLED, np.uint8)
    for window, part in cut_layers(annotation.layers, 150, 200, TileGrid(tile=tile)):
        plane[window.slices] = part.plane()
    assert np.array_equal(plane, annotation.plane())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.integers(0, 149), st.integers(0, 199), st.integers(1, 90), st.integers(1, 90))
def test_a_window_of_an_annotation_renders_to_that_window_of_its_plane(seed, row0, col0, height, width):
    annotation = drawn(seed)
    window = Window(row0, col0, min(height, 150 - row0), min(width, 200 - col0))
    assert np.array_equal(crop(annotation.layers, window).plane(), annotation.plane()[window.slices])


def test_polygons_stay_polygons():
    ring = np.array([[10, 10], [10, 100], [100, 100], [100, 10]]) * SUBPIXEL
    annotation = Annotation(height=150, width=200, layers=(PolygonLayer(value=1, rings=(ring,)),))
    parts = list(cut_layers(annotation.layers, 150, 200, TileGrid(tile=64)))
    assert [window for window, _ in parts] == [Window(r, c, 64, 64) for r in (0, 64) for c in (0, 64)]
    assert all(isinstance(part.layers[0], PolygonLayer) for _, part in parts)


def test_a_mosaic_of_tiles_is_what_was_cut():
    mask = draw_disks(150, 200).mask
    windows = TileGrid(tile=64).windows(150, 200)
    tiles = [PlacedLabels(window=w, packed=pack(annotation_of(mask[w.slices]))) for w in windows]
    region = Window(30, 50, 90, 140)
    assert np.array_equal(mosaic(tiles, region), mask[region.slices])
    assert np.array_equal(mosaic(tiles, region, step=7), mask[region.slices][::7, ::7])
    assert np.array_equal(mosaic(tiles, region, step=100), mask[region.slices][::100, ::100])
    assert (mosaic([], region) == UNLABELLED).all()


def test_masks_that_follow_each_other_become_one_layer():
    dots = [MaskLayer(row0=i, col0=2 * i, values=np.full((1, 1), i, np.uint8)) for i in range(10)]
    [(_, part)] = cut_layers(dots, 150, 200, TileGrid(tile=200))
    [layer] = part.layers
    assert (layer.row0, layer.col0, layer.values.shape) == (0, 0, (10, 19))
    assert np.array_equal(part.plane(), Annotation(height=150, width=200, layers=tuple(dots)).plane())


def test_what_no_label_covers_can_become_background():
    dot = MaskLayer(row0=5, col0=6, values=np.full((1, 1), 3, np.uint8))
    expected = np.zeros((30, 40), np.uint8)
    expected[5, 6] = 3
    plane = np.full((30, 40), UNLABELLED, np.uint8)
    for window, part in cut_layers([dot], 30, 40, TileGrid(tile=16), ground=import_origin("a.json")):
        plane[window.slices] = part.plane()
    assert np.array_equal(plane, expected)


def test_labels_of_images_larger_than_any_tile_can_be_cut():
    ring = shapes.box(9990, 12, 10_020, 14)
    [*_, (window, part)] = cut_layers([PolygonLayer(value=1, rings=(ring,))], 20, 10_020, TileGrid(tile=512))
    assert window == Window(0, 19 * 512, 20, 10_020 - 19 * 512)
    assert (part.plane()[12:14, 9990 - window.col0 :] == 1).all()


def test_outlines_that_cannot_be_drawn_are_refused(monkeypatch):
    monkeypatch.setattr(label_files, "MAX_ROW_CROSSINGS", 100)
    polygon = PolygonLayer(value=1, rings=(shapes.box(0, 0, 10, 30),))
    with pytest.raises(AnnotationRefused, match="^the outlines cross 120 rows of pixels in one tile; simplify them"):
        list(cut_layers([polygon, polygon], 30, 40, TileGrid(tile=64)))


def test_layers_of_a_file_have_ids_of_their_own():
    maker = LayerMaker("a.json", {"axon": 1})
    ids = [maker.polygon("axon", [shapes.box(0, 0, 1, 1)]).origin.id for _ in range(3)]
    assert len({*ids, LayerMaker("b.json", {"axon": 1}).polygon("axon", [shapes.box(0, 0, 1, 1)]).origin.id}) == 4
    assert ids == [import_origin("a.json", number).id for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["fat"], "label 'fat' is no class of the project; add what is missing or leave it out of the file"),
        (["fat", "axon", "cell", "fat"], "labels 'fat', 'cell' are no classes of the project; add what is missing"),
        ([f"c{i}" for i in range(10)], "'c7' and 2 more are no classes of the project"),
    ],
)
def test_all_names_that_are_no_classes_are_told_at_once(labels, message):
    with pytest.raises(AnnotationRefused) as refusal:
        LayerMaker("a.json", {"axon": 1}).check_classes(labels)
    assert message in str(refusal.value)


def test_all_outlines_of_a_file_have_a_limit(monkeypatch):
    monkeypatch.setattr(label_files, "_MAX_VERTICES", 10)
    maker = LayerMaker("a.json", {"axon": 1})
    ring = shapes.box(0, 0, 1, 1)
    image = maker.image("a.png", (9, 9), lambda: [maker.polygon("axon", [ring]) for _ in range(3)])
    assert image.refusal == "'a.png': the outlines of 'a.json' have more than 10 vertices in all; split it by image"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_what_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(AnnotationRefused, match=r"^'a.json' is not JSON \("):
        read_json(tmp_path / "a.json", "a.json")
