"""Jobs over REST."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.services import jobs
from axons.app.services.jobs import JobPublic
from axons.app.tables import JobKind, JobState
from axons.app.texts import Identifier
from axons.errors import AxonsError

router = APIRouter(prefix="/jobs", tags=["jobs"])


class JobsCancel(BaseModel):
    """Jobs to stop."""

    job_ids: list[Identifier] = Field(min_length=1, max_length=500)


class JobRefusal(BaseModel):
    """A job that could not be cancelled, and why."""

    job_id: str
    reason: str


class JobsCancelled(BaseModel):
    """What became of each."""

    cancelled: list[JobPublic]
    refused: list[JobRefusal]


class JobLog(BaseModel):
    """What happened, line by line."""

    log: str


@router.get("", operation_id="list_jobs")
def list_jobs(
    platform: PlatformOf,
    actor: ActorOf,
    of_everybody: Annotated[
        bool,
        Query(alias="all", description="For administrators everybody's jobs, for educators those of their classes."),
    ] = False,
    project_id: Identifier | None = None,
    kind: JobKind | None = None,
    state: JobState | None = None,
    is_over: Annotated[bool | None, Query(description="Only jobs that are over, or only those that are not.")] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[JobPublic]:
    """Jobs with their place in the queue, the newest first."""
    items, following = platform.database.read(
        lambda session: jobs.list_jobs(
            session,
            actor,
            of_everybody=of_everybody,
            project_id=project_id,
            kind=kind,
            state=state,
            is_over=is_over,
            cursor=cursor,
            limit=limit,
        )
    )
    return Page(items=items, next=following)


@router.get("/{job_id}", operation_id="get_job")
def get_job(platform: PlatformOf, actor: ActorOf, job_id: Id) -> JobPublic:
    """One job."""
    return platform.database.read(lambda session: jobs.public_jobs(session, [jobs.get_job(session, actor, job_id)])[0])


@router.get("/{job_id}/log", operation_id="get_job_log")
def get_job_log(platform: PlatformOf, actor: ActorOf, job_id: Id) -> JobLog:
    """What happened to a job; a training's own log is that of its run."""
    return JobLog(log=platform.database.read(lambda session: jobs.get_job(session, actor, job_id).log))


@router.post("/{job_id}/cancel", operation_id="cancel_job", status_code=202)
def cancel_job(platform: PlatformOf, actor: ActorOf, job_id: Id) -> JobPublic:
    """Stop a job; one that runs ends within seconds."""
    return platform.database.write(
        lambda session: jobs.public_jobs(session, [jobs.cancel_job(session, actor, job_id)])[0]
    )


@router.post(":cancel", operation_id="cancel_jobs", status_code=202)
def cancel_jobs(platform: PlatformOf, actor: ActorOf, form: JobsCancel) -> JobsCancelled:
    """Stop several jobs; one that cannot be stopped does not keep the others running."""
    cancelled: list[JobPublic] = []
    refused: list[JobRefusal] = []
    for job_id in form.job_ids:
        try:
            cancelled.append(cancel_job(platform, actor, job_id))
        except AxonsError as error:
            refused.append(JobRefusal(job_id=job_id, reason=str(error)))
    return JobsCancelled(cancelled=cancelled, refused=refused)
