"""What follows training: the result is proved usable before anybody gets it."""

import pytest
import torch
from torch import nn

from axons.data.shards import ShardReader
from axons.data.storage import open_storage
from axons.data.training_set import load_training_set
from axons.model.files import load_model
from axons.model.network import build_network
from axons.train import worker
from axons.train.checkpoints import save_checkpoint
from axons.train.config import resolve
from axons.train.loop import TrainingLoop, Workers
from axons.train.publish import publish
from axons.train.reporter import Reporter
from tests.train.runs import make_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run trained in this process, up to the moment before it is published."""
    return _train(make_run(tmp_path_factory.mktemp("trained"), epochs=5, learning_rate=0.005), epochs=5)


def _train(run, *, epochs):
    training_set = load_training_set(run.request().training_set)
    resolved = resolve(run.request().config, training_set, on_gpu=False)
    reader = ShardReader(open_storage(run.request().training_set), training_set)
    loop = TrainingLoop(build_network(resolved.network, seed=0), reader, training_set, resolved, device=CPU)
    for _ in range(epochs):
        loop.train_epoch()
    return loop, run, training_set, reader, resolved


@pytest.fixture
def best_weights(trained):
    """The best weights, free to be damaged."""
    loop = trained[0]
    kept = {name: tensor.clone() for name, tensor in loop.best_weights.items()}
    yield loop.best_weights
    loop.best_weights = kept


def _publish(trained):
    loop, run, training_set, reader, resolved = trained
    reporter = Reporter(run, 1, classes=["a", "b", "c"], num_workers=1, started_at=0.0)
    return publish(loop, run, run.request(), training_set, reader, resolved, reporter=reporter)


def test_weights_that_give_no_numbers_fail_validation_and_leave_no_model(trained, best_weights):
    nn.init.constant_(best_weights["segmentation_head.0.weight"], float("nan"))
    outcome = _publish(trained)
    assert outcome.state == "failed"
    assert "the trained model did not pass validation" in outcome.reason
    assert "not finite" in outcome.reason
    assert not trained[1].storage.exists("model/model.json")


def test_weights_that_score_otherwise_than_in_training_fail_validation(trained, best_weights):
    nn.init.zeros_(best_weights["segmentation_head.0.weight"])
    outcome = _publish(trained)
    assert outcome.state == "failed"
    assert "its validation mean IoU is" in outcome.reason
    assert not trained[1].storage.exists("model/model.json")


def test_good_weights_are_published_as_a_model_that_predicts_the_same(trained):
    loop, run, *_ = trained
    assert _publish(trained).state == "done"
    model = load_model(f"{run.uri}/model", device=CPU)
    images, _, _ = loop.validation.samples()
    with torch.inference_mode():
        assert torch.allclose(model.network(images), loop.network.eval()(images), atol=1e-4)


def test_what_was_stopped_by_a_process_that_died_is_only_published(tmp_path):
    loop, run, training_set, reader, resolved = _train(make_run(tmp_path, epochs=5), epochs=1)
    checkpoint = tmp_path / "models/run-1/attempts/1/ray/epoch-00001-1"
    checkpoint.mkdir(parents=True)
    save_checkpoint(loop, checkpoint)
    run.request_stop()
    job = worker._Job(
        folder=run,
        request=run.request(),
        resolved=resolved,
        training_set=training_set,
        reader=reader,
        attempt=2,
        workers=Workers(),
        device=CPU,
        halvings=0,
    )
    outcome = worker._train(job, Reporter(run, 2, classes=["a", "b", "c"], num_workers=1, started_at=0.0))
    assert outcome.reason == "stopped at epoch 1, best of epoch 1"
    assert (outcome.state, outcome.is_stopped, outcome.model) == ("done", True, "model-epoch-00001")
    assert load_model(f"{run.uri}/{outcome.model}", device=CPU).card.origin.epochs == 1


def test_a_run_that_was_taken_over_publishes_nothing(tmp_path, trained):
    loop, _, training_set, reader, resolved = trained
    run = make_run(tmp_path, epochs=1)
    run.begin_attempt()
    reporter = Reporter(run, 1, classes=["a", "b", "c"], num_workers=1, started_at=0.0)
    reporter.is_superseded = True
    outcome = publish(loop, run, run.request(), training_set, reader, resolved, reporter=reporter)
    assert outcome.reason == "a newer attempt has taken over"
    assert not run.storage.exists("evaluation.json")
