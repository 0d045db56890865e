"""How far each student of a class has come, who waits for what, and who is stuck."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services.classrooms import get_classroom
from axons.app.services.jobs import public_jobs
from axons.app.services.limits import PersonLimits, gpu_minutes_of
from axons.app.tables import (
    FINAL_STATES,
    Assignment,
    HandIn,
    Image,
    Job,
    Membership,
    Model,
    Prediction,
    Project,
    ProjectMember,
    Run,
    Tile,
    Tiling,
    TrainingSet,
    User,
    now,
)

StuckBecause = Literal["training failed", "nothing changed", "not begun"]

STUCK_MINUTES = 30.0


class StudentProject(BaseModel):
    """A project of the class that a student owns or edits."""

    id: str
    name: str


class OpenJob(BaseModel):
    """What a student waits for: of several jobs the one that runs or starts first.

    Args:
        ahead: jobs that run or start before it; None unless it waits.
    """

    id: str
    kind: str
    state: str
    progress: float
    ahead: int | None
    reason: str
    project_id: str | None


class StudentProgress(BaseModel):
    """A student's way through the pipeline, in all projects of the class that are the student's or edited with others.

    Args:
        num_trainings_by_state: done, failed, cancelled, and open for those that wait or run.
        num_active_trainings: of the student, that count against the limit of the class.
        gpu_minutes: of the student's trainings on GPUs, those in the trash too; `training_minutes`: on any device.
        all_gpu_minutes: of the student's trainings elsewhere too, which are what `max_gpu_minutes` limits.
        limits: of the student alone, instead of those of the class.
        last_change_at: None where there is no project yet.
        stuck_because: None unless the student is stuck; `reason` is it in a sentence, of a training that of the job.
    """

    user_id: str
    name: str
    display_name: str
    is_active: bool
    projects: list[StudentProject]
    num_images: int
    num_tiles_by_status: dict[str, int]
    num_training_sets: int
    num_trainings_by_state: dict[str, int]
    num_active_trainings: int
    num_models: int
    num_predictions: int
    num_hand_ins: int
    job: OpenJob | None
    gpu_minutes: float
    all_gpu_minutes: float
    training_minutes: float
    limits: PersonLimits
    last_change_at: datetime | None
    is_stuck: bool
    stuck_because: StuckBecause | None
    reason: str


@dataclass(kw_only=True)
class _Work:
    """What there is in some projects."""

    counts: Counter[str] = field(default_factory=Counter)
    tiles: Counter[str] = field(default_factory=Counter)
    trainings: Counter[str] = field(default_factory=Counter)
    changed: list[datetime] = field(default_factory=list)
    newest_run: tuple[datetime, str, str] | None = None  # when it was made, its state and reason

    def note(self, *moments: datetime | None) -> None:
        self.changed += [moment for moment in moments if moment is not None]

    def add(self, other: "_Work") -> None:
        self.counts += other.counts
        self.tiles += other.tiles
        self.trainings += other.trainings
        self.changed += other.changed
        self.newest_run = max(filter(None, (self.newest_run, other.newest_run)), default=None)


@dataclass(kw_only=True)
class _Own:
    """What is of a student alone, whoever owns the project."""

    num_hand_ins: int = 0
    handed_in_at: datetime | None = None
    gpu_minutes: float = 0.0
    all_gpu_minutes: float = 0.0
    training_minutes: float = 0.0
    num_active_trainings: int = 0
    job: OpenJob | None = None


def class_progress(
    session: Session, actor: Actor, classroom_id: str, *, stuck_minutes: float = STUCK_MINUTES
) -> list[StudentProgress]:
    """All students of a class, those who are stuck first; the number of queries does not grow with the class.

    Stuck is whose last training failed, and who has changed nothing for so many minutes, has nothing in the queue and
    has not just handed in.

    Raises:
        NotFound, NotAllowed: see `get_classroom`.
    """
    get_classroom(session, actor, classroom_id, teaching=True)
    students = session.exec(
        select(User, Membership.created_at)
        .join(Membership, col(Membership.user_id) == User.id)
        .where(col(Membership.classroom_id) == classroom_id, col(Membership.role) == "student")
    ).all()
    projects, works = _projects_by_student(session, classroom_id)
    own: dict[str, _Own] = defaultdict(_Own)
    _count_work(session, classroom_id, works)
    _read_runs(session, classroom_id, works, own)
    _read_hand_ins(session, classroom_id, own)
    _read_jobs(session, classroom_id, own)
    for user_id, minutes in gpu_minutes_of(session, [user.id for user, _ in students]).items():
        own[user_id].all_gpu_minutes = minutes
    since = now() - timedelta(minutes=stuck_minutes)
    rows = [
        _row(
            user,
            joined_at,
            projects[user.id],
            [works[project.id] for project in projects[user.id]],
            own[user.id],
            since,
        )
        for user, joined_at in students
    ]
    return sorted(rows, key=_urgency)


def _urgency(row: StudentProgress) -> tuple[bool, bool, str]:
    return (not row.is_stuck, row.stuck_because != "training failed", row.name.casefold())


def _of_class(classroom_id: str) -> ColumnElement[bool]:
    """The condition on `Project` rows of a class that are not in the trash."""
    return (col(Project.classroom_id) == classroom_id) & col(Project.deleted_at).is_(None)


def _projects_by_student(
    session: Session, classroom_id: str
) -> tuple[dict[str, list[StudentProject]], dict[str, _Work]]:
    """Own projects and those that are edited with others, the newest first; and what there is in each, by its id."""
    projects = session.exec(
        select(Project).where(_of_class(classroom_id)).order_by(col(Project.created_at).desc(), col(Project.id))
    ).all()
    shared = session.exec(
        select(ProjectMember.project_id, ProjectMember.user_id)
        .join(Project, col(Project.id) == ProjectMember.project_id)
        .where(_of_class(classroom_id), col(ProjectMember.role) != "viewer")
    )
    people: dict[str, set[str]] = {project.id: {project.owner_id} for project in projects}
    for project_id, user_id in shared:
        people[project_id].add(user_id)
    found: dict[str, list[StudentProject]] = defaultdict(list)
    for project in projects:
        for user_id in people[project.id]:
            found[user_id].append(StudentProject(id=project.id, name=project.name))
    return found, {project.id: _Work(changed=[project.created_at]) for project in projects}


def _count_work(session: Session, classroom_id: str, works: dict[str, _Work]) -> None:
    counted: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("images", Image, ()),
        ("training sets", TrainingSet, (col(TrainingSet.state) == "ready",)),
        ("models", Model, ()),
        ("predictions", Prediction, (col(Prediction.state) == "done",)),
    )
    for name, table, conditions in counted:
        rows = session.exec(
            select(table.project_id, func.count(), func.max(table.created_at))
            .join(Project, col(Project.id) == table.project_id)
            .where(_of_class(classroom_id), table.deleted_at.is_(None), *conditions)
            .group_by(table.project_id)
        )
        for project_id, count, newest in rows:
            works[project_id].counts[name] = count
            works[project_id].note(newest)
    _read_tiles(session, classroom_id, works)


def _read_tiles(session: Session, classroom_id: str, works: dict[str, _Work]) -> None:
    rows = session.exec(
        select(Tile.project_id, Tile.status, func.count(), func.max(col(Tile.labelled_at)))
        .join(Project, col(Project.id) == Tile.project_id)
        .join(Tiling, col(Tiling.id) == Tile.tiling_id)
        .join(Image, col(Image.id) == Tile.image_id)
        .where(_of_class(classroom_id), col(Tiling.is_current), col(Image.deleted_at).is_(None))
        .group_by(col(Tile.project_id), col(Tile.status))
    )
    for project_id, status, count, newest in rows:
        works[project_id].tiles[status] = count
        works[project_id].note(newest)


def _read_runs(session: Session, classroom_id: str, works: dict[str, _Work], own: dict[str, _Own]) -> None:
    status: Any = col(Run.status)
    rows: Iterable[Any] = session.exec(
        select(  # type: ignore[call-overload]
            Run.project_id,
            Run.created_by,
            Run.created_at,
            col(Run.deleted_at).is_not(None),
            Job.state,
            Job.reason,
            Job.finished_at,
            status["device"].as_string(),
            status["seconds"].as_float(),
            status["num_workers"].as_integer(),
        )
        .join(Project, col(Project.id) == Run.project_id)
        .join(Job, col(Job.id) == Run.job_id)
        .where(_of_class(classroom_id))
    )
    for project_id, user_id, created_at, is_deleted, state, reason, finished_at, device, seconds, num_workers in rows:
        minutes = (seconds or 0.0) / 60
        own[user_id].training_minutes += minutes
        if device is not None and not device.startswith("CPU"):
            own[user_id].gpu_minutes += minutes * (num_workers or 1)
        if not is_deleted:
            work = works[project_id]
            work.trainings[state if state in FINAL_STATES else "open"] += 1
            work.note(created_at, finished_at)
            work.newest_run = max(filter(None, (work.newest_run, (created_at, state, reason))))


def _read_hand_ins(session: Session, classroom_id: str, own: dict[str, _Own]) -> None:
    rows = session.exec(
        select(HandIn.user_id, func.count(), func.max(col(HandIn.created_at)))
        .join(Assignment, col(Assignment.id) == HandIn.assignment_id)
        .where(col(Assignment.classroom_id) == classroom_id)
        .group_by(col(HandIn.user_id))
    )
    for user_id, count, newest in rows:
        own[user_id].num_hand_ins, own[user_id].handed_in_at = count, newest


def _read_jobs(session: Session, classroom_id: str, own: dict[str, _Own]) -> None:
    is_open = (col(Job.classroom_id) == classroom_id, col(Job.state).not_in(FINAL_STATES))
    # A prepared run waits for its person, not for the platform.
    jobs = [job for job in session.exec(select(Job).where(*is_open)) if not job.request.get("is_prepared")]
    for job in jobs:
        own[job.user_id].num_active_trainings += job.kind == "train"
    for shown in sorted(public_jobs(session, jobs), key=lambda job: job.ahead if job.ahead is not None else -1):
        if own[shown.user_id].job is None:
            own[shown.user_id].job = OpenJob(**shown.model_dump(include=set(OpenJob.model_fields)))


def _row(
    user: User,
    joined_at: datetime,
    projects: Sequence[StudentProject],
    works: Iterable[_Work],
    own: _Own,
    since: datetime,
) -> StudentProgress:
    work = _Work()
    for part in works:
        work.add(part)
    work.note(own.handed_in_at)
    changed_at = max(work.changed, default=None)
    because, reason = _why_stuck(work, own, joined_at, changed_at, since) if user.is_active else (None, "")
    return StudentProgress(
        user_id=user.id,
        name=user.name,
        display_name=user.display_name,
        is_active=user.is_active,
        projects=list(projects),
        num_images=work.counts["images"],
        num_tiles_by_status={name: work.tiles[name] for name in ("unlabelled", "started", "done")},
        num_training_sets=work.counts["training sets"],
        num_trainings_by_state={name: work.trainings[name] for name in (*FINAL_STATES, "open")},
        num_models=work.counts["models"],
        num_predictions=work.counts["predictions"],
        num_active_trainings=own.num_active_trainings,
        num_hand_ins=own.num_hand_ins,
        job=own.job,
        gpu_minutes=own.gpu_minutes,
        all_gpu_minutes=own.all_gpu_minutes,
        limits=PersonLimits(**user.limits),
        training_minutes=own.training_minutes,
        last_change_at=changed_at,
        is_stuck=because is not None,
        stuck_because=because,
        reason=reason,
    )


def _why_stuck(
    work: _Work, own: _Own, joined_at: datetime, changed_at: datetime | None, since: datetime
) -> tuple[StuckBecause | None, str]:
    if own.job is not None:
        return None, ""
    if work.newest_run is not None and work.newest_run[1] == "failed":
        return "training failed", work.newest_run[2] or "the last training failed"
    if changed_at is None:
        return ("not begun", "has no project in the class yet") if joined_at < since else (None, "")
    if changed_at >= since or changed_at == own.handed_in_at:
        return None, ""
    return "nothing changed", f"nothing has changed for {_span(now() - changed_at)}"


def _span(time: timedelta) -> str:
    minutes = round(time.total_seconds() / 60)
    if minutes < 120:
        return f"{minutes} minute{'s' if minutes != 1 else ''}"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"
