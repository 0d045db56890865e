"""Working on a project together."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from axons.app.tables import Invitation, Project, now
from tests.app.classroom import make_class
from tests.app.conftest import As, add_user

pytestmark = pytest.mark.both_databases


@pytest.fixture
def address(platform, ana) -> str:
    project = Project(name="nerve", owner_id=ana.user_id)
    platform.database.write(lambda session: session.add(project))
    return f"/v1/projects/{project.id}"


def test_the_owner_adds_somebody_by_name(platform, ana, ben, address):
    assert As(platform, ben).get(address).status_code == 404
    assert As(platform, ana).post(f"{address}/members", json={"name": "BEN", "role": "viewer"}).status_code == 201
    assert As(platform, ben).get(address).status_code == 200
    assert As(platform, ben).patch(address, json={"name": "mine"}).status_code == 403


def test_everybody_in_the_project_sees_who_works_on_it(platform, ana, ben, address):
    As(platform, ana).post(f"{address}/members", json={"name": "ben"})
    rows = As(platform, ben).get(f"{address}/members").json()
    assert [(row["name"], row["role"], row["is_creator"]) for row in rows] == [
        ("ana", "owner", True),
        ("ben", "editor", False),
    ]


def test_an_editor_adds_nobody(platform, ana, ben, address):
    add_user(platform, "cleo")
    As(platform, ana).post(f"{address}/members", json={"name": "ben"})
    assert As(platform, ben).post(f"{address}/members", json={"name": "cleo"}).status_code == 403


def test_nobody_is_added_twice_or_without_an_account(platform, ana, ben, address):
    As(platform, ana).post(f"{address}/members", json={"name": "ben"})
    assert As(platform, ana).post(f"{address}/members", json={"name": "ben"}).status_code == 409
    assert As(platform, ana).post(f"{address}/members", json={"name": "ana"}).status_code == 409
    assert As(platform, ana).post(f"{address}/members", json={"name": "nobody"}).status_code == 404


def test_another_role_holds_at_once(platform, ana, ben, address):
    As(platform, ana).post(f"{address}/members", json={"name": "ben", "role": "owner"})
    assert As(platform, ben).patch(address, json={"name": "ours"}).status_code == 200
    As(platform, ana).patch(f"{address}/members/{ben.user_id}", json={"role": "viewer"})
    assert As(platform, ben).patch(address, json={"name": "mine"}).status_code == 403


def test_a_member_who_is_removed_sees_nothing_any_more(platform, ana, ben, address):
    As(platform, ana).post(f"{address}/members", json={"name": "ben"})
    assert As(platform, ana).delete(f"{address}/members/{ben.user_id}").status_code == 204
    assert As(platform, ben).get(address).status_code == 404


def test_a_viewer_may_leave(platform, ana, ben, address):
    As(platform, ana).post(f"{address}/members", json={"name": "ben", "role": "viewer"})
    assert As(platform, ben).delete(f"{address}/members/{ben.user_id}").status_code == 204


def test_who_made_the_project_stays_its_owner(platform, ana, ben, address):
    As(platform, ana).post(f"{address}/members", json={"name": "ben", "role": "owner"})
    assert As(platform, ben).delete(f"{address}/members/{ana.user_id}").status_code == 404


def test_a_link_makes_several_people_members(platform, ana, ben, address):
    cleo = add_user(platform, "cleo")
    made = As(platform, ana).post(f"{address}/invitations", json={"role": "viewer"}).json()
    assert made["link"].endswith(f"/?invitation={made['code']}")
    for person in (ben, cleo):
        assert As(platform, person).post("/v1/invitations/accept", json={"code": made["code"]}).status_code == 200
    assert [row["role"] for row in As(platform, ana).get(f"{address}/members").json()] == ["owner", "viewer", "viewer"]


def test_a_link_takes_no_rights_away(platform, ana, address):
    code = As(platform, ana).post(f"{address}/invitations", json={"role": "viewer"}).json()["code"]
    As(platform, ana).post("/v1/invitations/accept", json={"code": code})
    assert As(platform, ana).patch(address, json={"name": "still mine"}).status_code == 200


def test_a_link_that_was_ended_opens_nothing(platform, ana, ben, address):
    made = As(platform, ana).post(f"{address}/invitations", json={}).json()
    assert [row["id"] for row in As(platform, ana).get(f"{address}/invitations").json()] == [made["id"]]
    assert As(platform, ana).delete(f"{address}/invitations/{made['id']}").status_code == 204
    assert As(platform, ben).post("/v1/invitations/accept", json={"code": made["code"]}).status_code == 404
    assert As(platform, ana).get(f"{address}/invitations").json() == []


@pytest.mark.parametrize(
    ("table", "values"),
    [(Invitation, {"expires_at": now() - timedelta(seconds=1)}), (Project, {"deleted_at": now()})],
)
def test_a_link_that_is_too_old_or_leads_nowhere_opens_nothing(platform, ana, ben, address, table, values):
    code = As(platform, ana).post(f"{address}/invitations", json={}).json()["code"]
    platform.database.write(lambda session: session.exec(update(table).values(**values)))
    assert As(platform, ben).post("/v1/invitations/accept", json={"code": code}).status_code == 404


def test_nobody_becomes_owner_by_a_link(platform, ana, address):
    assert As(platform, ana).post(f"{address}/invitations", json={"role": "owner"}).status_code == 422


def test_a_class_may_forbid_inviting(platform, ana, ben, teacher, address):
    classroom = make_class(platform, teacher, ana)
    As(platform, teacher).patch(f"/v1/classrooms/{classroom['id']}", json={"switches": {"may_invite": False}})
    platform.database.write(lambda session: session.exec(update(Project).values(classroom_id=classroom["id"])))
    assert As(platform, ana).post(f"{address}/invitations", json={}).status_code == 403
    assert As(platform, ana).post(f"{address}/members", json={"name": "ben"}).status_code == 403
    assert As(platform, teacher).post(f"{address}/members", json={"name": "ben"}).status_code == 201
