"""Runs: trainings that are checked before they wait, followed while they run, and kept."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Boolean, and_, bindparam, or_
from sqlmodel import Session, col, func, select

from axons.app.jobs import queue
from axons.app.jobs import train as trainings
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services import audit
from axons.app.services.access import get_project, is_switched_on, limit_of, visible_projects, visible_to
from axons.app.services.jobs import JobPublic, add_job, cancel_job, job_to_end
from axons.app.services.limits import check_trainings, is_limited
from axons.app.services.models import get_model
from axons.app.services.paging import page_of
from axons.app.services.presets import check_preset
from axons.app.services.training_sets import ready_training_set
from axons.app.services.trash import throw_away
from axons.app.services.turns import take_turns
from axons.app.services.uploads import check_free_space
from axons.app.services.worst_tiles import WorstTilePublic, tiles_to_correct
from axons.app.settings import Settings
from axons.app.tables import EpochMetric, Job, Model, Project, Run, TrainingSet, new_id
from axons.app.texts import Identifier, Name
from axons.data.training_set import TrainingSet as Manifest
from axons.data.training_set import load_training_set
from axons.errors import ConfigurationRefused, Conflict, InvalidRequest, NotAllowed, NotFound
from axons.train.config import ResolvedConfig, TrainConfig, check, resolve

SURE_NETWORKS = (("unet", "resnet18"), ("unet", "resnet34"))


class RunCreate(BaseModel):
    """A training to start.

    Args:
        name: of the model that comes out; runs of one name make its versions. By default the project's name.
        config: see `schemas/train`; `init_model` is the id of a model.
        prepare: only write the run folder; somebody else submits it.
    """

    model_config = ConfigDict(extra="forbid")

    training_set_id: Identifier
    name: Name | None = None
    config: TrainConfig = Field(default_factory=lambda: TrainConfig.model_validate({}))
    prepare: bool = False


# Asked again and again while a run is watched: see `sign_in`.
_RUN = (
    select(Run, Job, col(Model.id))
    .join(Project, col(Project.id) == col(Run.project_id))
    .join(Job, col(Job.id) == col(Run.job_id))
    .outerjoin(Model, and_(col(Model.run_id) == col(Run.id), col(Model.deleted_at).is_(None)))
    .where(
        col(Run.id) == bindparam("run_id"),
        col(Run.deleted_at).is_(None),
        col(Project.deleted_at).is_(None),
        or_(bindparam("sees_all", type_=Boolean), visible_to(bindparam("user_id"))),
    )
    .order_by(col(Model.version).desc())  # one that was stopped and resumed has made several
    .limit(1)
)


class RunPublic(BaseModel):
    """A run; `state`, `progress` and `reason` are those of its job.

    Args:
        status: what the run itself last said, see `axons.train.run.Status`.
        ahead: jobs that run or start before it, while it waits.
        is_stopping: a person has asked to end it with a model of its best epoch.
        model_id: the newest model that it has made.
    """

    id: str
    project_id: str
    training_set_id: str
    job_id: str
    number: int
    name: str
    config: dict[str, Any]
    state: str
    progress: float
    reason: str
    ahead: int | None
    attempt: int
    is_stopping: bool
    status: dict[str, Any]
    evaluation: dict[str, Any]
    is_prepared: bool
    model_id: str | None
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


def start_run(platform: Platform, actor: Actor, form: RunCreate) -> Run:
    """Check a training and put it into the queue, or with `prepare` write its folder.

    Raises:
        ConfigurationRefused, InvalidRequest: name the field.
        LimitReached: the person has used what may be used, see `limits.check_trainings`.
        NotAllowed: the educators of the classroom do not let their students train at the moment.
        Conflict: the training set is not frozen yet.
    """
    row = platform.database.read(lambda session: _trainable(session, actor, form.training_set_id))
    manifest = load_training_set(platform.uri(row.key), sha256=row.sha256)
    check_config(actor, form.config, manifest)
    check_preset(platform.settings, form.config)
    check_free_space(platform.settings, 0)
    run = platform.database.write(lambda session: create_run(session, actor, form, platform.settings))
    if form.prepare:
        trainings.write_request(platform, run.id)
    return run


def check_config(actor: Actor, config: TrainConfig, manifest: Manifest) -> None:
    """Everything that can be wrong with a configuration, before anything is spent on it.

    Raises:
        ConfigurationRefused: names the field.
    """
    if config.encoder_weights is not None and not actor.is_administrator:
        raise ConfigurationRefused(
            "encoder_weights", "an address on the server is for administrators; start from a model of yours instead"
        )
    if len(manifest.images) > 1 and not manifest.images_of("val"):
        raise ConfigurationRefused(
            "training_set_id",
            f"{manifest.name!r} has {len(manifest.images)} images and none for validation; freeze it with a val share",
        )
    resolved = resolve(config, manifest, on_gpu=config.device == "gpu")
    if not is_sure(resolved):
        check(resolved)


def is_sure(resolved: ResolvedConfig) -> bool:
    """Whether the network is one of the defaults, which always work: the others cost seconds to try."""
    is_default = (resolved.network.architecture, resolved.network.encoder) in SURE_NETWORKS
    return is_default and resolved.batch // resolved.config.num_workers >= 2


def create_run(session: Session, actor: Actor, form: RunCreate, settings: Settings) -> Run:
    """A row and its job; trainings are counted in this transaction, with the person's row locked.

    Raises:
        LimitReached: see `start_run`.
    """
    row = _trainable(session, actor, form.training_set_id)
    project = get_project(session, actor, row.project_id, "edit")
    if form.config.init_model is not None:
        _check_init_model(session, actor, form.config.init_model)
    limit_minutes = None
    if is_limited(session, actor, project):
        limit_minutes = limit_of(session, project, "max_training_minutes", settings.max_training_minutes)
        _check_minutes(form.config, limit_minutes)
        check_trainings(session, actor, project, form.config.device, settings)
    take_turns(session, project)  # two runs must not get one number
    newest = session.exec(select(func.max(Run.number)).where(col(Run.project_id) == project.id)).one() or 0
    run_id = new_id()
    job = add_job(
        session,
        actor,
        "train",
        project,
        request={"limit_minutes": limit_minutes, "is_prepared": form.prepare},
        target_id=run_id,
    )
    run = Run(
        id=run_id,
        project_id=project.id,
        training_set_id=row.id,
        job_id=job.id,
        number=newest + 1,
        name=form.name or project.name,
        key=f"models/{run_id}",
        config=form.config.model_dump(mode="json"),
        is_prepared=form.prepare,
        created_by=actor.user_id,
    )
    session.add(run)
    session.flush()
    return run


def get_run(session: Session, actor: Actor, run_id: str) -> tuple[Run, Job]:
    """A run of a project that the actor sees, with its job.

    Raises:
        NotFound: there is none for the actor.
    """
    run, job, _model_id = _seen_run(session, actor, run_id)
    return run, job


def public_run(session: Session, actor: Actor, run_id: str) -> RunPublic:
    """See `get_run`; what others may see of it."""
    run, job, model_id = _seen_run(session, actor, run_id)
    return _public(run, job, _places(session, [job]), model_id)


def list_runs(
    session: Session, actor: Actor, *, project_id: str | None, cursor: str | None, limit: int
) -> tuple[list[RunPublic], str | None]:
    """Runs of a project, or the actor's own, the newest first."""
    statement = select(Run).where(col(Run.deleted_at).is_(None))
    if project_id is not None:
        statement = statement.where(col(Run.project_id) == get_project(session, actor, project_id).id)
    else:
        visible = select(Project.id).where(visible_projects(actor), col(Project.deleted_at).is_(None))
        statement = statement.where(col(Run.created_by) == actor.user_id, col(Run.project_id).in_(visible))
    keys = [col(Run.created_at), col(Run.id)]
    runs, following = page_of(session, statement, keys, cursor=cursor, limit=limit, newest_first=True)
    return public_runs(session, runs), following


def public_runs(session: Session, runs: Sequence[Run]) -> list[RunPublic]:
    """The public parts of rows, with their jobs, places in the queue and models."""
    jobs = {job.id: job for job in session.exec(select(Job).where(col(Job.id).in_([run.job_id for run in runs])))}
    of_runs = select(Model).where(col(Model.run_id).in_([run.id for run in runs]))
    models = session.exec(of_runs.order_by(col(Model.version))).all()
    model_of = {model.run_id: model.id for model in models if model.deleted_at is None}
    places = _places(session, jobs.values())
    return [_public(run, jobs[run.job_id or ""], places, model_of.get(run.id)) for run in runs]


def epochs_of(session: Session, actor: Actor, run_id: str, *, after: int) -> list[dict[str, Any]]:
    """The epochs of a run from `after` on, each once, in order."""
    get_run(session, actor, run_id)
    rows = session.exec(
        select(EpochMetric)
        .where(col(EpochMetric.run_id) == run_id, col(EpochMetric.epoch) > after)
        .order_by(col(EpochMetric.epoch))
    )
    return [row.metrics for row in rows]


def classes_of(session: Session, run: Run) -> list[str]:
    """Names of the classes of a run, in the order of its metrics."""
    summary = session.get_one(TrainingSet, run.training_set_id).summary
    return [found["name"] for found in summary.get("classes", [])]


def worst_tiles(session: Session, actor: Actor, run_id: str) -> list[WorstTilePublic]:
    """Tiles of the validation images to correct; empty until the run is done."""
    run, _ = get_run(session, actor, run_id)
    validation = run.evaluation.get("splits", {}).get("val", {})
    return tiles_to_correct(session, session.get_one(TrainingSet, run.training_set_id), validation.get("worst", []))


def cancel_run(session: Session, actor: Actor, run_id: str) -> Run:
    """Stop a run; see `jobs.cancel_job`."""
    run, job = get_run(session, actor, run_id)
    cancel_job(session, actor, job.id)
    return run


def stop_run(session: Session, actor: Actor, run_id: str) -> Run:
    """Let a run end within seconds with a model of its best epoch; one that has learnt nothing yet is cancelled.

    Raises:
        NotFound, NotAllowed, Conflict: see `jobs.job_to_end`.
    """
    run, job = get_run(session, actor, run_id)
    if job.state == "queued" and not run.status.get("epoch"):
        cancel_job(session, actor, job.id)
        return run
    job = job_to_end(session, actor, job.id)
    if not job.result.get("is_stopping"):
        job.result = {**job.result, "is_stopping": True}
        audit.record(session, actor, "run.stop", "run", run.id, owner=job.user_id)
    return run


def resume_run(session: Session, actor: Actor, run_id: str, settings: Settings) -> Run:
    """Put a run that failed or was ended early back into the queue; it goes on from its last checkpoint.

    Raises:
        Conflict: it is done, or not over yet.
        LimitReached: see `start_run`.
    """
    run, job = get_run(session, actor, run_id)
    project = get_project(session, actor, run.project_id, "edit")
    session.exec(select(Job).where(col(Job.id) == job.id).with_for_update()).one()
    was_stopped = job.state == "done" and bool(run.status.get("is_stopped"))
    if job.state not in ("failed", "cancelled") and not was_stopped:
        raise Conflict(f"run {run.number} is {job.state}; only one that failed or was ended early can be resumed")
    if is_limited(session, actor, project):
        check_trainings(session, actor, project, run.config.get("device", "auto"), settings)
        minutes = limit_of(session, project, "max_training_minutes", settings.max_training_minutes)
        job.request = {**job.request, "limit_minutes": minutes}
    job.state = "queued"
    job.reason = ""
    job.finished_at = None
    job.cancel_requested_at = None
    # Its attempts go on counting: what an older one still writes is refused.
    job.result = {"after_attempt": job.result.get("after_attempt", 0)}
    job.request = {**job.request, "is_prepared": False}
    job.log += queue.log_line("resumed")
    return run


def delete_run(session: Session, actor: Actor, platform: Platform, run_id: str) -> None:
    """Into the trash; the model that came out stays.

    Raises:
        Conflict: it is not over yet.
    """
    run, job = get_run(session, actor, run_id)
    get_project(session, actor, run.project_id, "edit")
    if job.finished_at is None:
        raise Conflict(f"run {run.number} is {job.state}; cancel it first")
    throw_away(session, actor, "run", run, days=platform.settings.trash_days)


def _trainable(session: Session, actor: Actor, training_set_id: str) -> TrainingSet:
    row = ready_training_set(session, actor, training_set_id)
    project = get_project(session, actor, row.project_id, "edit")
    if not is_switched_on(session, actor, project.classroom_id, "may_train"):
        raise NotAllowed("your class does not train at the moment; ask your educator to allow it")
    return row


def _check_init_model(session: Session, actor: Actor, model_id: str) -> None:
    try:
        if re.fullmatch("[A-Za-z0-9_-]{1,64}", model_id) is None:  # an address, which only the platform may give
            raise NotFound(f"{model_id!r} is not the id of a model")
        get_model(session, actor, model_id)
    except NotFound as error:
        raise InvalidRequest("init_model", f"there is no model {model_id!r}; choose one from the list") from error


def _check_minutes(config: TrainConfig, limit: float) -> None:
    if config.minutes is not None and config.minutes > limit:
        raise ConfigurationRefused(
            "minutes", f"{config.minutes:g} minutes are more than the {limit:g} you may train; choose fewer"
        )


def _places(session: Session, jobs: Iterable[Job]) -> dict[str, int]:
    return queue.ahead(session) if any(job.state == "queued" for job in jobs) else {}


def _public(run: Run, job: Job, places: dict[str, int], model_id: str | None) -> RunPublic:
    shown = JobPublic.of(job, ahead=places.get(job.id))
    return RunPublic(
        **run.model_dump(include=set(RunPublic.model_fields)),
        **shown.model_dump(include={"state", "progress", "reason", "ahead", "attempt", "started_at", "finished_at"}),
        model_id=model_id,
        is_stopping=bool(job.result.get("is_stopping")) and job.finished_at is None,
    )


def _seen_run(session: Session, actor: Actor, run_id: str) -> tuple[Run, Job, str | None]:
    asked = {"run_id": run_id, "user_id": actor.user_id, "sees_all": actor.is_administrator}
    found = session.exec(_RUN, params=asked).first()
    if found is None:
        raise NotFound(f"there is no run {run_id!r}; look at the list of the project's runs")
    return found
