"""Small runs for tests: a training set of disks and a network that trains in seconds."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from axons.train.config import TrainConfig
from axons.train.run import REQUEST, RunFolder, RunRequest
from tests.drawing import freeze_disks

SMALL = {"crop": 32, "batch": 4, "epochs": 2, "encoder": "mobilenet_v2"}


def make_run(folder: Path, *, uri: str | None = None, splits=("train", "train", "val", "test"), **config) -> RunFolder:
    """A run folder that is ready to train."""
    root = uri or str(folder)
    training_set_uri, training_set = freeze_disks(folder, target_uri=f"{root}/training-sets/disks", splits=splits)
    run = RunFolder(f"{root}/models/run-1")
    request = RunRequest(
        run_id="run-1",
        training_set=training_set_uri,
        training_set_sha256=training_set.sha256(),
        config=TrainConfig(**{**SMALL, **config}),
    )
    run.storage.write(REQUEST, request.packed())
    return run


def start_training(run: RunFolder, log: Path) -> subprocess.Popen[bytes]:
    """`python -m axons.train RUN_URI` with a Ray of its own."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "axons.train", run.uri, "--address", "local"],
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        )


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str, every_s: float = 0.1) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(every_s)


def descendants(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(driver.pid).children(recursive=True)


def training_workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The worker processes of Ray Train below a driver."""
    return [process for process in descendants(driver) if "RayTrainWorker" in title(process)]


def kill(process: psutil.Process) -> None:
    """SIGKILL, if it still lives."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
