"""Accounts, for administrators; educators reset those of their students."""

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from axons.app import passwords
from axons.app.policy import require
from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.services import sign_in, users
from axons.app.services.users import UserCreate, UserListed, UserPublic, UserUpdate
from axons.app.tables import User
from axons.app.tables.people import Role
from axons.app.texts import ShortLine

router = APIRouter(prefix="/users", tags=["users"])


class UserCreated(UserPublic):
    """An account with its first password, which is shown this once and must be changed."""

    password: str


class UserList(BaseModel):
    """Accounts to add at once: all or none."""

    model_config = ConfigDict(extra="forbid")

    users: list[UserCreate] = Field(min_length=1, max_length=200)


@router.post("", status_code=201, operation_id="create_user")
def create_user(platform: PlatformOf, actor: ActorOf, form: UserCreate) -> UserCreated:
    """Add an account; administrators may."""
    return create_users(platform, actor, UserList(users=[form]))[0]


@router.post("/import", status_code=201, operation_id="create_users")
def create_users(platform: PlatformOf, actor: ActorOf, form: UserList) -> list[UserCreated]:
    """Add a list of accounts, all or none; administrators may."""
    require(actor, "accounts.manage")
    first, hashes = first_passwords(len(form.users))
    rows = platform.database.write(lambda session: users.create_users(session, actor, form.users, hashes))
    return [created(user, password) for user, password in zip(rows, first, strict=True)]


@router.get("", operation_id="list_users")
def list_users(
    platform: PlatformOf,
    actor: ActorOf,
    search: Annotated[ShortLine, Query(description="Part of the sign-in name or of the name shown.")] = "",
    role: Role | None = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[UserListed]:
    """Accounts by name; administrators may."""

    def answer(session: Session) -> Page[UserListed]:
        rows, following = users.list_users(session, actor, search=search, role=role, cursor=cursor, limit=limit)
        return Page(items=users.listed(session, rows), next=following)

    return platform.database.read(answer)


@router.get("/{user_id}", operation_id="get_user")
def get_user(platform: PlatformOf, actor: ActorOf, user_id: Id) -> UserPublic:
    """Your own account, or one that you look after."""
    return platform.database.read(lambda session: users.public(users.get_user(session, actor, user_id)))


@router.patch("/{user_id}", operation_id="update_user")
def update_user(platform: PlatformOf, actor: ActorOf, user_id: Id, form: UserUpdate) -> UserPublic:
    """Change how you are shown; educators disable and limit their students, administrators do the rest."""
    return platform.database.write(lambda session: users.public(users.update_user(session, actor, user_id, form)))


@router.post("/{user_id}/reset", operation_id="reset_user")
def reset_user(platform: PlatformOf, actor: ActorOf, user_id: Id) -> UserCreated:
    """Give an account a new first password, unlock it, and end its sessions and tokens.

    Administrators may, and educators for the students of their classes.
    """
    password = passwords.new_password()
    hashed = passwords.hash_password(password)

    def reset(session: Session) -> User:
        user = users.reset_password(session, actor, user_id, hashed)
        sign_in.end_all(session, user.id)
        return user

    return created(platform.database.write(reset), password)


def first_passwords(count: int) -> tuple[list[str], list[str]]:
    """New passwords and their hashes, made before the transaction that needs them."""
    first = [passwords.new_password() for _ in range(count)]
    with ThreadPoolExecutor(passwords.AT_ONCE) as threads:
        return first, list(threads.map(passwords.hash_password, first))


def created(user: User, password: str) -> UserCreated:
    """The answer with the first password."""
    return UserCreated(**users.public(user).model_dump(), password=password)
