"""The process that dispatches is killed with SIGKILL while it works; what it has begun is taken up by the next (R7)."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sqlmodel import func, select

from axons.app.services import runs
from axons.app.services.runs import RunCreate
from axons.app.tables import EpochMetric, Job, Model, Notification
from axons.errors import AxonsError
from tests.app.classroom import add_pupils
from tests.app.folder_cluster import FolderCluster, start_dispatcher
from tests.app.trainings import CONFIG, add_project, add_training_set

PLACES = 4


def press_train_twice(platform, pupils, form) -> tuple[int, float]:
    """Everybody presses twice, all at once; how many trainings were accepted, and within how many seconds."""

    def press(pupil) -> bool:
        try:
            platform.database.write(partial(runs.create_run, actor=pupil, form=form, settings=platform.settings))
        except AxonsError as error:
            assert str(error).startswith("you have 1 of 1 trainings waiting or running")
            return False
        return True

    began = time.monotonic()
    with ThreadPoolExecutor(16) as threads:
        accepted = list(threads.map(press, [pupil for pupil in pupils for _ in range(2)]))
    return sum(accepted), time.monotonic() - began


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("num_pupils", "num_kills"), [(12, 2), pytest.param(60, 5, marks=pytest.mark.long)])
def test_everybodys_training_runs_once_though_all_press_twice_and_the_dispatcher_is_killed(
    platform, teacher, tmp_path, num_pupils, num_kills, record_property
):
    project = add_project(platform, teacher)
    form = RunCreate(training_set_id=add_training_set(platform, project, tmp_path).id, config=CONFIG)
    pupils = add_pupils(platform, project, num_pupils)
    cluster = FolderCluster(platform.settings.data / "cluster", PLACES)
    rng, kills, has_pressed = random.Random(11), 0, threading.Event()
    process = start_dispatcher(platform.settings.data, PLACES)
    kill_at = time.monotonic() + rng.uniform(1.5, 4)
    until = time.monotonic() + 240

    def left() -> int:
        unfinished = select(func.count()).where(Job.finished_at.is_(None))
        return platform.database.read(lambda session: session.exec(unfinished).one())

    def pressing() -> tuple[int, float]:
        try:
            return press_train_twice(platform, pupils, form)
        finally:
            has_pressed.set()

    with ThreadPoolExecutor(1) as thread:
        pressed = thread.submit(pressing)
        while (not has_pressed.is_set() or left() or kills < num_kills) and time.monotonic() < until:
            if has_pressed.is_set():  # no training ends before: who is done may train again
                cluster.work_off()
            if kills < num_kills and time.monotonic() > kill_at:
                process.kill()
                process.wait()
                kills += 1
                process = start_dispatcher(platform.settings.data, PLACES)
                kill_at = time.monotonic() + rng.uniform(1.5, 4)
            time.sleep(0.3)
    process.kill()
    process.wait()
    num_accepted, seconds = pressed.result()
    record_property("kills", kills)
    record_property("trainings", num_accepted)
    record_property("all have pressed twice within", f"{seconds:.1f} s")
    counts = platform.database.read(
        lambda session: [session.exec(select(func.count()).select_from(t)).one() for t in (Job, Model, Notification)]
    )
    jobs = platform.database.read(lambda session: session.exec(select(Job)).all())
    epochs = platform.database.read(lambda session: session.exec(select(func.count()).select_from(EpochMetric)).one())
    assert kills == num_kills
    assert num_accepted == num_pupils
    assert counts == [num_pupils] * 3
    assert {job.user_id for job in jobs} == {pupil.user_id for pupil in pupils}
    assert {(job.state, job.attempt) for job in jobs} == {("done", 1)}
    assert epochs == 2 * num_pupils
    assert cluster.work_off() == num_pupils
