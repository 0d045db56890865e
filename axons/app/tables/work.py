"""Jobs and what they make: training sets, runs, models, evaluations, predictions; and the platform's own records."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from axons.app.tables.columns import UtcDateTime, new_id, now

JobKind = Literal["import", "tile", "freeze", "train", "evaluate", "predict", "export", "cleanup"]
JobState = Literal["queued", "preparing", "running", "validating", "done", "failed", "cancelled"]
FINAL_STATES = ("done", "failed", "cancelled")


class Job(SQLModel, table=True):
    """Work in the queue; the database is the queue.

    Args:
        target_id: the row the job makes or changes: training set, run, prediction, …
        request: what to do; `result`: what came out, both as the kind of job defines them.
        attempt: counts the starts; what an older attempt reports late is refused.
        reason: why it waits or how it ended, in one sentence for a person.
        log: what happened, line by line, kept for ever.
    """

    __table_args__ = (Index("job_by_state", "state", "kind"), Index("job_of_user", "user_id", "created_at"))

    id: str = Field(default_factory=new_id, primary_key=True)
    kind: str
    state: str = "queued"
    attempt: int = 0
    progress: float = 0.0
    reason: str = ""
    log: str = ""
    user_id: str = Field(foreign_key="user.id")
    project_id: str | None = Field(default=None, foreign_key="project.id", index=True)
    classroom_id: str | None = Field(default=None, foreign_key="classroom.id")
    target_id: str | None = Field(default=None, index=True)
    request: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    result: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    cancel_requested_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class TrainingSet(SQLModel, table=True):
    """A frozen training set, or one being frozen; what is inside says its manifest.

    Args:
        number: 1, 2, … in its project.
        state: freezing, ready or failed.
        request: the choices of the person, see `training_sets.TrainingSetCreate`.
        summary: counts, balance, diversity, warnings of the manifest.
    """

    __tablename__ = "training_set"
    __table_args__ = (UniqueConstraint("project_id", "number"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    number: int
    name: str = Field(max_length=120)
    state: str = "freezing"
    key: str
    sha256: str | None = None
    request: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    summary: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class HeldOutImage(SQLModel, table=True):
    """An image in the test split of a frozen training set, by the id by which training sets know it."""

    __tablename__ = "held_out_image"

    training_set_id: str = Field(foreign_key="training_set.id", primary_key=True)
    known_as: str = Field(primary_key=True, index=True)


class Run(SQLModel, table=True):
    """A training.

    Args:
        key: of its folder in storage.
        status: the last `status.json`; the state is that of its job.
        is_prepared: somebody else submits it (`axons train --prepare`); the dispatcher only follows.
    """

    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    training_set_id: str = Field(foreign_key="training_set.id", index=True)
    job_id: str | None = Field(default=None, foreign_key="job.id", index=True)
    number: int
    name: str = Field(max_length=120)
    key: str
    config: dict[str, Any] = Field(sa_type=JSON)
    status: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    evaluation: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    is_prepared: bool = False
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class EpochMetric(SQLModel, table=True):
    """One epoch of a run, as `axons.train.run.EpochMetrics`."""

    __tablename__ = "epoch_metric"

    run_id: str = Field(foreign_key="run.id", primary_key=True)
    epoch: int = Field(primary_key=True)
    metrics: dict[str, Any] = Field(sa_type=JSON)


class Model(SQLModel, table=True):
    """A version of a model.

    Args:
        key: of its folder in storage.
        card: `model.json`.
        mean_iou: on the test split, or validation where there is no test.
        visibility: private (the project), classroom or everyone.
        is_promoted: one version of each name in a project is.
    """

    __table_args__ = (
        UniqueConstraint("project_id", "name", "version"),
        Index(
            "one_promoted_model",
            "project_id",
            "name",
            unique=True,
            sqlite_where=text("is_promoted"),
            postgresql_where=text("is_promoted"),
        ),
    )

    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    run_id: str | None = Field(default=None, foreign_key="run.id")
    name: str = Field(max_length=120)
    version: int
    key: str
    sha256: str
    card: dict[str, Any] = Field(sa_type=JSON)
    mean_iou: float | None = None
    visibility: str = "private"
    is_promoted: bool = False
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Evaluation(SQLModel, table=True):
    """Scores of a model on a training set's split."""

    id: str = Field(default_factory=new_id, primary_key=True)
    model_id: str = Field(foreign_key="model.id", index=True)
    training_set_id: str = Field(foreign_key="training_set.id", index=True)
    scores: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Prediction(SQLModel, table=True):
    """A mask that a model made of an image.

    Args:
        image_id: of the project; None for an image that came with the request.
        class_pixels: by class index.
    """

    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    model_id: str = Field(foreign_key="model.id", index=True)
    image_id: str | None = Field(default=None, foreign_key="image.id", index=True)
    name: str = Field(max_length=255)
    key: str
    height: int = 0
    width: int = 0
    scale: float | None = None
    pixel_size_um: float | None = None
    class_pixels: list[int] = Field(default_factory=list, sa_type=JSON)
    notices: list[str] = Field(default_factory=list, sa_type=JSON)
    state: str = "queued"
    reason: str = ""
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class TileScore(SQLModel, table=True):
    """How useful it is to label a tile, as a model sees it; made by a job, whose scores replace all earlier ones.

    Args:
        score: how little the model is sure of the 5 % of the pixels where it is least sure, 0 to 1.
        unsure_share: of the pixels with a confidence below 60 %.
        class_pixels: that the model sees, by class index of the project.
    """

    __tablename__ = "tile_score"

    tile_id: str = Field(foreign_key="tile.id", primary_key=True)
    job_id: str = Field(foreign_key="job.id", primary_key=True, index=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    model_id: str = Field(foreign_key="model.id", index=True)
    score: float
    unsure_share: float
    class_pixels: dict[str, int] = Field(sa_type=JSON)


class Notification(SQLModel, table=True):
    """A line behind the bell: "run 7 is done"."""

    id: str = Field(default_factory=new_id, primary_key=True)
    user_id: str = Field(foreign_key="user.id", index=True)
    text: str = Field(max_length=400)
    link: str = ""
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    read_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Audit(SQLModel, table=True):
    """Who did what to what; written in the transaction of the deed, never changed."""

    number: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(default_factory=now, sa_type=UtcDateTime, index=True)
    actor_id: str | None = Field(default=None, index=True)
    action: str = Field(max_length=60)
    object_kind: str = Field(max_length=40)
    object_id: str = Field(index=True)
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class Trash(SQLModel, table=True):
    """What a person has deleted and may have back until `purge_after`."""

    id: str = Field(default_factory=new_id, primary_key=True)
    kind: str = Field(max_length=40)
    object_id: str = Field(index=True)
    label: str = Field(max_length=255)
    project_id: str | None = Field(default=None, index=True)
    deleted_by: str = Field(foreign_key="user.id", index=True)
    deleted_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    purge_after: datetime = Field(sa_type=UtcDateTime)


class Lease(SQLModel, table=True):
    """Which process is the one that may do something, as the dispatcher."""

    name: str = Field(primary_key=True)
    holder: str
    expires_at: datetime = Field(sa_type=UtcDateTime)
