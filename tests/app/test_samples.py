"""The sample project: everybody gets a copy of their own."""

import pytest

from axons.app.services import audit, samples
from axons.app.tables import TrainingSet
from tests.app.conftest import As, add_user
from tests.app.images import add_project

pytestmark = pytest.mark.both_databases


@pytest.fixture
def administrator(platform):
    return add_user(platform, "root", "administrator")


@pytest.fixture
def sample(platform, administrator):
    """The sample project as the first start begins it."""
    project = add_project(platform, administrator, name="Sample", classes=["background", "axon"], tile=128)

    def note(session) -> None:
        audit.record(session, administrator, samples.INSTALLED, "project", project.id)

    platform.database.write(note)
    return project


def freeze(platform, project):
    row = TrainingSet(project_id=project.id, name="a", number=1, key="x", created_by=project.owner_id)
    platform.database.write(lambda session: session.add(row))


def test_a_student_gets_the_sample_project_once(platform, ana, sample):
    freeze(platform, sample)
    ask = As(platform, ana)
    assert ask.get("/v1/projects:sample").json() == {"state": "ready", "project_id": None}
    first = ask.post("/v1/projects:sample").json()
    assert (first["name"], first["tile"], first["role"]) == ("Sample", 128, "owner")
    assert [row["name"] for row in first["classes"]] == ["background", "axon"]
    assert ask.post("/v1/projects:sample").json()["id"] == first["id"] != sample.id
    assert ask.get("/v1/projects:sample").json()["project_id"] == first["id"]


def test_whoever_owns_the_sample_project_gets_no_second_one(platform, administrator, sample):
    assert As(platform, administrator).post("/v1/projects:sample").json()["id"] == sample.id


def test_a_sample_project_that_is_being_prepared_is_not_copied(platform, ana, sample):
    answer = As(platform, ana).post("/v1/projects:sample")
    assert (answer.status_code, "try again in a minute" in answer.json()["detail"]) == (409, True)


def test_without_a_sample_project_one_is_told(platform, ana):
    assert As(platform, ana).get("/v1/projects:sample").json() == {"state": "missing", "project_id": None}
    answer = As(platform, ana).post("/v1/projects:sample")
    assert (answer.status_code, "no sample project" in answer.json()["detail"]) == (404, True)
