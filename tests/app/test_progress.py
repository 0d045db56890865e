"""How far the students of a class have come, and who is stuck."""

from datetime import timedelta

import pytest
from sqlalchemy import event, update

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.tables import (
    Assignment,
    HandIn,
    Image,
    Membership,
    Project,
    ProjectMember,
    Run,
    TrainingSet,
    now,
)
from tests.app.classroom import FAILED, add_run, join, make_class, make_template
from tests.app.conftest import As, add_user

pytestmark = pytest.mark.both_databases


@pytest.fixture
def classroom(platform, teacher, ana, ben) -> dict:
    return make_class(platform, teacher, ana, ben)


def rows_of(platform: Platform, actor: Actor, classroom: dict, **query) -> list[dict]:
    answer = As(platform, actor).get(f"/v1/classrooms/{classroom['id']}/progress", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def row_of(platform: Platform, teacher: Actor, classroom: dict, actor: Actor, **query) -> dict:
    return next(row for row in rows_of(platform, teacher, classroom, **query) if row["user_id"] == actor.user_id)


def add_work(platform: Platform, classroom: dict, owner: Actor) -> str:
    """A project of the class with 2 images and 4 tiles of which 2 are done."""
    return make_template(platform, owner, num_revisions=1, classroom_id=classroom["id"])


def age(platform: Platform, classroom: dict, actor: Actor, project_id: str | None = None, *, minutes: float) -> None:
    """Let everything of a student have happened so long ago."""
    then = now() - timedelta(minutes=minutes)

    def write(session) -> None:
        session.get_one(Membership, (classroom["id"], actor.user_id)).created_at = then
        if project_id is not None:
            session.get_one(Project, project_id).created_at = then
            session.exec(update(Image).where(Image.project_id == project_id).values(created_at=then))
            session.exec(update(TrainingSet).where(TrainingSet.project_id == project_id).values(created_at=then))
            session.exec(update(Run).where(Run.project_id == project_id).values(created_at=then))

    platform.database.write(write)


def test_a_row_counts_what_a_student_has_made(platform, teacher, ana, classroom):
    project_id = add_work(platform, classroom, ana)
    add_run(platform, classroom, ana, project_id, "done", device="Tesla V100S", seconds=90.0, num_workers=2)
    add_run(platform, classroom, ana, project_id, "cancelled", device="CPU, 2 threads", seconds=30.0)
    row = row_of(platform, teacher, classroom, ana)
    assert row["projects"] == [{"id": project_id, "name": "template"}]
    assert (row["num_images"], row["num_tiles_by_status"]) == (2, {"unlabelled": 2, "started": 0, "done": 2})
    assert row["num_training_sets"] == 2
    assert row["num_trainings_by_state"] == {"done": 1, "failed": 0, "cancelled": 1, "open": 0}
    assert (row["gpu_minutes"], row["training_minutes"]) == (3.0, 2.0)
    assert (row["num_models"], row["num_predictions"], row["num_hand_ins"], row["is_stuck"]) == (0, 0, 0, False)


def test_what_is_edited_together_counts_for_both(platform, teacher, ana, ben, classroom):
    project_id = add_work(platform, classroom, ana)
    member = ProjectMember(project_id=project_id, user_id=ben.user_id, role="editor")
    platform.database.write(lambda session: session.add(member))
    assert [row["num_images"] for row in rows_of(platform, teacher, classroom)] == [2, 2]


def test_what_is_in_no_class_is_not_shown(platform, teacher, ana, classroom):
    make_template(platform, ana)
    assert row_of(platform, teacher, classroom, ana)["projects"] == []


def test_whose_last_training_failed_is_stuck_and_comes_first(platform, teacher, ana, ben, classroom):
    add_run(platform, classroom, ben, add_work(platform, classroom, ben), "failed")
    first, second = rows_of(platform, teacher, classroom)
    assert (first["name"], first["stuck_because"]) == ("ben", "training failed")
    assert first["reason"] == FAILED
    assert (second["name"], second["is_stuck"], second["reason"]) == ("ana", False, "")


def test_who_changes_nothing_for_the_chosen_minutes_is_stuck(platform, teacher, ana, classroom):
    age(platform, classroom, ana, add_work(platform, classroom, ana), minutes=45)
    row = row_of(platform, teacher, classroom, ana, stuck_minutes=40)
    assert (row["stuck_because"], row["reason"]) == ("nothing changed", "nothing has changed for 45 minutes")
    assert not row_of(platform, teacher, classroom, ana, stuck_minutes=50)["is_stuck"]


def test_who_has_not_begun_after_the_chosen_minutes_is_stuck(platform, teacher, ana, classroom):
    age(platform, classroom, ana, minutes=45)
    row = row_of(platform, teacher, classroom, ana, stuck_minutes=40)
    assert (row["stuck_because"], row["last_change_at"]) == ("not begun", None)


def test_who_has_handed_in_is_not_stuck(platform, teacher, ana, classroom):
    project_id = add_work(platform, classroom, ana)
    age(platform, classroom, ana, project_id, minutes=60)

    def hand_in(session) -> None:
        task = Assignment(classroom_id=classroom["id"], title="axons", created_by=teacher.user_id)
        session.add(task)
        session.flush()
        then = now() - timedelta(minutes=50)
        row = HandIn(assignment_id=task.id, user_id=ana.user_id, project_id=project_id, created_at=then)
        session.add(row)

    platform.database.write(hand_in)
    row = row_of(platform, teacher, classroom, ana)
    assert (row["num_hand_ins"], row["is_stuck"]) == (1, False)


def test_who_waits_in_the_queue_is_not_stuck_and_the_place_is_told(platform, teacher, ana, ben, classroom):
    add_run(platform, classroom, ben, add_work(platform, classroom, ben), "running")
    project_id = add_work(platform, classroom, ana)
    add_run(platform, classroom, ana, project_id, "queued")
    age(platform, classroom, ana, project_id, minutes=60)
    row = row_of(platform, teacher, classroom, ana)
    assert (row["is_stuck"], row["num_active_trainings"]) == (False, 1)
    assert (row["job"]["kind"], row["job"]["ahead"], row["job"]["reason"]) == ("train", 1, "waits for 1 other job")


def num_queries(platform: Platform, teacher: Actor, classroom: dict) -> int:
    counted = []
    engine = platform.database._reader

    def count(*_arguments) -> None:
        counted.append(1)

    event.listen(engine, "before_cursor_execute", count)
    rows_of(platform, teacher, classroom)
    event.remove(engine, "before_cursor_execute", count)
    return len(counted)


def test_a_large_class_costs_as_many_queries_as_a_small_one(platform, teacher):
    numbers = []
    for size in (3, 30):
        classroom = make_class(platform, teacher, name=f"class of {size}")
        for number in range(size):
            student = add_user(platform, f"s{size}-{number}")
            join(platform, classroom, student, "student")
            add_run(platform, classroom, student, add_work(platform, classroom, student), "queued")
        numbers.append(num_queries(platform, teacher, classroom))
    assert numbers[0] == numbers[1] <= 25, numbers
