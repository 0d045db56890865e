"""Runs through Ray Train on a local cluster."""

import json

import pytest
import torch
from safetensors import safe_open

from axons.data.storage import open_storage
from axons.model.files import load_card, load_model
from axons.train.driver import train, worker_resources
from axons.train.run import RunRequest
from tests.train.runs import make_run

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, local_ray):
    """One run trained to its end; the tests below look at what it left."""
    run = make_run(tmp_path_factory.mktemp("finished"))
    return run, train(run.uri)


def test_a_run_ends_done_with_every_file(finished):
    run, status = finished
    assert status.state == "done", status.reason
    keys = {stored.key for stored in run.storage.list_objects()}
    assert {"run.json", "status.json", "metrics.json", "log.txt", "evaluation.json"} <= keys
    assert {"model/model.safetensors", "model/model.json", "model/crops.safetensors"} <= keys
    assert {"samples/image.png", "samples/truth.png"} <= set(keys)


def test_the_status_chain_is_written_and_ends_complete(finished):
    run, status = finished
    assert status == run.status()
    assert status.progress == 1
    assert status.epoch == 2
    assert status.step == 40
    assert status.device.startswith("CPU, ")
    assert status.start_seconds > 0
    assert status.memory_bytes > 0


def test_metrics_hold_every_epoch_once(finished):
    run, _ = finished
    metrics = run.metrics()
    assert [epoch.epoch for epoch in metrics.epochs] == [1, 2]
    assert metrics.classes == ["background", "ring", "core"]
    assert all(run.storage.exists(epoch.sample) for epoch in metrics.epochs)


def test_the_model_loads_and_knows_where_it_comes_from(finished):
    run, _ = finished
    model = load_model(f"{run.uri}/model", device=torch.device("cpu"))
    card = load_card(f"{run.uri}/model")
    assert card.origin.run == "run-1"
    assert card.origin.training_set_sha256 == run.request().training_set_sha256
    assert [label_class.name for label_class in card.classes] == ["background", "ring", "core"]
    assert card.scores["test"]["num_images"] == 1
    assert model.crops.shape[1:] == (1, 32, 32)


def test_the_weights_are_plain_safetensors_and_nothing_is_pickled(finished):
    run, _ = finished
    with safe_open(run.storage.local_path("model/model.safetensors"), framework="numpy") as weights:
        assert len(weights.keys()) > 10
    keys = [stored.key for stored in run.storage.list_objects()]
    assert not [key for key in keys if key.endswith((".pt", ".pth", ".pkl", ".bin"))]


def test_no_checkpoint_is_left_after_the_model_is_validated(finished):
    run, _ = finished
    assert not [stored.key for stored in run.storage.list_objects() if "/ray/" in stored.key]


def test_the_log_tells_each_epoch(finished):
    run, _ = finished
    assert "epoch 1: loss" in run.log()
    assert "attempt 1 done" in run.log()


def test_a_run_that_is_done_is_not_trained_again(finished):
    run, status = finished
    before = run.storage.read("model/model.json")
    assert train(run.uri) == status
    assert run.storage.read("model/model.json") == before
    assert run.last_attempt() == 1


def test_the_evaluation_holds_val_and_test(finished):
    run, _ = finished
    evaluation = run.evaluation()
    assert set(evaluation["splits"]) == {"val", "test"}
    assert evaluation["splits"]["test"]["num_images"] == 1
    assert sum(map(sum, evaluation["splits"]["test"]["confusion"])) == 96 * 96


def test_probabilities_are_counted_on_validation_and_never_on_the_test(finished):
    splits = finished[0].evaluation()["splits"]
    assert [sum(found["probabilities"]["of_class"]) for found in splits["val"]["classes"]] == [
        found["pixels"] for found in splits["val"]["classes"]
    ]
    assert [found["probabilities"] for found in splits["test"]["classes"]] == [None] * 3


def test_a_worker_without_a_gpu_asks_for_what_the_request_says():
    request = RunRequest(run_id="run-1", training_set="", cpu_resources={"trainer": 1})
    assert worker_resources(request, on_gpu=False) == {"trainer": 1}
    assert worker_resources(request, on_gpu=True) == {"GPU": 0.75}


def test_two_workers_share_a_run(tmp_path):
    run = make_run(tmp_path, num_workers=2, epochs=2)
    status = train(run.uri)
    assert status.state == "done", status.reason
    assert status.num_workers == 2
    assert [epoch.batch for epoch in run.metrics().epochs] == [4, 4]


def test_a_cancelled_run_keeps_its_place_and_is_resumed(tmp_path):
    run = make_run(tmp_path, epochs=3)
    run.request_cancel()
    assert train(run.uri).state == "cancelled"
    run.clear_cancel()
    status = train(run.uri)
    assert status.state == "done", status.reason
    assert status.attempt == 2


def test_a_stopped_run_gives_a_model_of_its_best_epoch_and_is_resumed_at_the_next(tmp_path):
    run = make_run(tmp_path, epochs=2)
    run.request_stop()
    stopped = train(run.uri)
    assert (stopped.state, stopped.reason) == ("done", "stopped at epoch 1, best of epoch 1")
    assert 0 < stopped.progress < 1
    early = load_card(f"{run.uri}/{stopped.model}")
    assert early.scores["val"]["mean_iou"] > 0
    run.clear_stop()
    assert train(run.uri).is_complete
    epochs = run.metrics().epochs
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert epochs[1].step > stopped.step
    assert load_card(f"{run.uri}/model").origin.run == "run-1"
    assert load_card(f"{run.uri}/model-epoch-00001") == early


def test_a_training_begins_where_an_earlier_model_ends(finished, tmp_path):
    earlier, _ = finished
    run = make_run(tmp_path, epochs=1, init_model=f"{earlier.uri}/model", learning_rate=1e-6)
    status = train(run.uri)
    assert status.state == "done", status.reason
    assert run.metrics().epochs[0].train_loss < earlier.metrics().epochs[0].train_loss
    assert load_card(f"{run.uri}/model").origin.init_model == f"{earlier.uri}/model"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            {"device": "gpu"},
            "device: 'gpu' is asked for but no machine of the cluster has a GPU; choose 'auto' or 'cpu'",
        ),
        pytest.param({"encoder": "resnet19"}, "encoder: 'resnet19' is unknown", marks=pytest.mark.slow),
        pytest.param(
            {"architecture": "unetplusplus", "encoder": "mit_b0"},
            "encoder: 'mit_b0' does not fit unetplusplus",
            marks=pytest.mark.slow,
        ),
        ({"batch": 3, "num_workers": 2}, "batch: 3 crops cannot be shared by 2 workers"),
        ({"init_model": "/nowhere"}, "no model at /nowhere"),
    ],
)
def test_a_configuration_that_cannot_work_fails_with_the_reason(tmp_path, config, reason):
    run = make_run(tmp_path, **config)
    status = train(run.uri)
    assert status.state == "failed"
    assert reason in status.reason
    assert reason in run.log()


def test_a_damaged_shard_fails_with_the_reason(tmp_path):
    run = make_run(tmp_path)
    shard = open_storage(run.request().training_set).list_objects("shards")[0]
    path = open_storage(run.request().training_set).local_path(shard.key)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    status = train(run.uri)
    assert status.state == "failed"
    assert "another sha256" in status.reason


def test_a_training_set_that_is_not_there_fails_with_the_reason(tmp_path):
    run = make_run(tmp_path)
    open_storage(run.request().training_set).delete_prefix("manifest.json")
    status = train(run.uri)
    assert status.state == "failed"
    assert "no training set at" in status.reason


def test_one_image_trains_without_validation(tmp_path):
    run = make_run(tmp_path, splits=("train",), epochs=1)
    status = train(run.uri)
    assert status.state == "done", status.reason
    assert status.best_epoch == 1
    assert run.evaluation()["splits"] == {}


def test_tensorboard_files_hold_the_curves(finished):
    run, _ = finished
    assert [stored.key for stored in run.storage.list_objects("tensorboard")]


def test_run_json_is_the_whole_request(finished):
    run, _ = finished
    assert json.loads(run.storage.read("run.json"))["config"]["crop"] == 32
