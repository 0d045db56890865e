"""Two dispatchers whose clocks are ten minutes fast and slow share a queue on PostgreSQL (R18)."""

import subprocess
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import func, select

from axons.app.services import runs
from axons.app.services.runs import RunCreate
from axons.app.tables import Job, Lease, Model
from tests.app.folder_cluster import FolderCluster, start_dispatcher
from tests.app.trainings import CONFIG, add_project, add_training_set

PLACES = 2
CLOCKS = ("+10m", "-10m")
EACH = 3
LEASE_S = 20


@pytest.fixture
def faketime() -> str:
    """The library that shifts the clock of a process."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if found is None:
        pytest.skip("libfaketime is not installed")
    return str(found)


def dispatch(platform, clock: str, faketime: str) -> subprocess.Popen[bytes]:
    """A dispatcher that sees another time; how long something takes it sees right."""
    shifted = {"LD_PRELOAD": faketime, "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    database = {"AXONS_DATABASE_URL": platform.database.url}
    return start_dispatcher(platform.settings.data, PLACES, "--leads-by-lease", **database, **shifted)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_dispatchers_whose_clocks_are_ten_minutes_off_do_each_training_once(
    platform, teacher, tmp_path, faketime, record_property
):
    form = RunCreate(
        training_set_id=add_training_set(platform, add_project(platform, teacher), tmp_path).id, config=CONFIG
    )
    cluster = FolderCluster(platform.settings.data / "cluster", PLACES)
    waits = []

    def left() -> int:
        unfinished = select(func.count()).where(Job.finished_at.is_(None))
        return platform.database.read(lambda session: session.exec(unfinished).one())

    def lease_left_s() -> float:
        moment = platform.database.read(lambda session: session.connection().execute(text("SELECT now()")).scalar_one())
        lease = platform.database.read(lambda session: session.get_one(Lease, "dispatcher"))
        return float((lease.expires_at - moment).total_seconds())

    def work_off() -> None:
        for _ in range(EACH):
            platform.database.write(partial(runs.create_run, actor=teacher, form=form, settings=platform.settings))
        began = time.monotonic()
        while left():
            assert time.monotonic() - began < 60, "the jobs do not come to an end"
            cluster.work_off()
            time.sleep(0.2)
        waits.append(time.monotonic() - began)
        assert -1 < lease_left_s() <= LEASE_S

    with ExitStack() as processes:
        begun = {clock: dispatch(platform, clock, faketime) for clock in CLOCKS}
        for clock in CLOCKS:
            processes.callback(lambda clock=clock: end(begun[clock]))
        work_off()
        for clock in CLOCKS:  # one of them leads, whichever it is
            end(begun[clock])
            work_off()
            begun[clock] = dispatch(platform, clock, faketime)
    jobs = platform.database.read(lambda session: session.exec(select(Job)).all())
    num_models = platform.database.read(lambda session: session.exec(select(func.count()).select_from(Model)).one())
    record_property("trainings", len(jobs))
    record_property("longest wait for a dispatcher", f"{max(waits):.1f} s")
    assert {(job.state, job.attempt) for job in jobs} == {("done", 1)}
    assert len(jobs) == num_models == cluster.work_off() == 3 * EACH
