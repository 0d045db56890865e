"""Who works on a project with whom: added by name, or by a link that makes whoever opens it a member."""

import secrets
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from axons.app.passwords import digest
from axons.app.policy import Actor, ProjectRole, project_role_may
from axons.app.services import audit
from axons.app.services.access import get_project, is_switched_on
from axons.app.services.tiles import release_tiles
from axons.app.services.users import find_user
from axons.app.tables import Invitation, Project, ProjectMember, User, now
from axons.app.texts import ShortLine
from axons.errors import Conflict, LimitReached, NotAllowed, NotFound

MAX_MEMBERS, MAX_INVITATIONS = 500, 20


class ProjectMemberAdd(BaseModel):
    """Somebody by sign-in name."""

    model_config = ConfigDict(extra="forbid")

    name: ShortLine
    role: ProjectRole = "editor"


class ProjectMemberUpdate(BaseModel):
    """Another role in the project."""

    model_config = ConfigDict(extra="forbid")

    role: ProjectRole


class InvitationCreate(BaseModel):
    """A link for several people; nobody becomes owner by a link."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["editor", "viewer"] = "editor"
    days: int = Field(7, ge=1, le=30, description="The link works for so long.")


class ProjectMemberPublic(BaseModel):
    """Somebody who works on a project."""

    user_id: str
    name: str
    display_name: str
    role: ProjectRole
    is_creator: bool = Field(description="The one owner who cannot be removed.")


class InvitationPublic(BaseModel):
    """A link that still works, without its code."""

    id: str
    role: ProjectRole
    created_by: str
    expires_at: datetime


def list_members(session: Session, actor: Actor, project_id: str) -> list[ProjectMemberPublic]:
    """The owner and the members, by name.

    Raises:
        NotFound: there is no project, or the actor may not see it.
    """
    project = get_project(session, actor, project_id)
    statement = (
        select(User, ProjectMember)
        .join(ProjectMember, col(ProjectMember.user_id) == col(User.id))
        .where(col(ProjectMember.project_id) == project_id, col(User.id) != project.owner_id)
        .order_by(col(User.folded_name))
    )
    members = [_public(user, member.role) for user, member in session.exec(statement).all()]
    return [_public(session.get_one(User, project.owner_id), "owner", is_creator=True), *members]


def add_member(session: Session, actor: Actor, project_id: str, form: ProjectMemberAdd) -> ProjectMemberPublic:
    """Add somebody by name.

    Raises:
        NotFound: there is no project for the actor, or no such account.
        NotAllowed: the actor does not own the project, or the class does not allow it.
        Conflict: the person works on it already.
        LimitReached: there are too many members.
    """
    project = _inviting(session, actor, project_id)
    user = find_user(session, form.name)
    if user.id == project.owner_id or session.get(ProjectMember, (project_id, user.id)) is not None:
        raise Conflict(f"{user.name!r} works on the project already; change the role instead")
    _set_role(session, actor, project, user.id, form.role)
    return _public(user, form.role)


def update_member(
    session: Session, actor: Actor, project_id: str, user_id: str, form: ProjectMemberUpdate
) -> ProjectMemberPublic:
    """Give a member another role.

    Raises:
        NotFound: there is no project for the actor, or nobody of this id in it.
        NotAllowed: the actor does not own the project.
    """
    project = get_project(session, actor, project_id, "manage")
    member = _get_member(session, project, user_id)
    if member.role != form.role:
        _set_role(session, actor, project, user_id, form.role)
    return _public(session.get_one(User, user_id), form.role)


def remove_member(session: Session, actor: Actor, project_id: str, user_id: str) -> None:
    """Take somebody out of a project, or leave it.

    Raises:
        NotFound: there is no project for the actor, or nobody of this id in it.
        NotAllowed: somebody else is to go and the actor does not own the project.
    """
    project = get_project(session, actor, project_id, "view" if user_id == actor.user_id else "manage")
    member = _get_member(session, project, user_id)
    session.delete(member)
    release_tiles(session, project_id, user_id)
    audit.record(session, actor, "project.leave", "project", project_id, user_id=user_id, before=member.role)


def create_invitation(
    session: Session, actor: Actor, project_id: str, form: InvitationCreate
) -> tuple[Invitation, str]:
    """A link's row and its code, which is shown this once.

    Raises:
        NotFound: there is no project for the actor.
        NotAllowed: the actor does not own the project, or the class does not allow it.
        LimitReached: too many links work at the moment.
    """
    _inviting(session, actor, project_id)
    if len(_live_invitations(session, project_id)) >= MAX_INVITATIONS:
        raise LimitReached(f"{MAX_INVITATIONS} links of this project work already; end one of them first")
    code = secrets.token_urlsafe(24)
    invitation = Invitation(
        id=digest(code),
        project_id=project_id,
        role=form.role,
        created_by=actor.user_id,
        expires_at=now() + timedelta(days=form.days),
    )
    session.add(invitation)
    audit.record(session, actor, "project.invite", "project", project_id, role=form.role, days=form.days)
    return invitation, code


def list_invitations(session: Session, actor: Actor, project_id: str) -> list[Invitation]:
    """The links that still work.

    Raises:
        NotFound: there is no project for the actor.
        NotAllowed: the actor does not own the project.
    """
    get_project(session, actor, project_id, "manage")
    return _live_invitations(session, project_id)


def revoke_invitation(session: Session, actor: Actor, project_id: str, invitation_id: str) -> None:
    """End a link.

    Raises:
        NotFound: there is no project for the actor, or no such link.
        NotAllowed: the actor does not own the project.
    """
    get_project(session, actor, project_id, "manage")
    invitation = session.get(Invitation, invitation_id)
    if invitation is None or invitation.project_id != project_id:
        raise NotFound(f"the project has no link {invitation_id!r}; look at its list of links")
    if invitation.revoked_at is None:
        invitation.revoked_at = now()
        audit.record(session, actor, "project.uninvite", "project", project_id, invitation_id=invitation_id)


def accept_invitation(session: Session, actor: Actor, code: str) -> Project:
    """Become a member of the project behind a link; who works on it already stays what they are.

    Raises:
        NotFound: the link is unknown, ended or too old, or its project is gone.
    """
    invitation = session.get(Invitation, digest(code))
    project = session.get(Project, invitation.project_id) if invitation is not None else None
    if (
        invitation is None
        or invitation.revoked_at is not None
        or invitation.expires_at <= now()
        or project is None
        or project.deleted_at is not None
    ):
        raise NotFound("this link is unknown, ended or too old; ask for a new one")
    if project.owner_id != actor.user_id and session.get(ProjectMember, (project.id, actor.user_id)) is None:
        _set_role(session, actor, project, actor.user_id, invitation.role)
    return project


def _inviting(session: Session, actor: Actor, project_id: str) -> Project:
    project = get_project(session, actor, project_id, "manage")
    if not is_switched_on(session, actor, project.classroom_id, "may_invite"):
        raise NotAllowed("your class does not allow inviting others to projects; ask your educator")
    return project


def _set_role(session: Session, actor: Actor, project: Project, user_id: str, role: str) -> None:
    member = session.get(ProjectMember, (project.id, user_id))
    before = member.role if member is not None else None
    if member is None:
        _check_room(session, project.id)
        session.add(ProjectMember(project_id=project.id, user_id=user_id, role=role))
    else:
        member.role = role
        if not project_role_may(role, "annotate"):
            release_tiles(session, project.id, user_id)
    action = "project.join" if before is None else "project.role"
    audit.record(session, actor, action, "project", project.id, user_id=user_id, before=before, after=role)


def _check_room(session: Session, project_id: str) -> None:
    members = select(ProjectMember.user_id).where(col(ProjectMember.project_id) == project_id)
    if len(session.exec(members.limit(MAX_MEMBERS)).all()) >= MAX_MEMBERS:
        raise LimitReached(f"{MAX_MEMBERS} people work on this project already; remove somebody first")


def _get_member(session: Session, project: Project, user_id: str) -> ProjectMember:
    member = session.get(ProjectMember, (project.id, user_id))
    if member is None:
        raise NotFound(f"nobody {user_id!r} is a member of the project whose role can change; look at its members")
    return member


def _live_invitations(session: Session, project_id: str) -> list[Invitation]:
    statement = select(Invitation).where(
        col(Invitation.project_id) == project_id,
        col(Invitation.revoked_at).is_(None),
        col(Invitation.expires_at) > now(),
    )
    return list(session.exec(statement.order_by(col(Invitation.expires_at))).all())


def _public(user: User, role: str, *, is_creator: bool = False) -> ProjectMemberPublic:
    return ProjectMemberPublic.model_validate(
        {
            "user_id": user.id,
            "name": user.name,
            "display_name": user.display_name,
            "role": role,
            "is_creator": is_creator,
        }
    )
