"""What one person may use: trainings at a time, and minutes on GPUs; the person's own limits come first."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func
from sqlmodel import Session, col, select

from axons.app.jobs import queue
from axons.app.policy import Actor
from axons.app.services import audit
from axons.app.services.access import Limit, get_project, limit_of, teaches
from axons.app.services.turns import take_turns
from axons.app.settings import Settings
from axons.app.tables import Job, Project, Run, User
from axons.errors import LimitReached


class PersonLimits(BaseModel):
    """What one person may use, instead of the limits of the class and the installation; None is those.

    Args:
        max_gpu_minutes: of all trainings of the person on GPUs, see `gpu_minutes_of`.
    """

    model_config = ConfigDict(extra="forbid")

    max_active_trainings: int | None = Field(None, ge=0, le=100)
    max_gpu_minutes: float | None = Field(None, ge=0, le=1_000_000)


class TrainingLimits(BaseModel):
    """What somebody may train in a project, and how much of it is used; a limit of None is none.

    Args:
        num_active_trainings: of the person, in all projects, that wait or run.
        gpu_minutes: of all trainings of the person on GPUs so far.
    """

    num_active_trainings: int
    max_active_trainings: int | None
    max_training_minutes: float | None
    gpu_minutes: float
    max_gpu_minutes: float | None


def training_limits(session: Session, actor: Actor, project_id: str, settings: Settings) -> TrainingLimits:
    """What the actor may train in a project.

    Raises:
        NotFound: the actor does not see it.
    """
    project = get_project(session, actor, project_id)
    used = {
        "num_active_trainings": num_active_trainings(session, actor.user_id),
        "gpu_minutes": gpu_minutes_of(session, [actor.user_id]).get(actor.user_id, 0.0),
    }
    if not is_limited(session, actor, project):
        return TrainingLimits(**used, max_active_trainings=None, max_training_minutes=None, max_gpu_minutes=None)
    return TrainingLimits(
        **used,
        max_active_trainings=int(_most_trainings(session, actor, project, settings)),
        max_training_minutes=limit_of(session, project, "max_training_minutes", settings.max_training_minutes),
        max_gpu_minutes=_most_gpu_minutes(session, actor, project, settings),
    )


def is_limited(session: Session, actor: Actor, project: Project) -> bool:
    """Whether the limits of students hold for the actor."""
    return actor.role == "student" and not teaches(session, actor, project.classroom_id)


def check_trainings(session: Session, actor: Actor, project: Project, device: str, settings: Settings) -> None:
    """Refuse one training more than the actor may have; transactions that ask this for one actor take turns.

    Raises:
        LimitReached: too many trainings wait or run, or the minutes on GPUs are used up and the training may use one.
    """
    take_turns(session, session.get_one(User, actor.user_id))
    active, most = num_active_trainings(session, actor.user_id), _most_trainings(session, actor, project, settings)
    if active >= most:
        raise LimitReached(
            f"you have {active} of {most:g} trainings waiting or running; wait for one to end, or cancel it"
        )
    allowed = _most_gpu_minutes(session, actor, project, settings)
    if device == "cpu" or allowed is None:
        return
    used = gpu_minutes_of(session, [actor.user_id]).get(actor.user_id, 0.0)
    if used >= allowed:
        raise LimitReached(
            f"you have used {used:.0f} of your {allowed:g} GPU minutes; train on the CPU, or ask your educator for more"
        )


def num_active_trainings(session: Session, user_id: str) -> int:
    """Trainings of a person that wait or run; a prepared run that nobody has submitted uses nothing."""
    open_states = (*queue.ACTIVE_STATES, "queued")
    jobs = session.exec(
        select(Job).where(col(Job.user_id) == user_id, col(Job.kind) == "train", col(Job.state).in_(open_states))
    )
    return sum(not (job.state == "queued" and job.request.get("is_prepared")) for job in jobs)


def gpu_minutes_of(session: Session, user_ids: Sequence[str]) -> dict[str, float]:
    """Minutes of people's trainings on GPUs so far, times their workers, by the id of who started them; 0 is left out.

    Those that run and those in the trash count, too; what runs on a CPU, evaluations and predictions do not.
    """
    status: Any = col(Run.status)
    device = status["device"].as_string()
    seconds = status["seconds"].as_float() * func.coalesce(status["num_workers"].as_integer(), 1)
    rows = session.exec(
        select(Run.created_by, func.sum(seconds))
        .where(col(Run.created_by).in_(user_ids), device.is_not(None), device.not_like("CPU%"))
        .group_by(col(Run.created_by))
    )
    return {user_id: total / 60 for user_id, total in rows if total}


def set_person_limits(session: Session, actor: Actor, user: User, limits: PersonLimits) -> None:
    """Change those of a person's limits that are given; the caller knows that the actor may."""
    changes = limits.model_dump(exclude_unset=True)
    user.limits = {**user.limits, **changes}
    audit.record(session, actor, "user.limits", "user", user.id, **changes)


def _own_limit(session: Session, actor: Actor, name: str, otherwise: Limit) -> Limit:
    own = session.get_one(User, actor.user_id).limits.get(name)
    return otherwise if own is None else float(own)


def _most_trainings(session: Session, actor: Actor, project: Project, settings: Settings) -> float:
    otherwise = limit_of(session, project, "max_active_trainings", settings.max_active_trainings)
    return _own_limit(session, actor, "max_active_trainings", otherwise)


def _most_gpu_minutes(session: Session, actor: Actor, project: Project, settings: Settings) -> float | None:
    otherwise = limit_of(session, project, "max_gpu_minutes", settings.max_gpu_minutes)
    return _own_limit(session, actor, "max_gpu_minutes", otherwise)
