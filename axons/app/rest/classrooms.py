"""School classes."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.rest.users import UserCreated, created, first_passwords
from axons.app.services import classrooms, models, progress
from axons.app.services.classrooms import (
    ClassroomCreate,
    ClassroomPublic,
    ClassroomUpdate,
    MemberAdd,
    MemberPublic,
    MemberUpdate,
    StudentCreate,
)
from axons.app.services.models import ModelPublic
from axons.app.services.progress import STUCK_MINUTES, StudentProgress
from axons.app.tables import Classroom

router = APIRouter(prefix="/classrooms", tags=["classrooms"])


class Join(BaseModel):
    """A join code, as it stands on the blackboard."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(min_length=1, max_length=40, pattern="^[A-Za-z0-9 -]+$")]


StuckMinutes = Annotated[
    float, Query(ge=1, le=100_000, description="Without a change for so long one counts as stuck.")
]


class StudentList(BaseModel):
    """Students to make accounts for: all or none."""

    model_config = ConfigDict(extra="forbid")

    students: list[StudentCreate] = Field(min_length=1, max_length=200)


@router.post("", status_code=201, operation_id="create_classroom")
def create_classroom(platform: PlatformOf, actor: ActorOf, form: ClassroomCreate) -> ClassroomPublic:
    """Make a class that you teach; educators may."""

    def create(session: Session) -> ClassroomPublic:
        return _public(platform, session, actor, classrooms.create_classroom(session, actor, form))

    return platform.database.write(create)


@router.get("", operation_id="list_classrooms")
def list_classrooms(
    platform: PlatformOf, actor: ActorOf, cursor: Cursor = None, limit: Limit = PAGE
) -> Page[ClassroomPublic]:
    """The classes that you are in, by name."""

    def answer(session: Session) -> Page[ClassroomPublic]:
        rows, following = classrooms.list_classrooms(session, actor, cursor=cursor, limit=limit)
        return Page(items=[_public(platform, session, actor, row) for row in rows], next=following)

    return platform.database.read(answer)


@router.post("/join", operation_id="join_classroom")
def join_classroom(platform: PlatformOf, actor: ActorOf, form: Join) -> ClassroomPublic:
    """Become a student of the class with this join code."""

    def join(session: Session) -> ClassroomPublic:
        return _public(platform, session, actor, classrooms.join(session, actor, form.code))

    return platform.database.write(join)


@router.get("/{classroom_id}", operation_id="get_classroom")
def get_classroom(platform: PlatformOf, actor: ActorOf, classroom_id: Id) -> ClassroomPublic:
    """A class that you are in."""

    def answer(session: Session) -> ClassroomPublic:
        return _public(platform, session, actor, classrooms.get_classroom(session, actor, classroom_id))

    return platform.database.read(answer)


@router.patch("/{classroom_id}", operation_id="update_classroom")
def update_classroom(platform: PlatformOf, actor: ActorOf, classroom_id: Id, form: ClassroomUpdate) -> ClassroomPublic:
    """Rename a class, set its switches and limits, or archive it; its educators may."""

    def update(session: Session) -> ClassroomPublic:
        return _public(platform, session, actor, classrooms.update_classroom(session, actor, classroom_id, form))

    return platform.database.write(update)


@router.post("/{classroom_id}/join-code", operation_id="renew_join_code")
def renew_join_code(platform: PlatformOf, actor: ActorOf, classroom_id: Id) -> ClassroomPublic:
    """Make a new join code; the old one no longer works. Its educators may."""
    return _with_code(platform, actor, classroom_id, is_open=True)


@router.delete("/{classroom_id}/join-code", operation_id="close_join_code")
def close_join_code(platform: PlatformOf, actor: ActorOf, classroom_id: Id) -> ClassroomPublic:
    """Let nobody else join; its educators may."""
    return _with_code(platform, actor, classroom_id, is_open=False)


@router.get("/{classroom_id}/members", operation_id="list_classroom_members")
def list_members(
    platform: PlatformOf, actor: ActorOf, classroom_id: Id, cursor: Cursor = None, limit: Limit = PAGE
) -> Page[MemberPublic]:
    """The roster by name; its educators may."""

    def answer(session: Session) -> Page[MemberPublic]:
        rows, following = classrooms.list_members(session, actor, classroom_id, cursor=cursor, limit=limit)
        return Page(items=rows, next=following)

    return platform.database.read(answer)


@router.post("/{classroom_id}/members", status_code=201, operation_id="add_classroom_member")
def add_member(platform: PlatformOf, actor: ActorOf, classroom_id: Id, form: MemberAdd) -> MemberPublic:
    """Add another educator by name; administrators also add students."""
    return platform.database.write(lambda session: classrooms.add_member(session, actor, classroom_id, form))


@router.patch("/{classroom_id}/members/{user_id}", operation_id="update_classroom_member")
def update_member(
    platform: PlatformOf, actor: ActorOf, classroom_id: Id, user_id: Id, form: MemberUpdate
) -> MemberPublic:
    """Give a member another role; its educators may."""
    return platform.database.write(
        lambda session: classrooms.update_member(session, actor, classroom_id, user_id, form)
    )


@router.delete("/{classroom_id}/members/{user_id}", status_code=204, operation_id="remove_classroom_member")
def remove_member(platform: PlatformOf, actor: ActorOf, classroom_id: Id, user_id: Id) -> Response:
    """Take somebody out of a class, or leave it yourself."""
    platform.database.write(lambda session: classrooms.remove_member(session, actor, classroom_id, user_id))
    return Response(status_code=204)


@router.get("/{classroom_id}/progress", operation_id="get_classroom_progress")
def get_progress(
    platform: PlatformOf, actor: ActorOf, classroom_id: Id, stuck_minutes: StuckMinutes = STUCK_MINUTES
) -> list[StudentProgress]:
    """How far every student of the class has come, who is stuck first; its educators may."""
    return platform.database.read(
        lambda session: progress.class_progress(session, actor, classroom_id, stuck_minutes=stuck_minutes)
    )


@router.get("/{classroom_id}/models", operation_id="list_classroom_models")
def list_models(
    platform: PlatformOf, actor: ActorOf, classroom_id: Id, cursor: Cursor = None, limit: Limit = PAGE
) -> Page[ModelPublic]:
    """The models that are shared with a class that you are in, the newest first."""
    items, following = platform.database.read(
        lambda session: models.list_class_models(session, actor, classroom_id, cursor=cursor, limit=limit)
    )
    return Page(items=items, next=following)


@router.post("/{classroom_id}/students", status_code=201, operation_id="create_students")
def create_students(platform: PlatformOf, actor: ActorOf, classroom_id: Id, form: StudentList) -> list[UserCreated]:
    """Make accounts for a list of students and put them into the class; the first passwords are shown this once."""
    platform.database.read(lambda session: classrooms.get_classroom(session, actor, classroom_id, teaching=True))
    first, hashes = first_passwords(len(form.students))
    users = platform.database.write(
        lambda session: classrooms.create_students(session, actor, classroom_id, form.students, hashes)
    )
    return [created(user, password) for user, password in zip(users, first, strict=True)]


def _with_code(platform: Platform, actor: Actor, classroom_id: str, *, is_open: bool) -> ClassroomPublic:
    def renew(session: Session) -> ClassroomPublic:
        classroom = classrooms.renew_join_code(session, actor, classroom_id, is_open=is_open)
        return _public(platform, session, actor, classroom)

    return platform.database.write(renew)


def _public(platform: Platform, session: Session, actor: Actor, classroom: Classroom) -> ClassroomPublic:
    return classrooms.public(session, actor, classroom, platform.settings)
