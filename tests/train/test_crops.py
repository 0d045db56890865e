import numpy as np
import pytest

from axons.data.shards import ShardReader
from axons.data.storage import open_storage
from axons.data.training_set import FreezeRequest
from axons.model.normalisation import Normalisation
from axons.train.crops import CropSampler, prefetched
from tests.drawing import CLASSES, Drawing, choose, draw_disks, freeze_disks, freeze_here


def _sampler(uri, training_set, *, side=48, rare_share=1 / 3):
    normalisation = Normalisation(kind="image", mean=training_set.mean, std=training_set.std)
    reader = ShardReader(open_storage(uri), training_set)
    return CropSampler(reader, training_set, normalisation, side=side, rare_share=rare_share)


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    return freeze_disks(tmp_path_factory.mktemp("disks"))


def test_a_batch_holds_windows_of_one_size_with_their_statistics(disks):
    batch = _sampler(*disks).batch(5, rng=np.random.default_rng(0))
    assert batch.images.shape == (5, 48, 48, 1)
    assert batch.masks.shape == (5, 48, 48)
    assert batch.means.shape == batch.stds.shape == (5, 1)
    assert batch.images.dtype == np.uint8


def test_crops_come_from_training_images_only(disks):
    uri, training_set = disks
    batch = _sampler(uri, training_set).batch(64, rng=np.random.default_rng(0))
    own = {np.float32(training_set.images[i].mean[0]) for i in training_set.images_of("train")}
    assert {np.float32(mean) for mean in batch.means[:, 0]} == own


def test_a_window_larger_than_the_image_is_reflected_and_ignored_outside(disks):
    batch = _sampler(*disks, side=160).batch(2, rng=np.random.default_rng(0))
    assert (batch.masks == 255).sum() == 2 * (160**2 - 96**2)
    assert batch.images.min() >= 0


def test_rare_pixels_are_drawn_more_often(tmp_path):
    mask = np.zeros((400, 400), np.uint8)
    mask[:, 200:] = 1
    mask[200:208, 100:108] = 2
    drawing = Drawing(image=(mask[..., None] * 80).astype(np.uint8), mask=mask)
    request = FreezeRequest(name="rare", classes=CLASSES, images=[choose(tmp_path, "rare", drawing)], window=32)
    training_set = freeze_here(request, target_uri=str(tmp_path / "set"))
    shares = [
        np.mean(
            [
                (mask == 2).any()
                for mask in _sampler(str(tmp_path / "set"), training_set, rare_share=share)
                .batch(100, rng=np.random.default_rng(0))
                .masks
            ]
        )
        for share in (0.0, 0.5)
    ]
    assert shares[0] < 0.15
    assert 0.35 < shares[1] < 0.7


def test_crops_fall_on_labelled_pixels_in_proportion(tmp_path):
    mask = np.full((300, 300), 255, np.uint8)
    mask[20:60, 20:60] = 1
    mask[240:260, 240:260] = 0
    mask[250:255, 250:255] = 2
    drawing = Drawing(image=draw_disks(300, 300).image, mask=mask)
    request = FreezeRequest(name="few", classes=CLASSES, images=[choose(tmp_path, "few", drawing)], window=32)
    training_set = freeze_here(request, target_uri=str(tmp_path / "set"))
    batch = _sampler(str(tmp_path / "set"), training_set, rare_share=0).batch(200, rng=np.random.default_rng(0))
    assert ((batch.masks != 255).any(axis=(1, 2))).all()
    share = np.mean([(mask == 1).any() for mask in batch.masks])
    assert share == pytest.approx(1600 / 2000, abs=0.1)


def test_eight_and_sixteen_bit_images_share_a_batch(tmp_path):
    eight = draw_disks(96, 96, seed=1)
    sixteen = Drawing(image=eight.image.astype(np.uint16) * 257, mask=eight.mask)
    images = [choose(tmp_path, "eight", eight, split="train"), choose(tmp_path, "sixteen", sixteen, split="train")]
    request = FreezeRequest(name="mixed", classes=CLASSES, images=images, window=32)
    training_set = freeze_here(request, target_uri=str(tmp_path / "set"))
    batch = _sampler(str(tmp_path / "set"), training_set).batch(16, rng=np.random.default_rng(0))
    assert batch.images.dtype == np.uint16
    assert (batch.images % 257 == 0).all()


def test_prefetching_gives_the_same_batches(disks):
    sampler = _sampler(*disks)
    rng = np.random.default_rng(4)
    one_by_one = [sampler.batch(3, rng=rng).images for _ in range(4)]
    ahead = [batch.images for batch in prefetched(sampler, 3, 4, rng=np.random.default_rng(4))]
    assert np.array_equal(one_by_one, ahead)
