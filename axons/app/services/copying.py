"""A copy of a project by its rows only: both point at the same immutable objects in storage."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Table, insert
from sqlmodel import Session, SQLModel, col, select

from axons.app.tables import Example, Image, LabelClass, Project, Revision, Tile, Tiling, new_id, now

_ROWS = 500  # at a time: layers of labels are some KB each

Row = dict[str, Any]


def copy_project(session: Session, template: Project, copy: Project) -> None:
    """Fill a new project with the classes, examples, images, tilings, tiles and newest labels of another.

    The history of labels, training sets, runs and models stay behind. Nothing counts as stored twice.
    """
    session.add(copy)
    session.flush()
    _copy(session, LabelClass, _ids(session, LabelClass, template), lambda row: row | {"project_id": copy.id})
    _copy(session, Example, _ids(session, Example, template), lambda row: row | {"project_id": copy.id})
    live = [col(Image.deleted_at).is_(None)]
    images = _copy(
        session,
        Image,
        _ids(session, Image, template, *live),
        lambda row: row | {"project_id": copy.id, "stored_bytes": 0, "created_at": now()},
    )
    tilings = _copy(session, Tiling, _ids(session, Tiling, template), lambda row: row | {"project_id": copy.id})
    tiles = _copy(
        session,
        Tile,
        _ids(session, Tile, template, col(Tile.image_id).in_(select(Image.id).where(*live))),
        lambda row: _tile(row, copy.id, images, tilings),
    )
    heads = (
        select(Revision.id)
        .join(Tile, col(Tile.id) == col(Revision.tile_id))
        .join(Image, col(Image.id) == col(Tile.image_id))
        .where(col(Tile.project_id) == template.id, col(Revision.number) == col(Tile.revision), *live)
    )
    _copy(
        session, Revision, session.exec(heads).all(), lambda row: row | {"tile_id": tiles[row["tile_id"]], "number": 1}
    )


def _tile(row: Row, project_id: str, images: dict[str, str], tilings: dict[str, str]) -> Row:
    return row | {
        "project_id": project_id,
        "image_id": images[row["image_id"]],
        "tiling_id": tilings[row["tiling_id"]],
        "revision": min(row["revision"], 1),
        "assigned_to": None,
        "leased_by": None,
        "leased_until": None,
    }


def _ids(session: Session, table: type[Any], template: Project, *conditions: Any) -> Sequence[str]:
    return session.exec(select(table.id).where(table.project_id == template.id, *conditions)).all()


def _copy(session: Session, table: type[SQLModel], ids: Sequence[str], change: Callable[[Row], Row]) -> dict[str, str]:
    """Copy the rows of these ids under new ids; gives the new id of each."""
    columns: Table = table.__table__  # type: ignore[attr-defined]
    new_ids = {id_: new_id() for id_ in ids}
    for start in range(0, len(ids), _ROWS):
        part = columns.c.id.in_(ids[start : start + _ROWS])
        rows = session.connection().execute(columns.select().where(part)).mappings().all()
        session.connection().execute(insert(columns), [change(dict(row)) | {"id": new_ids[row["id"]]} for row in rows])
    return new_ids
