"""Who may do what: one table for the installation, one for projects, and the switches of a classroom."""

from dataclasses import dataclass
from typing import Literal

from axons.app.tables import User
from axons.errors import NotAllowed

ProjectRole = Literal["owner", "editor", "viewer"]

Action = Literal[
    "accounts.manage",  # add, reset, disable people anywhere; educators do it in their classes
    "classroom.create",
    "project.create",
    "jobs.manage",  # see and cancel the jobs of everybody
    "audit.read",
    "backup",
    "limits.manage",
    "cluster.read",  # machines, and everybody's storage
    "storage.clean",
]
ProjectAction = Literal[
    "view",
    "annotate",
    "edit",  # images, classes, training sets, runs, models, predictions
    "manage",  # members, rename, archive, delete
]
Switch = Literal["may_train", "may_share_models", "may_invite", "may_create_projects", "may_predict"]

_MAY: dict[str, frozenset[str]] = {
    "student": frozenset({"project.create"}),
    "educator": frozenset({"project.create", "classroom.create"}),
    "administrator": frozenset(
        {
            "accounts.manage",
            "classroom.create",
            "project.create",
            "jobs.manage",
            "audit.read",
            "backup",
            "limits.manage",
            "cluster.read",
            "storage.clean",
        }
    ),
}
_PROJECT_MAY: dict[str, frozenset[str]] = {
    "viewer": frozenset({"view"}),
    "editor": frozenset({"view", "annotate", "edit"}),
    "owner": frozenset({"view", "annotate", "edit", "manage"}),
}

# What a class may do unless its educators say otherwise.
SWITCHES: dict[Switch, bool] = {
    "may_train": True,
    "may_share_models": False,
    "may_invite": True,
    "may_create_projects": True,
    "may_predict": True,
}


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who asks: derived from the session or token of the request, for the length of one request.

    Args:
        sign_in_id: of the browser session; None for a token.
    """

    user_id: str
    name: str
    role: str
    language: str = "en"
    sign_in_id: str | None = None
    token_id: str | None = None

    @classmethod
    def of(cls, user: User, *, sign_in_id: str | None = None, token_id: str | None = None) -> "Actor":
        """The actor of an account."""
        return cls(
            user_id=user.id,
            name=user.name,
            role=user.role,
            language=user.language,
            sign_in_id=sign_in_id,
            token_id=token_id,
        )

    @property
    def is_administrator(self) -> bool:
        """Whether every door is open."""
        return self.role == "administrator"


def may(actor: Actor, action: Action) -> bool:
    """Whether the actor's role allows an action; an unknown role allows nothing."""
    return action in _MAY.get(actor.role, frozenset())


def require(actor: Actor, action: Action) -> None:
    """Refuse what the role does not allow.

    Raises:
        NotAllowed: with who can do it.
    """
    if not may(actor, action):
        able = " or ".join(role for role, actions in _MAY.items() if action in actions)
        raise NotAllowed(f"{action!r} is for the role {able}, you are {actor.role}; ask one of them")


def project_role_may(role: str | None, action: ProjectAction) -> bool:
    """Whether a member with this role may do this to the project."""
    return role is not None and action in _PROJECT_MAY.get(role, frozenset())
