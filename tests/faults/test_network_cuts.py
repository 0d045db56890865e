"""The cable between the head and the machine that computes is cut, for moments and until Ray has given it up (R18)."""

import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.app.installation import Installation, install
from tests.app.networks import OUR_ADDRESS, THEIR_ADDRESS, OtherNetwork, other_network
from tests.conftest import free_port
from tests.faults.six_jobs import SETTINGS, SixJobs
from tests.train.runs import kill, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

MOMENT_S, LONG_S = 4.0, 25.0
PARTS = [[MOMENT_S, LONG_S], [LONG_S, MOMENT_S, LONG_S]]
RAY = str(Path(sys.executable).with_name("ray"))
# Ray gives a machine up after a minute and more; here after some 10 s, so that a long cut is one of half a minute.
GIVES_UP_SOON = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
}
# As a service does that is started again whenever it ends; what Ray keeps of itself is of each machine's own.
WORKER = 'mount -t tmpfs tmpfs "$1" && while :; do "$2" start --address="$3" --node-ip-address="$4" --num-cpus=4 \
  --object-store-memory=200000000 --disable-usage-stats --block; sleep 1; done'


@contextmanager
def two_machines(folder: Path, network: OtherNetwork, environment: dict[str, str]) -> Iterator[str]:
    """Ray with a head here that has no CPU to spare, and with a worker behind the cable; yields its address."""
    port = free_port()
    address = f"{OUR_ADDRESS}:{port}"
    sessions = Path("/tmp", f"axons-cuts-{os.getpid()}")  # short: a socket's path has at most 107 bytes
    sessions.mkdir()
    before = {process.pid for process in psutil.process_iter()}
    head = [
        *(RAY, "start", "--head", f"--node-ip-address={OUR_ADDRESS}", f"--port={port}"),
        *("--num-cpus=1", f"--resources={json.dumps({'driver': 1})}", "--object-store-memory=200000000"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={free_port()}"),
        *(f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={sessions}", "--disable-usage-stats"),
    ]
    with (folder / "ray.log").open("wb") as log:
        subprocess.run(head, env=environment, check=True, stdout=log, stderr=log, timeout=120)
        worker = network.start(
            *("unshare", "-m", "sh", "-c", WORKER, "worker"),
            *(str(sessions), RAY, address, THEIR_ADDRESS),
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield address
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            for process in psutil.process_iter():
                if process.pid not in before and _belongs_to(process, str(sessions), address):
                    kill(process)
            shutil.rmtree(sessions, ignore_errors=True)


def _belongs_to(process: psutil.Process, *signs: str) -> bool:
    """Whether a process is of this Ray, by its command or by what it was started with."""
    try:
        told = " ".join([*process.cmdline(), *process.environ().values()])
    except psutil.Error:
        return False
    return any(sign in told for sign in signs)


@contextmanager
def platform_on(address: str, folder: Path, environment: dict[str, str]) -> Iterator[Installation]:
    installation = install(folder, **environment)
    try:
        installation.start("--no-sample", "--address", address)
        yield installation
    finally:
        assert installation.process is not None
        installation.stop()


@pytest.mark.parametrize("part", range(len(PARTS)))
def test_jobs_outlive_cuts_between_the_machines_and_none_is_done_twice(tmp_path, part, record_property):
    ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), **GIVES_UP_SOON}
    with (
        other_network() as network,
        two_machines(tmp_path, network, {**os.environ, **ray}) as address,
        platform_on(address, tmp_path, {**ray, **SETTINGS}) as up,
        up.client() as client,
    ):

        def num_machines() -> int:
            return sum(node["is_alive"] for node in client.get("cluster/nodes")["nodes"])

        wait_until(lambda: num_machines() == 2, timeout_s=60, what="both machines are there")
        jobs = SixJobs.start(client, tmp_path)
        rng, given_up = random.Random(part), 0
        for seconds in PARTS[part]:
            wait_until(jobs.is_any_running, timeout_s=240, what="a job runs")
            time.sleep(rng.uniform(3, 8))
            network.cut()
            time.sleep(seconds)
            given_up += num_machines() < 2
            network.mend()
            wait_until(lambda: num_machines() == 2, timeout_s=90, what="both machines are there again")
        record_property("cuts", len(PARTS[part]))
        record_property("of which Ray has given the machine up", given_up)
        record_property("all jobs over after the last cut", f"{jobs.wait_for_all():.1f} s")
        record_property("jobs begun again", jobs.num_begun_again())
        jobs.check()
    assert given_up >= PARTS[part].count(LONG_S)
