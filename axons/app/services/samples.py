"""The sample project for everybody: the one of the first start, and a copy of it for whoever wants to try things."""

from typing import Literal

from pydantic import BaseModel
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services import audit
from axons.app.services.access import get_project
from axons.app.services.copying import copy_project
from axons.app.services.projects import check_may_create
from axons.app.tables import Audit, Project, TrainingSet
from axons.errors import Conflict, NotFound

INSTALLED = "sample.install"


class SamplePublic(BaseModel):
    """The sample project as somebody finds it; `project_id` is one's own copy, where there is one."""

    state: Literal["ready", "preparing", "missing"]
    project_id: str | None


def find_sample(session: Session) -> str | None:
    """The id of the sample project that was made at the first start; it may be in the trash, or gone."""
    return session.exec(select(Audit.object_id).where(col(Audit.action) == INSTALLED)).first()


def show_sample(session: Session, actor: Actor) -> SamplePublic:
    """Whether there is a sample project to try, and the actor's own."""
    mine = _copy_of(session, actor)
    return SamplePublic(state=_state(session), project_id=mine.id if mine is not None else None)


def open_sample(session: Session, actor: Actor) -> Project:
    """The actor's own sample project, copied if there is none yet: images and labels, no training sets and models.

    Raises:
        Conflict: it is being prepared.
        NotFound: this installation has none.
        NotAllowed: an educator of the actor's does not allow projects of one's own.
    """
    mine = _copy_of(session, actor)
    if mine is not None:
        return mine
    check_may_create(session, actor, None)
    state = _state(session)
    if state == "preparing":
        raise Conflict("the sample project is being prepared since the first start; try again in a minute")
    if state == "missing":
        raise NotFound("this server has no sample project; create a project and add images of your own")
    sample = session.get_one(Project, find_sample(session))
    copied = sample.model_dump(include={"name", "description", "instructions", "tile", "threshold", "keeps_originals"})
    copy = Project(**copied, owner_id=actor.user_id, copied_from=sample.id)
    copy_project(session, sample, copy)
    audit.record(session, actor, "project.create", "project", copy.id, name=copy.name)
    return get_project(session, actor, copy.id)


def _copy_of(session: Session, actor: Actor) -> Project | None:
    """The oldest of the actor's sample projects; for who owns the first one, that one."""
    sample_id = find_sample(session)
    if sample_id is None:
        return None
    asked = select(Project).where(
        col(Project.owner_id) == actor.user_id,
        (col(Project.id) == sample_id) | (col(Project.copied_from) == sample_id),
        col(Project.assignment_id).is_(None),
        col(Project.deleted_at).is_(None),
        col(Project.archived_at).is_(None),
    )
    return session.exec(asked.order_by(col(Project.created_at))).first()


def _state(session: Session) -> Literal["ready", "preparing", "missing"]:
    sample_id = find_sample(session)
    sample = session.get(Project, sample_id) if sample_id is not None else None
    if sample is None or sample.deleted_at is not None:
        return "missing"
    # The set is frozen as soon as all labels are there.
    frozen = select(TrainingSet.id).where(col(TrainingSet.project_id) == sample.id)
    return "ready" if session.exec(frozen).first() is not None else "preparing"
