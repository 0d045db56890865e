"""How jobs end: with news for their person, or back in the queue after a crash."""

from sqlmodel import Session

from axons.app.jobs import queue
from axons.app.services.jobs import end_job
from axons.app.tables import Job, Notification, Project

MAX_CRASHES = 5

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
    if job.state not in queue.ACTIVE_STATES:
        return
    crashes = int(job.result.get("crashes", 0)) + 1
    job.result = {**job.result, "crashes": crashes, "submitted": None}
    if job.cancel_requested_at is not None:
        end_with_news(session, job, "cancelled", str(job.result.get("stop_reason") or "cancelled"))
    elif crashes > MAX_CRASHES:
        end_with_news(session, job, "failed", f"{why}, {crashes} times; tell the administrator the job {job.id}")
    else:
        job.state = "queued"
        job.reason = f"{why}; it starts again"
        job.log += queue.log_line(job.reason)
    session.add(job)
