"""The storage does not answer for a while: people are told so plainly, and jobs begin again by themselves (R21)."""

import time

import pytest

from axons.app.jobs import outcomes
from axons.app.jobs.dispatcher import Dispatcher
from axons.app.jobs.work import Work
from axons.app.tables import Job
from axons.errors import StorageRefused, StorageUnavailable
from tests.app.conftest import As
from tests.app.images import add_images, add_project, tiles_of
from tests.app.trainings import ThreadCluster, settle

TOLD = "storage s3://bucket/prefix did not answer (Connection reset); check its address, the keys and the network"
REST_S = 0.5


class AwayCluster(ThreadCluster):
    """Its work ends with this error so many times."""

    def __init__(self, error, times):
        super().__init__()
        self.error, self.times, self.begun = error, times, []

    def begin(self, kind, request, *, name):
        self.begun.append(time.monotonic())
        if len(self.begun) > self.times:
            return super().begin(kind, request, name=name)

        def rows():
            yield {"progress": 0.5}
            raise self.error

        return Work(rows(), lambda force: None, name=name)


@pytest.fixture
def job_of(platform, ana, monkeypatch):
    """A job on a cluster whose storage is away, at its end."""
    monkeypatch.setattr("axons.app.jobs.dispatcher._REST_S", REST_S)

    def run(cluster):
        job = platform.database.write(lambda session: add(session))
        dispatcher = Dispatcher(platform, cluster)
        settle(dispatcher, lambda: found(job.id).finished_at)
        dispatcher.stop()
        return found(job.id)

    def add(session):
        job = Job(kind="cleanup", user_id=ana.user_id)
        session.add(job)
        return job

    def found(job_id):
        return platform.database.read(lambda session: session.get_one(Job, job_id))

    return run


def test_a_job_begins_again_after_a_rest_however_often_the_storage_was_away(job_of, monkeypatch):
    cluster = AwayCluster(StorageUnavailable(TOLD), times=outcomes.MAX_CRASHES + 2)
    monkeypatch.setattr("axons.app.jobs.dispatcher._REST_S", 0.05)
    job = job_of(cluster)
    assert (job.state, job.attempt) == ("done", outcomes.MAX_CRASHES + 3), job.reason
    assert "the storage did not answer; it starts again by itself" in job.log
    assert "s3://" not in job.log


def test_it_rests_before_it_begins_again(job_of):
    cluster = AwayCluster(StorageUnavailable(TOLD), times=1)
    job_of(cluster)
    assert cluster.begun[1] - cluster.begun[0] >= REST_S


def test_a_job_that_the_storage_refuses_has_failed_and_says_why(job_of):
    job = job_of(
        AwayCluster(StorageRefused("storage s3://b refused us (Forbidden); check its address and the keys"), 9)
    )
    assert (job.state, job.attempt) == ("failed", 1)
    assert "refused us (Forbidden)" in job.reason


def test_people_read_when_to_try_again_and_nothing_of_addresses(platform, ana, tmp_path, monkeypatch):
    [image] = add_images(platform, ana, add_project(platform, ana), tmp_path)

    def be_away(key, **_):
        raise StorageUnavailable(TOLD)

    monkeypatch.setattr(platform.storage, "local_path", be_away)
    answer = As(platform, ana).get(f"/v1/tiles/{tiles_of(platform, image)[0].id}/image")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["detail"].startswith("the storage does not answer at the moment")
