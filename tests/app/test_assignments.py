"""Tasks: handing out copies, handing in, marking."""

import threading
from datetime import timedelta

import pytest
from sqlmodel import col, select

from axons.app.tables import (
    Audit,
    HandIn,
    Image,
    Job,
    LabelClass,
    Project,
    Revision,
    Run,
    Tile,
    Tiling,
    TrainingSet,
    now,
)
from tests.app.classroom import make_class, make_template
from tests.app.conftest import As, add_user

pytestmark = pytest.mark.both_databases


@pytest.fixture
def classroom(platform, teacher, ana, ben) -> dict:
    return make_class(platform, teacher, ana, ben)


@pytest.fixture
def assignment(platform, teacher, classroom) -> dict:
    return set_task(platform, teacher, classroom, template_project_id=make_template(platform, teacher))


def set_task(platform, teacher, classroom, **fields) -> dict:
    form = {"classroom_id": classroom["id"], "title": "Find the axons", **fields}
    answer = As(platform, teacher).post("/v1/assignments", json=form)
    assert answer.status_code == 201, answer.text
    return answer.json()


def start(platform, student, assignment) -> str:
    answer = As(platform, student).post(f"/v1/assignments/{assignment['id']}/start")
    assert answer.status_code == 200, answer.text
    return answer.json()["project_id"]


def hand_in(platform, student, assignment, **form):
    return As(platform, student).post(f"/v1/assignments/{assignment['id']}/hand-ins", json=form)


def rows(platform, table, project_id) -> list:
    of_project = select(table).where(table.project_id == project_id)
    return platform.database.read(lambda session: session.exec(of_project.order_by(table.id)).all())


def revisions(platform, project_id) -> list[Revision]:
    of_project = select(Revision).join(Tile, col(Tile.id) == col(Revision.tile_id))
    return platform.database.read(
        lambda session: session.exec(of_project.where(col(Tile.project_id) == project_id)).all()
    )


def add_run(platform, project_id, user, state="done") -> Run:
    """A run without a folder in storage."""

    def add(session) -> Run:
        training_set = TrainingSet(
            project_id=project_id, number=1, name="s", state="ready", key="k", created_by=user.user_id
        )
        job = Job(kind="train", state=state, user_id=user.user_id, project_id=project_id)
        session.add_all([training_set, job])
        session.flush()
        run = Run(
            project_id=project_id,
            training_set_id=training_set.id,
            job_id=job.id,
            number=1,
            name="r",
            key="models/none",
            config={},
            created_by=user.user_id,
        )
        session.add(run)
        return run

    return platform.database.write(add)


def test_a_student_gets_a_copy_with_classes_images_tiles_and_newest_labels(platform, ana, assignment):
    copy_id = start(platform, ana, assignment)
    copy = As(platform, ana).get(f"/v1/projects/{copy_id}").json()
    assert (copy["name"], copy["instructions"], copy["tile"]) == ("template", "look", 64)
    assert sorted((row.index, row.name) for row in rows(platform, LabelClass, copy_id)) == [
        (0, "background"),
        (1, "axon"),
    ]
    assert sorted(row.name for row in rows(platform, Image, copy_id)) == ["image 0.png", "image 1.png"]
    assert len(rows(platform, Tiling, copy_id)) == 1
    assert sorted((row.status, row.revision) for row in rows(platform, Tile, copy_id)) == [
        ("done", 1),
        ("done", 1),
        ("unlabelled", 0),
        ("unlabelled", 0),
    ]
    assert [(row.number, row.layers) for row in revisions(platform, copy_id)] == [(1, b"layers 3")] * 2


def test_a_copy_points_at_the_same_objects_and_stores_nothing(platform, ana, assignment):
    template_id = assignment["template_project_id"]
    before = platform.storage.list_objects()
    copies = rows(platform, Image, start(platform, ana, assignment))
    originals = {row.working_key for row in rows(platform, Image, template_id)}
    assert {row.working_key for row in copies} < originals
    assert {row.stored_bytes for row in copies} == {0}
    assert platform.storage.list_objects() == before


def test_a_copy_and_its_template_change_apart(platform, teacher, ana, assignment):
    copy_id = start(platform, ana, assignment)
    template_id = assignment["template_project_id"]
    As(platform, ana).patch(f"/v1/projects/{copy_id}", json={"name": "mine"})
    assert As(platform, teacher).get(f"/v1/projects/{template_id}").json()["name"] == "template"
    assert {row.id for row in rows(platform, Tile, copy_id)}.isdisjoint(
        row.id for row in rows(platform, Tile, template_id)
    )


def test_starting_twice_gives_the_same_copy(platform, ana, assignment):
    assert start(platform, ana, assignment) == start(platform, ana, assignment)


def test_starting_many_times_at_once_makes_one_copy(platform, ana, assignment):
    client, address = As(platform, ana), f"/v1/assignments/{assignment['id']}"
    client.post(f"{address}x/start")  # routes are built at their first use
    copies: list[str] = []

    def begin() -> None:
        copies.append(client.post(f"{address}/start").json()["project_id"])

    threads = [threading.Thread(target=begin) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    owned = select(Project).where(col(Project.owner_id) == ana.user_id)
    assert len(copies) == 6
    assert len(set(copies)) == 1
    assert len(platform.database.read(lambda session: session.exec(owned).all())) == 1


def test_handing_out_makes_a_copy_for_everybody_who_has_none(platform, teacher, ana, assignment):
    start(platform, ana, assignment)
    address = f"/v1/assignments/{assignment['id']}"
    assert As(platform, teacher).post(f"{address}/hand-out").json() == {"num_copies": 1}
    assert As(platform, teacher).post(f"{address}/hand-out").json() == {"num_copies": 0}
    seen = As(platform, teacher).get(address).json()
    assert (seen["num_students"], seen["num_started"], seen["num_handed_in"]) == (2, 2, 0)


def test_a_template_of_a_thousand_tiles_is_copied_whole(platform, teacher, ana, classroom):
    template_id = make_template(platform, teacher, num_images=600, num_revisions=1)
    copy_id = start(platform, ana, set_task(platform, teacher, classroom, template_project_id=template_id))
    assert len(rows(platform, Tile, copy_id)) == 1200
    assert len(revisions(platform, copy_id)) == 600


def test_the_educator_sees_the_copy_and_a_classmate_does_not(platform, teacher, ana, ben, assignment):
    copy_id = start(platform, ana, assignment)
    assert As(platform, teacher).get(f"/v1/projects/{copy_id}").status_code == 200
    assert As(platform, ben).get(f"/v1/projects/{copy_id}").status_code == 404


def test_the_template_itself_is_not_for_students(platform, ana, assignment):
    assert As(platform, ana).get(f"/v1/projects/{assignment['template_project_id']}").status_code == 404
    assert As(platform, ana).get(f"/v1/assignments/{assignment['id']}").json()["template_project_id"] is None


def test_only_a_project_of_ones_own_becomes_a_template(platform, teacher, ana, classroom):
    form = {"classroom_id": classroom["id"], "title": "x", "template_project_id": make_template(platform, ana)}
    assert As(platform, teacher).post("/v1/assignments", json=form).status_code == 404


def test_a_task_without_a_template_has_nothing_to_start(platform, teacher, ana, classroom):
    task = set_task(platform, teacher, classroom)
    assert As(platform, ana).post(f"/v1/assignments/{task['id']}/start").status_code == 409


def test_a_task_is_for_its_class(platform, ana, assignment):
    outsider = add_user(platform, "outsider")
    assert [row["id"] for row in As(platform, ana).get("/v1/assignments").json()["items"]] == [assignment["id"]]
    assert As(platform, outsider).get("/v1/assignments").json()["items"] == []
    assert As(platform, outsider).get(f"/v1/assignments/{assignment['id']}").status_code == 404


def test_a_task_can_be_changed_and_withdrawn_by_its_educators_only(platform, teacher, ana, assignment):
    address = f"/v1/assignments/{assignment['id']}"
    assert As(platform, ana).patch(address, json={"title": "no"}).status_code == 403
    changed = As(platform, teacher).patch(address, json={"title": "New", "due_at": "2030-01-01T12:00:00+01:00"}).json()
    assert (changed["title"], changed["due_at"]) == ("New", "2030-01-01T11:00:00Z")
    assert As(platform, ana).delete(address).status_code == 403
    assert As(platform, teacher).delete(address).status_code == 204
    assert As(platform, ana).get(address).status_code == 404


def test_a_student_hands_in_and_sees_the_mark(platform, teacher, ana, assignment):
    start(platform, ana, assignment)
    handed = hand_in(platform, ana, assignment, comment="done").json()
    mark = {"value": "5", "comment": "more images"}
    assert As(platform, teacher).post(f"/v1/hand-ins/{handed['id']}/marks", json=mark).status_code == 201
    seen = As(platform, ana).get(f"/v1/hand-ins/{handed['id']}").json()
    assert (seen["mark"]["value"], seen["mark"]["comment"], seen["is_late"]) == ("5", "more images", False)
    assert As(platform, ana).get("/v1/marks").json()["items"] == [seen["mark"]]


def test_a_mark_is_followed_and_never_replaced(platform, teacher, ana, assignment):
    start(platform, ana, assignment)
    address = f"/v1/hand-ins/{hand_in(platform, ana, assignment).json()['id']}"
    for value in ("5", "3"):
        As(platform, teacher).post(f"{address}/marks", json={"value": value})
    assert [row["value"] for row in As(platform, ana).get(f"{address}/marks").json()] == ["3", "5"]
    assert As(platform, ana).get(address).json()["mark"]["value"] == "3"


def test_nobody_marks_their_own_work(platform, ana, assignment):
    start(platform, ana, assignment)
    address = f"/v1/hand-ins/{hand_in(platform, ana, assignment).json()['id']}"
    assert As(platform, ana).post(f"{address}/marks", json={"value": "1"}).status_code == 403
    assert As(platform, ana).post(f"{address}/return").status_code == 403


def test_a_classmate_sees_neither_hand_in_nor_mark(platform, teacher, ana, ben, assignment):
    start(platform, ana, assignment)
    address = f"/v1/hand-ins/{hand_in(platform, ana, assignment).json()['id']}"
    As(platform, teacher).post(f"{address}/marks", json={"value": "1"})
    assert As(platform, ben).get(address).status_code == 404
    assert As(platform, ben).get(f"{address}/marks").status_code == 404
    assert As(platform, ben).get("/v1/marks").json()["items"] == []
    assert As(platform, ben).get(f"/v1/assignments/{assignment['id']}/hand-ins").json()["items"] == []


def test_the_educator_sees_what_the_class_handed_in_and_gives_it_back(platform, teacher, ana, ben, assignment):
    for student in (ana, ben):
        start(platform, student, assignment)
        hand_in(platform, student, assignment)
    listed = As(platform, teacher).get(f"/v1/assignments/{assignment['id']}/hand-ins").json()["items"]
    assert [row["user_name"] for row in listed] == ["ben", "ana"]
    assert As(platform, teacher).post(f"/v1/hand-ins/{listed[0]['id']}/return").json()["returned_at"]


def test_what_comes_after_the_date_is_late(platform, teacher, ana, classroom):
    yesterday = (now() - timedelta(days=1)).isoformat()
    template_id = make_template(platform, teacher)
    task = set_task(platform, teacher, classroom, template_project_id=template_id, due_at=yesterday)
    start(platform, ana, task)
    assert hand_in(platform, ana, task).json()["is_late"]


def test_without_a_copy_one_says_which_project(platform, ana, assignment):
    answer = hand_in(platform, ana, assignment)
    assert (answer.status_code, answer.json()["field"]) == (422, "project_id")


def test_a_project_outside_the_class_cannot_be_handed_in(platform, ana, assignment):
    assert hand_in(platform, ana, assignment, project_id=make_template(platform, ana)).status_code == 409


def test_the_project_of_another_cannot_be_handed_in(platform, ana, ben, assignment):
    assert hand_in(platform, ben, assignment, project_id=start(platform, ana, assignment)).status_code == 404


def test_a_run_of_another_project_cannot_be_handed_in(platform, ana, ben, assignment):
    start(platform, ana, assignment)
    run = add_run(platform, start(platform, ben, assignment), ben)
    answer = hand_in(platform, ana, assignment, run_id=run.id)
    assert (answer.status_code, answer.json()["field"]) == (422, "run_id")


def test_a_run_that_is_not_done_cannot_be_handed_in(platform, ana, assignment):
    run = add_run(platform, start(platform, ana, assignment), ana, state="running")
    assert hand_in(platform, ana, assignment, run_id=run.id).status_code == 409


def test_the_report_is_kept_as_it_was(platform, teacher, ana, ben, assignment, monkeypatch):
    monkeypatch.setattr("axons.app.rest.assignments.render_report", lambda uri: f"<h1>{uri}</h1>")
    run = add_run(platform, start(platform, ana, assignment), ana)
    handed = hand_in(platform, ana, assignment, run_id=run.id).json()
    assert (handed["run_id"], handed["training_set_id"], handed["has_report"]) == (run.id, run.training_set_id, True)
    address = f"/v1/hand-ins/{handed['id']}/report"
    report = As(platform, teacher).get(address)
    assert report.text == f"<h1>{platform.uri('models/none')}</h1>"
    assert report.headers["content-security-policy"].startswith("sandbox;")
    assert As(platform, ben).get(address).status_code == 404


def test_without_a_run_there_is_no_report(platform, ana, assignment):
    start(platform, ana, assignment)
    handed = hand_in(platform, ana, assignment).json()
    assert As(platform, ana).get(f"/v1/hand-ins/{handed['id']}/report").status_code == 404


def test_handing_in_and_marking_are_in_the_audit(platform, teacher, ana, assignment):
    start(platform, ana, assignment)
    handed = hand_in(platform, ana, assignment).json()
    As(platform, teacher).post(f"/v1/hand-ins/{handed['id']}/marks", json={"value": "1"})
    actions = platform.database.read(lambda session: session.exec(select(Audit.action)).all())
    assert actions.count("hand_in.create") == actions.count("mark.create") == 1
    assert len(platform.database.read(lambda session: session.exec(select(HandIn)).all())) == 1
