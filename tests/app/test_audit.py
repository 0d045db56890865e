"""The audit: one row for each change of mark, role or membership, in its transaction, for ever (R29)."""

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlmodel import func, select

from axons.app.policy import Actor
from axons.app.services import assignments, classrooms, members, users
from axons.app.services.assignments import MarkCreate
from axons.app.services.classrooms import MemberAdd, MemberUpdate
from axons.app.services.members import InvitationCreate, ProjectMemberAdd, ProjectMemberUpdate
from axons.app.services.users import UserUpdate
from axons.app.tables import Audit, HandIn, Mark, Membership, Project, ProjectMember, User
from axons.errors import AxonsError
from tests.app.classroom import make_class
from tests.app.conftest import As, add_user
from tests.app.serving import the_api

pytestmark = pytest.mark.both_databases

ROLES = ("student", "educator", "administrator")
AUDITED = (
    "user.role",
    "classroom.join",
    "classroom.role",
    "classroom.leave",
    "project.join",
    "project.role",
    "project.leave",
    "mark.create",
)


class World:
    """Some people, classes, projects and hand-ins that random actions change."""

    def __init__(self, platform) -> None:
        self.platform = platform
        self.admin = add_user(platform, "admin", "administrator")
        self.people = [add_user(platform, f"person-{number}", ROLES[number % 3]) for number in range(9)]
        teacher = next(person for person in self.people if person.role == "educator")
        self.codes = {}
        for number in range(2):
            classroom = make_class(platform, teacher, name=f"class {number}")
            self.codes[classroom["id"]] = classroom["join_code"]
        classroom_id = next(iter(self.codes))
        self.projects = [
            Project(name="p", owner_id=person.user_id, classroom_id=classroom_id) for person in self.people
        ]
        platform.database.write(lambda session: session.add_all(self.projects))
        task = As(platform, teacher).post("/v1/assignments", json={"classroom_id": classroom_id, "title": "t"}).json()
        self.hand_ins = [
            HandIn(assignment_id=task["id"], user_id=project.owner_id, project_id=project.id)
            for project in self.projects
        ]
        platform.database.write(lambda session: session.add_all(self.hand_ins))

    def state(self, session) -> set:
        """Every mark, role and membership there is."""
        return {
            *(("mark", mark.id, mark.value) for mark in session.exec(select(Mark))),
            *(("role", user.id, user.role) for user in session.exec(select(User))),
            *(("class", row.classroom_id, row.user_id, row.role) for row in session.exec(select(Membership))),
            *(("project", row.project_id, row.user_id, row.role) for row in session.exec(select(ProjectMember))),
        }

    def action(self, rng: random.Random) -> Callable:
        """A random action of a random person, as the database knows them now."""
        who, whom = rng.choice([self.admin, *self.people]), rng.choice(self.people)
        classroom_id, project, handed = rng.choice([*self.codes]), rng.choice(self.projects), rng.choice(self.hand_ins)
        class_role = rng.choice(["student", "educator"])
        project_role = rng.choice(["owner", "editor", "viewer"])
        form = UserUpdate(role=rng.choice(ROLES))
        mark = MarkCreate(value=str(rng.randint(1, 6)))
        name, user_id = whom.name, whom.user_id
        choices: list[Callable] = [
            lambda session, actor: users.update_user(session, actor, user_id, form),
            lambda session, actor: classrooms.join(session, actor, self.codes[classroom_id]),
            lambda session, actor: classrooms.add_member(
                session, actor, classroom_id, MemberAdd(name=name, role=class_role)
            ),
            lambda session, actor: classrooms.update_member(
                session, actor, classroom_id, user_id, MemberUpdate(role=class_role)
            ),
            lambda session, actor: classrooms.remove_member(session, actor, classroom_id, user_id),
            lambda session, actor: members.add_member(
                session, actor, project.id, ProjectMemberAdd(name=name, role=project_role)
            ),
            lambda session, actor: members.update_member(
                session, actor, project.id, user_id, ProjectMemberUpdate(role=project_role)
            ),
            lambda session, actor: members.remove_member(session, actor, project.id, user_id),
            lambda session, actor: accept_new_link(session, self.platform, actor, project),
            lambda session, actor: assignments.add_mark(session, actor, handed.id, mark),
        ]
        chosen = rng.choice(choices)
        return lambda session: chosen(session, Actor.of(session.get_one(User, who.user_id)))


def accept_new_link(session, _platform, actor, project) -> None:
    owner = Actor.of(session.get_one(User, project.owner_id))
    _, code = members.create_invitation(session, owner, project.id, InvitationCreate())
    session.flush()
    members.accept_invitation(session, actor, code)


def rows(session) -> int:
    return session.exec(select(func.count()).select_from(Audit).where(Audit.action.in_(AUDITED))).one()


def changes(before: set, after: set) -> int:
    """Things that were added, removed or changed; a change of a role is one of each."""
    return len({entry[:-1] for entry in before ^ after})


def run(world: World, function: Callable) -> tuple[int, int]:
    """What one action changed, and the audit rows it wrote."""
    read = world.platform.database.read
    before, rows_before = read(world.state), read(rows)
    with suppress(AxonsError):
        world.platform.database.write(function)
    return changes(before, read(world.state)), read(rows) - rows_before


def test_each_of_500_random_actions_writes_one_row_for_each_change(platform, record_property):
    world, rng = World(platform), random.Random(29)
    outcomes = [run(world, world.action(rng)) for _ in range(500)]
    changing = [outcome for outcome in outcomes if outcome[0]]
    record_property("random actions", f"{len(outcomes)}, of which {len(changing)} changed something")
    assert len(changing) > 100
    assert [outcome for outcome in outcomes if outcome[0] != outcome[1]] == []


def test_a_deed_that_fails_after_its_row_leaves_neither(platform):
    world, rng = World(platform), random.Random(30)

    def fail_afterwards(function: Callable) -> Callable:
        def failing(session) -> None:
            function(session)
            session.flush()
            raise AxonsError("the power is gone")

        return failing

    assert {run(world, fail_afterwards(world.action(rng))) for _ in range(100)} == {(0, 0)}


def test_no_route_changes_or_deletes_marks_or_audit():
    paths = the_api().openapi()["paths"]
    methods = {path: set(paths[path]) for path in paths if "/audit" in path or "/marks" in path}
    assert methods == {
        "/v1/audit": {"get"},
        "/v1/marks": {"get"},
        "/v1/hand-ins/{hand_in_id}/marks": {"get", "post"},
    }


def test_administrators_read_the_audit_from_the_newest(platform, admin, ana):
    As(platform, admin).patch(f"/v1/users/{ana.user_id}", json={"role": "educator"})
    As(platform, admin).patch(f"/v1/users/{ana.user_id}", json={"is_active": False})
    listed = As(platform, admin).get("/v1/audit", params={"object_id": ana.user_id, "limit": 1}).json()
    following = As(platform, admin).get("/v1/audit", params={"object_id": ana.user_id, "cursor": listed["next"]})
    found = listed["items"] + following.json()["items"]
    assert [row["action"] for row in found] == ["user.disable", "user.role"]
    assert found[1]["detail"] == {"before": "student", "after": "educator"}
    assert found[0]["actor_name"] == "admin"


def test_others_do_not_read_the_audit(platform, ana, teacher):
    assert As(platform, ana).get("/v1/audit").status_code == 403
    assert As(platform, teacher).get("/v1/audit").status_code == 403
