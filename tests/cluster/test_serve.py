"""The Serve config: Ray accepts it, it says the same as `axons up`, and a GPU is used from zero and given back."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from axons.app.deployment import ConfigArguments, build_api_application, build_application
from axons.app.prediction_service import on_cpu, on_gpu
from axons.app.settings import Settings
from axons.client import Client
from axons.errors import AxonsError
from axons.serve.segmenter import SegmenterSettings, build_segmenter
from tests.app import postgres
from tests.cluster.files import CLUSTER
from tests.cluster.several import HEAD, Several, running_stores
from tests.conftest import free_port
from tests.train.runs import wait_until

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


@pytest.fixture
def head() -> Iterator[Several]:
    """A cluster of one node, whose environment says what serve.yaml leaves to it."""
    with (
        tempfile.TemporaryDirectory(prefix="axons-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        running_stores(Path(folder), url=f"http://127.0.0.1:{free_port()}") as several,
    ):
        several.environment |= several.settings | {"AXONS_SECRET": "a long text for one test"}
        several.add_node(HEAD, cpus=2)
        yield several


def output_of(head: Several, *command: str) -> str:
    environment = head.nodes[HEAD].environment
    done = subprocess.run(command, env=environment, cwd=head.folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_settled(states: dict[str, str]) -> bool:
    """Whether Ray has nothing more to do for any application of the config."""
    return states.keys() == APPLICATIONS.keys() and not {"NOT_STARTED", "DEPLOYING"} & set(states.values())


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(not postgres.is_installed(), reason="PostgreSQL is not installed")
def test_ray_deploys_the_whole_platform_from_the_config(head, record_property):
    config = head.folder / "serve.yaml"  # the same, at a port that is free
    http = {**CONFIG["http_options"], "port": httpx.URL(head.url).port}
    config.write_text(yaml.safe_dump({**CONFIG, "http_options": http}))
    began = time.monotonic()
    link = json.loads(output_of(head, "axons", "prepare", "--json"))["sign_in_link"]
    record_property("prepared after s", round(time.monotonic() - began, 1))
    output_of(head, "serve", "deploy", str(config), "--address", head.dashboard_url)
    wait_until(lambda: is_settled(head.applications()), timeout_s=300, what="each application runs, or has failed")
    record_property("deployed after s", round(time.monotonic() - began, 1))
    assert head.applications() == dict.fromkeys(APPLICATIONS, "RUNNING")
    assert httpx.get(f"{head.url}/healthz", timeout=30).status_code == 200
    assert "Sign in" in httpx.get(f"{head.url}/login", timeout=30).text
    with Client(head.url) as client:
        signed_in = client.act("auth/code", {"code": link.partition("code=")[2]})
    assert signed_in["user"]["role"] == "administrator"
