"""Named shares of a machine: offered by name, asked of Ray, refused where no machine has them."""

from dataclasses import replace

import pytest

from axons.app.jobs.train import run_request
from axons.app.settings import Preset
from axons.app.tables import Run
from axons.train.driver import worker_resources
from tests.app.trainings import add_project, add_training_set

PRESETS = {
    "small": Preset(gpu_share=0.5),
    "large": Preset(gpu_share=1, cpus=2, memory_gb=0.5),
    "huge": Preset(cpus=64, memory_gb=0.5),
}


@pytest.fixture
def platform(platform):
    return replace(platform, settings=platform.settings.model_copy(update={"presets": PRESETS}))


@pytest.fixture
def training_set(platform, ana, tmp_path):
    return add_training_set(platform, add_project(platform, ana), tmp_path)


def ask(client, training_set, preset):
    config = {"crop": 32, "batch": 4, "epochs": 2, "encoder": "resnet18", "device": "cpu", "preset": preset}
    return client.post("/v1/runs", json={"training_set_id": training_set.id, "config": config})


def test_the_form_offers_them_by_name(client):
    field = client.get("/v1/schemas/train").json()["properties"]["preset"]
    assert field["anyOf"] == [{"type": "string", "enum": ["small", "large", "huge"]}, {"type": "null"}]


def test_one_that_is_not_there_is_refused(client, training_set):
    answer = ask(client, training_set, "tiny")
    assert (answer.status_code, answer.json()["field"]) == (422, "preset")
    assert answer.json()["detail"] == ("preset: there is no preset 'tiny'; there are: 'small', 'large', 'huge'")


def test_one_larger_than_every_machine_is_refused_with_what_the_largest_has(local_ray, client, training_set):
    answer = ask(client, training_set, "huge")
    assert (answer.status_code, answer.json()["field"]) == (422, "preset")
    assert answer.json()["detail"].startswith(
        "preset: 'huge' asks each machine for 64 CPUs, 0.5 GiB of memory, and no kind of machine here has that: "
        "the most is 4 CPUs, "
    )


def test_a_training_asks_ray_for_what_its_preset_says(local_ray, platform, client, training_set):
    run_id = ask(client, training_set, "large").json()["id"]
    request = platform.database.read(lambda session: run_request(session, platform, session.get_one(Run, run_id)))
    assert worker_resources(request, on_gpu=False) == {"CPU": 2, "memory": 2**29}
    assert worker_resources(request, on_gpu=True) == {"GPU": 1, "CPU": 2, "memory": 2**29}


def test_without_one_a_training_asks_for_the_usual_share(platform, client, training_set):
    run_id = ask(client, training_set, None).json()["id"]
    request = platform.database.read(lambda session: run_request(session, platform, session.get_one(Run, run_id)))
    assert worker_resources(request, on_gpu=True) == {"GPU": platform.settings.train_gpu_share}
    assert worker_resources(request, on_gpu=False) == {"CPU": 1}
