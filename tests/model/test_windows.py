import numpy as np
import pytest
import torch
from torch import nn

from axons.data.tiles import TileGrid, Window
from axons.model.normalisation import Normalisation, normalise, statistics
from axons.model.windows import ImageSource, blocks, predict_image, predict_region

CPU = torch.device("cpu")
ZERO, ONE = np.zeros(1, np.float32), np.ones(1, np.float32)


def _local(windows: torch.Tensor) -> torch.Tensor:
    """Logits that depend on the pixel alone: dark is class 0, middle 1, bright 2."""
    centres = torch.tensor([0.1, 0.5, 0.9])[:, None, None]
    return -10 * (windows - centres).abs()


def _source(image):
    return ImageSource.of_array(image, ZERO, ONE)


def _predict(image, forward=_local, *, tile=32, overlap=8):
    return predict_image(
        _source(image), grid=TileGrid(tile=tile, overlap=overlap), num_classes=3, forward=forward, device=CPU
    )


@pytest.mark.parametrize(("height", "width"), [(32, 32), (1, 1), (7, 100), (65, 70), (200, 133)])
def test_the_prediction_has_exactly_the_size_of_the_image(height, width):
    prediction = _predict(np.zeros((height, width, 1), np.uint8))
    assert prediction.mask.shape == prediction.confidence.shape == (height, width)


def test_predicting_by_windows_agrees_with_predicting_whole():
    image = np.random.default_rng(0).integers(0, 256, (150, 210, 1), dtype=np.uint8)
    whole = _local(torch.from_numpy(normalise(image, ZERO, ONE)).permute(2, 0, 1)[None])[0].argmax(0)
    assert np.array_equal(_predict(image).mask, whole.numpy())


def test_a_constant_image_shows_no_seam():
    prediction = _predict(np.full((150, 210, 1), 128, np.uint8))
    assert len(np.unique(prediction.confidence)) == 1
    assert (prediction.mask == 1).all()


def test_a_network_with_context_shows_no_seam_on_a_constant_image():
    torch.manual_seed(0)
    network = nn.Conv2d(1, 3, 9, padding=4, padding_mode="reflect").eval()
    prediction = _predict(np.full((150, 210, 1), 77, np.uint8), lambda windows: network(windows).detach())
    assert len(np.unique(prediction.mask)) == 1


def test_regions_agree_with_the_image_predicted_whole():
    torch.manual_seed(0)
    network = nn.Conv2d(1, 3, 9, padding=4).eval()

    def forward(windows):
        with torch.inference_mode():
            return network(windows)

    image = np.random.default_rng(1).integers(0, 256, (130, 170, 1), dtype=np.uint8)
    grid = TileGrid(tile=32, overlap=8)
    whole = _predict(image, forward)
    parts = np.empty_like(whole.mask)
    for region in TileGrid(tile=50).windows(130, 170):
        part = predict_region(_source(image), region, grid=grid, num_classes=3, forward=forward, device=CPU)
        parts[region.slices] = part.mask
    assert np.array_equal(parts, whole.mask)


def test_confidence_is_the_probability_of_the_predicted_class():
    certain = _predict(np.zeros((32, 32, 1), np.uint8))
    unsure = _predict(np.full((32, 32, 1), 76, np.uint8))
    assert certain.confidence.min() > 240
    assert unsure.confidence.max() < 140


def test_windows_have_one_fixed_shape():
    shapes = set()

    def forward(windows):
        shapes.add(tuple(windows.shape[1:]))
        return _local(windows)

    _predict(np.zeros((20, 300, 1), np.uint8), forward)
    _predict(np.zeros((100, 100, 1), np.uint8), forward)
    assert shapes == {(1, 32, 32)}


def test_an_output_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="the network's output is not finite"):
        _predict(np.zeros((40, 40, 1), np.uint8), lambda windows: _local(windows) * float("nan"))


@pytest.mark.parametrize("num_classes", [2, 3, 12, 200])
def test_blocks_keep_accumulators_small_and_cover_the_image_once(num_classes):
    regions = blocks(9000, 5000, num_classes)
    assert sum(region.area for region in regions) == 9000 * 5000
    assert max(region.area for region in regions) * 4 * (num_classes + 1) <= 256 << 20
    assert max(region.height for region in regions) <= 4096


def test_a_region_beyond_the_first_window_reads_only_what_it_needs():
    read = []

    def reader(window):
        read.append(window)
        return np.zeros((window.height, window.width, 1), np.uint8)

    source = ImageSource(height=1000, width=1000, read=reader, mean=ZERO, std=ONE)
    predict_region(
        source, Window(500, 500, 20, 20), grid=TileGrid(tile=32, overlap=8), num_classes=3, forward=_local, device=CPU
    )
    assert 1 <= len(read) <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_statistics_equal_those_of_numpy(dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 50, 3)).astype(dtype)
    mean, std = statistics(image)
    assert np.allclose(mean, (image / np.iinfo(dtype).max).mean(axis=(0, 1)))
    assert np.allclose(std, (image / np.iinfo(dtype).max).std(axis=(0, 1)))


def test_normalising_an_image_by_its_own_statistics_gives_mean_0_and_std_1():
    image = np.random.default_rng(0).integers(10, 200, (40, 50, 3), dtype=np.uint8)
    kind = Normalisation(kind="image", mean=[0, 0, 0], std=[1, 1, 1])
    scaled = normalise(image, *kind.of_image(*statistics(image)))
    assert np.allclose(scaled.mean(axis=(0, 1)), 0, atol=1e-4)
    assert np.allclose(scaled.std(axis=(0, 1)), 1, atol=1e-3)


def test_normalising_by_the_training_set_ignores_the_image():
    kind = Normalisation(kind="training set", mean=[0.5], std=[0.25])
    mean, std = kind.of_image([0.1], [0.9])
    assert (mean, std) == (np.float32(0.5), np.float32(0.25))


def test_a_blank_image_is_not_blown_up():
    kind = Normalisation(kind="image", mean=[0], std=[1])
    image = np.full((8, 8, 1), 100, np.uint8)
    assert np.abs(normalise(image, *kind.of_image(*statistics(image)))).max() < 1e-3
