"""What one person may use: limits of the person before those of the class, and minutes on GPUs that are used up."""

import pytest
from sqlmodel import select

from axons.app.tables import Audit
from tests.app.classroom import add_run, join, make_class
from tests.app.conftest import As
from tests.app.trainings import add_project, add_training_set

CONFIG = {"crop": 32, "batch": 4, "epochs": 2, "encoder": "resnet18"}
ON_GPUS = {"device": "Tesla T4", "seconds": 1800.0, "num_workers": 2}


@pytest.fixture
def classroom(platform, teacher, ana):
    return make_class(platform, teacher, ana)


@pytest.fixture
def project(platform, ana, classroom):
    return add_project(platform, ana, classroom_id=classroom["id"])


@pytest.fixture
def training_set(platform, project, tmp_path):
    return add_training_set(platform, project, tmp_path)


@pytest.fixture
def used(platform, classroom, ana):
    """An hour of Ana's on GPUs, and one on a CPU."""
    earlier = add_project(platform, ana, classroom_id=classroom["id"])
    add_run(platform, classroom, ana, earlier.id, "done", **ON_GPUS)
    add_run(platform, classroom, ana, earlier.id, "done", device="CPU, 2 threads", seconds=3600.0)


def limit(platform, actor, user, **limits):
    return As(platform, actor).patch(f"/v1/users/{user.user_id}", json={"limits": limits})


def train(client, training_set, device):
    return client.post("/v1/runs", json={"training_set_id": training_set.id, "config": {**CONFIG, "device": device}})


def test_who_has_used_up_the_gpu_minutes_trains_on_the_cpu(platform, teacher, ana, client, training_set, used):
    assert limit(platform, teacher, ana, max_gpu_minutes=60).status_code == 200
    refused = train(client, training_set, "auto")
    assert (refused.status_code, refused.json()["title"]) == (409, "limit-reached")
    assert refused.json()["detail"] == (
        "you have used 60 of your 60 GPU minutes; train on the CPU, or ask your educator for more"
    )
    assert train(client, training_set, "cpu").status_code == 202


def test_a_run_that_goes_on_is_counted_like_a_new_one(platform, teacher, ana, client, training_set, used):
    run = train(client, training_set, "auto").json()
    client.post(f"/v1/runs/{run['id']}/cancel")
    limit(platform, teacher, ana, max_gpu_minutes=10)
    assert client.post(f"/v1/runs/{run['id']}/resume").json()["title"] == "limit-reached"


@pytest.mark.both_databases
def test_a_student_is_told_what_is_used_and_allowed(platform, teacher, ana, client, classroom, project, used):
    As(platform, teacher).patch(f"/v1/classrooms/{classroom['id']}", json={"limits": {"max_gpu_minutes": 90}})
    limit(platform, teacher, ana, max_active_trainings=3)
    assert client.get(f"/v1/projects/{project.id}/training-limits").json() == {
        "num_active_trainings": 0,
        "max_active_trainings": 3,
        "max_training_minutes": 120,
        "gpu_minutes": 60,
        "max_gpu_minutes": 90,
    }
    (row,) = As(platform, teacher).get(f"/v1/classrooms/{classroom['id']}/progress").json()
    assert (row["all_gpu_minutes"], row["limits"]["max_active_trainings"]) == (60, 3)


def test_no_limit_holds_for_who_teaches(platform, teacher, project):
    told = As(platform, teacher).get(f"/v1/projects/{project.id}/training-limits").json()
    assert (told["max_active_trainings"], told["max_gpu_minutes"]) == (None, None)


def test_the_limits_of_a_person_come_before_those_of_the_class(platform, teacher, ana, client, training_set):
    limit(platform, teacher, ana, max_active_trainings=2)
    assert [train(client, training_set, "cpu").status_code for _ in range(3)] == [202, 202, 409]
    limit(platform, teacher, ana, max_active_trainings=None)
    assert "of 1 trainings" in train(client, training_set, "cpu").json()["detail"]


@pytest.mark.parametrize("who", ["ana", "ben"])
def test_students_do_not_set_limits(platform, request, ana, ben, classroom, who):
    join(platform, classroom, ben, "student")
    assert limit(platform, request.getfixturevalue(who), ana, max_gpu_minutes=1).status_code in (403, 404)


def test_administrators_see_the_minutes_and_each_change_is_written_down(platform, admin, ana, used):
    limit(platform, admin, ana, max_gpu_minutes=61.5)
    (row,) = As(platform, admin).get("/v1/users?search=ana").json()["items"]
    assert (row["gpu_minutes"], row["limits"]["max_gpu_minutes"]) == (60, 61.5)
    of_limits = select(Audit).where(Audit.action == "user.limits")
    written = platform.database.read(lambda session: session.exec(of_limits).all())
    assert [(audit.actor_id, audit.detail) for audit in written] == [(admin.user_id, {"max_gpu_minutes": 61.5})]
