"""Memory runs out while a network trains: the batch is halved, twice at most, and the person is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import pytest

from axons.train.driver import train
from axons.train.run import RunFolder, Status
from tests.train.runs import make_run, start_training, title

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

# A crop of 256 px takes about 110 MB in a step with this encoder: 4 crops fit anyway, 8 with the headroom, 16 not.
CROP = 256
HEADROOM = 850 << 20


@dataclass
class _Watched:
    """The largest address space that a training process has had."""

    largest: int = 0


@contextmanager
def training_processes(*, limit: int | None = None) -> Iterator[_Watched]:
    """Watch the training processes below this one; with `limit`, let none address more bytes than that."""
    stop, watched = threading.Event(), _Watched()

    def watch() -> None:
        while not stop.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                if "RayTrainWorker" in title(process):
                    watched.largest = max(watched.largest, _look(process, limit))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        stop.set()
        thread.join()


def _look(process: psutil.Process, limit: int | None) -> int:
    try:
        if limit is not None:
            process.rlimit(psutil.RLIMIT_AS, (limit, limit))
        return int(process.memory_info().vms)
    except psutil.Error:
        return 0


def _train(folder, *, limit: int | None = None, **config) -> tuple[RunFolder, Status, int]:
    run = make_run(folder, epochs=1, crop=CROP, **config)
    with training_processes(limit=limit) as watched:
        status = train(run.uri)
    return run, status, watched.largest


@pytest.fixture(scope="module")
def limit(tmp_path_factory, local_ray):
    """Bytes within which 8 crops can be trained and 16 cannot."""
    _, status, largest = _train(tmp_path_factory.mktemp("four"), batch=4)
    assert status.state == "done", status.reason
    return largest + HEADROOM


def test_a_batch_that_does_not_fit_is_halved_twice_and_the_person_is_told(tmp_path, limit):
    run, status, _ = _train(tmp_path, batch=32, limit=limit)
    assert status.state == "done", status.reason
    assert run.metrics().epochs[0].batch == 8
    assert "memory ran out: the batch is 8 crops instead of 32" in status.notices
    assert "memory ran out: the batch is 8 crops instead of 32" in run.log()


def test_a_batch_that_does_not_fit_halved_twice_fails_with_the_reason(tmp_path, limit):
    run, status, _ = _train(tmp_path, batch=64, limit=limit)
    assert status.state == "failed"
    assert "memory ran out even with a batch of 16 crops of 256 px; choose a smaller crop or encoder" in status.reason
    assert not run.storage.exists("model/model.json")


def test_a_process_that_ray_kills_because_the_machine_is_full_starts_again_with_half_the_batch(tmp_path, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setenv("RAY_memory_usage_threshold", str((memory.used + (6 << 30)) / memory.total))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    run = make_run(tmp_path, epochs=1, crop=CROP, batch=64)
    assert start_training(run, tmp_path / "log").wait(timeout=500) == 0
    assert run.status().state == "done", run.status().reason
    assert run.metrics().epochs[0].batch < 64
    assert "memory ran out: the batch is" in run.log()
