"""The queue as people see it: add, list with the place in the queue, read, cancel."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, col, or_, select

from axons.app.jobs import kinds, queue
from axons.app.policy import Actor, may
from axons.app.services import audit
from axons.app.services.access import get_project, visible_projects
from axons.app.services.paging import page_of
from axons.app.services.users import names_of
from axons.app.tables import FINAL_STATES, Job, JobKind, Project, now
from axons.errors import Conflict, NotAllowed, NotFound


class JobPublic(BaseModel):
    """A job as REST shows it.

    Args:
        ahead: jobs that run or start before this one; None unless it waits.
        reason: why it waits, or how it ended, in one sentence.
    """

    id: str
    kind: str
    state: str
    attempt: int
    progress: float
    reason: str
    ahead: int | None = None
    user_id: str
    user_name: str | None = None
    project_id: str | None
    target_id: str | None
    result: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    is_cancel_requested: bool

    @classmethod
    def of(cls, job: Job, *, ahead: int | None = None, user_name: str | None = None) -> "JobPublic":
        """The public part of a row; `ahead` as `queue.ahead` has it."""
        return cls(
            **job.model_dump(include=set(cls.model_fields) - {"reason", "result"}),
            reason=job.reason or _waiting_reason(job, ahead),
            result={name: value for name, value in job.result.items() if name not in _INTERNAL},
            ahead=ahead,
            user_name=user_name,
            is_cancel_requested=job.cancel_requested_at is not None,
        )


_INTERNAL = ("crashes", "after_attempt", "submitted", "stop_reason")  # the dispatcher's own


def add_job(
    session: Session,
    actor: Actor,
    kind: JobKind,
    project: Project | None,
    *,
    request: dict[str, Any],
    target_id: str | None = None,
) -> Job:
    """Put a job into the queue; whoever calls has checked that the actor may."""
    job = Job(
        kind=kind,
        user_id=actor.user_id,
        project_id=project.id if project else None,
        classroom_id=project.classroom_id if project else None,
        target_id=target_id,
        request=request,
    )
    session.add(job)
    session.flush()
    return job


def get_job(session: Session, actor: Actor, job_id: str) -> Job:
    """A job of the actor, or of a project the actor sees.

    Raises:
        NotFound: there is none, or it is not for the actor.
    """
    job = session.get(Job, job_id)
    if job is None or not _is_visible(session, actor, job):
        raise NotFound(f"there is no job {job_id!r}; look at the list of your jobs")
    return job


def list_jobs(
    session: Session,
    actor: Actor,
    *,
    of_everybody: bool = False,
    project_id: str | None = None,
    kind: str | None = None,
    state: str | None = None,
    is_over: bool | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[JobPublic], str | None]:
    """Jobs, the newest first: the actor's own, those of one project, or for administrators everybody's.

    Raises:
        NotFound: there is no such project.
        NotAllowed: everybody's jobs are for administrators.
    """
    statement = select(Job)
    if project_id is not None:
        statement = statement.where(col(Job.project_id) == get_project(session, actor, project_id).id)
    elif not of_everybody:
        statement = statement.where(col(Job.user_id) == actor.user_id)
    elif not may(actor, "jobs.manage"):
        taught = select(Project.id).where(visible_projects(actor))
        statement = statement.where(or_(col(Job.user_id) == actor.user_id, col(Job.project_id).in_(taught)))
    if kind is not None:
        statement = statement.where(col(Job.kind) == kind)
    if state is not None:
        statement = statement.where(col(Job.state) == state)
    if is_over is not None:
        final = col(Job.state).in_(FINAL_STATES)
        statement = statement.where(final if is_over else ~final)
    keys = [col(Job.created_at), col(Job.id)]
    jobs, following = page_of(session, statement, keys, cursor=cursor, limit=limit, newest_first=True)
    return public_jobs(session, jobs), following


def public_jobs(session: Session, jobs: Sequence[Job]) -> list[JobPublic]:
    """Jobs with their places in the queue and the names of their people."""
    places = queue.ahead(session) if any(job.state == "queued" for job in jobs) else {}
    names = names_of(session, (job.user_id for job in jobs))
    return [JobPublic.of(job, ahead=places.get(job.id), user_name=names.get(job.user_id)) for job in jobs]


def cancel_job(session: Session, actor: Actor, job_id: str) -> Job:
    """Ask a job to stop: one that waits is cancelled at once, one that runs within seconds.

    Raises:
        NotFound, NotAllowed, Conflict: see `job_to_end`.
    """
    job = job_to_end(session, actor, job_id)
    if job.cancel_requested_at is None:
        job.cancel_requested_at = now()
        audit.record(session, actor, "job.cancel", "job", job.id, kind=job.kind, owner=job.user_id)
    if job.state == "queued" and not job.request.get("is_prepared"):
        end_job(session, job, "cancelled", "cancelled before it began")
    return job


def job_to_end(session: Session, actor: Actor, job_id: str) -> Job:
    """A job that the actor may end early.

    Raises:
        NotFound, NotAllowed: the actor does not see it, or may only look at it.
        Conflict: it is over.
    """
    job = get_job(session, actor, job_id)
    if job.user_id != actor.user_id and not _may_manage(session, actor, job):
        raise NotAllowed("this job is somebody else's; ask them or your educator to cancel it")
    if job.state in FINAL_STATES:
        raise Conflict(f"the {job.kind} job is {job.state} already; there is nothing to cancel")
    return job


def end_job(session: Session, job: Job, state: str, reason: str) -> None:
    """Give a job its final state; what its kind leaves behind in its target is settled too."""
    job.state = state
    job.reason = reason
    job.finished_at = now()
    if state == "done":
        job.progress = 1.0
    job.log += queue.log_line(f"{state}: {reason}" if reason else state)
    if state != "done" and job.kind != "train":
        kinds.fail(kinds.kind_name(job), session, job)
    session.add(job)


def _waiting_reason(job: Job, ahead: int | None) -> str:
    if job.state != "queued":
        return ""
    if job.request.get("is_prepared"):
        return "waits until you submit it"
    if not ahead:
        return "starts next"
    return f"waits for {ahead} other job{'s' if ahead > 1 else ''}"


def _is_visible(session: Session, actor: Actor, job: Job) -> bool:
    if job.user_id == actor.user_id or may(actor, "jobs.manage"):
        return True
    seen = select(Project.id).where(visible_projects(actor), col(Project.id) == job.project_id)
    return session.exec(seen).first() is not None


def _may_manage(session: Session, actor: Actor, job: Job) -> bool:
    """Whether the actor may cancel somebody else's job: administrators, and who owns or teaches its project."""
    if may(actor, "jobs.manage"):
        return True
    try:
        return job.project_id is not None and bool(get_project(session, actor, job.project_id, "manage"))
    except NotAllowed:
        return False
