"""Projects, their classes, the trash."""

import pytest
from sqlmodel import select

from axons.app.services.trash import throw_away
from axons.app.tables import Audit, Classroom, Membership, Project, ProjectMember, Trash
from tests.app.conftest import As

pytestmark = pytest.mark.both_databases


@pytest.fixture
def project(platform, ana) -> dict:
    return created(platform, ana)


def created(platform, actor, **fields) -> dict:
    answer = As(platform, actor).post("/v1/projects", json={"name": "nerve", "classes": ["bg", "axon"], **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def add(platform, *rows):
    platform.database.write(lambda session: session.add_all(rows))


def test_a_project_has_its_classes_its_tile_size_and_its_first_stage(platform, ana):
    project = created(platform, ana, classes=["bg", "axon", "myelin"], tile=128)
    assert [(row["index"], row["name"]) for row in project["classes"]] == [(0, "bg"), (1, "axon"), (2, "myelin")]
    assert project["tile"] == 128
    assert [stage["state"] for stage in project["stages"]] == ["now", "next", "next", "next", "next"]
    assert project["stages"][2]["text"] == "choose labelled images for a training set"


def test_a_project_is_listed_for_those_who_see_it(platform, ana, ben, project):
    assert [row["id"] for row in As(platform, ana).get("/v1/projects").json()["items"]] == [project["id"]]
    assert As(platform, ben).get("/v1/projects").json()["items"] == []
    assert As(platform, ben).get(f"/v1/projects/{project['id']}").status_code == 404


def test_projects_come_in_pages_by_name(platform, ana):
    created(platform, ana, name="c")
    created(platform, ana, name="a")
    created(platform, ana, name="b")
    first = As(platform, ana).get("/v1/projects?limit=2").json()
    second = As(platform, ana).get("/v1/projects", params={"limit": 2, "cursor": first["next"]}).json()
    assert [row["name"] for row in first["items"] + second["items"]] == ["a", "b", "c"]
    assert second["next"] is None


def test_projects_are_found_by_a_part_of_their_name(platform, ana, project):
    created(platform, ana, name="100% muscle")
    found = As(platform, ana).get("/v1/projects", params={"search": "0% MUS"}).json()["items"]
    assert [row["name"] for row in found] == ["100% muscle"]


def test_a_project_is_renamed(platform, ana, project):
    answer = As(platform, ana).patch(f"/v1/projects/{project['id']}", json={"name": " vagus "})
    assert answer.json()["name"] == "vagus"


def test_an_archived_project_can_be_seen_but_not_worked_on(platform, ana, project):
    client = As(platform, ana)
    client.patch(f"/v1/projects/{project['id']}", json={"is_archived": True})
    assert client.get("/v1/projects").json()["items"] == []
    assert len(client.get("/v1/projects?is_archived=true").json()["items"]) == 1
    assert client.post(f"/v1/projects/{project['id']}/classes", json={"name": "fat"}).status_code == 403
    client.patch(f"/v1/projects/{project['id']}", json={"is_archived": False})
    assert client.post(f"/v1/projects/{project['id']}/classes", json={"name": "fat"}).status_code == 201


def test_a_deleted_project_is_gone_until_it_is_restored(platform, ana, project):
    client = As(platform, ana)
    assert client.delete(f"/v1/projects/{project['id']}").status_code == 204
    assert client.get(f"/v1/projects/{project['id']}").status_code == 404
    [lost] = client.get("/v1/trash").json()
    assert (lost["kind"], lost["label"]) == ("project", "nerve")
    assert client.post(f"/v1/trash/{lost['id']}/restore").status_code == 200
    assert client.get(f"/v1/projects/{project['id']}").status_code == 200
    assert client.get("/v1/trash").json() == []


def test_what_lies_in_the_trash_is_not_for_others(platform, ana, ben, project):
    As(platform, ana).delete(f"/v1/projects/{project['id']}")
    [trash_id] = platform.database.read(lambda session: session.exec(select(Trash.id)).all())
    assert As(platform, ben).get("/v1/trash").json() == []
    assert As(platform, ben).post(f"/v1/trash/{trash_id}/restore").status_code == 404


def test_an_editor_may_not_restore_a_project(platform, ana, ben, project):
    add(platform, ProjectMember(project_id=project["id"], user_id=ben.user_id, role="editor"))
    As(platform, ana).delete(f"/v1/projects/{project['id']}")
    [lost] = As(platform, ben).get("/v1/trash").json()
    assert As(platform, ben).post(f"/v1/trash/{lost['id']}/restore").status_code == 403
    assert As(platform, ana).get(f"/v1/projects/{project['id']}").status_code == 404


def test_deleting_twice_makes_one_row_in_the_trash(platform, ana, project):
    def delete(session):
        return throw_away(session, ana, "project", session.get(Project, project["id"]), days=30).id

    assert platform.database.write(delete) == platform.database.write(delete)


def test_creating_and_deleting_are_on_record(platform, ana, project):
    As(platform, ana).delete(f"/v1/projects/{project['id']}")
    actions = platform.database.read(lambda session: session.exec(select(Audit.action)).all())
    assert actions == ["project.create", "project.delete"]


def test_a_class_keeps_its_index_for_ever(platform, ana, project):
    client, classes = As(platform, ana), f"/v1/projects/{project['id']}/classes"
    assert client.post(classes, json={"name": "myelin"}).json()["index"] == 2
    assert client.delete(f"{classes}/2").status_code == 204
    assert client.post(classes, json={"name": "Myelin"}).json()["index"] == 3
    assert [row["is_deleted"] for row in client.get(classes).json()] == [False, False, True, False]


def test_two_classes_never_share_a_name(platform, ana, project):
    client, classes = As(platform, ana), f"/v1/projects/{project['id']}/classes"
    assert client.post(classes, json={"name": "AXON"}).status_code == 409
    assert client.patch(f"{classes}/0", json={"name": "axon"}).status_code == 409
    assert client.patch(f"{classes}/1", json={"name": "Axon", "colour": "#123456"}).json()["colour"] == "#123456"
    answer = client.post("/v1/projects", json={"name": "x", "classes": ["a", "A"]})
    assert answer.status_code == 409
    assert "two classes are called 'A'" in answer.json()["detail"]


def test_the_background_cannot_be_deleted(platform, ana, project):
    answer = As(platform, ana).delete(f"/v1/projects/{project['id']}/classes/0")
    assert answer.status_code == 409
    assert "is the background" in answer.json()["detail"]


def test_a_viewer_changes_nothing(platform, ana, ben, project):
    add(platform, ProjectMember(project_id=project["id"], user_id=ben.user_id, role="viewer"))
    client, path = As(platform, ben), f"/v1/projects/{project['id']}"
    assert client.get(path).json()["role"] == "viewer"
    assert client.patch(path, json={"name": "x"}).status_code == 403
    assert client.delete(path).status_code == 403
    assert client.post(f"{path}/classes", json={"name": "fat"}).status_code == 403


def test_an_educator_can_reserve_projects_to_assignments(platform, ana, teacher):
    room = Classroom(name="7b", created_by=teacher.user_id, switches={"may_create_projects": False})
    add(platform, room)
    add(platform, Membership(classroom_id=room.id, user_id=ana.user_id))
    answer = As(platform, ana).post("/v1/projects", json={"name": "x"})
    assert answer.status_code == 403
    assert "ask your educator" in answer.json()["detail"]


@pytest.mark.parametrize("person", ["ana", "admin"])
def test_nobody_makes_a_project_in_a_classroom_that_is_not_there(platform, request, person):
    client = As(platform, request.getfixturevalue(person))
    answer = client.post("/v1/projects", json={"name": "x", "classroom_id": "9n"})
    assert answer.status_code == 404
    assert "there is no classroom '9n'" in answer.json()["detail"]


@pytest.mark.parametrize(
    "form",
    [
        {"name": "a\u0000b"},
        {"name": "a\nb"},
        {"name": "   "},
        {"name": "x" * 121},
        {"name": "x", "tile": 63},
        {"name": "x", "tile": 2049},
        {"name": "x", "classes": []},
        {"name": "x", "classes": ["\u0007"]},
        {"name": "x", "threshold": 1.1},
        {"name": "x", "owner_id": "somebody"},
        {"name": "x", "description": "\u0000"},
    ],
)
def test_a_field_that_cannot_be_is_named(platform, ana, form):
    answer = As(platform, ana).post("/v1/projects", json=form)
    assert answer.status_code == 422
    assert answer.json()["field"].split(".")[0] in form
