"""Which projects an actor sees and what may be done there; every service that takes an id goes through here."""

from typing import TypeVar

from sqlalchemy import BindParameter, ColumnElement, and_, exists, or_, select, true
from sqlmodel import Session, col

from axons.app.policy import SWITCHES, Actor, ProjectAction, Switch, project_role_may
from axons.app.tables import Classroom, Membership, Project, ProjectMember
from axons.errors import NotAllowed, NotFound

Limit = TypeVar("Limit", float, float | None)


def get_project(session: Session, actor: Actor, project_id: str, action: ProjectAction = "view") -> Project:
    """A project the actor may see and do this to.

    Raises:
        NotFound: there is none, it is in the trash, or the actor may not see it.
        NotAllowed: the actor may see it, not do this.
    """
    project = session.get(Project, project_id)
    role = _role(session, actor, project) if project is not None and project.deleted_at is None else None
    if project is None or role is None:
        raise NotFound(f"there is no project {project_id!r}; look at the list of your projects")
    if not project_role_may(role, action):
        raise NotAllowed(f"you are {role} of project {project.name!r} and cannot {action} it; ask its owner")
    if project.archived_at is not None and action != "view" and action != "manage":
        raise NotAllowed(f"project {project.name!r} is archived; take it out of the archive first")
    return project


def project_role(session: Session, actor: Actor, project: Project) -> str | None:
    """The actor's role in a project, None if it is not to be seen."""
    return _role(session, actor, project)


def visible_projects(actor: Actor) -> ColumnElement[bool]:
    """The condition on `Project` rows that the actor may see."""
    return true() if actor.is_administrator else visible_to(actor.user_id)


def visible_to(user_id: str | BindParameter[str]) -> ColumnElement[bool]:
    """The condition on `Project` rows that somebody may see who is no administrator."""
    is_member = exists(
        select(1).where(col(ProjectMember.project_id) == Project.id, col(ProjectMember.user_id) == user_id)
    )
    teaches = exists(
        select(1).where(
            col(Membership.classroom_id) == Project.classroom_id,
            col(Membership.user_id) == user_id,
            col(Membership.role) == "educator",
        )
    )
    return or_(col(Project.owner_id) == user_id, is_member, and_(col(Project.classroom_id).is_not(None), teaches))


def teaches(session: Session, actor: Actor, classroom_id: str | None) -> bool:
    """Whether the actor is an educator of the classroom, or administrator."""
    if classroom_id is None:
        return False
    if actor.is_administrator:
        return True
    membership = session.get(Membership, (classroom_id, actor.user_id))
    return membership is not None and membership.role == "educator"


def is_switched_on(session: Session, actor: Actor, classroom_id: str | None, switch: Switch) -> bool:
    """Whether the educators of a classroom allow it to their students; outside a classroom all is allowed."""
    if classroom_id is None or teaches(session, actor, classroom_id):
        return True
    classroom = session.get(Classroom, classroom_id)
    return classroom is None or classroom.switches.get(switch, SWITCHES[switch])


def limit_of(session: Session, project: Project, name: str, default: Limit) -> Limit:
    """A limit as the educators of the project's classroom have set it, else the installation's."""
    classroom = session.get(Classroom, project.classroom_id) if project.classroom_id else None
    value = classroom.limits.get(name) if classroom else None
    return default if value is None else float(value)


def _role(session: Session, actor: Actor, project: Project) -> str | None:
    if actor.is_administrator or project.owner_id == actor.user_id:
        return "owner"
    member = session.get(ProjectMember, (project.id, actor.user_id))
    if teaches(session, actor, project.classroom_id):
        return "owner"
    return member.role if member else None
