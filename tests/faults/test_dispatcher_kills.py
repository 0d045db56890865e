"""The process that dispatches is killed with SIGKILL while it works; what it has begun is taken up by the next."""

import os
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from sqlmodel import func, select

from axons.app.services import runs
from axons.app.services.runs import RunCreate
from axons.app.tables import EpochMetric, Job, Model, Notification
from tests.app.conftest import add_user
from tests.app.folder_cluster import FolderCluster
from tests.app.trainings import add_project, add_training_set

KILLS = 5
CONFIG = {"crop": 32, "batch": 4, "epochs": 2, "encoder": "resnet18", "device": "cpu"}


def dispatch(data) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.app.folder_cluster", str(data), "4"]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path.cwd())})


@pytest.mark.timeout(300)
def test_every_training_runs_once_though_the_dispatcher_is_killed_five_times(platform, tmp_path, record_property):
    teacher = add_user(platform, "teacher", "educator")
    row = add_training_set(platform, add_project(platform, teacher), tmp_path)
    form = RunCreate(training_set_id=row.id, config=CONFIG)
    for _ in range(40):
        platform.database.write(partial(runs.create_run, actor=teacher, form=form, settings=platform.settings))
    cluster = FolderCluster(platform.settings.data / "cluster", 4)
    rng, kills = random.Random(11), 0
    process = dispatch(platform.settings.data)
    kill_at = time.monotonic() + 3
    until = time.monotonic() + 240

    def left() -> int:
        unfinished = select(func.count()).where(Job.finished_at.is_(None))
        return platform.database.read(lambda session: session.exec(unfinished).one())

    while left() and time.monotonic() < until:
        cluster.work_off()
        if kills < KILLS and time.monotonic() > kill_at:
            process.kill()
            process.wait()
            kills += 1
            process = dispatch(platform.settings.data)
            kill_at = time.monotonic() + rng.uniform(1.5, 4)
        time.sleep(0.3)
    process.kill()
    process.wait()
    record_property("kills", kills)
    counts = platform.database.read(
        lambda session: [session.exec(select(func.count()).select_from(t)).one() for t in (Job, Model, Notification)]
    )
    jobs = platform.database.read(lambda session: session.exec(select(Job)).all())
    epochs = platform.database.read(lambda session: session.exec(select(func.count()).select_from(EpochMetric)).one())
    assert kills == KILLS
    assert counts == [40, 40, 40]
    assert {(job.state, job.attempt) for job in jobs} == {("done", 1)}
    assert epochs == 80
    assert cluster.work_off() == 40
