"""Accounts, the ways to sign in to them, and classrooms."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, UniqueConstraint
from sqlmodel import Field, SQLModel

from axons.app.tables.columns import UtcDateTime, new_id, now

Role = Literal["student", "educator", "administrator"]
ClassroomRole = Literal["student", "educator"]


class UserBase(SQLModel):
    """What others may see of an account."""

    name: str = Field(min_length=1, max_length=60, description="Sign-in name; letter case does not matter.")
    display_name: str = Field(default="", max_length=120)
    role: str = "student"


class User(UserBase, table=True):
    """An account.

    Args:
        folded_name: the name as it is compared.
        failed_logins: wrong passwords since the last right one; `blocked_until` delays the next try.
        subject: of the OpenID Connect provider, as `issuer|sub`.
        limits: instead of those of classes and `Settings`, see `limits.PersonLimits`.
    """

    id: str = Field(default_factory=new_id, primary_key=True)
    folded_name: str = Field(unique=True, max_length=120)
    password_hash: str | None = None
    must_change_password: bool = False
    subject: str | None = Field(default=None, unique=True)
    is_active: bool = True
    failed_logins: int = 0
    blocked_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    language: str = "en"
    limits: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs={"server_default": "{}"})
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class LoginCode(SQLModel, table=True):
    """A one-time code that signs a person in; `id` is the sha256 of the code."""

    __tablename__ = "login_code"

    id: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user.id", index=True)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SignIn(SQLModel, table=True):
    """A session of a browser; `id` is the sha256 of what is in the cookie."""

    __tablename__ = "sign_in"

    id: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user.id", index=True)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    last_seen_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Token(SQLModel, table=True):
    """A personal access token for REST and the command; `token_hash` is its sha256."""

    id: str = Field(default_factory=new_id, primary_key=True)
    user_id: str = Field(foreign_key="user.id", index=True)
    name: str = Field(max_length=80)
    token_hash: str = Field(unique=True)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Classroom(SQLModel, table=True):
    """A school class.

    Args:
        join_code: whoever enters it becomes a student of the class; None closes the door.
        switches: what educators allow, see `policy.Switch`.
        limits: instead of those of `Settings`, see `limits.Limits`.
    """

    id: str = Field(default_factory=new_id, primary_key=True)
    name: str = Field(max_length=120)
    join_code: str | None = Field(default=None, unique=True)
    switches: dict[str, bool] = Field(default_factory=dict, sa_type=JSON)
    limits: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    archived_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Membership(SQLModel, table=True):
    """Who is in a classroom, as student or educator."""

    classroom_id: str = Field(foreign_key="classroom.id", primary_key=True)
    user_id: str = Field(foreign_key="user.id", primary_key=True, index=True)
    role: str = "student"
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Assignment(SQLModel, table=True):
    """A task for a class: each student gets a copy of the template project."""

    id: str = Field(default_factory=new_id, primary_key=True)
    classroom_id: str = Field(foreign_key="classroom.id", index=True)
    title: str = Field(max_length=200)
    text: str = Field(default="", max_length=20_000)
    template_project_id: str | None = Field(default=None, foreign_key="project.id")
    due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class HandIn(SQLModel, table=True):
    """What a student hands in: frozen training set, run and report."""

    __tablename__ = "hand_in"

    id: str = Field(default_factory=new_id, primary_key=True)
    assignment_id: str = Field(foreign_key="assignment.id", index=True)
    user_id: str = Field(foreign_key="user.id", index=True)
    project_id: str = Field(foreign_key="project.id")
    training_set_id: str | None = Field(default=None, foreign_key="training_set.id")
    run_id: str | None = Field(default=None, foreign_key="run.id")
    report_key: str | None = None
    comment: str = Field(default="", max_length=20_000)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    returned_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Mark(SQLModel, table=True):
    """A mark for what was handed in; the newest counts, none is ever changed."""

    id: str = Field(default_factory=new_id, primary_key=True)
    hand_in_id: str = Field(foreign_key="hand_in.id", index=True)
    value: str = Field(max_length=40)
    comment: str = Field(default="", max_length=20_000)
    by_user_id: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class ProjectMember(SQLModel, table=True):
    """Who works on a project with whom: owner, editor or viewer."""

    __tablename__ = "project_member"

    project_id: str = Field(foreign_key="project.id", primary_key=True)
    user_id: str = Field(foreign_key="user.id", primary_key=True, index=True)
    role: str
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Invitation(SQLModel, table=True):
    """A link that makes whoever opens it a member of a project; `id` is the sha256 of its code."""

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    role: str
    created_by: str = Field(foreign_key="user.id")
    expires_at: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class IdempotencyKey(SQLModel, table=True):
    """The answer to a creation, kept for a day so that a repeated request changes nothing."""

    __tablename__ = "idempotency_key"
    __table_args__ = (UniqueConstraint("user_id", "key"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    user_id: str = Field(foreign_key="user.id")
    key: str = Field(max_length=120)
    request_hash: str
    status_code: int
    body: str
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
