"""Accounts."""

import threading

import pytest
from sqlmodel import select

from axons.app.tables import Audit, Membership, User
from tests.app.browser import give_password, open_browser, sign_in, signed_in
from tests.app.classroom import join, make_class
from tests.app.conftest import As, add_user

pytestmark = pytest.mark.both_databases


def add_ana(platform, admin, **fields) -> dict:
    answer = As(platform, admin).post("/v1/users", json={"name": "ana", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_an_added_person_signs_in_with_the_first_password_and_chooses_another(platform, admin):
    password = add_ana(platform, admin)["password"]
    browser = open_browser(platform)
    answer = browser.post("/api/v1/auth/login", json={"name": "ana", "password": password})
    assert answer.json()["must_change_password"]
    assert browser.get("/api/v1/projects").status_code == 403
    form = {"current": password, "new": "a sentence of mine"}
    assert browser.post("/api/v1/auth/password", json=form).status_code == 204
    assert browser.get("/api/v1/projects").status_code == 200


def test_a_list_of_people_is_added_at_once(platform, admin):
    forms = [{"name": f"student-{number}"} for number in range(30)]
    answer = As(platform, admin).post("/v1/users/import", json={"users": forms})
    assert len({row["password"] for row in answer.json()}) == 30


def test_a_list_with_one_taken_name_adds_nobody(platform, admin, ana):
    answer = As(platform, admin).post("/v1/users/import", json={"users": [{"name": "new"}, {"name": "ANA"}]})
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("there is an account named 'ANA' already")
    assert len(platform.database.read(lambda session: session.exec(select(User)).all())) == 2


@pytest.mark.parametrize("name", ["", " ", "a b", "=cmd", "@ana", "-x", "a\u0000", "<b>", "a" * 61, "a\u202eb"])
def test_a_name_that_would_mislead_is_refused(platform, admin, name):
    assert As(platform, admin).post("/v1/users", json={"name": name}).status_code == 422


def test_names_of_any_language_are_fine(platform, admin):
    assert As(platform, admin).post("/v1/users", json={"name": "žofie_黒.2"}).status_code == 201


def test_students_and_educators_add_nobody(platform, ana, teacher):
    assert As(platform, ana).post("/v1/users", json={"name": "x"}).status_code == 403
    assert As(platform, teacher).post("/v1/users", json={"name": "x"}).status_code == 403


def test_people_come_in_pages_by_name(platform, admin, ana, ben):
    first = As(platform, admin).get("/v1/users?limit=2").json()
    second = As(platform, admin).get("/v1/users", params={"limit": 2, "cursor": first["next"]}).json()
    assert [row["name"] for row in first["items"] + second["items"]] == ["admin", "ana", "ben"]
    assert second["next"] is None


def test_people_are_found_by_a_part_of_either_name_and_by_role(platform, admin, ana, ben, teacher):
    As(platform, ana).patch(f"/v1/users/{ana.user_id}", json={"display_name": "Ana of 100% Berlin"})

    def found(**query) -> list[str]:
        return [row["name"] for row in As(platform, admin).get("/v1/users", params=query).json()["items"]]

    assert found(search="BE") == ["ana", "ben"]
    assert found(search="0%") == ["ana"]
    assert found(search="n", role="administrator") == ["admin"]


@pytest.mark.parametrize("cursor", ["x", "bnVsbA", "WzFd", "WyJhIiwgImIiXQ", "WyJhXHUwMDAwIl0"])
def test_a_cursor_that_is_not_ours_is_refused(platform, admin, cursor):
    answer = As(platform, admin).get("/v1/users", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["field"]) == (422, "cursor")


def test_one_changes_how_one_is_shown(platform, ana):
    answer = As(platform, ana).patch(f"/v1/users/{ana.user_id}", json={"display_name": "Ana Núñez"})
    assert answer.json().get("display_name") == "Ana Núñez", answer.text


@pytest.mark.parametrize("change", [{"role": "administrator"}, {"is_active": False}])
def test_nobody_changes_their_own_role_or_state(platform, ana, change):
    assert As(platform, ana).patch(f"/v1/users/{ana.user_id}", json=change).status_code == 403


def test_the_account_of_another_is_not_there(platform, ana, ben, teacher):
    assert As(platform, ana).get(f"/v1/users/{ben.user_id}").status_code == 404
    assert As(platform, teacher).post(f"/v1/users/{ana.user_id}/reset").status_code == 404


def test_a_disabled_person_cannot_sign_in_any_more(platform, admin, ana):
    browser = signed_in(platform, ana)
    assert As(platform, admin).patch(f"/v1/users/{ana.user_id}", json={"is_active": False}).is_success
    assert browser.get("/api/v1/auth/me").status_code == 401
    assert sign_in(open_browser(platform), ana).status_code == 401


def test_a_reset_ends_every_session_and_unlocks(platform, admin, ana):
    browser = signed_in(platform, ana)
    platform.database.write(lambda session: setattr(session.get_one(User, ana.user_id), "failed_logins", 100))
    password = As(platform, admin).post(f"/v1/users/{ana.user_id}/reset").json()["password"]
    assert browser.get("/api/v1/auth/me").status_code == 401
    assert sign_in(open_browser(platform), ana, password).status_code == 200


def test_an_educator_resets_the_students_of_the_own_class_only(platform, teacher, ana, ben):
    make_class(platform, teacher, ana)
    assert As(platform, teacher).post(f"/v1/users/{ana.user_id}/reset").status_code == 200
    assert As(platform, teacher).post(f"/v1/users/{ben.user_id}/reset").status_code == 404


def test_an_educator_does_not_reset_another_educator(platform, teacher):
    other = add_user(platform, "other", "educator")
    join(platform, make_class(platform, teacher), other, "educator")
    assert As(platform, teacher).post(f"/v1/users/{other.user_id}/reset").status_code == 404


def test_who_becomes_a_student_teaches_no_class_any_more(platform, admin, teacher):
    classroom = make_class(platform, teacher)
    As(platform, admin).patch(f"/v1/users/{teacher.user_id}", json={"role": "student"})
    key = (classroom["id"], teacher.user_id)
    assert platform.database.read(lambda session: session.get_one(Membership, key).role) == "student"


@pytest.mark.parametrize("change", [{"role": "student"}, {"is_active": False}])
def test_the_last_administrator_stays(platform, admin, change):
    answer = As(platform, admin).patch(f"/v1/users/{admin.user_id}", json=change)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("nobody would be administrator any more")


def test_two_administrators_who_leave_at_once_do_not_both_go(platform, admin):
    other = add_user(platform, "other", "administrator")
    clients = {who.user_id: As(platform, who) for who in (admin, other)}
    [client.patch("/v1/users/nobody", json={}) for client in clients.values()]  # routes are built at their first use
    statuses = []

    def leave(user_id: str) -> None:
        statuses.append(clients[user_id].patch(f"/v1/users/{user_id}", json={"role": "student"}).status_code)

    threads = [threading.Thread(target=leave, args=(user_id,)) for user_id in clients]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(statuses) == [200, 409]


def test_the_audit_holds_no_password(platform, admin, ana):
    give_password(platform, ana)
    first = add_ana_again(platform, admin)
    rows = platform.database.read(lambda session: session.exec(select(Audit)).all())
    assert rows
    assert not [row for row in rows if first["password"] in str(row.model_dump())]


def add_ana_again(platform, admin) -> dict:
    return As(platform, admin).post("/v1/users", json={"name": "ana2"}).json()
