"""What people delete waits in a trash before it is gone; whatever has `deleted_at` can lie there."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from sqlmodel import Session, col, or_, select

from axons.app.policy import Actor
from axons.app.services import audit
from axons.app.services.access import get_project, visible_projects
from axons.app.tables import Image, Model, Prediction, Project, Run, TrainingSet, Trash, now
from axons.errors import NotFound

TrashKind = Literal["project", "image", "training_set", "run", "model", "prediction"]

_TABLES: dict[str, type[Any]] = {
    "project": Project,
    "image": Image,
    "training_set": TrainingSet,
    "run": Run,
    "model": Model,
    "prediction": Prediction,
}


def throw_away(session: Session, actor: Actor, kind: TrashKind, row: Any, *, days: float) -> Trash:
    """Hide a row that the actor may delete, and remember until when it can come back.

    Args:
        row: of one of the tables with `deleted_at`; nothing changes if it is deleted already.
    """
    is_project = kind == "project"
    found = session.exec(select(Trash).where(col(Trash.kind) == kind, col(Trash.object_id) == row.id)).first()
    if found is not None:
        return found
    row.deleted_at = now()
    trash = Trash(
        kind=kind,
        object_id=row.id,
        label=row.name[:255],
        project_id=row.id if is_project else row.project_id,
        deleted_by=actor.user_id,
        purge_after=row.deleted_at + timedelta(days=days),
    )
    session.add(trash)
    audit.record(
        session, actor, f"{kind}.delete", kind, row.id, name=row.name, purge_after=trash.purge_after.isoformat()
    )
    return trash


def list_trash(session: Session, actor: Actor) -> Sequence[Trash]:
    """What the actor can have back: their own deletions, and those in projects they see; the newest first."""
    in_visible = col(Trash.project_id).in_(select(Project.id).where(visible_projects(actor)))
    mine = or_(col(Trash.deleted_by) == actor.user_id, in_visible)
    return session.exec(select(Trash).where(mine).order_by(col(Trash.deleted_at).desc()).limit(500)).all()


def restore(session: Session, actor: Actor, trash_id: str) -> Trash:
    """Take something out of the trash.

    Raises:
        NotFound: it is not there, or not for the actor.
        NotAllowed: the actor may only look at its project.
    """
    trash = session.get(Trash, trash_id)
    row = session.get(_TABLES[trash.kind], trash.object_id) if trash is not None else None
    if trash is None or row is None:
        raise NotFound(f"there is no {trash_id!r} in your trash; look at the list of the trash")
    if isinstance(row, Project):
        _check_project(session, actor, row, trash_id)
    else:
        _check_seen(session, actor, row.project_id, trash_id)
        get_project(session, actor, row.project_id, "edit")
    row.deleted_at = None
    session.delete(trash)
    audit.record(session, actor, f"{trash.kind}.restore", trash.kind, row.id, name=row.name)
    return trash


def _check_project(session: Session, actor: Actor, project: Project, trash_id: str) -> None:
    _check_seen(session, actor, project.id, trash_id)
    project.deleted_at = None
    session.flush()
    get_project(session, actor, project.id, "manage")


def _check_seen(session: Session, actor: Actor, project_id: str, trash_id: str) -> None:
    seen = select(Project.id).where(visible_projects(actor), col(Project.id) == project_id)
    if session.exec(seen).first() is None:
        raise NotFound(f"there is no {trash_id!r} in your trash; look at the list of the trash")
