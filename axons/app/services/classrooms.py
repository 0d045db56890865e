"""School classes: who is in them, how one joins, what their educators allow."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func
from sqlmodel import Session, col, select

from axons.app.policy import SWITCHES, Actor, Switch, require
from axons.app.services import audit
from axons.app.services.access import teaches
from axons.app.services.limits import PersonLimits
from axons.app.services.paging import page_of
from axons.app.services.users import UserCreate, add_user, find_user
from axons.app.settings import Settings
from axons.app.tables import Classroom, Membership, User, now
from axons.app.tables.people import ClassroomRole
from axons.app.texts import AccountName, Name, ShortLine
from axons.errors import Conflict, NotAllowed, NotFound

_LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # none that look alike on a blackboard


class ClassroomCreate(BaseModel):
    """A new class; who makes it teaches it."""

    model_config = ConfigDict(extra="forbid")

    name: Name


class ClassroomLimits(BaseModel):
    """What students of the class may use, instead of the limits of the installation; None is those."""

    model_config = ConfigDict(extra="forbid")

    max_active_trainings: int | None = Field(None, ge=0, le=100)
    max_training_minutes: float | None = Field(None, gt=0, le=10_000)
    max_gpu_minutes: float | None = Field(None, ge=0, le=1_000_000)
    max_prediction_pixels: int | None = Field(None, ge=1, le=1 << 40)
    max_project_bytes: int | None = Field(None, ge=0, le=1 << 50)
    max_user_bytes: int | None = Field(None, ge=0, le=1 << 50)


class ClassroomUpdate(BaseModel):
    """What changes in a class; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    switches: dict[Switch, bool] | None = None
    limits: ClassroomLimits | None = None
    is_archived: bool | None = None


class MemberAdd(BaseModel):
    """Somebody who has an account already."""

    model_config = ConfigDict(extra="forbid")

    name: ShortLine
    role: ClassroomRole = "educator"


class MemberUpdate(BaseModel):
    """Another role in the class."""

    model_config = ConfigDict(extra="forbid")

    role: ClassroomRole


class StudentCreate(BaseModel):
    """A student without an account."""

    model_config = ConfigDict(extra="forbid")

    name: AccountName
    display_name: ShortLine = Field("", max_length=120)


class ClassroomPublic(BaseModel):
    """A class as one of it sees it; the join code and the limits are for its educators.

    Args:
        default_limits: of the installation, which hold where `limits` has None.
    """

    id: str
    name: str
    your_role: Literal["student", "educator", "administrator"]
    switches: dict[Switch, bool]
    limits: ClassroomLimits | None
    default_limits: ClassroomLimits | None
    join_code: str | None
    num_students: int
    created_at: datetime
    archived_at: datetime | None


class MemberPublic(BaseModel):
    """Somebody in a class."""

    user_id: str
    name: str
    display_name: str
    role: ClassroomRole
    is_active: bool
    limits: PersonLimits
    since: datetime


def create_classroom(session: Session, actor: Actor, form: ClassroomCreate) -> Classroom:
    """A class that the actor teaches.

    Raises:
        NotAllowed: students make no classes.
    """
    require(actor, "classroom.create")
    classroom = Classroom(name=form.name, join_code=_new_code(), created_by=actor.user_id)
    session.add(classroom)
    session.flush()
    audit.record(session, actor, "classroom.create", "classroom", classroom.id, name=classroom.name)
    _set_role(session, actor, classroom.id, actor.user_id, "educator")
    return classroom


def list_classrooms(
    session: Session, actor: Actor, *, cursor: str | None, limit: int
) -> tuple[list[Classroom], str | None]:
    """A page of the classes the actor is in, all for an administrator."""
    statement = select(Classroom)
    if not actor.is_administrator:
        mine = select(Membership.classroom_id).where(col(Membership.user_id) == actor.user_id)
        statement = statement.where(col(Classroom.id).in_(mine))
    return page_of(session, statement, [col(Classroom.name), col(Classroom.id)], cursor=cursor, limit=limit)


def get_classroom(session: Session, actor: Actor, classroom_id: str, *, teaching: bool = False) -> Classroom:
    """A class that the actor is in.

    Args:
        teaching: the actor must be an educator of it.
    Raises:
        NotFound: there is none, or the actor is not in it.
        NotAllowed: the actor is a student of it.
    """
    classroom = session.get(Classroom, classroom_id)
    membership = session.get(Membership, (classroom_id, actor.user_id))
    if classroom is None or (membership is None and not actor.is_administrator):
        raise NotFound(f"there is no class {classroom_id!r} that you are in; enter its join code first")
    if teaching and not teaches(session, actor, classroom_id):
        raise NotAllowed(f"this is for the educators of class {classroom.name!r}; ask one of them")
    return classroom


def public(session: Session, actor: Actor, classroom: Classroom, settings: Settings) -> ClassroomPublic:
    """The class as the actor may see it."""
    is_teaching = teaches(session, actor, classroom.id)
    membership = session.get(Membership, (classroom.id, actor.user_id))
    students = (
        select(func.count())
        .select_from(Membership)
        .where(col(Membership.classroom_id) == classroom.id, col(Membership.role) == "student")
    )
    defaults = ClassroomLimits(**settings.model_dump(include=set(ClassroomLimits.model_fields)))
    return ClassroomPublic(
        id=classroom.id,
        name=classroom.name,
        your_role=membership.role if membership else "administrator",
        switches={switch: classroom.switches.get(switch, default) for switch, default in SWITCHES.items()},
        limits=ClassroomLimits(**classroom.limits) if is_teaching else None,
        default_limits=defaults if is_teaching else None,
        join_code=classroom.join_code if is_teaching else None,
        num_students=session.exec(students).one(),
        created_at=classroom.created_at,
        archived_at=classroom.archived_at,
    )


def update_classroom(session: Session, actor: Actor, classroom_id: str, form: ClassroomUpdate) -> Classroom:
    """Rename a class, set what is allowed in it, or put it into the archive; its educators may.

    Raises:
        NotFound, NotAllowed: see `get_classroom`.
    """
    classroom = get_classroom(session, actor, classroom_id, teaching=True)
    if form.name is not None:
        classroom.name = form.name
    if form.switches is not None:
        classroom.switches = classroom.switches | {str(switch): is_on for switch, is_on in form.switches.items()}
    if form.limits is not None:
        classroom.limits = {**classroom.limits, **form.limits.model_dump(exclude_unset=True)}
    if form.is_archived is not None:
        classroom.archived_at = (classroom.archived_at or now()) if form.is_archived else None
    changes = form.model_dump(exclude_unset=True)
    audit.record(session, actor, "classroom.update", "classroom", classroom.id, **changes)
    return classroom


def renew_join_code(session: Session, actor: Actor, classroom_id: str, *, is_open: bool) -> Classroom:
    """A new join code, so that the old one no longer works; none at all closes the door.

    Raises:
        NotFound, NotAllowed: see `get_classroom`.
    """
    classroom = get_classroom(session, actor, classroom_id, teaching=True)
    classroom.join_code = _new_code() if is_open else None
    audit.record(session, actor, "classroom.join_code", "classroom", classroom.id, is_open=is_open)
    return classroom


def join(session: Session, actor: Actor, code: str) -> Classroom:
    """Become a student of the class with this join code; who is in it stays what they are.

    Raises:
        NotFound: no class has it.
    """
    has_code = col(Classroom.join_code) == code.replace(" ", "").replace("-", "").upper()
    classroom = session.exec(select(Classroom).where(has_code, col(Classroom.archived_at).is_(None))).first()
    if classroom is None:
        raise NotFound(f"no class has the join code {code!r}; check it with your educator")
    if session.get(Membership, (classroom.id, actor.user_id)) is None:
        _set_role(session, actor, classroom.id, actor.user_id, "student")
    return classroom


def list_members(
    session: Session, actor: Actor, classroom_id: str, *, cursor: str | None, limit: int
) -> tuple[list[MemberPublic], str | None]:
    """A page of the roster, by name.

    Raises:
        NotFound, NotAllowed: see `get_classroom`.
    """
    get_classroom(session, actor, classroom_id, teaching=True)
    inside = select(Membership.user_id).where(col(Membership.classroom_id) == classroom_id)
    statement = select(User).where(col(User.id).in_(inside))
    rows, following = page_of(session, statement, [col(User.folded_name)], cursor=cursor, limit=limit)
    return [_member(user, session.get_one(Membership, (classroom_id, user.id))) for user in rows], following


def add_member(session: Session, actor: Actor, classroom_id: str, form: MemberAdd) -> MemberPublic:
    """Add somebody by name: educators other educators, administrators anybody.

    Students join by themselves: an educator may reset the passwords of the own class, and must not choose whose.

    Raises:
        NotFound: there is no class or no such account.
        NotAllowed: the actor does not teach the class, or may not add students by name.
        Conflict: a student cannot teach, or the person is in the class already.
    """
    get_classroom(session, actor, classroom_id, teaching=True)
    if form.role == "student" and not actor.is_administrator:
        raise NotAllowed("students join a class by its join code; give them the code, or make new accounts for them")
    user = find_user(session, form.name)
    if session.get(Membership, (classroom_id, user.id)) is not None:
        raise Conflict(f"{user.name!r} is in the class already; change the role instead")
    _check_can_be(user, form.role)
    return _member(user, _set_role(session, actor, classroom_id, user.id, form.role))


def create_students(
    session: Session, actor: Actor, classroom_id: str, forms: Sequence[StudentCreate], hashes: Sequence[str]
) -> list[User]:
    """New accounts in a class, all or none.

    Raises:
        NotFound, NotAllowed: see `get_classroom`.
        Conflict: a name is taken, or comes twice.
    """
    get_classroom(session, actor, classroom_id, teaching=True)
    users = []
    for form, hashed in zip(forms, hashes, strict=True):
        user = add_user(session, actor, UserCreate(**form.model_dump()), hashed)
        _set_role(session, actor, classroom_id, user.id, "student")
        users.append(user)
    return users


def update_member(session: Session, actor: Actor, classroom_id: str, user_id: str, form: MemberUpdate) -> MemberPublic:
    """Give a member another role.

    Raises:
        NotFound: there is no class, or nobody of this id in it.
        NotAllowed: the actor does not teach the class.
        Conflict: a student cannot teach; nobody would teach the class any more.
    """
    get_classroom(session, actor, classroom_id, teaching=True)
    user, membership = _get_member(session, classroom_id, user_id)
    _check_can_be(user, form.role)
    if membership.role != form.role:
        _set_role(session, actor, classroom_id, user_id, form.role)
        _check_taught(session, classroom_id)
    return _member(user, membership)


def remove_member(session: Session, actor: Actor, classroom_id: str, user_id: str) -> None:
    """Take somebody out of a class, or leave it.

    Raises:
        NotFound: there is no class, or nobody of this id in it.
        NotAllowed: somebody else is to go and the actor does not teach the class.
        Conflict: nobody would teach the class any more.
    """
    get_classroom(session, actor, classroom_id, teaching=user_id != actor.user_id)
    _, membership = _get_member(session, classroom_id, user_id)
    session.delete(membership)
    session.flush()
    audit.record(session, actor, "classroom.leave", "classroom", classroom_id, user_id=user_id, before=membership.role)
    _check_taught(session, classroom_id)


def _set_role(session: Session, actor: Actor, classroom_id: str, user_id: str, role: ClassroomRole) -> Membership:
    membership = session.get(Membership, (classroom_id, user_id))
    before = membership.role if membership is not None else None
    if membership is None:
        membership = Membership(classroom_id=classroom_id, user_id=user_id)
        session.add(membership)
    membership.role = role
    session.flush()
    action = "classroom.join" if before is None else "classroom.role"
    audit.record(session, actor, action, "classroom", classroom_id, user_id=user_id, before=before, after=role)
    return membership


def _get_member(session: Session, classroom_id: str, user_id: str) -> tuple[User, Membership]:
    membership = session.get(Membership, (classroom_id, user_id))
    if membership is None:
        raise NotFound(f"there is nobody {user_id!r} in the class; look at its roster")
    return session.get_one(User, user_id), membership


def _check_can_be(user: User, role: ClassroomRole) -> None:
    if role == "educator" and user.role == "student":
        raise Conflict(f"{user.name!r} is a student and cannot teach a class; an administrator can change that")


def _check_taught(session: Session, classroom_id: str) -> None:
    educators = select(Membership).where(
        col(Membership.classroom_id) == classroom_id, col(Membership.role) == "educator"
    )
    if session.exec(educators.with_for_update()).first() is None:
        raise Conflict("nobody would teach the class any more; add another educator first, or archive the class")


def _member(user: User, membership: Membership) -> MemberPublic:
    return MemberPublic(
        user_id=user.id,
        name=user.name,
        display_name=user.display_name,
        role=membership.role,
        is_active=user.is_active,
        limits=PersonLimits(**user.limits),
        since=membership.created_at,
    )


def _new_code() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(8))
