"""`axons class` and `axons user` as an educator uses them, against a real server."""

import json

import pytest

from axons.app.tables import User
from tests.app.calling import caller
from tests.app.classroom import FAILED, add_run, make_class, make_template
from tests.app.test_client import url  # noqa: F401 (a fixture)


@pytest.fixture
def run(platform, teacher, url, monkeypatch, capsys):  # noqa: F811
    """The command as the teacher calls it: standard output, once it has ended well."""
    return caller(platform, teacher, url, monkeypatch, capsys)


def test_an_educator_sets_up_a_class_by_the_command(run, tmp_path):
    (tmp_path / "names.txt").write_text("zoe.9\n\nyan.8\n")
    assert run("class", "create", "4b").startswith("4b; join code: ")
    created = json.loads(run("class", "add-students", "4b", str(tmp_path / "names.txt"), "--json"))
    assert [(row["name"], len(row["password"]) > 8) for row in created] == [("zoe.9", True), ("yan.8", True)]
    limits = json.loads(run("class", "limits", "4b", "--trainings", "2", "--project-gib", "1.5", "--json"))
    assert (limits["max_active_trainings"], limits["max_project_bytes"]) == (2, 3 << 29)
    assert limits["max_training_minutes"] == 120


def test_the_command_tells_who_is_stuck(run, platform, teacher, ana):
    classroom = make_class(platform, teacher, ana)
    project_id = make_template(platform, ana, classroom_id=classroom["id"])
    add_run(platform, classroom, ana, project_id, "failed")
    _heads, line = run("class", "progress", "4b", "--stuck-minutes", "15").splitlines()
    assert line.split()[:3] == ["ana", "2", "2/4"]
    assert line.endswith(f"stuck: {FAILED}")


def test_an_educator_keeps_a_student_out_by_name(run, platform, teacher, ana):
    make_class(platform, teacher, ana)
    assert run("user", "disable", "ana") == "ana is disabled\n"
    assert platform.database.read(lambda session: session.get_one(User, ana.user_id).is_active) is False
