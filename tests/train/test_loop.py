import math

import numpy as np
import pytest
import torch
from torch import nn

from axons.data.shards import ShardReader
from axons.data.storage import open_storage
from axons.errors import RunFailed
from axons.model.network import NetworkSpec
from axons.model.normalisation import Normalisation
from axons.train.checkpoints import restore_checkpoint, save_checkpoint
from axons.train.config import ResolvedConfig, TrainConfig
from axons.train.loop import TrainingLoop
from tests.drawing import freeze_disks

CPU = torch.device("cpu")


class TinyNetwork(nn.Sequential):
    """A few thousand weights: enough for disks."""

    def __init__(self, channels: int = 1, num_classes: int = 3) -> None:
        super().__init__(
            nn.Conv2d(channels, 16, 5, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 5, padding=2, dilation=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, num_classes, 1),
        )


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    return freeze_disks(tmp_path_factory.mktemp("disks"))


def _resolved(training_set, **changes):
    fields = {
        "minutes": None,
        "epochs": 3,
        "crop": 32,
        "batch": 4,
        "learning_rate": 0.01,
        "steps_per_epoch": 20,
        **{key: changes.pop(key) for key in list(changes) if key in ResolvedConfig.model_fields},
    }
    return ResolvedConfig(
        config=TrainConfig(**changes),
        network=NetworkSpec(architecture="unet", encoder="resnet18", channels=1, num_classes=3),
        normalisation=Normalisation(kind="image", mean=training_set.mean, std=training_set.std),
        **fields,
    )


def _loop(disks, *, network=None, stop_requested=lambda: False, pulses=None, **changes):
    uri, training_set = disks
    torch.manual_seed(0)
    return TrainingLoop(
        network or TinyNetwork(),
        ShardReader(open_storage(uri), training_set),
        training_set,
        _resolved(training_set, **changes),
        device=CPU,
        stop_requested=stop_requested,
        pulse=(pulses.append if pulses is not None else lambda pulse: None),
    )


def _run(loop):
    while not loop.progress.is_finished and not loop.was_stopped:
        loop.train_epoch()
    return loop


def test_disks_are_learned(disks):
    loop = _run(_loop(disks, epochs=4))
    assert loop.metrics[-1].val_mean_iou > 0.75
    assert loop.metrics[-1].train_loss < 0.6 * loop.metrics[0].train_loss


def test_an_epoch_budget_ends_after_so_many_epochs_at_rate_zero(disks):
    loop = _run(_loop(disks, epochs=3))
    assert [epoch.epoch for epoch in loop.metrics] == [1, 2, 3]
    assert [epoch.step for epoch in loop.metrics] == [20, 40, 60]
    assert loop.metrics[-1].learning_rate == 0


def test_a_budget_of_minutes_ends_in_time(disks):
    loop = _run(_loop(disks, minutes=0.05, epochs=None))
    assert loop.progress.seconds == pytest.approx(3, abs=1)
    assert loop.metrics[-1].learning_rate < 0.002


def test_the_same_seed_gives_the_same_losses(disks):
    first, second = (_run(_loop(disks, epochs=2, seed=5)) for _ in range(2))
    assert [epoch.train_loss for epoch in first.metrics] == [epoch.train_loss for epoch in second.metrics]


def test_another_seed_gives_other_crops(disks):
    first, second = (_run(_loop(disks, epochs=1, seed=seed)) for seed in (5, 6))
    assert first.metrics[0].train_loss != second.metrics[0].train_loss


def test_a_loop_that_goes_on_from_a_checkpoint_ends_like_one_undisturbed(disks, tmp_path):
    undisturbed = _run(_loop(disks, epochs=3))
    interrupted = _loop(disks, epochs=3)
    interrupted.train_epoch()
    save_checkpoint(interrupted, tmp_path)
    resumed = _loop(disks, network=TinyNetwork(), epochs=3)
    restore_checkpoint(resumed, tmp_path)
    _run(resumed)
    assert [epoch.epoch for epoch in resumed.metrics] == [1, 2, 3]
    assert resumed.metrics[-1].train_loss == pytest.approx(undisturbed.metrics[-1].train_loss, rel=1e-4)
    assert resumed.metrics[-1].val_mean_iou == pytest.approx(undisturbed.metrics[-1].val_mean_iou, abs=0.005)


def test_the_best_weights_are_kept_through_a_checkpoint(disks, tmp_path):
    loop = _run(_loop(disks, epochs=1))
    best = {name: tensor.clone() for name, tensor in loop.best_weights.items()}
    loop.progress.epoch += 1  # a later epoch that was no better
    nn.init.zeros_(loop.network[0].weight)
    save_checkpoint(loop, tmp_path)
    resumed = _loop(disks, network=TinyNetwork())
    restore_checkpoint(resumed, tmp_path)
    assert all(torch.equal(resumed.best_weights[name], tensor) for name, tensor in best.items())
    assert not resumed.network[0].weight.any()


def test_a_loss_that_is_no_number_stops_with_the_reason(disks):
    loop = _loop(disks, epochs=3)
    nn.init.constant_(loop.network[-1].weight, math.nan)
    with pytest.raises(
        RunFailed, match=r"the loss is no longer a number after step 1 \(epoch 1\); choose a learning rate below 0.01"
    ):
        loop.train_epoch()


def test_a_request_to_stop_ends_the_epoch_within_a_few_steps(disks):
    loop = _run(_loop(disks, epochs=50, stop_requested=lambda: True))
    assert loop.was_stopped
    assert loop.progress.step <= 6


def test_pulses_tell_how_far_it_is(disks):
    pulses = []
    _run(_loop(disks, epochs=2, pulses=pulses))
    assert pulses[0].step == 1
    assert pulses[-1].share == 1
    assert [pulse.share for pulse in pulses] == sorted(pulse.share for pulse in pulses)


def test_training_stops_early_when_validation_gets_no_better(disks):
    loop = _loop(disks, epochs=50, patience=2, learning_rate=1e-9)
    nn.init.zeros_(loop.network[-1].weight)
    _run(loop)
    assert loop.progress.epoch < 10


def test_without_validation_images_the_last_weights_are_the_best(tmp_path):
    loop = _run(_loop(freeze_disks(tmp_path, splits=("train",)), epochs=2))
    assert loop.progress.best_epoch == 2
    assert loop.metrics[-1].val_mean_iou is None


def test_a_halved_batch_draws_half_the_crops(disks):
    uri, training_set = disks
    loop = TrainingLoop(
        TinyNetwork(),
        ShardReader(open_storage(uri), training_set),
        training_set,
        _resolved(training_set),
        device=CPU,
        halvings=1,
    )
    loop.train_epoch()
    assert loop.batch == 2
    assert loop.metrics[0].batch == 2


def test_four_tiles_can_be_overfitted(tmp_path):
    loop = _run(
        _loop(freeze_disks(tmp_path, splits=("train",) * 4, size=32), epochs=8, intensity=0, scale_min=1, scale_max=1)
    )
    _, _, masks = loop.validation.samples()
    agreement = np.mean(loop.validation.predict_samples(loop.network) == masks)
    assert agreement > 0.93
