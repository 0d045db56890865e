import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given
from hypothesis import strategies as st

from axons.train.metrics import (
    boundary_f_score,
    class_scores,
    confusion_matrix,
    interval,
    mean_iou,
    pixel_accuracy,
)

# Worked out on paper: rows are the truth.
TARGET = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 1], [2, 2, 255, 1]], np.uint8)
PREDICTION = np.array([[0, 1, 1, 1], [0, 0, 1, 0], [2, 2, 2, 1], [2, 0, 0, 1]], np.uint8)
CONFUSION = [[3, 1, 0], [1, 5, 0], [1, 0, 3]]


def test_the_confusion_matrix_of_a_hand_computed_case():
    assert confusion_matrix(PREDICTION, TARGET, 3).tolist() == CONFUSION


def test_the_scores_of_a_hand_computed_case():
    background, first, second = class_scores(np.array(CONFUSION))
    assert background.iou == pytest.approx(3 / 6)
    assert background.dice == pytest.approx(6 / 9)
    assert background.precision == pytest.approx(3 / 5)
    assert background.recall == pytest.approx(3 / 4)
    assert first.iou == pytest.approx(5 / 7)
    assert first.dice == pytest.approx(10 / 12)
    assert second.iou == pytest.approx(3 / 4)
    assert second.precision == 1
    assert second.pixels == 4


def test_accuracy_and_mean_iou_of_a_hand_computed_case():
    assert pixel_accuracy(np.array(CONFUSION)) == pytest.approx(11 / 14)
    assert mean_iou(np.array(CONFUSION)) == pytest.approx((3 / 6 + 5 / 7 + 3 / 4) / 3)


def test_a_class_in_neither_mask_has_no_score_and_does_not_count():
    confusion = confusion_matrix(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 3)
    assert np.isnan(class_scores(confusion)[2].iou)
    assert np.isnan(class_scores(confusion)[2].precision)
    assert mean_iou(confusion) == 1


def test_a_class_that_is_only_predicted_has_no_recall():
    confusion = confusion_matrix(np.ones((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 2)
    assert class_scores(confusion)[1].iou == 0
    assert np.isnan(class_scores(confusion)[1].recall)


def test_nothing_to_compare_gives_no_score():
    confusion = confusion_matrix(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), 2)
    assert confusion.sum() == 0
    assert np.isnan(pixel_accuracy(confusion))
    assert np.isnan(mean_iou(confusion))


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"prediction is \(2, 2\) but target is \(2, 3\)"):
        confusion_matrix(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)


@given(seed=st.integers(0, 1000), num_classes=st.integers(2, 12))
def test_scores_equal_those_of_segmentation_models_pytorch(seed, num_classes):
    rng = np.random.default_rng(seed)
    target = rng.choice([*range(num_classes), 255], (40, 50)).astype(np.uint8)
    prediction = np.where(
        rng.random((40, 50)) < 0.6, np.where(target == 255, 0, target), rng.integers(0, num_classes, (40, 50))
    )
    ours = class_scores(confusion_matrix(prediction.astype(np.uint8), target, num_classes))
    counts = smp.metrics.get_stats(
        torch.from_numpy(prediction[None].astype(np.int64)),
        torch.from_numpy(target[None].astype(np.int64)),
        mode="multiclass",
        num_classes=num_classes,
        ignore_index=255,
    )
    iou = smp.metrics.iou_score(*counts, zero_division=float("nan"))[0]
    f1 = smp.metrics.f1_score(*counts, zero_division=float("nan"))[0]
    assert np.allclose([scores.iou for scores in ours], iou, atol=1e-6, equal_nan=True)
    assert np.allclose([scores.dice for scores in ours], f1, atol=1e-6, equal_nan=True)


def _square(first: int, last: int) -> np.ndarray:
    mask = np.zeros((40, 40), np.uint8)
    mask[first:last, first:last] = 1
    return mask


def test_equal_outlines_have_a_boundary_score_of_one():
    assert boundary_f_score(_square(10, 30), _square(10, 30), class_index=1) == 1


@pytest.mark.parametrize(("shift", "expected"), [(1, 1.0), (2, 1.0), (8, 0.0)])
def test_the_boundary_score_forgives_up_to_the_tolerance(shift, expected):
    score = boundary_f_score(_square(10 + shift, 30 - shift), _square(10, 30), class_index=1, tolerance=2)
    assert score == pytest.approx(expected, abs=0.1)  # the corners lie further apart than the sides


def test_the_boundary_score_is_between_for_one_side_off():
    moved = _square(10, 30)
    moved[:, 30:36] = moved[:, 29:30]
    assert 0.6 < boundary_f_score(moved, _square(10, 30), class_index=1) < 0.95


def test_a_class_in_neither_mask_has_no_boundary_score():
    assert np.isnan(boundary_f_score(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), class_index=1))


def test_a_class_that_is_missed_has_a_boundary_score_of_zero():
    assert boundary_f_score(np.zeros((40, 40), np.uint8), _square(10, 30), class_index=1) == 0


def test_the_border_of_what_is_ignored_is_no_boundary():
    target = np.full((10, 10), 255, np.uint8)
    target[:, :5] = 1
    assert np.isnan(boundary_f_score(np.ones((10, 10), np.uint8), target, class_index=1))


def test_the_interval_holds_the_mean_and_narrows_with_more_images():
    few, many = interval([0.6, 0.7, 0.8]), interval([0.6, 0.7, 0.8] * 20)
    assert few[0] < 0.7 < few[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_one_image_has_no_interval():
    assert interval([0.7]) is None
    assert interval([0.7, float("nan")]) is None
