"""School classes."""

import pytest
from sqlmodel import select

from axons.app.services.access import is_switched_on
from axons.app.tables import Audit, Model, Project
from tests.app.browser import open_browser, signed_in
from tests.app.classroom import join, make_class
from tests.app.conftest import As, add_user

pytestmark = pytest.mark.both_databases


@pytest.fixture
def classroom(platform, teacher, ana) -> dict:
    return make_class(platform, teacher, ana)


def test_an_educator_makes_a_class_and_teaches_it(platform, teacher):
    classroom = make_class(platform, teacher)
    assert (classroom["name"], classroom["your_role"], classroom["num_students"]) == ("4b", "educator", 0)
    assert len(classroom["join_code"]) == 8


def test_students_make_no_classes(platform, ana):
    assert As(platform, ana).post("/v1/classrooms", json={"name": "mine"}).status_code == 403


def test_who_has_the_code_joins_in_any_writing(platform, teacher, ana):
    code = make_class(platform, teacher)["join_code"]
    written = f" {code[:4]}-{code[4:]}".lower()
    assert As(platform, ana).post("/v1/classrooms/join", json={"code": written}).json()["your_role"] == "student"


def test_a_wrong_code_is_no_class(platform, ana):
    assert As(platform, ana).post("/v1/classrooms/join", json={"code": "AAAAAAAA"}).status_code == 404


def test_a_renewed_code_replaces_the_old_one(platform, teacher, ben, classroom):
    new = As(platform, teacher).post(f"/v1/classrooms/{classroom['id']}/join-code").json()["join_code"]
    assert As(platform, ben).post("/v1/classrooms/join", json={"code": classroom["join_code"]}).status_code == 404
    assert As(platform, ben).post("/v1/classrooms/join", json={"code": new}).status_code == 200


def test_a_closed_class_lets_nobody_in(platform, teacher, ben, classroom):
    assert As(platform, teacher).delete(f"/v1/classrooms/{classroom['id']}/join-code").json()["join_code"] is None
    assert As(platform, ben).post("/v1/classrooms/join", json={"code": classroom["join_code"]}).status_code == 404


def test_an_educator_who_enters_the_own_code_stays_educator(platform, teacher, classroom):
    answer = As(platform, teacher).post("/v1/classrooms/join", json={"code": classroom["join_code"]})
    assert answer.json()["your_role"] == "educator"


def test_a_class_is_seen_by_those_in_it(platform, ana, ben, admin, classroom):
    assert [row["id"] for row in As(platform, ana).get("/v1/classrooms").json()["items"]] == [classroom["id"]]
    assert As(platform, ben).get("/v1/classrooms").json()["items"] == []
    assert As(platform, ben).get(f"/v1/classrooms/{classroom['id']}").status_code == 404
    assert As(platform, admin).get(f"/v1/classrooms/{classroom['id']}").status_code == 200


def test_students_see_neither_code_nor_limits_nor_roster(platform, ana, classroom):
    seen = As(platform, ana).get(f"/v1/classrooms/{classroom['id']}").json()
    assert (seen["join_code"], seen["limits"], seen["num_students"]) == (None, None, 1)
    assert As(platform, ana).get(f"/v1/classrooms/{classroom['id']}/members").status_code == 403


def test_a_switch_holds_for_students_and_not_for_educators(platform, teacher, ana, classroom):
    changed = As(platform, teacher).patch(f"/v1/classrooms/{classroom['id']}", json={"switches": {"may_train": False}})
    assert changed.json()["switches"]["may_train"] is False
    assert changed.json()["switches"]["may_predict"] is True

    def is_on(actor) -> bool:
        return platform.database.read(lambda session: is_switched_on(session, actor, classroom["id"], "may_train"))

    assert (is_on(ana), is_on(teacher)) == (False, True)


def test_an_educator_sets_limits_one_by_one(platform, teacher, classroom):
    address = f"/v1/classrooms/{classroom['id']}"
    As(platform, teacher).patch(address, json={"limits": {"max_active_trainings": 3}})
    changed = As(platform, teacher).patch(address, json={"limits": {"max_training_minutes": 10}}).json()
    assert (changed["limits"]["max_active_trainings"], changed["limits"]["max_training_minutes"]) == (3, 10)


@pytest.mark.parametrize(
    "change", [{"limits": {"max_active_trainings": 3}}, {"switches": {"may_train": True}}, {"name": "ours"}]
)
def test_students_change_nothing_of_their_class(platform, ana, classroom, change):
    assert As(platform, ana).patch(f"/v1/classrooms/{classroom['id']}", json=change).status_code == 403


@pytest.mark.parametrize(
    "change", [{"switches": {"may_fly": True}}, {"limits": {"max_active_trainings": -1}}, {"role": "x"}, {"name": ""}]
)
def test_what_no_class_has_is_refused(platform, teacher, classroom, change):
    assert As(platform, teacher).patch(f"/v1/classrooms/{classroom['id']}", json=change).status_code == 422


def test_the_roster_comes_by_name(platform, teacher, ben, classroom):
    As(platform, ben).post("/v1/classrooms/join", json={"code": classroom["join_code"]})
    rows = As(platform, teacher).get(f"/v1/classrooms/{classroom['id']}/members").json()["items"]
    assert [(row["name"], row["role"]) for row in rows] == [
        ("ana", "student"),
        ("ben", "student"),
        ("teacher", "educator"),
    ]


def test_a_pasted_list_becomes_students_who_can_sign_in(platform, teacher, classroom):
    form = {"students": [{"name": f"s{number}", "display_name": f"Student {number}"} for number in range(3)]}
    rows = As(platform, teacher).post(f"/v1/classrooms/{classroom['id']}/students", json=form).json()
    login = {"name": rows[0]["name"], "password": rows[0]["password"]}
    assert open_browser(platform).post("/api/v1/auth/login", json=login).status_code == 200
    assert As(platform, teacher).get(f"/v1/classrooms/{classroom['id']}").json()["num_students"] == 4


def test_an_educator_takes_nobody_into_the_class_who_has_an_account(platform, teacher, ben, classroom):
    address = f"/v1/classrooms/{classroom['id']}"
    by_name = As(platform, teacher).post(f"{address}/members", json={"name": "ben", "role": "student"})
    as_new = As(platform, teacher).post(f"{address}/students", json={"students": [{"name": "ben"}]})
    assert (by_name.status_code, as_new.status_code) == (403, 409)


def test_a_second_educator_is_added_by_name(platform, teacher, classroom):
    add_user(platform, "other", "educator")
    answer = As(platform, teacher).post(f"/v1/classrooms/{classroom['id']}/members", json={"name": "Other"})
    assert (answer.status_code, answer.json()["role"]) == (201, "educator")


def test_a_student_cannot_be_made_educator_of_a_class(platform, teacher, ana, classroom):
    address = f"/v1/classrooms/{classroom['id']}/members/{ana.user_id}"
    assert As(platform, teacher).patch(address, json={"role": "educator"}).status_code == 409


def test_a_student_leaves_and_takes_nobody_along(platform, ana, ben, teacher, classroom):
    join(platform, classroom, ben, "student")
    address = f"/v1/classrooms/{classroom['id']}/members"
    assert As(platform, ana).delete(f"{address}/{ben.user_id}").status_code == 403
    assert As(platform, ana).delete(f"{address}/{ana.user_id}").status_code == 204
    assert As(platform, ana).get(f"/v1/classrooms/{classroom['id']}").status_code == 404


def test_the_last_educator_stays(platform, teacher, classroom):
    address = f"/v1/classrooms/{classroom['id']}/members/{teacher.user_id}"
    assert As(platform, teacher).delete(address).status_code == 409
    assert As(platform, teacher).patch(address, json={"role": "student"}).status_code == 409


def test_an_archived_class_takes_nobody_in(platform, teacher, ben, classroom):
    As(platform, teacher).patch(f"/v1/classrooms/{classroom['id']}", json={"is_archived": True})
    assert As(platform, ben).post("/v1/classrooms/join", json={"code": classroom["join_code"]}).status_code == 404


def test_the_limits_of_the_installation_are_told_to_educators(platform, teacher, ana, classroom):
    limits = As(platform, teacher).get(f"/v1/classrooms/{classroom['id']}").json()["default_limits"]
    assert limits["max_active_trainings"] == platform.settings.max_active_trainings
    assert As(platform, ana).get(f"/v1/classrooms/{classroom['id']}").json()["default_limits"] is None


def test_a_limit_that_is_taken_back_is_that_of_the_installation(platform, teacher, classroom):
    address = f"/v1/classrooms/{classroom['id']}"
    As(platform, teacher).patch(address, json={"limits": {"max_active_trainings": 3}})
    changed = As(platform, teacher).patch(address, json={"limits": {"max_active_trainings": None}}).json()
    assert changed["limits"]["max_active_trainings"] is None


def test_an_educator_disables_and_enables_a_student_of_the_own_class(platform, teacher, ana, classroom):
    browser = signed_in(platform, ana)
    address = f"/v1/users/{ana.user_id}"
    assert As(platform, teacher).patch(address, json={"is_active": False}).json()["is_active"] is False
    assert browser.get("/api/v1/auth/me").status_code == 401
    assert As(platform, teacher).patch(address, json={"is_active": True}).json()["is_active"] is True

    def written(session) -> list[tuple[str, str | None]]:
        rows = session.exec(select(Audit).where(Audit.object_id == ana.user_id).order_by(Audit.number)).all()
        return [(row.action, row.actor_id) for row in rows]

    who = teacher.user_id
    assert platform.database.read(written)[-2:] == [("user.disable", who), ("user.enable", who)]


def test_an_educator_disables_nobody_else_and_changes_nothing_else(platform, teacher, ana, ben, classroom):
    other = add_user(platform, "other", "educator")
    join(platform, classroom, other, "educator")
    disabled = {"is_active": False}
    as_teacher = As(platform, teacher)
    assert as_teacher.patch(f"/v1/users/{ben.user_id}", json=disabled).status_code == 404
    assert as_teacher.patch(f"/v1/users/{other.user_id}", json=disabled).status_code == 404
    assert as_teacher.patch(f"/v1/users/{teacher.user_id}", json=disabled).status_code == 403
    for change in ({"role": "educator"}, {"display_name": "x"}, {"is_active": False, "role": "educator"}):
        assert as_teacher.patch(f"/v1/users/{ana.user_id}", json=change).status_code == 403


def test_the_class_sees_what_is_shared_with_it(platform, teacher, ana, ben, classroom):
    join(platform, classroom, ben, "student")
    other = make_class(platform, teacher, name="4c")
    for place, visibility in ((classroom, "classroom"), (classroom, "private"), (other, "classroom")):
        add_model(platform, ana, place, visibility)
    shown = As(platform, ben).get(f"/v1/classrooms/{classroom['id']}/models").json()["items"]
    assert [row["name"] for row in shown] == ["classroom of 4b"]
    assert As(platform, ben).get(f"/v1/classrooms/{other['id']}/models").status_code == 404


def add_model(platform, owner, classroom: dict, visibility: str) -> None:
    """A model in a project of a class."""

    def add(session) -> None:
        project = Project(name="nerve", owner_id=owner.user_id, classroom_id=classroom["id"])
        session.add(project)
        session.flush()
        model = Model(project_id=project.id, name=f"{visibility} of {classroom['name']}", version=1, key="models/x")
        model.sha256, model.card, model.created_by = "0" * 64, {}, owner.user_id
        model.visibility = visibility
        session.add(model)

    platform.database.write(add)
