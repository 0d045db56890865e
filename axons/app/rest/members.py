"""Members of a project, and the links that invite them."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.services import members
from axons.app.services.members import (
    InvitationCreate,
    InvitationPublic,
    ProjectMemberAdd,
    ProjectMemberPublic,
    ProjectMemberUpdate,
)
from axons.app.texts import Identifier

router = APIRouter(tags=["members"])


class InvitationCreated(InvitationPublic):
    """A new link: `code` and `link` are shown this once."""

    code: str
    link: str


class InvitationAccept(BaseModel):
    """The code of a link."""

    model_config = ConfigDict(extra="forbid")

    code: Identifier


class InvitationAccepted(BaseModel):
    """The project that one works on now."""

    project_id: str
    name: str


@router.get("/projects/{project_id}/members", operation_id="list_project_members")
def list_members(platform: PlatformOf, actor: ActorOf, project_id: Id) -> list[ProjectMemberPublic]:
    """Who works on the project."""
    return platform.database.read(lambda session: members.list_members(session, actor, project_id))


@router.post("/projects/{project_id}/members", status_code=201, operation_id="add_project_member")
def add_member(platform: PlatformOf, actor: ActorOf, project_id: Id, form: ProjectMemberAdd) -> ProjectMemberPublic:
    """Add somebody by name; its owners may."""
    return platform.database.write(lambda session: members.add_member(session, actor, project_id, form))


@router.patch("/projects/{project_id}/members/{user_id}", operation_id="update_project_member")
def update_member(
    platform: PlatformOf, actor: ActorOf, project_id: Id, user_id: Id, form: ProjectMemberUpdate
) -> ProjectMemberPublic:
    """Give a member another role; its owners may."""
    return platform.database.write(lambda session: members.update_member(session, actor, project_id, user_id, form))


@router.delete("/projects/{project_id}/members/{user_id}", status_code=204, operation_id="remove_project_member")
def remove_member(platform: PlatformOf, actor: ActorOf, project_id: Id, user_id: Id) -> Response:
    """Take somebody out of the project, or leave it yourself."""
    platform.database.write(lambda session: members.remove_member(session, actor, project_id, user_id))
    return Response(status_code=204)


@router.get("/projects/{project_id}/invitations", operation_id="list_invitations")
def list_invitations(platform: PlatformOf, actor: ActorOf, project_id: Id) -> list[InvitationPublic]:
    """The links that still work; its owners may."""

    return platform.database.read(
        lambda session: [
            InvitationPublic.model_validate(row, from_attributes=True)
            for row in members.list_invitations(session, actor, project_id)
        ]
    )


@router.post("/projects/{project_id}/invitations", status_code=201, operation_id="create_invitation")
def create_invitation(
    platform: PlatformOf, actor: ActorOf, project_id: Id, form: InvitationCreate
) -> InvitationCreated:
    """Make a link that makes whoever opens it a member; its owners may."""
    row, code = platform.database.write(lambda session: members.create_invitation(session, actor, project_id, form))
    link = f"{platform.settings.public_url.rstrip('/')}/?invitation={code}"
    return InvitationCreated(**row.model_dump(exclude={"project_id", "revoked_at"}), code=code, link=link)


@router.delete("/projects/{project_id}/invitations/{invitation_id}", status_code=204, operation_id="revoke_invitation")
def revoke_invitation(platform: PlatformOf, actor: ActorOf, project_id: Id, invitation_id: Id) -> Response:
    """End a link; its owners may."""
    platform.database.write(lambda session: members.revoke_invitation(session, actor, project_id, invitation_id))
    return Response(status_code=204)


@router.post("/invitations/accept", operation_id="accept_invitation")
def accept_invitation(platform: PlatformOf, actor: ActorOf, form: InvitationAccept) -> InvitationAccepted:
    """Become a member of the project behind a link."""
    project = platform.database.write(lambda session: members.accept_invitation(session, actor, form.code))
    return InvitationAccepted(project_id=project.id, name=project.name)
