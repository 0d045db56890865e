"""All that the annotation page needs to open a tile, in one answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, bindparam, select
from sqlmodel import Session, col

from axons.app.pictures import tile_window
from axons.app.policy import Actor
from axons.app.services import tile_order, tiles
from axons.app.services.access import get_project
from axons.app.services.examples import ExamplePublic, examples_of
from axons.app.services.images import get_image, is_test_image
from axons.app.services.label_classes import classes_of
from axons.app.services.pre_labels import project_values
from axons.app.services.projects import ClassPublic, class_public
from axons.app.services.tiles import TileDetail
from axons.app.services.tilings import current_tiling
from axons.app.tables import LabelClass, Model, Project, Revision, Tile, User
from axons.data.label_files import PlacedLabels, mosaic
from axons.data.tiles import Window
from axons.errors import NotAllowed, NotFound

_MODELS = (
    select(
        col(Model.id), col(Model.name), col(Model.version), col(Model.is_promoted), col(Model.mean_iou),
        col(Model.card)["classes"].label("classes"),
    )
    .where(col(Model.project_id) == bindparam("project_id"), col(Model.deleted_at).is_(None))
    .order_by(col(Model.is_promoted).desc(), col(Model.created_at).desc())
)  # fmt: skip


class EditorProject(BaseModel):
    """What a person who labels reads of the project; `tile` in px."""

    id: str
    name: str
    instructions: str
    tile: int


class EditorImage(BaseModel):
    """The image around the tile; the contrast limits are those of its 8-bit view."""

    id: str
    name: str
    height: int
    width: int
    channels: int
    dtype: str
    contrast_low: float
    contrast_high: float
    is_test: bool


class EditorUser(BaseModel):
    """Who has the page open."""

    id: str
    name: str
    may_annotate: bool


class EditorModel(BaseModel):
    """A model that can label tiles in advance."""

    id: str
    name: str
    version: int
    is_promoted: bool
    mean_iou: float | None


class Editor(BaseModel):
    """A tile, what is around it, and what can be done with it.

    Args:
        number: of the tile among the `num_tiles` of its tiling: by name of the image, then row by row.
        models: that know classes of the project, the promoted ones first, then the newest.
        offers_pre_labels: false for tiles of test images: nobody but a person says what is in them.
    """

    tile: TileDetail
    number: int
    num_tiles: int
    previous_id: str | None
    next_id: str | None
    project: EditorProject
    image: EditorImage
    user: EditorUser
    classes: list[ClassPublic]
    examples: list[ExamplePublic]
    models: list[EditorModel]
    offers_pre_labels: bool


def open_editor(session: Session, actor: Actor, tile_id: str) -> Editor:
    """A tile as the annotation page opens it.

    Raises:
        NotFound: see `tiles.get_tile`.
    """
    tile, image = tiles.get_tile(session, actor, tile_id)
    project = session.get_one(Project, tile.project_id)
    place = tile_order.place_of(session, tile, image)
    for_test = is_test_image(session, image)
    classes = classes_of(session, project.id)
    return Editor(
        tile=tiles.detail(session, actor, tile, image),
        number=place.number,
        num_tiles=place.num_tiles,
        previous_id=place.previous_id,
        next_id=place.next_id,
        project=EditorProject(**project.model_dump(include=set(EditorProject.model_fields))),
        image=EditorImage(**image.model_dump(include=set(EditorImage.model_fields)), is_test=for_test),
        user=_user(session, actor, project),
        classes=[class_public(row) for row in classes],
        examples=[ExamplePublic.of(row) for row in examples_of(session, project.id)],
        models=[] if for_test else _models(session, project, classes),
        offers_pre_labels=not for_test,
    )


def tile_numbered(session: Session, actor: Actor, tile_id: str, number: int) -> Tile:
    """The tile with this number in the tiling of another one.

    Raises:
        NotFound: there are not so many.
    """
    tile, _image = tiles.get_tile(session, actor, tile_id)
    found = tile_order.tile_numbered(session, tile.tiling_id, number)
    if found is None:
        raise NotFound(f"there is no tile number {number}; look at how many there are")
    return found


def _user(session: Session, actor: Actor, project: Project) -> EditorUser:
    user = session.get_one(User, actor.user_id)
    try:
        get_project(session, actor, project.id, "annotate")
        may_annotate = True
    except NotAllowed:
        may_annotate = False
    return EditorUser(id=user.id, name=user.display_name or user.name, may_annotate=may_annotate)


def _models(session: Session, project: Project, classes: Sequence[LabelClass]) -> list[EditorModel]:
    rows = session.connection().execute(_MODELS, {"project_id": project.id}).mappings()
    return [
        EditorModel.model_validate(row)
        for row in rows
        if project_values([found["name"] for found in row["classes"]], classes) is not None
    ]


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The labels around a tile, or of a whole image.

    Args:
        window: what is shown of the image.
        classes: index and colour of each.
    """

    window: Window
    tiles: tuple[PlacedLabels, ...]
    classes: list[tuple[int, str]]

    def plane(self, *, step: int = 1) -> np.ndarray:
        """(⌈H / step⌉, ⌈W / step⌉) uint8 of values; every so manieth row and column."""
        return mosaic(self.tiles, self.window, step=step)


def image_labels(session: Session, actor: Actor, image_id: str) -> Surroundings:
    """The newest labels of all tiles of an image, as it is tiled now."""
    image = get_image(session, actor, image_id)
    return Surroundings(
        window=Window(0, 0, image.height, image.width),
        tiles=_placed(session, image.id, current_tiling(session, image.project_id).id),
        classes=[(row.index, row.colour) for row in classes_of(session, image.project_id)],
    )


def surroundings(session: Session, actor: Actor, tile_id: str, margin: int) -> Surroundings:
    """The newest labels of the tiles beside a tile, up to `margin` px away; its own are left out."""
    tile, image = tiles.get_tile(session, actor, tile_id)
    window = tile_window(image, tile, margin)
    meets = (
        col(Tile.row0) < window.row0 + window.height,
        col(Tile.row0) + col(Tile.height) > window.row0,
        col(Tile.col0) < window.col0 + window.width,
        col(Tile.col0) + col(Tile.width) > window.col0,
    )
    return Surroundings(
        window=window,
        tiles=_placed(session, tile.image_id, tile.tiling_id, *meets, col(Tile.id) != tile.id),
        classes=[(row.index, row.colour) for row in classes_of(session, tile.project_id)],
    )


def _placed(
    session: Session, image_id: str, tiling_id: str, *conditions: ColumnElement[bool]
) -> tuple[PlacedLabels, ...]:
    """The newest labels of tiles that meet the conditions, from the top."""
    asked = (
        select(col(Tile.row0), col(Tile.col0), col(Tile.height), col(Tile.width), col(Revision.layers))
        .join(Revision, and_(col(Revision.tile_id) == col(Tile.id), col(Revision.number) == col(Tile.revision)))
        .where(col(Tile.image_id) == image_id, col(Tile.tiling_id) == tiling_id, *conditions)
        .order_by(col(Tile.row0), col(Tile.col0))
    )
    rows = session.connection().execute(asked)
    return tuple(PlacedLabels(window=Window(*place), packed=layers) for *place, layers in rows)
