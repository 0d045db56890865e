"""Images of a project."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import ColumnElement, exists, func, or_
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services.access import get_project
from axons.app.services.paging import page_of
from axons.app.services.trash import throw_away
from axons.app.tables import HeldOutImage, Image, Tile, Tiling, TrainingSet
from axons.app.texts import FileName, ShortLine
from axons.errors import NotFound

Split = Literal["train", "val", "test"]


class ImageUpdate(BaseModel):
    """What shall change; fields that are left out stay, null takes a value away."""

    model_config = ConfigDict(extra="forbid")

    name: FileName = Field("", validate_default=False)
    group: Annotated[ShortLine, StringConstraints(min_length=1, max_length=120)] | None = Field(
        None, description="Images of one group (animal, patient) stay in one split."
    )
    split: Split | None = Field(None, description="For all training sets; null lets the draw decide.")
    is_excluded: bool = Field(False, description="Left out of training sets and of the queue.")
    pixel_size_um: float | None = Field(None, gt=0, lt=1e6)


class ImagePublic(BaseModel):
    """An image as members of its project see it; shares and means are 0 to 1."""

    id: str
    project_id: str
    name: str
    sha256: str
    num_bytes: int
    format: str
    height: int
    width: int
    channels: int
    dtype: str
    mean: list[float]
    std: list[float]
    contrast_low: float
    contrast_high: float
    dark_share: float
    bright_share: float
    pixel_size_um: float | None
    is_georeferenced: bool
    has_original: bool
    notices: list[str]
    group: str | None
    split: str | None
    is_excluded: bool
    stored_bytes: int
    num_tiles: dict[str, int]
    created_at: datetime


def list_images(
    session: Session,
    actor: Actor,
    project_id: str,
    *,
    search: str = "",
    split: str | None = None,
    cursor: str | None = None,
    limit: int,
) -> tuple[list[ImagePublic], str | None]:
    """Images of a project by name, and the cursor of the next page."""
    project = get_project(session, actor, project_id)
    asked = select(Image).where(col(Image.project_id) == project.id, col(Image.deleted_at).is_(None))
    if search:
        asked = asked.where(func.lower(Image.name).contains(search.lower(), autoescape=True))
    if split is not None:
        asked = asked.where(col(Image.split) == split)
    rows, following = page_of(session, asked, [col(Image.name), col(Image.id)], cursor=cursor, limit=limit)
    return publics(session, rows), following


def get_image(
    session: Session, actor: Actor, image_id: str, action: Literal["view", "annotate", "edit"] = "view"
) -> Image:
    """An image of a project where the actor may do this.

    Raises:
        NotFound: there is none, it is in the trash, or the actor may not see it.
    """
    image = session.get(Image, image_id)
    if image is None or image.deleted_at is not None:
        raise _no_image(image_id)
    try:
        get_project(session, actor, image.project_id, action)
    except NotFound as error:
        raise _no_image(image_id) from error
    return image


def is_test() -> ColumnElement[bool]:
    """The condition on `Image` rows that a person, or the draw of a training set, keeps for the test."""
    is_held_out = exists(
        select(1)
        .select_from(HeldOutImage)
        .join(TrainingSet, col(TrainingSet.id) == col(HeldOutImage.training_set_id))
        .where(
            col(TrainingSet.project_id) == col(Image.project_id),
            col(TrainingSet.deleted_at).is_(None),
            col(HeldOutImage.known_as) == func.coalesce(Image.source_id, Image.id),
        )
    )
    return or_(func.coalesce(Image.split, "") == "test", is_held_out)


def is_test_image(session: Session, image: Image) -> bool:
    """Whether an image is kept for the test: nobody but a person says what is in it."""
    return session.exec(select(Image.id).where(col(Image.id) == image.id, is_test())).first() is not None


def update_image(session: Session, actor: Actor, image_id: str, form: ImageUpdate) -> Image:
    """Change what people decide about an image."""
    image = get_image(session, actor, image_id, "edit")
    image.sqlmodel_update(form.model_dump(exclude_unset=True))
    session.add(image)
    return image


def delete_image(session: Session, actor: Actor, image_id: str, *, trash_days: float) -> None:
    """Put an image with its labels into the trash."""
    throw_away(session, actor, "image", get_image(session, actor, image_id, "edit"), days=trash_days)


def publics(session: Session, images: list[Image]) -> list[ImagePublic]:
    """Images as the API shows them, with their tiles by status."""
    counts: dict[str, dict[str, int]] = {image.id: {"unlabelled": 0, "started": 0, "done": 0} for image in images}
    asked: Any = (
        select(Tile.image_id, Tile.status, func.count())
        .join(Tiling, col(Tile.tiling_id) == Tiling.id)
        .where(col(Tile.image_id).in_(counts), col(Tiling.is_current))
        .group_by(col(Tile.image_id), col(Tile.status))
    )
    for image_id, status, count in session.exec(asked):
        counts[image_id][status] = count
    return [
        ImagePublic(
            **image.model_dump(),
            is_georeferenced=image.geo is not None,
            has_original=image.original_key is not None,
            num_tiles=counts[image.id],
        )
        for image in images
    ]


def _no_image(image_id: str) -> NotFound:
    return NotFound(f"there is no image {image_id!r}; look at the images of your project")
