"""The head dies while jobs run and wait, all of it or only its Ray, and starts again (R18)."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.app.installation import Installation
from tests.faults.on_platform import running_platform
from tests.faults.six_jobs import SETTINGS, SixJobs
from tests.train.runs import kill, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def kill_ray(name: str, up: Installation) -> None:
    """One of Ray's two processes on the head dies; `axons up` starts again by itself, in a new process."""
    kill(next(process for process in up.processes() if process.name() == name))
    up.hear()


def kill_gcs(up: Installation) -> None:
    kill_ray("gcs_server", up)


def kill_raylet(up: Installation) -> None:
    kill_ray("raylet", up)


def kill_everything(up: Installation) -> None:
    """As if the machine had lost its power; then a person starts it again."""
    assert up.process is not None
    processes = [*psutil.Process(up.process.pid).children(recursive=True), *up.processes()]
    os.kill(up.process.pid, signal.SIGKILL)
    up.process.wait()
    for process in processes:
        kill(process)
    up.start("--no-sample")


PARTS: list[list[Callable[[Installation], None]]] = [
    [kill_gcs],
    [kill_everything],
    [kill_raylet, kill_everything, kill_gcs],
]


@pytest.fixture
def up(tmp_path) -> Iterator[Installation]:
    with running_platform(tmp_path, **SETTINGS) as installation:
        yield installation


@pytest.mark.parametrize("part", range(len(PARTS)))
def test_jobs_outlive_the_head_and_none_is_done_twice(up, tmp_path, part, record_property):
    with up.client() as client:
        jobs = SixJobs.start(client, tmp_path)
        rng = random.Random(part)
        away = []
        for strike in PARTS[part]:
            wait_until(jobs.is_any_running, timeout_s=240, what="a job runs")
            time.sleep(rng.uniform(0, 8))
            began = time.monotonic()
            strike(up)
            away.append(time.monotonic() - began)
        record_property("restarts of the head", len(PARTS[part]))
        record_property("back after", f"at most {max(away):.1f} s")
        record_property("all jobs over after the last restart", f"{jobs.wait_for_all():.1f} s")
        record_property("jobs begun again", jobs.num_begun_again())
        jobs.check()
