"""`segment(array)`: sizes, depths, scales, checks on the result, and what loading a model costs."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from axons.data.node_cache import NodeCache
from axons.data.storage import open_storage
from axons.errors import ChecksumMismatch, ModelRefused, PredictionRefused
from axons.model.normalisation import Normalisation
from axons.serve.predictor import (
    MAX_PIXELS_AT_ONCE,
    check_mask,
    load_predictor,
    segment,
)
from tests.drawing import draw_disks
from tests.serve.models import CPU, make_model, make_predictor, make_useless_model

FIXED = Normalisation(kind="training set", mean=[0.5], std=[0.25])


@pytest.fixture(scope="module")
def model_uri(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return NodeCache(tmp_path_factory.mktemp("cache"), limit_bytes=10**9)


@pytest.fixture(scope="module")
def predictor(model_uri, cache):
    return load_predictor(model_uri, device=CPU, cache=cache)


def with_context(seed=0):
    """A forward pass that looks at the neighbours too, on borders as inside."""
    torch.manual_seed(seed)
    layer = nn.Conv2d(1, 3, 7, padding=3, padding_mode="reflect").eval().requires_grad_(False)
    return layer.forward


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 64), (1, 300), (257, 300), (500, 90)])
def test_the_result_has_exactly_the_size_of_the_image(predictor, size):
    segmentation = segment(draw_disks(*size).image, predictor)
    assert segmentation.mask.shape == segmentation.confidence.shape == size
    assert segmentation.mask.dtype == segmentation.confidence.dtype == np.uint8


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 64), (257, 300)])
def test_the_pixels_of_all_classes_add_up_to_the_image(predictor, size):
    segmentation = segment(draw_disks(*size).image, predictor)
    assert sum(segmentation.class_pixels) == size[0] * size[1]
    assert segmentation.class_pixels == [int((segmentation.mask == k).sum()) for k in range(3)]


@pytest.mark.parametrize("size", [(17, 33), (64, 64), (257, 300)])
@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_constant_image_is_predicted_the_same_everywhere(size, value):
    predictor = make_predictor(with_context(), normalisation=FIXED)
    segmentation = segment(np.full(size, value, np.uint8), predictor)
    assert len(np.unique(segmentation.mask)) == 1
    assert np.ptp(segmentation.confidence.astype(int)) <= 1


def test_each_pixel_of_a_drawing_is_predicted_where_it_lies():
    drawing = draw_disks(257, 300, noise=0)
    dark_to_bright = segment(drawing.image, make_predictor(normalisation=FIXED)).mask
    assert np.array_equal(dark_to_bright, np.array([1, 0, 2])[drawing.mask])


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 1)])
def test_a_grey_image_may_come_with_or_without_its_channel(predictor, shape):
    image = draw_disks(40, 50).image
    assert np.array_equal(segment(image.reshape(shape), predictor).mask, segment(image, predictor).mask)


def test_an_image_of_16_bits_is_predicted_like_the_same_in_8(predictor):
    image = draw_disks(100, 130).image
    deep = image.astype(np.uint16) * 257
    assert np.array_equal(segment(deep, predictor).mask, segment(image, predictor).mask)


def test_a_view_is_predicted_like_its_copy(predictor):
    view = draw_disks(200, 260).image[::2, ::-1]
    assert np.array_equal(segment(view, predictor).mask, segment(np.ascontiguousarray(view), predictor).mask)


def test_an_image_that_may_not_be_written_is_predicted_and_left_alone(predictor):
    image = draw_disks(70, 80).image
    before = image.copy()
    image.setflags(write=False)
    segment(image, predictor)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("size", [(1, 65_535), (65_535, 1)])
def test_a_thin_image_is_predicted_to_its_end(size):
    image = np.zeros(size, np.uint8)
    image[-1, -1] = 255
    segmentation = segment(image, make_predictor(normalisation=FIXED))
    assert segmentation.mask.shape == size
    assert segmentation.mask[-1, -1] == 2


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.7, 4.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (131, 97)])
def test_at_any_scale_the_result_has_the_size_of_the_image(scale, size):
    segmentation = segment(draw_disks(*size).image, make_predictor(normalisation=FIXED), scale=scale)
    assert segmentation.mask.shape == size
    assert sum(segmentation.class_pixels) == size[0] * size[1]


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_at_another_scale_the_classes_stay_where_they_are(scale):
    drawing = draw_disks(200, 260, noise=0)
    predictor = make_predictor(normalisation=FIXED)
    there = segment(drawing.image, predictor, scale=scale).mask
    assert (there == segment(drawing.image, predictor).mask).mean() > 0.97


def test_without_a_scale_that_of_the_training_is_taken():
    image = draw_disks(90, 120).image
    trained_at_half = make_predictor(normalisation=FIXED, scale=0.5)
    as_trained = segment(image, trained_at_half)
    assert np.array_equal(as_trained.confidence, segment(image, trained_at_half, scale=0.5).confidence)
    assert not np.array_equal(as_trained.confidence, segment(image, trained_at_half, scale=1.0).confidence)


def test_an_image_is_normalised_by_its_own_pixels_also_at_another_scale():
    seen = []

    def forward(windows):
        seen.append(float(windows.std()))
        return torch.zeros(len(windows), 3, 64, 64)

    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    segment(noise, make_predictor(forward), scale=0.25)
    # The mean of 16 pixels varies by a quarter of one pixel's std; by its own statistics it would vary by 1.
    assert seen[0] == pytest.approx(0.25, abs=0.02)


def test_a_colour_image_for_a_grey_model_is_averaged_and_told(predictor):
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    grey = np.rint(image.mean(axis=2)).astype(np.uint8)
    segmentation = segment(image, predictor)
    assert np.array_equal(segmentation.mask, segment(grey, predictor).mask)
    assert segmentation.notices == ["the model expects grey images: the mean of the three colours was taken"]


def test_a_grey_image_for_a_colour_model_is_repeated_and_told():
    colour = make_predictor(channels=3, normalisation=Normalisation(kind="image", mean=[0.5] * 3, std=[0.2] * 3))
    image = draw_disks(60, 70).image
    segmentation = segment(image, colour)
    assert np.array_equal(segmentation.mask, segment(np.repeat(image, 3, axis=2), colour).mask)
    assert segmentation.notices == ["the model expects colour: the grey image was given to it as colour"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 4), np.uint8), r"image has shape \(8, 8, 4\); give \(H, W\), \(H, W, 1\) or \(H, W, 3\)"),
        (np.zeros((8, 8, 2), np.uint8), r"image has shape \(8, 8, 2\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"image has shape \(2, 8, 8, 3\)"),
        (np.zeros(8, np.uint8), r"image has shape \(8,\)"),
        (np.zeros((), np.uint8), r"image has shape \(\)"),
        (np.zeros((0, 8), np.uint8), r"image has shape \(0, 8\)"),
        (np.zeros((8, 0, 3), np.uint8), r"image has shape \(8, 0, 3\)"),
        (np.zeros((8, 8), np.float32), "image has type float32; give uint8 or uint16"),
        (np.zeros((8, 8), np.int16), "image has type int16"),
        (np.zeros((8, 8), bool), "image has type bool"),
        (np.zeros((8, 8), ">u2"), "image has type >u2"),
        (np.array([["a"]]), "image has type <U1"),
        (np.zeros((4001, 4000), np.uint8), "image has 16.0 Mpx; up to 16 Mpx are answered at once: start a prediction"),
    ],
)
def test_an_image_of_another_kind_is_refused(predictor, image, message):
    with pytest.raises(PredictionRefused, match=message):
        segment(image, predictor)


@pytest.mark.parametrize("scale", [0.0, -1.0, 0.049, 4.01, float("nan"), float("inf")])
def test_a_scale_that_cannot_be_is_refused(predictor, scale):
    with pytest.raises(PredictionRefused, match="scale is .*; choose one from 0.05 to 4"):
        segment(np.zeros((8, 8), np.uint8), predictor, scale=scale)


def test_an_image_that_is_too_large_only_at_its_scale_is_refused_too(predictor):
    image = np.zeros((2000, 2001), np.uint8)
    assert image.size < MAX_PIXELS_AT_ONCE
    with pytest.raises(PredictionRefused, match="at the scale of the prediction, has 64.0 Mpx"):
        segment(image, predictor, scale=4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_network_whose_output_is_not_finite_is_refused(value):
    def forward(windows):
        logits = torch.zeros(len(windows), 3, 64, 64)
        logits[-1, 1, 20, 20] = value
        return logits

    with pytest.raises(PredictionRefused, match="the network's output is not finite; the model is not usable"):
        segment(np.zeros((100, 100), np.uint8), make_predictor(forward))


def test_a_model_whose_weights_overflow_is_refused(tmp_path, cache):
    predictor = load_predictor(make_useless_model(tmp_path), device=CPU, cache=cache)
    with pytest.raises(PredictionRefused, match="the network's output is not finite"):
        segment(draw_disks(70, 70).image, predictor)


@pytest.mark.parametrize(
    "mask",
    [np.zeros((4, 6), np.uint8), np.zeros((5, 4), np.uint8), np.zeros((20,), np.uint8), np.full((4, 5), 3, np.uint8)],
)
def test_a_mask_of_another_size_or_with_an_unknown_class_is_refused(mask):
    with pytest.raises(PredictionRefused, match="for an image of .* and 3 classes; this is a fault of the platform"):
        check_mask(mask, (4, 5), 3)


def test_the_check_of_a_mask_counts_its_classes():
    assert check_mask(np.array([[0, 0, 2], [2, 2, 0]], np.uint8), (2, 3), 4) == [3, 0, 3, 0]


def test_one_predictor_answers_several_threads_as_it_answers_one(predictor):
    images = [draw_disks(150, 170, seed=seed).image for seed in range(6)]
    expected = [segment(image, predictor).mask for image in images]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda image: segment(image, predictor).mask, images))
    assert all(np.array_equal(*pair) for pair in zip(answers, expected, strict=True))


def test_the_second_load_of_a_model_makes_no_request_for_its_weights(s3_uri, s3_log, cache):
    uri = make_model(f"{s3_uri}/model")
    load_predictor(uri, device=CPU, cache=cache)
    wanted = f"{s3_uri.removeprefix('s3:/')}/model/model.safetensors"
    before = s3_log.read_text().count(wanted)
    load_predictor(uri, device=CPU, cache=cache)
    assert s3_log.read_text().count(f"GET {wanted}") == 1
    assert s3_log.read_text().count(wanted) == before


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match="no model at .*: it has no model.json; check the address"):
        load_predictor(str(tmp_path), device=CPU)


def test_a_model_with_other_weights_than_its_card_promises_is_refused(tmp_path):
    uri = make_model(tmp_path)
    path = open_storage(uri).local_path("model.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ChecksumMismatch, match="another sha256"):
        load_predictor(uri, device=CPU)
