"""A class that trains on one place: in fair order, stopped at the limit, cancelled at once (R10)."""

import time
from functools import partial

import pytest
from sqlmodel import select

from axons.app.jobs.dispatcher import Dispatcher
from axons.app.services import runs
from axons.app.services.runs import RunCreate
from axons.app.tables import Job
from tests.app.classroom import add_pupils
from tests.app.conftest import As
from tests.app.trainings import CONFIG, ThreadCluster, add_project, add_training_set, play, settle

PUPILS, EACH = 20, 3
STOPPED_WITHIN_S, CANCELLED_WITHIN_S = 30, 10


@pytest.fixture
def project(platform, teacher):
    return add_project(platform, teacher)


@pytest.fixture
def form(platform, project, tmp_path):
    return RunCreate(training_set_id=add_training_set(platform, project, tmp_path).id, config=CONFIG)


@pytest.fixture
def pupils(platform, project):
    """Students who work on one project, with as many trainings each as the class allows."""
    return add_pupils(platform, project, PUPILS)


def ask(platform, actor, form) -> None:
    settings = platform.settings.model_copy(update={"max_active_trainings": EACH})
    platform.database.write(partial(runs.create_run, actor=actor, form=form, settings=settings))


def trainings(platform) -> list[Job]:
    return list(platform.database.read(lambda session: session.exec(select(Job).where(Job.kind == "train")).all()))


def are_over(platform) -> bool:
    return all(job.finished_at for job in trainings(platform))


def test_of_sixty_trainings_on_one_place_everybodys_first_starts_before_anybodys_second(
    platform,
    pupils,
    form,
    record_property,
):
    for pupil in pupils:  # first come would be first served: all of one pupil before the next
        for _ in range(EACH):
            ask(platform, pupil, form)
    cluster = ThreadCluster(places=1)
    settle(Dispatcher(platform, cluster), lambda: are_over(platform), timeout_s=240)
    names = sorted(pupil.name for pupil in pupils)
    record_property("trainings on one place", len(cluster.order))
    assert [sorted(cluster.order[turn * PUPILS : (turn + 1) * PUPILS]) for turn in range(EACH)] == [names] * EACH
    assert {(job.state, job.attempt) for job in trainings(platform)} == {("done", 1)}


def test_an_overlong_training_is_stopped_within_30_seconds_of_its_limit(platform, teacher, form, record_property):
    ask(platform, teacher, form)

    def limit(session):
        job = session.exec(select(Job)).one()
        job.request = {**job.request, "limit_minutes": 1 / 60}

    platform.database.write(limit)
    began = time.monotonic()
    deaf = ThreadCluster(train=partial(play, epochs=10_000, pause_s=0.1))  # each epoch counts as a second
    settle(Dispatcher(platform, deaf), lambda: are_over(platform))
    seconds = time.monotonic() - began
    record_property("seconds after a limit of one second", round(seconds, 1))
    assert trainings(platform)[0].reason.startswith("it was stopped at the limit")
    assert seconds < STOPPED_WITHIN_S


def test_a_training_that_does_not_listen_is_cancelled_within_ten_seconds(platform, teacher, form, record_property):
    ask(platform, teacher, form)
    dispatcher = Dispatcher(platform, ThreadCluster(train=lambda uri: time.sleep(60)))
    dispatcher.step()
    began = time.monotonic()
    As(platform, teacher).post(f"/v1/jobs/{trainings(platform)[0].id}/cancel")
    settle(dispatcher, lambda: are_over(platform))
    seconds = time.monotonic() - began
    record_property("seconds until it was cancelled", round(seconds, 1))
    assert seconds < CANCELLED_WITHIN_S
