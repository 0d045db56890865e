"""`axons up` as a process: ready, closed to others, stopped by Ctrl-C, and going on after a kill."""

import json
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import zipfile

import httpx
import psutil
import pytest
import ray

from axons.app import local_ray
from axons.app.preparing import _keys_to_warm
from axons.app.tables import now
from axons.data.labeller import labeller_schema
from axons.errors import AxonsError
from tests.app.images import add_project, png
from tests.app.installation import AXONS, command, environment, install
from tests.app.networks import other_network
from tests.app.trainings import add_model
from tests.conftest import free_port
from tests.drawing import draw_disks
from tests.serve.models import make_model

READY_S = 25
IDLE_MEMORY = 3 << 30


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """One installation that runs for all tests of this file; the last of them end it."""
    installation = install(tmp_path_factory.mktemp("up"))
    installation.start("--no-sample")
    yield installation
    if installation.process.poll() is None:
        installation.stop()
    shutil.rmtree(local_ray.session_folder(installation.data), ignore_errors=True)


@pytest.fixture(scope="module")
def signed_in(up):
    """What the command answered to the code of the first start; from then on it knows its token."""
    return command(up, "login", "--code", up.told["code"])


def test_it_is_ready_and_well(up, record_property):
    record_property("seconds to ready", up.told["seconds"])
    health = httpx.get(f"{up.url}/healthz")
    assert health.status_code == 200
    assert {name: part["is_well"] for name, part in health.json().items() if name != "status"} == {
        "database": True,
        "storage": True,
        "ray": True,
    }


@pytest.mark.long
def test_on_a_machine_of_its_own_it_is_ready_within_25_seconds(up):
    assert up.told["seconds"] <= READY_S


def test_idle_everything_together_stays_below_3_gb(up, record_property):
    whole = [psutil.Process(up.process.pid), *up.processes()]
    pss = sum(process.memory_full_info().pss for process in whole if process.is_running())
    record_property("idle PSS, MB", pss >> 20)
    assert pss < IDLE_MEMORY


def listening(up):
    """The addresses and ports on which anything of it listens."""
    whole = [psutil.Process(up.process.pid), *up.processes()]
    return {
        connection.laddr
        for process in whole
        if process.is_running()
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def test_every_port_is_on_loopback(up):
    assert {address.ip for address in listening(up)} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_from_another_machine_nothing_is_reached(up):
    ports = {address.port for address in listening(up)}
    with socket.create_server(("0.0.0.0", 0)) as open_to_all, other_network() as elsewhere:
        port = open_to_all.getsockname()[1]
        assert elsewhere.reached({*ports, port}) == {port}


def test_the_dashboard_asks_for_rays_token(up):
    dashboard = up.told["dashboard"]
    token = subprocess.run(shlex.split(up.told["token_command"]), capture_output=True, text=True).stdout
    assert httpx.get(f"{dashboard}/api/jobs/").status_code == 401
    assert httpx.get(f"{dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_only_the_owner_reads_the_data_folder_and_the_secrets(up):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (up.data / "ray-token", up.data / "secret")}
    assert stat.S_IMODE(up.data.stat().st_mode) == 0o700
    assert modes == {"ray-token": 0o600, "secret": 0o600}


def test_the_code_signs_the_command_in_once(up, signed_in):
    assert signed_in["user"]["role"] == "administrator"
    assert stat.S_IMODE((up.data.parent / "config/axons/credentials.json").stat().st_mode) == 0o600
    assert command(up, "project", "list") == []
    assert "unknown, used or too old" in command(up, "login", "--code", up.told["code"], is_ok=False)


def test_rest_is_closed_to_strangers(up):
    assert httpx.get(f"{up.url}/api/v1/projects").status_code == 401


def test_a_second_one_on_the_same_folder_is_refused(up):
    done = subprocess.run(
        [*AXONS, "up", "--port", str(free_port()), "--data", str(up.data)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(up.data),
    )
    assert done.returncode == 1
    assert f"is running on the folder {str(up.data)!r} already, as process {up.process.pid}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (["--host", "0.0.0.0"], {}, "there is no Ray token"),
        (["--host", "0.0.0.0"], {"RAY_AUTH_TOKEN": "x" * 40}, "there is no secret"),
        (["--host", "0.0.0.0"], {"RAY_AUTH_TOKEN": "x" * 40, "AXONS_SECRET": "y"}, "set AXONS_PUBLIC_URL"),
        ([], {"RAY_AUTH_MODE": "disabled"}, "whoever reaches Ray could run any code"),
        (["--address", "10.0.0.1:6379"], {}, "the token of the Ray cluster at '10.0.0.1:6379' is missing"),
    ],
)
def test_it_does_not_start_with_a_door_open(tmp_path, arguments, settings, sentence):
    done = subprocess.run(
        [*AXONS, "up", "--data", str(tmp_path / "data"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(tmp_path / "data", **settings),
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_is_refused_with_what_to_do(up, tmp_path):
    done = subprocess.run(
        [*AXONS, "up", "--port", str(up.port), "--data", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(tmp_path / "data"),
    )
    assert done.returncode == 1
    assert "choose another with --port" in done.stderr


@pytest.mark.usefixtures("signed_in")
def test_labels_of_other_tools_come_and_go_by_the_command(up, tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images/a.png").write_bytes(png(draw_disks(60, 80, channels=3).image))
    point = {"label_type": "point", "label_class": "axon", "position": {"x": 20, "y": 30}}
    (tmp_path / "labels/a__labels.json").write_text(json.dumps({"completed_tasks": [], "labels": [point]}))
    (tmp_path / "schema.json").write_text(labeller_schema("nerve", [("axon", "#ff8000")]))
    command(up, "project", "create", "nerve", "--classes", "background")
    assert [row["name"] for row in command(up, "project", "add-classes", "nerve", str(tmp_path / "schema.json"))] == [
        "axon"
    ]
    command(up, "images", "add", "nerve", str(tmp_path / "images"))
    arguments = [str(tmp_path / "labels"), "--format", "labeller", "--fill-background"]
    job = command(up, "annotations", "import", "nerve", *arguments)
    assert job["reason"] == "labels of 1 tile imported"
    command(up, "export", "nerve", "--format", "cvat", "-o", str(tmp_path / "nerve.zip"))
    assert zipfile.ZipFile(tmp_path / "nerve.zip").namelist() == ["classes.json", "annotations.xml"]
    command(up, "project", "delete", "nerve")


@pytest.mark.usefixtures("signed_in")
def test_after_a_kill_the_next_start_goes_on_with_what_was_saved(up):
    token = command(up, "token", "create", "kept")["token"]
    command(up, "project", "create", "kept", "--classes", "background,axon")
    os.kill(up.process.pid, signal.SIGKILL)
    up.process.wait()
    up.start("--no-sample")
    answer = httpx.get(f"{up.url}/api/v1/projects", headers={"Authorization": f"Bearer {token}"}).json()
    assert [project["name"] for project in answer["items"]] == ["kept"]


@pytest.mark.slow
def test_when_ray_dies_the_platform_starts_again_by_itself(up):
    next(process for process in up.processes() if process.name() == "raylet").kill()
    up.told = up.hear()
    assert httpx.get(f"{up.url}/healthz").status_code == 200


def test_ctrl_c_stops_everything_and_the_exit_code_is_0(up):
    assert up.stop() == 0
    assert up.processes() == []
    assert "Traceback" not in up.log.read_text()


def test_the_newest_models_in_use_are_warm_from_the_start(platform, ana):
    keys = [f"models/{number}" for number in range(4)]
    make_model(platform.uri(keys[0]))
    for key in keys[1:]:
        platform.storage.write(f"{key}/model.json", platform.storage.read(f"{keys[0]}/model.json"))
    for key in keys:
        add_model(platform, ana, add_project(platform, ana), key, is_promoted=key != keys[2], created_at=now())
    assert platform.database.read(_keys_to_warm) == [keys[3], keys[1]]


def test_a_ray_that_is_too_slow_is_started_again_and_given_up_in_the_end(tmp_path, monkeypatch):
    starts = []

    def too_slow(**options):
        starts.append(options)
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr(ray, "init", too_slow)
    with pytest.raises(AxonsError, match="has not started within 30 s, 3 times"):
        local_ray.start_ray(tmp_path, dashboard_port=None)
    assert len(starts) == 3


def test_the_session_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = (
        f"from axons.app import local_ray; from pathlib import Path; local_ray.session_folder(Path({str(tmp_path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    next(tmp_path.iterdir()).chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "belongs to somebody else or is open to others" in done.stderr
