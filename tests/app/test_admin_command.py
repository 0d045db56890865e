"""`axons admin` and `axons user limits` as an administrator uses them, against a real server without a cluster."""

import json

import pytest

from tests.app.calling import caller
from tests.app.classroom import make_class, make_template
from tests.app.test_client import url  # noqa: F401 (a fixture)


@pytest.fixture
def run(platform, admin, url, monkeypatch, capsys):  # noqa: F811
    """The command as the administrator calls it: standard output, once it has ended well."""
    return caller(platform, admin, url, monkeypatch, capsys)


def test_storage_is_told_by_person(run, platform, ana):
    make_template(platform, ana)
    first, heads, line, *_ = run("admin", "storage").splitlines()
    assert first.startswith("images: 0.000 GiB; free on the disk: ")
    assert (heads.split(), line.split()[:2]) == (["name", "projects", "GiB"], ["ana", "1"])


def test_machines_are_told_or_that_there_is_no_cluster(run):
    cluster = json.loads(run("admin", "nodes", "--json"))
    assert run("admin", "nodes").splitlines()[0] == cluster["sentence"]
    assert cluster["nodes"] == []


def test_the_audit_is_read_by_person_and_by_action(run, platform, teacher, ana):
    make_class(platform, teacher, ana)
    by_teacher = json.loads(run("admin", "audit", "--person", "teacher", "--json"))
    assert {row["actor_name"] for row in by_teacher} == {"teacher"}
    assert {"classroom.create", "classroom.join"} <= {row["action"] for row in by_teacher}
    (row,) = json.loads(run("admin", "audit", "--person", "teacher", "--action", "classroom.create", "--json"))
    assert row["object_kind"] == "classroom"
    assert json.loads(run("admin", "audit", "--person", "ana", "--action", "classroom.create", "--json")) == []


def test_the_limits_of_one_person_are_set_and_forgotten(run, ana):
    assert json.loads(run("user", "limits", "ana", "--gpu-minutes", "60", "--trainings", "2", "--json")) == {
        "max_active_trainings": 2,
        "max_gpu_minutes": 60,
    }
    assert json.loads(run("user", "limits", "ana", "--clear", "--trainings", "1", "--json")) == {
        "max_active_trainings": 1,
        "max_gpu_minutes": None,
    }
    assert "1" in run("user", "limits", "ana")
