"""Training sets over REST."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlmodel import Session

from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.services import set_previews, training_sets
from axons.app.services.access import get_project
from axons.app.services.jobs import JobPublic, add_job
from axons.app.services.set_previews import TrainingSetPreview
from axons.app.services.training_sets import Comparison, TrainingSetCreate, TrainingSetPublic
from axons.app.tables import Job
from axons.app.texts import Identifier

router = APIRouter(tags=["training sets"])

Ids = Annotated[list[Identifier], Query(min_length=2, max_length=10, alias="id")]


class TrainingSetCreated(BaseModel):
    """A set that is being frozen, and the job that does it."""

    training_set: TrainingSetPublic
    job: JobPublic


@router.post("/projects/{project_id}/training-sets", operation_id="create_training_set", status_code=202)
def create_training_set(
    platform: PlatformOf, actor: ActorOf, project_id: Id, form: TrainingSetCreate
) -> TrainingSetCreated:
    """Freeze the chosen labels."""

    def create(session: Session) -> TrainingSetCreated:
        row = training_sets.create_training_set(session, actor, project_id, form)
        job = session.get_one(Job, training_sets.job_ids(session, [row])[row.id])
        return TrainingSetCreated(training_set=TrainingSetPublic.of(row, job_id=job.id), job=JobPublic.of(job))

    return platform.database.write(create)


@router.post("/projects/{project_id}/training-sets:preview", operation_id="preview_training_set")
def preview_training_set(
    platform: PlatformOf, actor: ActorOf, project_id: Id, form: TrainingSetCreate
) -> TrainingSetPreview:
    """What these choices would freeze: splits, balance, warnings, and what leaks between splits; nothing is made."""
    return platform.database.read(
        lambda session: set_previews.preview_training_set(session, actor, platform, project_id, form)
    )


@router.get("/projects/{project_id}/training-sets", operation_id="list_training_sets")
def list_training_sets(
    platform: PlatformOf, actor: ActorOf, project_id: Id, cursor: Cursor = None, limit: Limit = PAGE
) -> Page[TrainingSetPublic]:
    """The sets of a project, the newest first."""

    def read(session: Session) -> Page[TrainingSetPublic]:
        rows, following = training_sets.list_training_sets(session, actor, project_id, cursor=cursor, limit=limit)
        jobs = training_sets.job_ids(session, rows)
        return Page(items=[TrainingSetPublic.of(row, job_id=jobs.get(row.id)) for row in rows], next=following)

    return platform.database.read(read)


@router.get("/training-sets:compare", operation_id="compare_training_sets")
def compare_training_sets(platform: PlatformOf, actor: ActorOf, ids: Ids) -> Comparison:
    """What differs between two or more frozen sets."""
    return platform.database.read(lambda session: training_sets.compare(session, actor, ids))


@router.get("/training-sets/{training_set_id}", operation_id="get_training_set")
def get_training_set(platform: PlatformOf, actor: ActorOf, training_set_id: Id) -> TrainingSetPublic:
    """One set with its balance, diversity and warnings."""

    def read(session: Session) -> TrainingSetPublic:
        row = training_sets.get_training_set(session, actor, training_set_id)
        return TrainingSetPublic.of(row, job_id=training_sets.job_ids(session, [row]).get(row.id))

    return platform.database.read(read)


@router.post("/training-sets/{training_set_id}/export", operation_id="export_training_set", status_code=202)
def export_training_set(platform: PlatformOf, actor: ActorOf, training_set_id: Id) -> JobPublic:
    """Pack a frozen set into a ZIP; when the job is done, `jobs/{id}/file` is the download."""

    def create(session: Session) -> JobPublic:
        row = training_sets.ready_training_set(session, actor, training_set_id)
        project = get_project(session, actor, row.project_id)
        request = {"training_set_id": row.id}
        return JobPublic.of(add_job(session, actor, "export", project, request=request, target_id=row.id))

    return platform.database.write(create)


@router.delete("/training-sets/{training_set_id}", operation_id="delete_training_set", status_code=204)
def delete_training_set(platform: PlatformOf, actor: ActorOf, training_set_id: Id) -> None:
    """Into the trash."""
    platform.database.write(
        lambda session: training_sets.delete_training_set(session, actor, platform, training_set_id)
    )
