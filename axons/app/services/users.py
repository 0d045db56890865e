"""Accounts: adding, changing, resetting and disabling them; the first administrator."""

import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from axons.app.passwords import digest
from axons.app.policy import Actor, may, require
from axons.app.services import audit
from axons.app.services.limits import PersonLimits, gpu_minutes_of, set_person_limits
from axons.app.services.paging import page_of
from axons.app.tables import LoginCode, Membership, User, now
from axons.app.tables.people import Role
from axons.app.texts import AccountName, ShortLine
from axons.errors import Conflict, NotAllowed, NotFound

CODE_MINUTES = 10


class UserCreate(BaseModel):
    """A new account; its first password is made by the server."""

    model_config = ConfigDict(extra="forbid")

    name: AccountName
    display_name: ShortLine = Field("", max_length=120)
    role: Role = "student"


class UserUpdate(BaseModel):
    """What changes in an account; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    display_name: ShortLine | None = Field(None, max_length=120)
    language: str | None = Field(None, pattern="^[a-z]{2}$")
    role: Role | None = None
    is_active: bool | None = None
    limits: PersonLimits | None = None


class UserPublic(BaseModel):
    """An account as those see it who look after it."""

    id: str
    name: str
    display_name: str
    role: Role
    is_active: bool
    limits: PersonLimits
    created_at: datetime


class UserListed(UserPublic):
    """An account in the list; `gpu_minutes` are those of its trainings on GPUs so far."""

    gpu_minutes: float


def public(user: User) -> UserPublic:
    """What may be seen of an account."""
    return UserPublic.model_validate(user, from_attributes=True)


def listed(session: Session, users: Sequence[User]) -> list[UserListed]:
    """What an administrator sees of accounts."""
    used = gpu_minutes_of(session, [user.id for user in users])
    return [UserListed(**public(user).model_dump(), gpu_minutes=used.get(user.id, 0.0)) for user in users]


def fold_name(name: str) -> str:
    """The name as it is compared: letter case and width do not matter."""
    return unicodedata.normalize("NFKC", name).casefold()


def add_user(session: Session, actor: Actor | None, form: UserCreate, password_hash: str | None) -> User:
    """A new account, that must change its first password; `actor` is None at the first start.

    Raises:
        Conflict: the name is taken.
    """
    folded = fold_name(form.name)
    if session.exec(select(User.id).where(col(User.folded_name) == folded)).first() is not None:
        raise Conflict(f"there is an account named {form.name!r} already; choose another name")
    user = User(
        **form.model_dump(),
        folded_name=folded,
        password_hash=password_hash,
        must_change_password=password_hash is not None,
    )
    session.add(user)
    session.flush()
    audit.record(session, actor, "user.create", "user", user.id, name=user.name, role=user.role)
    return user


def create_users(session: Session, actor: Actor, forms: Sequence[UserCreate], hashes: Sequence[str]) -> list[User]:
    """New accounts, all or none.

    Raises:
        NotAllowed: the actor is no administrator.
        Conflict: a name is taken, or comes twice.
    """
    require(actor, "accounts.manage")
    return [add_user(session, actor, form, hashed) for form, hashed in zip(forms, hashes, strict=True)]


def list_users(
    session: Session, actor: Actor, *, search: str = "", role: str | None = None, cursor: str | None, limit: int
) -> tuple[list[User], str | None]:
    """A page of accounts, by name.

    Args:
        search: part of the sign-in name or of the name that is shown.
    Raises:
        NotAllowed: the actor is no administrator.
    """
    require(actor, "accounts.manage")
    statement = select(User)
    if search:
        named = col(User.folded_name).contains(fold_name(search), autoescape=True)
        statement = statement.where(or_(named, col(User.display_name).icontains(search, autoescape=True)))
    if role is not None:
        statement = statement.where(col(User.role) == role)
    return page_of(session, statement, [col(User.folded_name)], cursor=cursor, limit=limit)


def names_of(session: Session, user_ids: Iterable[str | None]) -> dict[str, str]:
    """The sign-in names of accounts, by their ids."""
    wanted = {user_id for user_id in user_ids if user_id is not None}
    rows = session.exec(select(User.id, User.name).where(col(User.id).in_(wanted))).all() if wanted else []
    return dict(rows)


def get_user(session: Session, actor: Actor, user_id: str) -> User:
    """An account that is the actor's own, or that the actor looks after.

    Raises:
        NotFound: there is none, or the actor has nothing to do with it.
    """
    user = session.get(User, user_id)
    if user is None or not (user.id == actor.user_id or _looks_after(session, actor, user)):
        raise NotFound(f"there is no account {user_id!r} that you look after; look at the list of your class")
    return user


def find_user(session: Session, name: str) -> User:
    """The active account of a sign-in name.

    Raises:
        NotFound: there is none.
    """
    named = col(User.folded_name) == fold_name(name)
    user = session.exec(select(User).where(named, col(User.is_active))).first()
    if user is None:
        raise NotFound(f"there is no account named {name!r}; check the spelling")
    return user


def update_user(session: Session, actor: Actor, user_id: str, form: UserUpdate) -> User:
    """Change an account: how one is shown oneself, whether a student may sign in and use how much educators, the rest
    administrators.

    Raises:
        NotFound: there is none, or the actor has nothing to do with it.
        NotAllowed: it is for an administrator.
        Conflict: nobody would be administrator any more.
    """
    user = get_user(session, actor, user_id)
    changes = form.model_dump(exclude_unset=True, exclude_none=True)
    was_administrator = user.role == "administrator"
    is_own = user.id == actor.user_id and changes.keys() <= {"display_name", "language"}
    # `get_user` knows the educators.
    is_of_class = user.id != actor.user_id and changes.keys() <= {"is_active", "limits"}
    if not (is_own or is_of_class):
        require(actor, "accounts.manage")
    user.display_name = changes.get("display_name", user.display_name)
    user.language = changes.get("language", user.language)
    if "role" in changes and changes["role"] != user.role:
        _set_role(session, actor, user, changes["role"])
    if "is_active" in changes and changes["is_active"] != user.is_active:
        user.is_active = changes["is_active"]
        audit.record(session, actor, "user.enable" if user.is_active else "user.disable", "user", user.id)
    if form.limits is not None:
        set_person_limits(session, actor, user, form.limits)
    if was_administrator:
        session.flush()
        _check_administrators(session)
    return user


def reset_password(session: Session, actor: Actor, user_id: str, password_hash: str) -> User:
    """Give an account a new first password; the caller ends its sessions (`sign_in.end_all`).

    Raises:
        NotFound: there is none, or the actor has nothing to do with it.
        NotAllowed: an educator may only do it for students.
    """
    user = get_user(session, actor, user_id)
    if not _looks_after(session, actor, user):
        raise NotAllowed(f"{user.name!r} is your own account; change its password instead")
    user.password_hash = password_hash
    user.must_change_password = True
    user.failed_logins, user.blocked_until = 0, None
    audit.record(session, actor, "user.reset", "user", user.id)
    return user


def ensure_administrator(session: Session) -> tuple[User, str]:
    """The first administrator, made if there is none, and a one-time code that signs in within ten minutes."""
    user = session.exec(_administrators().order_by(col(User.created_at))).first()
    if user is None:
        name = "admin"
        while session.exec(select(User.id).where(col(User.folded_name) == name)).first() is not None:
            name = f"admin-{secrets.token_hex(2)}"
        user = add_user(session, None, UserCreate(name=name, role="administrator"), None)
    return user, make_code(session, user)


def make_code(session: Session, user: User) -> str:
    """A code that signs the account in, once."""
    code = secrets.token_urlsafe(24)
    session.add(LoginCode(id=digest(code), user_id=user.id, expires_at=now() + timedelta(minutes=CODE_MINUTES)))
    return code


def _looks_after(session: Session, actor: Actor, user: User) -> bool:
    """An administrator everybody, an educator the students of the own classes."""
    if may(actor, "accounts.manage"):
        return True
    if actor.role != "educator" or user.role != "student":
        return False
    taught = select(Membership.classroom_id).where(
        col(Membership.user_id) == actor.user_id, col(Membership.role) == "educator"
    )
    shared = select(Membership.user_id).where(
        col(Membership.user_id) == user.id, col(Membership.classroom_id).in_(taught)
    )
    return session.exec(shared).first() is not None


def _set_role(session: Session, actor: Actor, user: User, role: Role) -> None:
    """A student teaches no class: who becomes one is a student of the classes taught before."""
    audit.record(session, actor, "user.role", "user", user.id, before=user.role, after=role)
    user.role = role
    if role != "student":
        return
    taught = select(Membership).where(col(Membership.user_id) == user.id, col(Membership.role) == "educator")
    for membership in session.exec(taught).all():
        membership.role = "student"
        detail = {"user_id": user.id, "before": "educator", "after": "student"}
        audit.record(session, actor, "classroom.role", "classroom", membership.classroom_id, **detail)


def _administrators() -> SelectOfScalar[User]:
    return select(User).where(col(User.role) == "administrator", col(User.is_active))


def _check_administrators(session: Session) -> None:
    if session.exec(_administrators().with_for_update()).first() is None:
        raise Conflict("nobody would be administrator any more; make somebody else administrator first")
