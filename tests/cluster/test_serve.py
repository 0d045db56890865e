"""The Serve config: Ray accepts it, it says the same as `axons up`, and a GPU is used from zero and given back."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from axons.app.deployment import ConfigArguments, build_api_application, build_application
from axons.app.prediction_service import on_cpu, on_gpu
from axons.app.settings import Settings
from axons.errors import AxonsError
from axons.serve.segmenter import SegmenterSettings, build_segmenter
from tests.cluster.files import CLUSTER

CONFIG = yaml.safe_load((CLUSTER / "serve.yaml").read_text())
APPLICATIONS = {application["name"]: application for application in CONFIG["applications"]}
NO_CARD = "torch finds no GPU where Ray has given a part of one: the image was predicted on that machine's CPU"


def test_ray_accepts_the_config():
    assert len(ServeDeploySchema.model_validate(CONFIG).applications) == 4


@pytest.mark.parametrize(("name", "settings"), [("segmenter", on_cpu()), ("segmenter-gpu", on_gpu(Settings()))])
def test_the_config_predicts_as_axons_up_does_on_a_cluster(name, settings):
    assert SegmenterSettings(**APPLICATIONS[name]["args"]) == settings
    (said,) = APPLICATIONS[name]["deployments"]
    built = build_segmenter(settings)._bound_deployment
    options = {
        **built._deployment_config.model_dump(),
        "name": built.name,
        "ray_actor_options": built.ray_actor_options,
    }
    assert of_keys(options, said) == said


def of_keys(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What was found for the keys of another dict, and for those of the dicts in it."""
    return {key: of_keys(found[key], value) if isinstance(value, dict) else found[key] for key, value in wanted.items()}


@pytest.fixture
def from_the_environment(monkeypatch):
    for name in ("DATABASE_URL", "STORAGE_URL", "SECRET"):
        monkeypatch.setenv(f"AXONS_{name}", {"DATABASE_URL": "postgresql+psycopg://host/axons"}.get(name, "s3://b/p"))


def test_the_config_asks_for_one_process_with_screens_and_as_many_with_rest_as_it_says(from_the_environment):
    arguments = ConfigArguments(**APPLICATIONS["axons-api"]["args"])
    assert arguments == ConfigArguments(**APPLICATIONS["axons"]["args"])
    for build, name in ((build_application, "axons"), (build_api_application, "axons-api")):
        (said,) = APPLICATIONS[name]["deployments"]
        built = build(arguments)._bound_deployment
        assert (built.name, built.num_replicas) == (said["name"], said["num_replicas"])
        assert built.ray_actor_options["resources"] == {"node:__internal_head__": 0.001}


def test_without_a_database_for_several_processes_the_config_is_refused(monkeypatch, from_the_environment):
    monkeypatch.delenv("AXONS_DATABASE_URL")
    with pytest.raises(AxonsError, match="^a Serve config needs AXONS_DATABASE_URL in the environment of the head"):
        build_application(ConfigArguments(api_replicas=2))
    monkeypatch.setenv("AXONS_DATABASE_URL", "sqlite:///axons.db")
    with pytest.raises(AxonsError, match="^AXONS_API_REPLICAS is 2, but the database is SQLite, for one process alone"):
        build_application(ConfigArguments(api_replicas=2))


def told(folder: Path, *, num_gpus: int) -> dict:
    """What from_zero.py tells, from a process of its own: this one may be connected to another Ray."""
    command = [sys.executable, "-m", "tests.cluster.from_zero", str(folder), str(num_gpus)]
    done = subprocess.run(command, cwd=CLUSTER.parent, capture_output=True, text=True, timeout=270)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "answer.json").read_text())


@pytest.mark.long
def test_the_cpu_answers_at_zero_the_gpu_after_a_rush_and_then_the_cpu_again(tmp_path, record_property):
    seen = told(tmp_path, num_gpus=1)
    # Without a card of NVIDIA the replica on the logical GPU says so in each answer: so it is known from the other.
    assert [seen[when]["notices"] for when in ("before", "during", "after")] == [[], [NO_CARD], []]
    assert [seen[when]["free"] for when in ("before", "during", "after")] == [1, 0.75, 1]
    assert seen["rush"] == [[1000, 1000]] * 8
    for name in ("start_s", "up_s", "down_s"):
        record_property(name, seen[name])


@pytest.mark.long
def test_only_a_rush_asks_for_a_gpu_machine_where_none_is_up(tmp_path):
    seen = told(tmp_path, num_gpus=0)
    assert seen["before"]["wishes"] == []
    assert {"GPU": 0.25} in seen["after"]["wishes"]
    assert [seen[when]["notices"] for when in ("before", "after")] == [[], []]
