import pytest
import segmentation_models_pytorch as smp
import torch

from axons.train.losses import cross_entropy, loss_of, soft_dice_loss


@pytest.fixture
def logits():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.fixture
def target():
    return torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(1))


def _perfect(target):
    return 50.0 * torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float()


def test_a_perfect_prediction_has_no_loss(target):
    assert loss_of(_perfect(target), target, "cross-entropy + dice") == pytest.approx(0, abs=1e-4)


def test_the_whole_is_the_sum_of_its_parts(logits, target):
    both = loss_of(logits, target, "cross-entropy + dice")
    parts = loss_of(logits, target, "cross-entropy") + loss_of(logits, target, "dice")
    assert both.item() == pytest.approx(parts.item())


def test_dice_equals_that_of_segmentation_models_pytorch_where_every_class_is_present(logits, target):
    reference = smp.losses.DiceLoss("multiclass")(logits, target)
    assert soft_dice_loss(logits, target).item() == pytest.approx(reference.item(), abs=1e-5)


def test_an_absent_class_does_not_count_in_dice(target):
    without_third = torch.where(target == 2, 0, target)
    assert soft_dice_loss(_perfect(without_third), without_third) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("kind", ["cross-entropy + dice", "cross-entropy", "dice"])
def test_ignored_pixels_change_nothing(logits, target, kind):
    ignored = target.clone()
    ignored[:, :4] = 255
    cropped = loss_of(logits[:, :, 4:], target[:, 4:], kind)
    assert loss_of(logits, ignored, kind).item() == pytest.approx(cropped.item(), abs=1e-5)


@pytest.mark.parametrize("kind", ["cross-entropy + dice", "cross-entropy", "dice"])
def test_a_batch_without_labels_has_no_loss_and_no_gradient(logits, kind):
    loss = loss_of(logits, torch.full((2, 8, 8), 255), kind)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_cross_entropy_is_the_mean_over_labelled_pixels(logits, target):
    assert cross_entropy(logits, target).item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, target).item()
    )
