"""Trainings: a run folder goes to the cluster as a Ray job, and what appears in the folder comes into the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlmodel import Session, col, delete, func, select

from axons.app import metrics
from axons.app.jobs import queue
from axons.app.jobs.outcomes import end_with_news, interrupt
from axons.app.jobs.work import Cluster, Submission
from axons.app.platform import Platform
from axons.app.services.presets import shares_of
from axons.app.services.turns import take_turns
from axons.app.tables import EpochMetric, Job, Model, Project, Run, TrainingSet, User, now
from axons.errors import ChecksumMismatch, ModelRefused, ObjectNotFound, ServerUnavailable
from axons.model.files import WEIGHTS, ModelCard, load_card
from axons.train.config import TrainConfig
from axons.train.run import MODEL, REQUEST, RunFolder, RunMetrics, RunRequest, Status

_STOP_AFTER_S = 5  # the run itself looks at its cancel flag every two seconds
_GIVE_UP_AFTER_S = 8
_GRACE = timedelta(minutes=15)  # for starting and evaluating, beside the minutes of training


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What was found in the run folder, read before the transaction that writes it down."""

    status: Status
    metrics: RunMetrics | None
    submission: Submission


def run_request(session: Session, platform: Platform, run: Run) -> RunRequest:
    """The request of a run, as it is written into its folder; addresses come from rows, never from people."""
    training_set = session.get_one(TrainingSet, run.training_set_id)
    config = dict(run.config)
    if config.get("init_model"):
        config["init_model"] = platform.uri(session.get_one(Model, config["init_model"]).key)
    settled = TrainConfig.model_validate(config)
    return RunRequest(
        run_id=run.id,
        name=run.name,
        training_set=platform.uri(training_set.key),
        training_set_sha256=training_set.sha256,
        config=settled,
        metadata=_metadata(session, run),
        cpu_resources=platform.settings.train_cpu_resources,
        **shares_of(platform.settings, settled),
    )


def write_request(platform: Platform, run_id: str) -> RunFolder:
    """Write `run.json` once; returns the folder."""
    run, request = platform.database.read(
        lambda session: (run := session.get_one(Run, run_id), run_request(session, platform, run))
    )
    folder = RunFolder(platform.uri(run.key))
    folder.storage.write(REQUEST, request.packed())
    return folder


def submission_id(job: Job) -> str:
    """Under this id the cluster takes an attempt once, however often it is asked; a prepared run is its first."""
    return f"{job.id}-{max(1, job.attempt)}"


def followed(session: Session) -> Sequence[str]:
    """Jobs of trainings that have been started, and prepared ones that a person may submit at any time."""
    rows = session.exec(
        select(Job).where(col(Job.kind) == "train", col(Job.state).in_((*queue.ACTIVE_STATES, "queued")))
    ).all()
    return [job.id for job in rows if job.state != "queued" or job.request.get("is_prepared")]


def start(platform: Platform, cluster: Cluster, job_id: str) -> None:
    """Begin an attempt of a waiting training."""
    job = platform.database.read(lambda session: session.get_one(Job, job_id))
    assert job.target_id is not None
    folder = write_request(platform, job.target_id)
    folder.clear_cancel()
    # Of a run that died while it was stopped, the next attempt only publishes the best.
    (folder.request_stop if job.result.get("is_stopping") else folder.clear_stop)()
    after = folder.last_attempt()

    def claim(session: Session) -> Job | None:
        claimed = queue.claim(session, job_id)
        if claimed is not None:
            # What the folder says of this attempt or an older one is not about us.
            claimed.result = {**claimed.result, "after_attempt": after, "submitted": None}
        return claimed

    claimed = platform.database.write(claim)
    if claimed is not None:
        metrics.count_start(claimed)
        _submit(platform, cluster, claimed, folder)


def follow(platform: Platform, cluster: Cluster, job_id: str) -> None:
    """Bring a training's rows up to date with its folder and with the cluster, and end it when it is over."""
    job, run = platform.database.read(lambda session: _job_and_run(session, job_id))
    if job.state not in queue.ACTIVE_STATES and not job.request.get("is_prepared"):
        return
    folder = RunFolder(platform.uri(run.key))
    submission = _submission(cluster, job)
    status = folder.status()  # after the question to the cluster: what has ended has written its last status
    is_ours = status.is_complete or status.attempt > int(job.result.get("after_attempt", 0))
    was_submitted = job.request.get("is_prepared") or job.result.get("submitted") or is_ours
    if submission == "unknown" and not was_submitted and job.cancel_requested_at is None:
        _submit(platform, cluster, job, folder)
        return
    seen = _Seen(status=status, metrics=folder.metrics() if is_ours else None, submission=submission)
    if is_ours and status.is_final:
        _end(platform, job, run, folder, seen)
    elif is_ours or job.state != "queued" or job.cancel_requested_at is not None:
        _carry_on(platform, cluster, job, folder, seen, is_ours=is_ours)
    if is_ours and status.is_on_gpu:
        more_s = status.seconds - float(run.status.get("seconds", 0.0))
        metrics.count_gpu_seconds(job.user_id, more_s, lambda: folder.request().gpu_share * status.num_workers)


def _submit(platform: Platform, cluster: Cluster, job: Job, folder: RunFolder) -> None:
    metadata = platform.database.read(lambda session: _metadata(session, session.get_one(Run, job.target_id)))
    cluster.submit(submission_id(job), folder.uri, metadata)

    def remember(session: Session) -> None:
        current = _current(session, job)
        if current is not None:
            current.result = {**current.result, "submitted": job.attempt}

    platform.database.write(remember)


def _submission(cluster: Cluster, job: Job) -> Submission:
    try:
        return cluster.submission(submission_id(job))
    except ServerUnavailable:
        if job.cancel_requested_at is None:
            raise
        return "running"  # as far as anybody knows; a person who cancels does not wait for Ray


def _carry_on(platform: Platform, cluster: Cluster, job: Job, folder: RunFolder, seen: _Seen, *, is_ours: bool) -> None:
    """The training is not over, as far as its folder says."""
    is_gone = seen.submission == "ended" or (seen.submission == "unknown" and bool(job.result.get("submitted")))
    why = "the training's process is gone"
    if is_gone and (words := cluster.last_words(submission_id(job))):
        why = f"{why} ({words})"

    def write(session: Session) -> Job | None:
        current = _current(session, job)
        if current is None:
            return None
        current.reason = ""  # the cluster has answered
        if is_ours:
            _show(session, current, seen)
        if current.cancel_requested_at is None and (reason := _overlong(current, seen, is_ours=is_ours)):
            current.result = {**current.result, "stop_reason": reason}
            current.cancel_requested_at = now()
        if is_gone and current.request.get("is_prepared"):
            end_with_news(session, current, "failed", f"{why}; submit it again to resume it")
        elif is_gone:
            interrupt(session, current, why)
        return current

    current = platform.database.write(write)
    if current is None or is_gone:
        return
    if current.result.get("is_stopping") and not folder.stop_requested():
        folder.request_stop()
    if current.cancel_requested_at is not None:
        _cancel(platform, cluster, current, folder)


def _cancel(platform: Platform, cluster: Cluster, job: Job, folder: RunFolder) -> None:
    """Ask the run, then interrupt it, then call it over: what it may still write is of an older attempt."""
    assert job.cancel_requested_at is not None
    waited = (now() - job.cancel_requested_at).total_seconds()
    if not folder.cancel_requested():
        folder.request_cancel()
    if waited > _STOP_AFTER_S:
        try:
            cluster.stop(submission_id(job))
        except ServerUnavailable:
            if waited <= _GIVE_UP_AFTER_S:
                raise
    if waited > _GIVE_UP_AFTER_S:

        def write(session: Session) -> None:
            current = _current(session, job)
            if current is not None:
                _end_cancelled(session, current)

        platform.database.write(write)


def _end(platform: Platform, job: Job, run: Run, folder: RunFolder, seen: _Seen) -> None:
    """The folder says that the run is over: check what came out, then write all of it down in one transaction."""
    card: ModelCard | None = None
    problem = ""
    if seen.status.state == "done":
        try:
            card = check_model(platform, run, seen.status.model)
        except (ModelRefused, ChecksumMismatch) as error:
            problem = f"the trained model did not pass validation: {error}"
    evaluation = (folder.evaluation() or {}) if card else {}

    def write(session: Session) -> None:
        current = _current(session, job)
        if current is None:
            return
        _show(session, current, seen, is_last=True)
        if card is not None:
            row = session.get_one(Run, run.id)
            row.evaluation = evaluation
            model = add_model(session, run, card, key=f"{run.key}/{seen.status.model}")
            score = f", mean IoU {model.mean_iou:.3f}" if model.mean_iou is not None else ""
            how = f"{seen.status.reason}: " if seen.status.is_stopped else ""
            reason = f"{how}model {model.name!r} version {model.version}{score}"
            end_with_news(session, current, "done", reason, link=f"/runs/{run.id}")
        elif seen.status.state == "cancelled":
            _end_cancelled(session, current, seen.status.reason)
        else:
            end_with_news(session, current, "failed", problem or seen.status.reason, link=f"/runs/{run.id}")

    platform.database.write(write)
    platform.storage.delete_prefix(f"tmp/{job.id}")


def check_model(platform: Platform, run: Run, name: str = MODEL) -> ModelCard:
    """The card of the model that a run has made in this folder, once its bytes are known to be whole and its own.

    Raises:
        ModelRefused, ChecksumMismatch: it is damaged, or it is another run's.
    """
    key = f"{run.key}/{name}"
    card = load_card(platform.uri(key))
    if card.origin.run != run.id:
        raise ModelRefused(f"the model says that run {card.origin.run!r} has made it; train again")
    try:
        platform.storage.local_path(f"{key}/{WEIGHTS}", sha256=card.sha256)
    except ObjectNotFound as error:
        raise ModelRefused(f"its {WEIGHTS} is missing; train again") from error
    return card


def add_model(session: Session, run: Run, card: ModelCard, *, key: str) -> Model:
    """The model of a run in a folder as the next version of its name; the same row if it is there already.

    A run that was stopped and resumed has made several.
    """
    found = session.exec(select(Model).where(col(Model.run_id) == run.id, col(Model.key) == key)).first()
    if found is not None:
        return found
    project = session.get_one(Project, run.project_id)
    take_turns(session, project)  # two models must not get one version
    same = (col(Model.project_id) == run.project_id, col(Model.name) == run.name)
    newest = session.exec(select(func.max(Model.version)).where(*same)).one() or 0
    has_promoted = session.exec(select(Model.id).where(*same, col(Model.is_promoted))).first() is not None
    score = mean_iou_of(card)
    model = Model(
        project_id=run.project_id,
        run_id=run.id,
        name=run.name,
        version=newest + 1,
        key=key,
        sha256=card.sha256,
        card=card.model_dump(mode="json"),
        mean_iou=score,
        is_promoted=not has_promoted and score is not None and score >= project.threshold,
        created_by=run.created_by,
    )
    session.add(model)
    session.flush()
    return model


def mean_iou_of(card: ModelCard) -> float | None:
    """On the test split, or on validation where there is no test."""
    for split in ("test", "val"):
        score = card.scores.get(split, {}).get("mean_iou")
        if score is not None:
            return float(score)
    return None


def _end_cancelled(session: Session, job: Job, reason: str = "") -> None:
    if stopped := job.result.get("stop_reason"):
        end_with_news(session, job, "failed", str(stopped))
    else:
        end_with_news(session, job, "cancelled", reason or "cancelled")


def _show(session: Session, job: Job, seen: _Seen, *, is_last: bool = False) -> None:
    """Status and epochs of the folder in the rows."""
    status = seen.status
    run = session.get_one(Run, job.target_id)
    is_restart = run.status.get("attempt") != status.attempt
    run.status = status.model_dump(mode="json")
    if not status.is_final:
        job.state = "preparing" if status.state == "queued" else status.state
        job.progress = status.progress
        job.started_at = job.started_at or now()
        job.reason = ""
    if seen.metrics is None or seen.metrics.attempt > status.attempt:
        return
    last = session.exec(select(func.max(EpochMetric.epoch)).where(col(EpochMetric.run_id) == run.id)).one() or 0
    # After a restart epochs are trained anew from the last checkpoint: their rows are replaced, never doubled.
    first = 1 if is_restart or is_last else last + 1
    for epoch in seen.metrics.epochs:
        if epoch.epoch >= first:
            session.merge(EpochMetric(run_id=run.id, epoch=epoch.epoch, metrics=epoch.model_dump(mode="json")))
    if is_last:
        beyond = col(EpochMetric.epoch) > len(seen.metrics.epochs)
        session.exec(delete(EpochMetric).where(col(EpochMetric.run_id) == run.id, beyond))


def _overlong(job: Job, seen: _Seen, *, is_ours: bool) -> str | None:
    """Why the training must stop, if it has used up its time."""
    limit = job.request.get("limit_minutes")
    if limit is None or job.started_at is None:
        return None
    allowed = timedelta(minutes=float(limit))
    trained = timedelta(seconds=seen.status.seconds) if is_ours else timedelta()
    if trained <= allowed and now() - job.started_at <= allowed + _GRACE:
        return None
    return (
        f"it was stopped at the limit of {float(limit):g} minutes; choose fewer epochs or fewer minutes, "
        "or ask your educator for more"
    )


def _metadata(session: Session, run: Run) -> dict[str, str]:
    user, project = session.get_one(User, run.created_by), session.get_one(Project, run.project_id)
    # The names first: the dashboard shows the beginning.
    return {"user": user.name, "project": project.name, "run": run.name, "project_id": project.id, "run_id": run.id}


def _job_and_run(session: Session, job_id: str) -> tuple[Job, Run]:
    job = session.get_one(Job, job_id)
    return job, session.get_one(Run, job.target_id)


def _current(session: Session, job: Job) -> Job | None:
    """The job as it is now, if it is still at this attempt and not over: what comes late is refused here."""
    current = session.exec(select(Job).where(col(Job.id) == job.id).with_for_update()).one()
    is_open = current.state in queue.ACTIVE_STATES or bool(current.request.get("is_prepared"))
    return current if current.attempt == job.attempt and is_open and current.finished_at is None else None
