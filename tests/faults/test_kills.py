"""Any process of a training may die at any moment (RELIABILITY R8): the run ends as if nothing had happened."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from axons.train.driver import train
from axons.train.run import RunFolder, Status
from tests.train.runs import descendants, kill, make_run, start_training, training_workers, wait_until

EPOCHS = 12
SETTINGS = {"epochs": EPOCHS, "seed": 3}


def kill_worker(driver: subprocess.Popen[bytes]) -> bool:
    """Kill the training process; Ray starts another. Returns whether the driver is gone too."""
    for process in training_workers(driver):
        kill(process)
    return False


def kill_driver(driver: subprocess.Popen[bytes]) -> bool:
    """Kill the process that started Ray, and leave Ray to find out."""
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    return True


def kill_ray(driver: subprocess.Popen[bytes]) -> bool:
    """Kill the driver and everything that it started, all at once."""
    processes = [*descendants(driver), psutil.Process(driver.pid)]
    for process in processes:
        kill(process)
    driver.wait()
    return True


def train_through(
    run: RunFolder, kills: Sequence[Callable[[subprocess.Popen[bytes]], bool]], log: Path, rng: random.Random
) -> Status:
    """Train a run while processes are killed at random moments, starting it again whenever the driver has died."""
    driver = start_training(run, log)
    started: list[psutil.Process] = []
    attempt, starts = 1, 1
    for strike in kills:
        wait_until(
            lambda a=attempt, s=starts: _is_running(run, a, s),
            timeout_s=300,
            what=f"attempt {attempt}, start {starts} runs",
        )
        time.sleep(rng.uniform(0.0, 1.5))
        started += descendants(driver)
        if strike(driver):
            driver = start_training(run, log)
            attempt, starts = attempt + 1, 1
        else:
            starts += 1
    started += descendants(driver)
    driver.wait(timeout=600)
    for process in started:  # what a killed driver has left behind
        kill(process)
    return run.status()


def _is_running(run: RunFolder, attempt: int, starts: int) -> bool:
    """Whether the loop of this attempt takes steps, after its processes were started so many times."""
    begun = run.storage.list_objects(f"attempts/{attempt}/starts")
    status = run.status()
    return len(begun) == starts and status.attempt == attempt and status.state == "running"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, local_ray):
    """The same run without a fault."""
    run = make_run(tmp_path_factory.mktemp("undisturbed"), **SETTINGS)
    assert train(run.uri).state == "done"
    return run


def _check(run: RunFolder, status: Status, epochs: int = EPOCHS) -> None:
    assert status.state == "done", status.reason
    assert [epoch.epoch for epoch in run.metrics().epochs] == list(range(1, epochs + 1))
    assert [epoch.step for epoch in run.metrics().epochs] == [20 * epoch for epoch in range(1, epochs + 1)]
    models = [stored.key for stored in run.storage.list_objects() if stored.key.endswith("model.safetensors")]
    assert models == ["model/model.safetensors"]
    assert not [stored.key for stored in run.storage.list_objects() if "/ray/" in stored.key]


def _mean_iou(run: RunFolder) -> float:
    return run.evaluation()["splits"]["test"]["mean_iou"]


@pytest.mark.timeout(1800)
@pytest.mark.long
def test_worker_driver_and_all_of_ray_are_killed_and_the_run_ends_complete(tmp_path, undisturbed):
    run = make_run(tmp_path, **SETTINGS)
    status = train_through(run, [kill_worker, kill_driver, kill_ray], tmp_path / "log", random.Random(1))
    _check(run, status)
    assert _mean_iou(run) == pytest.approx(_mean_iou(undisturbed), abs=0.02)
    assert status.attempt == 3


@pytest.mark.timeout(1800)
def test_a_run_on_s3_is_killed_and_resumed(tmp_path, s3_uri):
    run = make_run(tmp_path, uri=s3_uri, **SETTINGS | {"epochs": 4})
    status = train_through(run, [kill_ray], tmp_path / "log", random.Random(2))
    _check(run, status, epochs=4)
    assert status.attempt == 2


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2))
def test_five_kills_in_one_run(tmp_path, undisturbed, seed, record_property):
    run = make_run(tmp_path, **SETTINGS)
    kills = [kill_worker, kill_driver, kill_ray, kill_worker, kill_ray]
    status = train_through(run, kills, tmp_path / "log", random.Random(seed))
    _check(run, status)
    assert _mean_iou(run) == pytest.approx(_mean_iou(undisturbed), abs=0.02)
    record_property("attempts", status.attempt)
    record_property("mean IoU", round(_mean_iou(run), 4))
    record_property("undisturbed", round(_mean_iou(undisturbed), 4))


@pytest.mark.timeout(300)
@pytest.mark.long
def test_cancelling_frees_the_processes_within_ten_seconds(tmp_path, record_property):
    run = make_run(tmp_path, epochs=10_000)
    driver = start_training(run, tmp_path / "log")
    wait_until(lambda: run.status().step > 5, timeout_s=120, what="the loop runs")
    run.request_cancel()
    asked = time.monotonic()
    wait_until(lambda: not training_workers(driver), timeout_s=60, what="the worker is gone")
    took = time.monotonic() - asked
    record_property("seconds to free", round(took, 1))
    assert took < 10
    assert driver.wait(timeout=60) == 1
    assert run.status().state == "cancelled"
    assert "it can be resumed" in run.status().reason
