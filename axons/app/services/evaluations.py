"""Evaluations: a model on a split of a training set."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services.access import get_project, visible_projects
from axons.app.services.jobs import add_job
from axons.app.services.models import get_model
from axons.app.services.paging import page_of
from axons.app.services.training_sets import ready_training_set
from axons.app.services.worst_tiles import WorstTilePublic, tiles_to_correct
from axons.app.tables import Evaluation, Job, Model, Project, TrainingSet
from axons.app.texts import Identifier
from axons.data.training_set import Split
from axons.errors import Conflict, InvalidRequest, NotFound


class EvaluationCreate(BaseModel):
    """Which model on which images."""

    model_config = ConfigDict(extra="forbid")

    model_id: Identifier
    training_set_id: Identifier
    split: Split = "test"


class EvaluationPublic(BaseModel):
    """Scores as `axons.train.evaluation.SplitEvaluation`; empty until the job is done."""

    id: str
    model_id: str
    training_set_id: str
    split: str
    scores: dict[str, Any]
    job_id: str
    state: str
    reason: str
    created_at: datetime


def create_evaluation(session: Session, actor: Actor, form: EvaluationCreate) -> tuple[Evaluation, Job]:
    """A row, and a job that fills it.

    Raises:
        InvalidRequest: the split is empty, or model and set have other classes.
    """
    model, _ = get_model(session, actor, form.model_id)
    training_set = ready_training_set(session, actor, form.training_set_id)
    project = get_project(session, actor, training_set.project_id, "edit")
    if not training_set.summary["num_images"][form.split]:
        raise InvalidRequest("split", f"training set {training_set.name!r} has no {form.split} images; choose another")
    theirs = [found["name"] for found in model.card["classes"]]
    ours = [found["name"] for found in training_set.summary["classes"]]
    if theirs != ours:
        raise InvalidRequest(
            "model_id", f"the model knows {', '.join(theirs)} and the set {', '.join(ours)}; choose a model for them"
        )
    row = Evaluation(model_id=model.id, training_set_id=training_set.id, created_by=actor.user_id)
    session.add(row)
    session.flush()
    job = add_job(session, actor, "evaluate", project, request={"split": form.split}, target_id=row.id)
    return row, job


def get_evaluation(session: Session, actor: Actor, evaluation_id: str) -> EvaluationPublic:
    """An evaluation of a model that the actor sees.

    Raises:
        NotFound: there is none for the actor.
    """
    return public_evaluation(*_seen(session, actor, evaluation_id))


def pictures_key(session: Session, actor: Actor, evaluation_id: str) -> str:
    """Where the pictures of an evaluation's worst tiles are.

    Raises:
        NotFound: see `get_evaluation`.
    """
    row, _ = _seen(session, actor, evaluation_id)
    return f"{session.get_one(Model, row.model_id).key}/evaluations/{row.id}"


def worst_tiles(session: Session, actor: Actor, evaluation_id: str) -> list[WorstTilePublic]:
    """Tiles to correct; empty until the evaluation is done.

    Raises:
        NotFound: see `get_evaluation`.
        Conflict: it is of the test: who corrects there what a model got wrong makes its score a lie.
    """
    row, job = _seen(session, actor, evaluation_id)
    if job.request["split"] == "test":
        raise Conflict("worst tiles of the test are only shown; correct those of the validation")
    return tiles_to_correct(session, session.get_one(TrainingSet, row.training_set_id), row.scores.get("worst", []))


def list_evaluations(
    session: Session, actor: Actor, *, model_id: str, cursor: str | None, limit: int
) -> tuple[list[EvaluationPublic], str | None]:
    """The evaluations of a model in projects that the actor sees, the newest first."""
    get_model(session, actor, model_id)
    statement = select(Evaluation).where(col(Evaluation.model_id) == model_id)
    keys = [col(Evaluation.created_at), col(Evaluation.id)]
    rows, following = page_of(session, statement, keys, cursor=cursor, limit=limit, newest_first=True)
    pairs = [(row, _job(session, row)) for row in rows]
    return [public_evaluation(row, job) for row, job in pairs if _sees(session, actor, job)], following


def public_evaluation(row: Evaluation, job: Job) -> EvaluationPublic:
    """The row with what its job says."""
    return EvaluationPublic(
        **row.model_dump(include={"id", "model_id", "training_set_id", "scores", "created_at"}),
        split=job.request["split"],
        job_id=job.id,
        state=job.state,
        reason=job.reason,
    )


def _seen(session: Session, actor: Actor, evaluation_id: str) -> tuple[Evaluation, Job]:
    row = session.get(Evaluation, evaluation_id)
    job = _job(session, row) if row is not None else None
    if row is None or job is None or (job.user_id != actor.user_id and not _sees(session, actor, job)):
        raise NotFound(f"there is no evaluation {evaluation_id!r}; look at the list of the model's evaluations")
    return row, job


def _job(session: Session, row: Evaluation) -> Job:
    return session.exec(select(Job).where(col(Job.kind) == "evaluate", col(Job.target_id) == row.id)).one()


def _sees(session: Session, actor: Actor, job: Job) -> bool:
    seen = select(Project.id).where(visible_projects(actor), col(Project.id) == job.project_id)
    return session.exec(seen).first() is not None
