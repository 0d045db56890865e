"""The drawn micrographs: exact by geometry, the same each time, and not solved by a threshold."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from axons.data.sample import (
    ANGLES,
    SAMPLE_CLASSES,
    SAMPLE_COLOURS,
    Body,
    Section,
    arrange,
    draw_micrograph,
    paint,
    write_sample,
)

BACKGROUND, MYELIN, AXON = range(3)
NAMES = [f"nerve-{number}.png" for number in range(1, 9)]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder)
    return folder


@pytest.fixture(params=NAMES)
def pair(request, sample):
    """Image and mask of one written pair."""
    return read(sample / "images" / request.param), read(sample / "masks" / request.param)


def read(path):
    return np.asarray(Image.open(path))


def file_bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def blank_section(size):
    density, texture = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    return Section(density=density, texture=texture, mask=np.zeros((size, size), np.uint8))


def painted_mask(body, *, size):
    section = blank_section(size)
    paint(section, body)
    return section.mask


def fibre(outer, inner):
    centre, grey = np.array([40.3, 39.6]), np.ones(3)
    return Body(centre=centre, outer=outer, inner=inner, wall=2 * grey, lumen=0.1 * grey, is_fibre=True)


def noise(image):
    """Deviation of what is left after smoothing the difference of two channels, in which the drawing cancels."""
    difference = image[..., 0].astype(float) - image[..., 1]
    return np.std(difference - ndimage.gaussian_filter(difference, 1))


def sharpness(image):
    """99th percentile of the slope across edges, relative to the contrast of the image."""
    red = image[..., 0].astype(float)
    return np.percentile(ndimage.gaussian_gradient_magnitude(red, 0.7), 99) / np.ptp(np.percentile(red, [5, 95]))


def share_darker_than_each_grey(pixels):
    counts = np.bincount(pixels.sum(axis=1), minlength=3 * 256)
    return np.cumsum(counts) / len(pixels)


def test_the_same_seed_draws_the_same_pixels():
    first = draw_micrograph(np.random.default_rng(7), size=128)
    second = draw_micrograph(np.random.default_rng(7), size=128)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)


def test_another_seed_draws_another_nerve():
    first = draw_micrograph(np.random.default_rng(7), size=128)
    second = draw_micrograph(np.random.default_rng(8), size=128)
    assert not np.array_equal(first.mask, second.mask)


@pytest.mark.parametrize("size", [128, 200, 512])
def test_a_micrograph_is_rgb_with_a_mask_of_all_three_classes(size):
    micrograph = draw_micrograph(np.random.default_rng(3), size=size)
    assert (micrograph.image.shape, micrograph.image.dtype) == ((size, size, 3), np.uint8)
    assert (micrograph.mask.shape, micrograph.mask.dtype) == ((size, size), np.uint8)
    assert np.unique(micrograph.mask).tolist() == [BACKGROUND, MYELIN, AXON]


def test_each_class_has_its_own_colour():
    assert SAMPLE_CLASSES == ("background", "myelin", "axon")
    assert len(set(SAMPLE_COLOURS)) == 3
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in SAMPLE_COLOURS)


@pytest.mark.parametrize("ripple", [0, 0.1])
def test_the_area_of_a_fibre_agrees_with_its_geometry(ripple):
    outline = 1 + ripple * np.cos(3 * ANGLES)
    mask = painted_mask(fibre(outer=32 * outline, inner=20 * outline), size=80)
    unit_area = np.pi * (1 + ripple**2 / 2)  # half the integral of the squared radius
    assert np.count_nonzero(mask == AXON) == pytest.approx(unit_area * 20**2, rel=0.01)
    assert np.count_nonzero(mask == MYELIN) == pytest.approx(unit_area * (32**2 - 20**2), rel=0.01)


def test_a_body_that_is_no_fibre_is_background():
    ring = np.full(ANGLES.shape, 10.0)
    vessel = Body(centre=np.array([20, 20]), outer=ring, inner=ring - 2, wall=np.ones(3), lumen=np.zeros(3))
    section = blank_section(40)
    paint(section, vessel)
    assert section.density.max() > 0.5
    assert not section.mask.any()


def test_no_pixel_lies_in_two_fibres():
    bodies = arrange(np.random.default_rng(5), size=256)
    times_covered = np.sum([painted_mask(body, size=256) > 0 for body in bodies], axis=0)
    assert times_covered.max() == 1


def test_fibres_touch_in_groups(pair):
    fibres = ndimage.label(pair[1] > 0)[1]
    axons = ndimage.label(pair[1] == AXON)[1]
    assert fibres < 0.9 * axons


def test_myelin_encloses_every_axon(pair):
    beside_axon = ndimage.binary_dilation(pair[1] == AXON)
    assert not (beside_axon & (pair[1] == BACKGROUND)).any()


def test_myelin_and_axon_each_cover_a_tenth_of_the_image(pair):
    shares = np.bincount(pair[1].ravel(), minlength=3) / pair[1].size
    assert shares.min() > 0.1


def test_myelin_is_the_darkest_class(pair):
    brightness = ndimage.mean(pair[0].mean(axis=2), pair[1], index=[BACKGROUND, MYELIN, AXON])
    assert brightness[MYELIN] + 40 < min(brightness[BACKGROUND], brightness[AXON])


def test_no_brightness_tells_axon_from_background(pair):
    axon = share_darker_than_each_grey(pair[0][pair[1] == AXON])
    background = share_darker_than_each_grey(pair[0][pair[1] == BACKGROUND])
    best_balanced_accuracy = 0.5 + 0.5 * np.abs(axon - background).max()
    assert best_balanced_accuracy < 0.7


def test_the_eight_pairs_are_written_as_rgb_and_index_files(sample):
    assert sorted(file_bytes(sample)) == sorted(f"{kind}/{name}" for kind in ("images", "masks") for name in NAMES)
    assert {Image.open(path).mode for path in (sample / "images").iterdir()} == {"RGB"}
    assert {Image.open(path).mode for path in (sample / "masks").iterdir()} == {"L"}


def test_writing_the_sample_again_gives_the_same_bytes(sample):
    before = file_bytes(sample)
    write_sample(sample)
    assert file_bytes(sample) == before


def test_the_images_differ_in_noise_focus_and_stain(sample):
    images = [read(sample / "images" / name) for name in NAMES]
    noises, edges = [noise(image) for image in images], [sharpness(image) for image in images]
    assert max(noises) > 2 * min(noises)
    assert max(edges) > 1.4 * min(edges)
    assert np.ptp([np.percentile(image, 5) for image in images]) > 25
