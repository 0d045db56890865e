"""What administrators read of machines and storage."""

import shutil
import threading

import pytest
import ray

from axons.app import asking
from axons.app.asking import Question
from axons.app.services import cluster
from axons.app.tables import Image
from tests.app.classroom import image_row
from tests.app.conftest import As
from tests.app.images import add_project


@ray.remote(num_cpus=0.5)
class Busy:
    def begin(self) -> None:
        """Be there."""


def test_the_machines_are_told_with_what_is_used_of_them(platform, admin, local_ray):
    busy = Busy.remote()
    ray.get(busy.begin.remote())
    answer = As(platform, admin).get("/v1/cluster/nodes").json()
    ray.kill(busy)
    assert (answer["is_well"], answer["sentence"]) == (True, "Ray answers: 1 node")
    (node,) = answer["nodes"]
    assert (node["is_alive"], node["is_head"], node["cpus"]["total"]) == (True, True, 4)
    assert node["cpus"]["used"] >= 0.5
    assert "Busy" in node["work"]
    assert (answer["dashboard"], node["memory"]) == (None, None)  # this Ray has no dashboard


def test_without_ray_the_route_answers_and_says_so(platform, admin, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    answer = As(platform, admin).get("/v1/cluster/nodes")
    assert (answer.status_code, answer.json()["nodes"]) == (200, [])
    assert answer.json()["sentence"].endswith("start the platform with `axons up`")
    health = As(platform, admin).get("/v1/cluster/health")
    assert (health.status_code, health.json()["status"]) == (200, "unwell")


def test_a_ray_that_hangs_is_waited_for_in_one_thread_and_not_for_long(platform, admin, monkeypatch):
    let_go, asked = threading.Event(), []
    monkeypatch.setattr(asking, "PATIENCE_S", 0.05)
    monkeypatch.setattr(cluster, "_NODES", Question("Ray", lambda: asked.append(1) or let_go.wait(20)))
    answers = [As(platform, admin).get("/v1/cluster/nodes").json() for _ in range(3)]
    let_go.set()
    assert {answer["sentence"] for answer in answers} == {"Ray did not answer within 0.05 seconds"}
    assert asked == [1]


@pytest.mark.both_databases
def test_the_storage_of_each_person_is_told_from_the_largest(platform, admin, ana, ben, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 4, 6))
    for owner, sizes in ((ana, [5]), (ben, [7, 20])):
        project = add_project(platform, owner)
        platform.database.write(lambda session, sizes=sizes, project=project: add_images(session, project, sizes))
    answer = As(platform, admin).get("/v1/cluster/storage").json()
    assert [(row["user_name"], row["num_projects"], row["num_bytes"]) for row in answer["people"]] == [
        ("ben", 1, 27),
        ("ana", 1, 5),
    ]
    assert (answer["num_bytes"], answer["free_bytes"]) == (32, 6)
    assert answer["can_back_up"] == platform.database.is_sqlite


def add_images(session, project, sizes) -> None:
    rows: list[Image] = [image_row(project, f"{size}.png") for size in sizes]
    for row, size in zip(rows, sizes, strict=True):
        row.stored_bytes = size
    session.add_all(rows)
