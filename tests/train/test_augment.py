import pytest
import torch

from axons.train.augment import random_crops, source_side
from axons.train.config import TrainConfig

PLAIN = TrainConfig(intensity=0, scale_min=1, scale_max=1, orientation="any")


def _rng(seed=0):
    return torch.Generator().manual_seed(seed)


def _crops(images, masks, config, *, crop=32, seed=0):
    return random_crops(images, masks, crop=crop, config=config, rng=_rng(seed))


@pytest.fixture
def coded():
    """Images whose every pixel says which mask value belongs to it."""
    masks = torch.randint(0, 4, (6, 64, 64), generator=_rng(), dtype=torch.uint8)
    return masks[:, None].float() / 4, masks


def test_image_and_mask_are_turned_and_mirrored_together(coded):
    images, labels = _crops(*coded, PLAIN)
    assert torch.equal((images[:, 0] * 4).round().long(), labels)


def test_without_scale_a_crop_is_the_middle_of_its_window_turned_or_mirrored(coded):
    _, labels = _crops(*coded, PLAIN)
    middle = coded[1][0, 16:48, 16:48].long()
    versions = [torch.rot90(side, k) for side in (middle, middle.flip(1)) for k in range(4)]
    assert any(torch.equal(labels[0], version) for version in versions)


def test_upright_crops_are_only_mirrored_left_to_right(coded):
    _, labels = _crops(*coded, PLAIN.model_copy(update={"orientation": "upright"}))
    middle = coded[1][:, 16:48, 16:48].long()
    is_same = [
        torch.equal(label, side) or torch.equal(label, side.flip(1)) for label, side in zip(labels, middle, strict=True)
    ]
    assert all(is_same)


def test_crops_find_pixels_at_every_scale():
    config = TrainConfig(intensity=0)
    side = source_side(32, config)
    masks = torch.ones(50, side, side, dtype=torch.uint8)
    _, labels = _crops(masks[:, None].float(), masks, config)
    assert (labels == 1).all()


def test_ignored_pixels_stay_ignored(coded):
    images, masks = coded
    masks[:, :, 32:] = 255
    _, labels = _crops(images, masks, PLAIN)
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3, 255}
    assert 0.3 < (labels == 255).float().mean() < 0.7


def test_intensity_changes_images_but_not_masks(coded):
    images, masks = coded
    changed, labels = _crops(images, masks, TrainConfig(scale_min=1, scale_max=1))
    plain, same = _crops(images, masks, PLAIN)
    assert torch.equal(labels, same)
    assert not torch.allclose(changed, plain)
    assert torch.isfinite(changed).all()


def test_the_same_draw_gives_the_same_crops(coded):
    first, _ = _crops(*coded, TrainConfig(), seed=3)
    second, _ = _crops(*coded, TrainConfig(), seed=3)
    assert torch.equal(first, second)


def test_each_crop_has_a_draw_of_its_own():
    image = torch.rand(1, 1, 64, 64, generator=_rng()).expand(8, 1, 64, 64)
    crops, _ = _crops(image, torch.zeros(8, 64, 64, dtype=torch.uint8), TrainConfig())
    assert len({crop.sum().item() for crop in crops}) > 4
