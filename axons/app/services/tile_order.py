"""The order in which people go through tiles: by name of the image, then row by row."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_
from sqlmodel import Session, col, select

from axons.app.tables import Image, Tile

ORDER = (col(Image.name), col(Tile.image_id), col(Tile.row0), col(Tile.col0))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tile comes among those of its tiling, counted from 1, and the ids of its neighbours in the order."""

    number: int
    num_tiles: int
    previous_id: str | None
    next_id: str | None


def place_of(session: Session, tile: Tile, image: Image) -> Place:
    """The place of a tile; images in the trash do not count."""
    is_before = lies_before(tile, image)
    is_after = and_(~is_before, col(Tile.id) != tile.id)
    counted = select(func.count(), func.sum(case((is_before, 1), else_=0)))
    num_tiles, num_before = session.exec(_of_tiling(counted.select_from(Tile), tile.tiling_id)).one()
    return Place(
        number=num_before + 1,
        num_tiles=num_tiles,
        previous_id=_nearest(session, tile, is_before, [column.desc() for column in ORDER]),
        next_id=_nearest(session, tile, is_after, list(ORDER)),
    )


def tile_numbered(session: Session, tiling_id: str, number: int) -> Tile | None:
    """The tile with this number, if there are so many."""
    ordered = _of_tiling(select(Tile), tiling_id).order_by(*ORDER)
    return session.exec(ordered.offset(number - 1).limit(1)).first()


def lies_before(tile: Tile, image: Image) -> ColumnElement[bool]:
    """The condition on `Tile` rows, joined with their `Image`, that come before this tile."""
    same_image = col(Tile.image_id) == image.id
    return or_(
        col(Image.name) < image.name,
        and_(col(Image.name) == image.name, col(Tile.image_id) < image.id),
        and_(same_image, col(Tile.row0) < tile.row0),
        and_(same_image, col(Tile.row0) == tile.row0, col(Tile.col0) < tile.col0),
    )


def _nearest(session: Session, tile: Tile, condition: ColumnElement[bool], order: list[Any]) -> str | None:
    """In its own image first: to put all tiles of a project in order for one of them takes long."""
    asked = _of_tiling(select(Tile.id), tile.tiling_id).where(condition).order_by(*order).limit(1)
    in_image = asked.where(col(Tile.image_id) == tile.image_id)
    return session.exec(in_image).first() or session.exec(asked).first()


def _of_tiling(statement: Any, tiling_id: str) -> Any:
    joined = statement.join(Image, col(Image.id) == col(Tile.image_id))
    return joined.where(col(Tile.tiling_id) == tiling_id, col(Image.deleted_at).is_(None))
