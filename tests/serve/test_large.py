"""Images by blocks on Ray Data: the same classes as whole, in windows, and nothing left behind."""

from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from axons.data.images import WorkingImage, encode_png
from axons.data.resizing import resize_mask
from axons.data.storage import open_storage
from axons.data.tiles import TileGrid
from axons.errors import ChecksumMismatch, ModelRefused, ObjectNotFound, PredictionRefused
from axons.model.normalisation import Normalisation, statistics
from axons.model.windows import MAX_ACCUMULATOR_BYTES, blocks
from axons.serve import large
from axons.serve.large import (
    LargeRequest,
    PredictedBlock,
    _BlockTask,
    _key,
    _predict_block,
    join_blocks,
    predict_blocks,
    predict_large,
)
from axons.serve.predictor import load_predictor, scaled_size, segment
from tests.drawing import draw_disks, write_working
from tests.serve.models import CPU, make_model, make_useless_model

HEIGHT, WIDTH = 200, 270


@pytest.fixture(scope="module")
def _small_blocks():
    """Blocks of 100 px instead of 4096, so that a small image has six."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "blocks", lambda height, width, _: TileGrid(tile=100).windows(height, width))
        yield


@pytest.fixture(scope="module")
def model_uri(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def predictor(model_uri):
    return load_predictor(model_uri, device=CPU, threads=1)


def make_request(folder, image, model_uri, **changes):
    mean, std = statistics(image)
    usual = {
        "working_uri": write_working(folder / "images" / "working.tif", image),
        "height": image.shape[0],
        "width": image.shape[1],
        "mean": mean,
        "std": std,
        "model_uri": model_uri,
        "target_uri": str(folder / "prediction"),
        "threads": 1,
    }
    return LargeRequest(**{**usual, **changes})


def read(uri):
    return WorkingImage(Path(uri)).read_all()[..., 0]


def predict_here(request, *, side):
    """`predict_large` in this process, in blocks of `side` px."""
    scale = request.scale or 1.0
    predicted = [
        PredictedBlock.model_validate_json(answer)
        for w in TileGrid(tile=side).windows(*scaled_size(request.height, request.width, scale))
        for answer in _predict_block(
            _BlockTask(request=request, scale=scale, row0=w.row0, col0=w.col0, height=w.height, width=w.width).packed()
        )
    ]
    return join_blocks(request, predicted)


@pytest.fixture(scope="module")
def predicted(local_ray, _small_blocks, model_uri, tmp_path_factory):
    """An image of six blocks, predicted on the cluster; the tests below look at what it left."""
    folder = tmp_path_factory.mktemp("large")
    drawing = draw_disks(HEIGHT, WIDTH, count=12)
    request = make_request(folder, drawing.image, model_uri)
    return drawing.image, request, predict_large(request)


def test_an_image_by_blocks_on_the_cluster_is_predicted_as_it_is_whole(predicted, predictor):
    image, _, prediction = predicted
    whole = segment(image, predictor)
    # Not bit for bit: torch and OpenVINO may add in another order where other windows share a batch.
    assert (read(prediction.mask_uri) == whole.mask).mean() >= 0.999


def test_the_pixels_of_the_joined_mask_are_counted_and_add_up(predicted):
    prediction = predicted[2]
    mask = read(prediction.mask_uri)
    assert prediction.class_pixels == np.bincount(mask.reshape(-1), minlength=3).tolist()
    assert sum(prediction.class_pixels) == HEIGHT * WIDTH


def test_the_joined_mask_is_a_tiled_pyramid_of_class_indices(predicted):
    with tifffile.TiffFile(predicted[2].mask_uri) as tiff:
        first, *smaller = tiff.pages
        assert (first.is_tiled, first.shape, first.dtype) == (True, (HEIGHT, WIDTH), np.uint8)
        assert smaller[0].shape == (HEIGHT // 2, WIDTH // 2)


def test_a_smaller_level_of_the_mask_has_no_class_that_the_mask_has_not(predicted):
    mask_uri = predicted[2].mask_uri
    smaller = pyvips.Image.new_from_file(mask_uri, page=1).numpy()
    assert set(np.unique(smaller)) <= set(np.unique(read(mask_uri)))


def test_only_the_mask_is_left(predicted):
    assert [stored.key for stored in open_storage(predicted[1].target_uri).list_objects()] == ["mask.tif"]


@pytest.mark.usefixtures("local_ray")
def test_a_prediction_goes_from_s3_to_s3(model_uri, s3_uri, tmp_path):
    image = draw_disks(150, 170).image
    here = make_request(tmp_path, image, make_model(f"{s3_uri}/models/m"))
    open_storage(s3_uri).write("projects/working.tif", Path(here.working_uri))
    there = {"working_uri": f"{s3_uri}/projects/working.tif", "target_uri": f"{s3_uri}/tmp/prediction"}
    prediction = predict_large(here.model_copy(update=there))
    assert prediction.mask_uri == f"{s3_uri}/tmp/prediction/mask.tif"
    whole = segment(image, load_predictor(model_uri, device=CPU, threads=1))
    mask = read(open_storage(s3_uri).local_path("tmp/prediction/mask.tif"))
    assert (mask == whole.mask).mean() >= 0.999
    assert [stored.key for stored in open_storage(s3_uri).list_objects("tmp")] == ["tmp/prediction/mask.tif"]


@pytest.mark.usefixtures("local_ray")
def test_a_prediction_made_twice_is_the_same(model_uri, tmp_path):
    request = make_request(tmp_path, draw_disks(90, 100).image, model_uri)
    assert predict_large(request) == predict_large(request)


@pytest.mark.usefixtures("local_ray")
def test_a_useless_model_is_refused_and_leaves_nothing(tmp_path):
    request = make_request(tmp_path, draw_disks(90, 100).image, make_useless_model(tmp_path / "model"))
    with pytest.raises(PredictionRefused, match="^the network's output is not finite; the model is not usable on this"):
        predict_large(request)
    assert open_storage(request.target_uri).list_objects() == []


def _damage(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")


FAULTS = {
    "its model is damaged": (lambda f: _damage(f / "model"), ChecksumMismatch, "^the stored bytes of 'model.safetens"),
    "its model is gone": (lambda f: (f / "model" / "model.json").unlink(), ModelRefused, "^no model at"),
    "its image is gone": (
        lambda f: (f / "images" / "working.tif").unlink(),
        ObjectNotFound,
        "^nothing is stored under",
    ),
}


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(("fault", "error", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_prediction_that_fails_says_why_and_leaves_nothing(tmp_path, fault, error, message):
    request = make_request(tmp_path, draw_disks(90, 100).image, make_model(tmp_path / "model"))
    open_storage(request.target_uri).write("blocks/00000000-00000000.png", b"of an earlier attempt")
    fault(tmp_path)
    with pytest.raises(error, match=message):
        predict_large(request)
    assert open_storage(request.target_uri).list_objects() == []


@pytest.mark.usefixtures("local_ray", "_small_blocks")
def test_a_prediction_that_is_given_up_is_finished_by_the_next(model_uri, tmp_path):
    image = draw_disks(HEIGHT, WIDTH, count=12).image
    request = make_request(tmp_path, image, model_uri)
    given_up = predict_blocks(request)
    next(given_up)
    given_up.close()
    assert sum(predict_large(request).class_pixels) == HEIGHT * WIDTH
    assert not open_storage(request.target_uri).list_objects("blocks")


@pytest.mark.parametrize("scale", [1.0, 0.37, 0.813, 1.3, 2.0])
def test_at_any_scale_blocks_agree_with_the_image_predicted_whole(model_uri, predictor, tmp_path, scale):
    image = draw_disks(300, 341, seed=3).image
    prediction = predict_here(make_request(tmp_path, image, model_uri, scale=scale), side=200)
    # A resized pixel may differ by one grey level, of which a network with random weights makes much.
    assert (read(prediction.mask_uri) == segment(image, predictor, scale=scale).mask).mean() >= 0.99


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (1, 400), (257, 300)])
@pytest.mark.parametrize("scale", [0.05, 1.0, 1.9])
def test_the_mask_has_the_size_of_the_image(model_uri, tmp_path, size, scale):
    request = make_request(tmp_path, draw_disks(*size).image, model_uri, scale=scale)
    prediction = predict_here(request, side=100)
    assert read(prediction.mask_uri).shape == size
    assert sum(prediction.class_pixels) == size[0] * size[1]


def test_an_image_of_16_bits_is_predicted_by_blocks_as_whole(model_uri, predictor, tmp_path):
    image = draw_disks(150, 170).image.astype(np.uint16) * 100
    prediction = predict_here(make_request(tmp_path, image, model_uri), side=100)
    assert (read(prediction.mask_uri) == segment(image, predictor).mask).mean() >= 0.999


def test_a_grey_image_for_a_colour_model_is_predicted_by_blocks_as_whole_and_told(tmp_path):
    normalisation = Normalisation(kind="image", mean=[0.5] * 3, std=[0.2] * 3)
    uri = make_model(tmp_path / "model", channels=3, normalisation=normalisation)
    image = draw_disks(150, 170).image
    prediction = predict_here(make_request(tmp_path, image, uri), side=100)
    whole = segment(image, load_predictor(uri, device=CPU, threads=1))
    assert (read(prediction.mask_uri) == whole.mask).mean() >= 0.999
    assert prediction.notices == whole.notices == ["the model expects colour: the grey image was given to it as colour"]


def test_a_block_reads_windows_and_never_the_whole_image(model_uri, tmp_path, monkeypatch):
    read_windows = []

    class Watched(WorkingImage):
        def read(self, window):
            read_windows.append(window)
            return super().read(window)

    monkeypatch.setattr(large, "WorkingImage", Watched)
    request = make_request(tmp_path, draw_disks(300, 341).image, model_uri, scale=0.5)
    task = _BlockTask(request=request, scale=0.5, row0=0, col0=0, height=50, width=50)
    list(_predict_block(task.packed()))
    assert 1 <= len(read_windows) <= 4
    assert max(window.area for window in read_windows) <= (2 * 64 + 5) ** 2


@given(height=st.integers(1, 60_000), width=st.integers(1, 60_000), num_classes=st.integers(2, 253))
@settings(max_examples=30)
def test_the_accumulators_of_a_block_stay_below_256_mb_whatever_the_image(height, width, num_classes):
    largest = max(block.area for block in blocks(height, width, num_classes))
    assert largest * 4 * (num_classes + 1) <= MAX_ACCUMULATOR_BYTES


@pytest.mark.parametrize("scale", [0.0, -1.0, 0.01, 5.0, float("nan")])
def test_a_scale_that_cannot_be_is_refused(model_uri, tmp_path, scale):
    request = make_request(tmp_path, draw_disks(20, 20).image, model_uri, scale=scale)
    with pytest.raises(PredictionRefused, match="scale is .*; choose one from 0.05 to 4"):
        predict_large(request)


def write_blocks(request, mask, *, side):
    predicted = []
    for w in TileGrid(tile=side).windows(*mask.shape):
        block = PredictedBlock(row0=w.row0, col0=w.col0, height=w.height, width=w.width, class_pixels=[0] * 3)
        open_storage(request.target_uri).write(_key(block), encode_png(mask[w.slices]))
        predicted.append(block)
    return predicted


SIDE = st.integers(1, 70)


@given(rows=SIDE, cols=SIDE, height=SIDE, width=SIDE, side=st.integers(8, 80), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_blocks_join_to_the_mask_they_were_cut_from_at_the_size_of_the_image(
    tmp_path_factory, rows, cols, height, width, side, seed
):
    mask = np.random.default_rng(seed).integers(0, 3, (rows, cols), dtype=np.uint8)
    target_uri = str(tmp_path_factory.mktemp("joined"))
    request = LargeRequest(
        working_uri="", height=height, width=width, mean=[0], std=[1], model_uri="", target_uri=target_uri
    )
    joined = join_blocks(request, write_blocks(request, mask, side=side)[::-1])
    assert np.array_equal(read(joined.mask_uri), resize_mask(mask, height, width))


def test_blocks_of_which_one_was_refused_are_deleted(tmp_path):
    image = draw_disks(60, 60).image
    request = make_request(tmp_path, image, "")
    predicted = write_blocks(request, image[..., 0] // 100, side=40)
    predicted[2] = predicted[2].model_copy(update={"refusal": "not usable"})
    with pytest.raises(PredictionRefused, match="not usable"):
        join_blocks(request, predicted)
    assert open_storage(request.target_uri).list_objects() == []
