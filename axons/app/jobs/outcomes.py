"""How jobs end: with news for their person, or back in the queue after a crash."""

from sqlmodel import Session

from axons.app.jobs import queue
from axons.app.services.jobs import end_job
from axons.app.tables import Job, Notification, Project

MAX_CRASHES = 5
MAX_PUT_OFF = 60  # times; at each the storage is asked for up to half a minute

_TITLES = {
    "import": "Import",
    "tile": "Tiling",
    "freeze": "Training set",
    "train": "Training",
    "evaluate": "Evaluation",
    "predict": "Prediction",
    "export": "Export",
}
_MAX_NEWS = 400
_STORAGE_IS_AWAY = "the storage did not answer"


def end_with_news(session: Session, job: Job, state: str, reason: str, *, link: str = "") -> None:
    """Give a job its final state and tell its person."""
    end_job(session, job, state, reason)
    if job.kind not in _TITLES:
        return
    project = session.get(Project, job.project_id) if job.project_id else None
    where = f" in {project.name!r}" if project else ""
    news = f"{_TITLES[job.kind]}{where} {state}" + (f": {reason}" if reason and reason != state else "")
    session.add(Notification(user_id=job.user_id, text=news[:_MAX_NEWS], link=link or f"/jobs/{job.id}"))


def interrupt(session: Session, job: Job, why: str) -> None:
    """Put a job that a crash has interrupted back into the queue; after the fifth crash it has failed."""
    crashes = int(job.result.get("crashes", 0)) + 1
    failure = f"{why}, {crashes} times; tell the administrator the job {job.id}"
    _begin_again(
        session, job, f"{why}; it starts again", {"crashes": crashes}, failure if crashes > MAX_CRASHES else ""
    )


def put_off(session: Session, job: Job) -> None:
    """Put a job for which the storage did not answer back into the queue; in the end it has failed."""
    times = int(job.result.get("put_off", 0)) + 1
    failure = f"{_STORAGE_IS_AWAY}, {times} times; tell the administrator the job {job.id}"
    reason = f"{_STORAGE_IS_AWAY}; it starts again by itself"
    _begin_again(session, job, reason, {"put_off": times}, failure if times > MAX_PUT_OFF else "")


def _begin_again(session: Session, job: Job, reason: str, counts: dict[str, int], failure: str) -> None:
    """Back into the queue, unless somebody has cancelled it or, as `failure` says, it was tried often enough."""
    if job.state not in queue.ACTIVE_STATES:
        return
    job.result = {**job.result, **counts, "submitted": None}
    if job.cancel_requested_at is not None:
        end_with_news(session, job, "cancelled", str(job.result.get("stop_reason") or "cancelled"))
    elif failure:
        end_with_news(session, job, "failed", failure)
    else:
        job.state = "queued"
        job.reason = reason
        job.log += queue.log_line(job.reason)
    session.add(job)
