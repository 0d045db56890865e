"""A forest that learns from strokes."""

import numpy as np
import pytest

from axons.data.decoding import Decoder
from axons.data.layers import annotation_of, pack
from axons.data.node_cache import NodeCache
from axons.data.pixel_forest import ForestRequest, StrokedTile, fill_by_forest, pixel_features
from axons.data.tiles import Window
from axons.model.normalisation import statistics
from tests.app.images import png
from tests.drawing import draw_disks

DISKS = draw_disks(96, 128, seed=3)
HALF = Window(0, 0, 96, 64)


@pytest.fixture
def cache(tmp_path) -> NodeCache:
    return NodeCache(tmp_path / "cache", 10**9)


def write(folder, pixels) -> str:
    """A working image of these pixels; its address."""
    (folder / "image.png").write_bytes(png(pixels))
    with Decoder() as decoder:
        decoder.normalise(folder / "image.png", folder / "image.tif", name="image.png")
    return str(folder / "image.tif")


def stroked(uri, pixels, labels, window) -> StrokedTile:
    mean, std = statistics(pixels)
    place = {"row0": window.row0, "col0": window.col0, "height": window.height, "width": window.width}
    return StrokedTile(**place, working_uri=uri, mean=mean, std=std, labels=pack(annotation_of(labels[window.slices])))


def strokes_on(mask):
    """A few pixels of the truth, the rest unlabelled."""
    rows, cols = np.indices(mask.shape)
    return np.where((3 * rows + cols) % 35 == 0, mask, np.uint8(255))


@pytest.fixture(params=["uint8", "uint16", "colour"])
def drawn(request):
    drawing = draw_disks(96, 128, seed=3, channels=3 if request.param == "colour" else 1)
    return (drawing.image.astype(np.uint16) * 200 if request.param == "uint16" else drawing.image), drawing.mask


def test_a_few_strokes_give_most_of_the_truth(tmp_path, cache, drawn):
    image, mask = drawn
    tile = stroked(write(tmp_path, image), image, strokes_on(mask), Window(0, 0, 96, 128))
    answer = fill_by_forest(ForestRequest(tile=tile), cache=cache)
    assert (answer.values == mask).mean() > 0.95
    assert answer.confidence[answer.values == mask].mean() > answer.confidence[answer.values != mask].mean()


def test_what_a_person_has_labelled_stays_and_is_certain(tmp_path, cache, drawn):
    image, mask = drawn
    labels = strokes_on(mask)
    labels[:4] = 254
    tile = stroked(write(tmp_path, image), image, labels, Window(0, 0, 96, 128))
    answer = fill_by_forest(ForestRequest(tile=tile), cache=cache)
    is_labelled = labels != 255
    assert np.array_equal(answer.values[is_labelled], labels[is_labelled])
    assert (answer.confidence[is_labelled] == 255).all()
    assert set(np.unique(answer.values[4:])) <= set(np.unique(mask))


def test_the_same_strokes_give_the_same_answer(tmp_path, cache, drawn):
    image, mask = drawn
    request = ForestRequest(tile=stroked(write(tmp_path, image), image, strokes_on(mask), HALF))
    first, second = fill_by_forest(request, cache=cache), fill_by_forest(request, cache=cache)
    assert np.array_equal(first.values, second.values)
    assert np.array_equal(first.confidence, second.confidence)


def test_the_features_of_a_tile_are_those_of_the_whole_image_there(tmp_path, cache):
    image = DISKS.image
    whole = pixel_features(image, *statistics(image))
    tile = stroked(write(tmp_path, image), image, strokes_on(DISKS.mask), HALF)
    fill_by_forest(ForestRequest(tile=tile), cache=cache)
    [kept] = (tmp_path / "cache").glob("*.data*")
    assert np.allclose(np.load(kept), whole[HALF.slices], atol=0.01)


def test_features_are_computed_once(tmp_path, cache, monkeypatch):
    image, mask = DISKS.image, DISKS.mask
    request = ForestRequest(tile=stroked(write(tmp_path, image), image, strokes_on(mask), HALF))
    fill_by_forest(request, cache=cache)
    monkeypatch.setattr("axons.data.pixel_forest.pixel_features", None)
    fill_by_forest(request, cache=cache)


def test_labels_of_other_tiles_stand_in_for_strokes(tmp_path, cache):
    image, mask = DISKS.image, DISKS.mask
    uri, nothing = write(tmp_path, image), np.full_like(mask, 255)
    other = stroked(uri, image, mask, Window(0, 64, 96, 64))
    request = ForestRequest(tile=stroked(uri, image, nothing, HALF), others=[other])
    answer = fill_by_forest(request, cache=cache)
    assert (answer.values == mask[HALF.slices]).mean() > 0.9


def test_a_tile_that_is_labelled_throughout_stays_as_it_is(tmp_path, cache):
    image, mask = DISKS.image, DISKS.mask
    tile = stroked(write(tmp_path, image), image, mask, HALF)
    assert np.array_equal(fill_by_forest(ForestRequest(tile=tile), cache=cache).values, mask[HALF.slices])


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 2)])
def test_an_image_may_be_a_line(tmp_path, cache, shape):
    image = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(*shape, 1)
    labels = np.full(shape, 255, np.uint8)
    labels.reshape(-1)[[0, -1]] = 0, 1
    tile = stroked(write(tmp_path, image), image, labels, Window(0, 0, *shape))
    assert fill_by_forest(ForestRequest(tile=tile), cache=cache).values.shape == shape
