"""Projects with their classes, images, tilings, tiles and annotations."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from axons.app.tables.columns import UtcDateTime, new_id, now


class ProjectBase(SQLModel):
    """What people write about a project.

    Args:
        tile: side of the annotation tiles, px.
        threshold: mean IoU from which a model of the project is ready.
    """

    name: str = Field(min_length=1, max_length=120)
    description: str = Field(default="", max_length=20_000)
    instructions: str = Field(default="", max_length=20_000)
    tile: int = Field(default=256, ge=64, le=2048)
    threshold: float = Field(default=0.6, ge=0, le=1)


class Project(ProjectBase, table=True):
    """A project: images, labels, training sets, runs and models of one person or group."""

    id: str = Field(default_factory=new_id, primary_key=True)
    owner_id: str = Field(foreign_key="user.id", index=True)
    classroom_id: str | None = Field(default=None, foreign_key="classroom.id", index=True)
    assignment_id: str | None = Field(default=None, index=True)  # no foreign key: assignments point to projects
    copied_from: str | None = None
    keeps_originals: bool = False
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    updated_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    archived_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class LabelClass(SQLModel, table=True):
    """A class of a project; its index is never given to another class, even after its end."""

    __tablename__ = "label_class"
    __table_args__ = (UniqueConstraint("project_id", "index"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    index: int
    name: str = Field(max_length=80)
    colour: str
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Example(SQLModel, table=True):
    """A picture that shows people who label how it is done, or how it is not.

    Args:
        key: of the PNG in storage; copies of a project share it.
        number: the place in the list.
    """

    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    number: int
    key: str
    caption: str = Field(max_length=300)
    is_good: bool = True
    height: int
    width: int
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Image(SQLModel, table=True):
    """An imported image; the fields up to `notices` are those of `importing.ImportedImage`.

    Args:
        source_id: the id by which training sets know it, where it came with its project from another platform.
        working_key, sheet_key, original_key: in storage; copies of a project share them.
        split: set by a person for all training sets; None lets the draw decide.
    """

    __table_args__ = (Index("image_of_project", "project_id", "name"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="project.id")
    source_id: str | None = None
    name: str = Field(max_length=255)
    sha256: str = Field(index=True)
    num_bytes: int = Field(sa_type=BigInteger)
    format: str
    height: int
    width: int
    channels: int
    dtype: str
    mean: list[float] = Field(sa_type=JSON)
    std: list[float] = Field(sa_type=JSON)
    contrast_low: float
    contrast_high: float
    dark_share: float
    bright_share: float
    hashes: list[str] = Field(sa_type=JSON)
    pixel_size_um: float | None = None
    geo: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    notices: list[str] = Field(sa_type=JSON)
    working_key: str
    sheet_key: str
    sheet_step: int
    original_key: str | None = None
    stored_bytes: int = Field(default=0, sa_type=BigInteger)
    group: str | None = Field(default=None, max_length=120)
    split: str | None = None
    is_excluded: bool = False
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)

    @property
    def known_as(self) -> str:
        """The id in training sets, the same wherever the project travels."""
        return self.source_id or self.id


class Tiling(SQLModel, table=True):
    """A tile size of a project; one tiling is current, labels of the others were copied into it."""

    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    tile: int
    is_current: bool = True
    created_by: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Tile(SQLModel, table=True):
    """A window of an image with the head of its annotation.

    Args:
        status: unlabelled, started or done.
        revision: number of the newest revision, 0 before the first; `crc32` and `counts` (pixels by value) are its own.
        assigned_to: who should label it; None is anybody.
        leased_by, leased_until: who has it open at the moment (advice, not a lock).
    """

    __table_args__ = (
        UniqueConstraint("tiling_id", "image_id", "row0", "col0"),
        Index("tile_of_image", "image_id", "tiling_id"),
    )

    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="project.id", index=True)
    tiling_id: str = Field(foreign_key="tiling.id")
    image_id: str = Field(foreign_key="image.id")
    row0: int
    col0: int
    height: int
    width: int
    mean: float
    contrast: float
    sharpness: float
    is_blank: bool
    is_blurred: bool
    status: str = "unlabelled"
    revision: int = 0
    crc32: int | None = Field(default=None, sa_type=BigInteger)
    counts: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    labelled_by: str | None = Field(default=None, foreign_key="user.id")
    labelled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    assigned_to: str | None = Field(default=None, foreign_key="user.id")
    leased_by: str | None = Field(default=None, foreign_key="user.id")
    leased_until: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Revision(SQLModel, table=True):
    """A saved state of a tile's annotation; never changed, never deleted before its tile.

    Args:
        save_id: made by whoever saves, so that a repeated save is recognised.
        layers: gzipped JSON, see `axons.data.layers`.
        seconds: of active labelling since the revision before.
        source: manual, import, model, prediction, retile, merge or restore.
    """

    __table_args__ = (UniqueConstraint("tile_id", "number"), UniqueConstraint("tile_id", "save_id"))

    id: str = Field(default_factory=new_id, primary_key=True)
    tile_id: str = Field(foreign_key="tile.id", index=True)
    number: int
    save_id: str = Field(max_length=64)
    layers: bytes = Field(sa_type=LargeBinary)
    crc32: int = Field(sa_type=BigInteger)
    counts: dict[str, int] = Field(sa_type=JSON)
    seconds: float = 0.0
    source: str = "manual"
    author_id: str = Field(foreign_key="user.id")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Upload(SQLModel, table=True):
    """A file on its way in, part by part.

    Args:
        purpose: what it is for, see `uploads.Purpose`.
        state: open, complete, used or expired.
        parts: number of each part that has arrived, and its size.
    """

    id: str = Field(default_factory=new_id, primary_key=True)
    user_id: str = Field(foreign_key="user.id", index=True)
    project_id: str | None = Field(default=None, foreign_key="project.id", index=True)
    purpose: str = "images"
    name: str = Field(max_length=255)
    num_bytes: int = Field(sa_type=BigInteger)
    part_bytes: int
    parts: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    state: str = "open"
    key: str
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
