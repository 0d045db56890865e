"""The order in which waiting jobs start: round-robin over classrooms, and over the people of each."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import func
from sqlmodel import Session, col, select

from axons.app.tables import Job, now

ACTIVE_STATES = ("preparing", "running", "validating")
TRAININGS = ("train",)
DATASETS = ("import", "tile", "freeze", "evaluate", "predict", "export", "cleanup")

_NEVER = datetime.min.replace(tzinfo=UTC)

_K = TypeVar("_K")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A job in the queue; one that a crash, or the storage, has interrupted comes first, for it has had its turn."""

    job_id: str
    classroom_id: str | None
    user_id: str
    created_at: datetime
    is_interrupted: bool = False


@dataclass(frozen=True, kw_only=True)
class Served:
    """When each classroom and each person last had a job started."""

    classrooms: Mapping[str | None, datetime]
    users: Mapping[str, datetime]


def fair_order(waiting: Iterable[Waiting], served: Served) -> list[str]:
    """Ids of the waiting jobs as they will start: who was served longest ago comes first, one job at a time."""
    ordered = sorted(waiting, key=lambda job: job.created_at)
    first = [job.job_id for job in ordered if job.is_interrupted]
    classrooms: dict[str | None, dict[str, deque[str]]] = {}
    for job in ordered:
        if not job.is_interrupted:
            users = classrooms.setdefault(job.classroom_id, {})
            users.setdefault(job.user_id, deque()).append(job.job_id)
    turns = {
        classroom_id: deque(users[user_id] for user_id in _longest_ago(users, served.users))
        for classroom_id, users in classrooms.items()
    }
    rounds = deque(turns[classroom_id] for classroom_id in _longest_ago(turns, served.classrooms))
    while rounds:
        people = rounds.popleft()
        jobs = people.popleft()
        first.append(jobs.popleft())
        if jobs:
            people.append(jobs)
        if people:
            rounds.append(people)
    return first


def waiting_in_order(session: Session, kinds: Sequence[str]) -> list[str]:
    """Ids of the jobs of these kinds that wait for the dispatcher, in the order in which they will start."""
    is_waiting = (col(Job.state) == "queued", col(Job.kind).in_(kinds))
    rows = session.exec(select(Job).where(*is_waiting)).all()
    waiting = [
        Waiting(
            job_id=job.id,
            classroom_id=job.classroom_id,
            user_id=job.user_id,
            created_at=job.created_at,
            is_interrupted=bool(job.result.get("crashes") or job.result.get("put_off")),
        )
        for job in rows
        if not job.request.get("is_prepared")  # somebody else submits it
    ]
    if not waiting:
        return []
    return fair_order(waiting, _served(session, kinds, {job.user_id for job in waiting}))


def num_active(session: Session, kinds: Sequence[str]) -> int:
    """Jobs of these kinds that have been started and have not ended."""
    counting = select(func.count()).where(col(Job.state).in_(ACTIVE_STATES), col(Job.kind).in_(kinds))
    return session.exec(counting).one()


def ahead(session: Session) -> dict[str, int]:
    """For each waiting job, how many are before it: those that run, and those that will start earlier."""
    places: dict[str, int] = {}
    for kinds in (TRAININGS, DATASETS):
        running = num_active(session, kinds)
        places.update({job_id: running + i for i, job_id in enumerate(waiting_in_order(session, kinds))})
    return places


def claim(session: Session, job_id: str) -> Job | None:
    """Begin the next attempt of a waiting job; None if it does not wait any more."""
    job = session.exec(select(Job).where(col(Job.id) == job_id).with_for_update()).one()
    if job.state != "queued":
        return None
    job.state = "preparing"
    job.attempt += 1
    job.progress = 0.0
    job.reason = ""
    job.started_at = now()
    job.log += log_line(f"attempt {job.attempt} begins")
    return job


def log_line(text: str) -> str:
    """A line for the log of a job."""
    return f"{now():%Y-%m-%dT%H:%M:%SZ} {text}\n"


def _served(session: Session, kinds: Sequence[str], user_ids: set[str]) -> Served:
    was_started = (col(Job.kind).in_(kinds), col(Job.started_at).is_not(None))
    last: Any = func.max(col(Job.started_at))
    users = session.exec(
        select(Job.user_id, last).where(*was_started, col(Job.user_id).in_(user_ids)).group_by(Job.user_id)
    )
    classrooms = session.exec(select(Job.classroom_id, last).where(*was_started).group_by(col(Job.classroom_id)))
    return Served(users=dict(users.all()), classrooms=dict(classrooms.all()))


def _longest_ago(keys: Iterable[_K], served: Mapping[_K, datetime]) -> list[_K]:
    """Sorted by when they were served, who never was first; of equals the order stays."""
    return sorted(keys, key=lambda key: served.get(key, _NEVER))
