"""Training sets: choose, freeze, list, compare, delete."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlmodel import Session, col, func, select

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services.access import get_project, visible_projects
from axons.app.services.jobs import add_job
from axons.app.services.paging import page_of
from axons.app.services.trash import throw_away
from axons.app.services.turns import take_turns
from axons.app.tables import HeldOutImage, Job, Project, TrainingSet, new_id
from axons.app.texts import ClassName, Identifier, Name, ShortLine
from axons.data.training_set import MAX_SCALE, MIN_SCALE, SPLITS, Share
from axons.errors import Conflict, NotFound

_MAX_IDS = 10_000
# A pattern of a person runs on the names of all images: repeats of repeats could take for ever.
_NESTED_REPEAT = re.compile(r"[*+}][^()]*\)[*+{]")


class TrainingSetCreate(BaseModel):
    """What a person chooses; `images` and `exclude` are patterns of names such as `slide-3*`."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    images: ShortLine | None = None
    exclude: ShortLine | None = None
    image_ids: Annotated[list[Identifier], Field(min_length=1, max_length=_MAX_IDS)] | None = None
    tile_ids: Annotated[list[Identifier], Field(min_length=1, max_length=_MAX_IDS)] | None = None
    only_done: bool = Field(default=False, description="Only tiles that are marked as done.")
    classes: Annotated[list[ClassName], Field(min_length=1, max_length=253)] | None = Field(
        default=None, description="Names of the classes besides the background; pixels of the others are ignored."
    )
    fractions: tuple[Share, Share, Share] = Field(
        default=(0.7, 0.15, 0.15), description="Of the images, for train, val and test."
    )
    group: ShortLine | None = Field(
        default=None, description="Regular expression: images whose names match alike stay in one split."
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    scale: float = Field(default=1.0, ge=MIN_SCALE, le=MAX_SCALE, allow_inf_nan=False)
    pixel_size_um: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fractions[0] <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"fractions {self.fractions} must sum to 1 and give something to train")
        if self.group is not None:
            _check_pattern(self.group)
        if self.scale != 1.0 and self.pixel_size_um is not None:
            raise ValueError("both scale and pixel_size_um are given; choose one")
        return self


class TrainingSetPublic(BaseModel):
    """A training set in a list."""

    id: str
    project_id: str
    number: int
    name: str
    state: str
    sha256: str | None
    request: dict[str, Any]
    summary: dict[str, Any]
    created_by: str
    created_at: datetime
    job_id: str | None = None

    @classmethod
    def of(cls, row: TrainingSet, *, job_id: str | None = None) -> "TrainingSetPublic":
        """The public part of a row."""
        return cls(**row.model_dump(include=set(cls.model_fields)), job_id=job_id)


class ClassShare(BaseModel):
    """A class in two sets: share of the labelled training pixels, 0 to 1; None where a set does not have it."""

    name: str
    shares: list[float | None]


class Comparison(BaseModel):
    """What differs between training sets, in the order in which they were asked for."""

    training_sets: list[TrainingSetPublic]
    num_images: dict[str, list[int]]
    class_shares: list[ClassShare]
    differing: dict[str, list[Any]]
    only_in: list[list[str]]


def create_training_set(session: Session, actor: Actor, project_id: str, form: TrainingSetCreate) -> TrainingSet:
    """A row, and a job that freezes it.

    Raises:
        NotFound, NotAllowed: see `get_project`.
    """
    project = get_project(session, actor, project_id, "edit")
    take_turns(session, project)  # two sets must not get one number
    newest = session.exec(select(func.max(TrainingSet.number)).where(col(TrainingSet.project_id) == project_id)).one()
    number = (newest or 0) + 1
    row_id = new_id()
    row = TrainingSet(
        id=row_id,
        project_id=project_id,
        number=number,
        name=form.name or f"{project.name[:100]} {number}",
        key=f"training-sets/{row_id}-0",
        request=form.model_dump(mode="json"),
        created_by=actor.user_id,
    )
    session.add(row)
    session.flush()
    add_job(session, actor, "freeze", project, request={}, target_id=row.id)
    return row


def get_training_set(session: Session, actor: Actor, training_set_id: str) -> TrainingSet:
    """A training set of a project that the actor sees.

    Raises:
        NotFound: there is none for the actor.
    """
    row = session.get(TrainingSet, training_set_id)
    if row is None or row.deleted_at is not None or not _is_visible(session, actor, row.project_id):
        raise NotFound(f"there is no training set {training_set_id!r}; look at the list of the project's sets")
    return row


def list_training_sets(
    session: Session, actor: Actor, project_id: str, *, cursor: str | None, limit: int
) -> tuple[list[TrainingSet], str | None]:
    """The sets of a project, the newest first."""
    get_project(session, actor, project_id)
    statement = select(TrainingSet).where(
        col(TrainingSet.project_id) == project_id, col(TrainingSet.deleted_at).is_(None)
    )
    return page_of(session, statement, [col(TrainingSet.number)], cursor=cursor, limit=limit, newest_first=True)


def job_ids(session: Session, rows: Sequence[TrainingSet]) -> dict[str, str]:
    """The freezing job of each set."""
    jobs = session.exec(select(Job).where(col(Job.kind) == "freeze", col(Job.target_id).in_([r.id for r in rows])))
    return {job.target_id: job.id for job in jobs.all() if job.target_id}


def compare(session: Session, actor: Actor, ids: Sequence[str]) -> Comparison:
    """What differs between frozen sets.

    Raises:
        NotFound: one of them is not for the actor; Conflict: one is not frozen.
    """
    rows = [ready_training_set(session, actor, row_id) for row_id in ids]
    names = {row.id: {image["name"] for image in row.summary["images"]} for row in rows}
    settings = ("scale", "pixel_size_um", "seed", "channels")
    return Comparison(
        training_sets=[TrainingSetPublic.of(row) for row in rows],
        num_images={split: [row.summary["num_images"][split] for row in rows] for split in SPLITS},
        class_shares=_class_shares(rows),
        differing={
            field: [row.summary[field] for row in rows]
            for field in settings
            if len({row.summary[field] for row in rows}) > 1
        },
        only_in=[
            sorted(names[row.id].difference(*(names[other.id] for other in rows if other.id != row.id))) for row in rows
        ],
    )


def ready_training_set(session: Session, actor: Actor, training_set_id: str) -> TrainingSet:
    """A frozen training set.

    Raises:
        Conflict: it is still being frozen, or could not be.
    """
    row = get_training_set(session, actor, training_set_id)
    if row.state != "ready":
        raise Conflict(f"training set {row.name!r} is {row.state}; wait until it is ready, or freeze another")
    return row


def hold_out(session: Session, row: TrainingSet) -> None:
    """Remember the test images of a frozen set: no model ranks their tiles or labels them in advance."""
    for image in row.summary["images"]:
        if image["split"] == "test":
            session.merge(HeldOutImage(training_set_id=row.id, known_as=image["image_id"]))


def delete_training_set(session: Session, actor: Actor, platform: Platform, training_set_id: str) -> None:
    """Into the trash; runs that were trained on it keep their models.

    Raises:
        NotFound, NotAllowed: see `get_project`.
    """
    row = get_training_set(session, actor, training_set_id)
    get_project(session, actor, row.project_id, "edit")
    throw_away(session, actor, "training_set", row, days=platform.settings.trash_days)


def _is_visible(session: Session, actor: Actor, project_id: str) -> bool:
    seen = select(Project.id).where(
        visible_projects(actor), col(Project.id) == project_id, col(Project.deleted_at).is_(None)
    )
    return session.exec(seen).first() is not None


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the group {pattern!r} is not a regular expression ({error})") from error
    if _NESTED_REPEAT.search(pattern):
        raise ValueError(f"the group {pattern!r} repeats a repeat, which may take for ever; write it simpler")


def _class_shares(rows: Sequence[TrainingSet]) -> list[ClassShare]:
    shares: list[dict[str, float]] = []
    for row in rows:
        pixels = row.summary["balance"]["pixels"]["train"]
        total = sum(pixels) or 1
        classes = [found["name"] for found in row.summary["classes"]]
        shares.append({name: count / total for name, count in zip(classes, pixels, strict=True)})
    names = list(dict.fromkeys(name for share in shares for name in share))
    return [ClassShare(name=name, shares=[share.get(name) for share in shares]) for name in names]
