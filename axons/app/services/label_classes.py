"""The label classes of a project: an index, once given, never means another class."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import bindparam, func
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services import audit
from axons.app.services.access import get_project
from axons.app.tables import Image, LabelClass, Project, Tile, Tiling, now
from axons.app.texts import ClassName, Colour
from axons.data.layers import MAX_CLASS_INDEX
from axons.data.pictures import CLASS_COLOURS, class_colours
from axons.errors import Conflict, NotFound

BACKGROUND = 0

_CLASSES = (
    select(LabelClass).where(col(LabelClass.project_id) == bindparam("project_id")).order_by(col(LabelClass.index))
)


class ClassCreate(BaseModel):
    """A new class; without a colour it gets one."""

    model_config = ConfigDict(extra="forbid")

    name: ClassName
    colour: Colour | None = None


class ClassUpdate(BaseModel):
    """Another name or colour."""

    model_config = ConfigDict(extra="forbid")

    name: ClassName | None = None
    colour: Colour | None = None


def classes_of(session: Session, project_id: str) -> Sequence[LabelClass]:
    """All classes by index, with those that were deleted: pixels may hold them."""
    return session.exec(_CLASSES, params={"project_id": project_id}).all()


def add_first(session: Session, project: Project, names: Sequence[str]) -> None:
    """The classes of a new project.

    Raises:
        Conflict: two share a name.
    """
    folded = [name.casefold() for name in names]
    if twice := [name for i, name in enumerate(names) if folded[i] in folded[:i]]:
        raise Conflict(f"two classes are called {twice[0]!r}; give each its own name")
    for index, (name, colour) in enumerate(zip(names, class_colours(len(names)), strict=True)):
        session.add(LabelClass(project_id=project.id, index=index, name=name, colour=colour))


def add_class(session: Session, actor: Actor, project_id: str, form: ClassCreate) -> LabelClass:
    """Give the next index to a new class.

    Raises:
        Conflict: the name is taken, or all indices are used up.
    """
    project = _edited_project(session, actor, project_id)
    rows = classes_of(session, project.id)
    _check_name(rows, form.name)
    index = len(rows)  # none is ever removed
    if index > MAX_CLASS_INDEX:
        raise Conflict(f"the project has had {index} classes, which is all there can be; rename one of them")
    colours = CLASS_COLOURS[1:]
    colour = form.colour or colours[(index - 1) % len(colours)]
    row = LabelClass(project_id=project.id, index=index, name=form.name, colour=colour)
    session.add(row)
    return row


def update_class(session: Session, actor: Actor, project_id: str, index: int, form: ClassUpdate) -> LabelClass:
    """Rename or recolour a class.

    Raises:
        Conflict: another class has the name.
        NotFound: there is no such class.
    """
    project = _edited_project(session, actor, project_id)
    rows = classes_of(session, project.id)
    row = _row(rows, index)
    if form.name is not None:
        _check_name([other for other in rows if other is not row], form.name)
        row.name = form.name
    row.colour = form.colour or row.colour
    session.add(row)
    return row


def delete_class(session: Session, actor: Actor, project_id: str, index: int) -> None:
    """Offer a class no longer; nothing else will ever have its index, for earlier labels may hold it.

    Raises:
        Conflict: it is the background, or tiles have pixels of it.
        NotFound: there is no such class.
    """
    project = get_project(session, actor, project_id, "edit")
    row = _row(classes_of(session, project.id), index)
    if index == BACKGROUND:
        raise Conflict(f"class {row.name!r} is the background, which every project has; rename it instead")
    _check_unused(session, project, row)
    row.deleted_at = now()
    session.add(row)
    audit.record(session, actor, "class.delete", "project", project.id, index=index, name=row.name)


def _check_unused(session: Session, project: Project, row: LabelClass) -> None:
    counts: Any = col(Tile.counts)
    in_use = (
        select(Tile, Image.name, func.count().over())
        .join(Tiling, col(Tiling.id) == col(Tile.tiling_id))
        .join(Image, col(Image.id) == col(Tile.image_id))
        .where(col(Tile.project_id) == project.id, col(Tiling.is_current), col(Image.deleted_at).is_(None))
        .where(counts[str(row.index)].as_string().is_not(None))
        .order_by(col(Image.name), col(Image.id), col(Tile.row0), col(Tile.col0))
    )
    found = session.exec(in_use.limit(1)).first()
    if found is None:
        return
    tile, name, num_tiles = found
    tiles = "1 tile has" if num_tiles == 1 else f"{num_tiles} tiles have"
    raise Conflict(
        f"{tiles} pixels of class {row.name!r}, the first in {name!r} at row {tile.row0}, column {tile.col0}; "
        "give them another class or erase them, then delete it"
    )


def _edited_project(session: Session, actor: Actor, project_id: str) -> Project:
    """The project, touched: of two transactions that change its classes at once one is run again."""
    project = get_project(session, actor, project_id, "edit")
    project.updated_at = now()
    session.flush()
    return project


def _row(rows: Sequence[LabelClass], index: int) -> LabelClass:
    for row in rows:
        if row.index == index and row.deleted_at is None:
            return row
    raise NotFound(f"the project has no class with index {index}; look at its classes")


def _check_name(rows: Sequence[LabelClass], name: str) -> None:
    if any(row.name.casefold() == name.casefold() for row in rows if row.deleted_at is None):
        raise Conflict(f"the project has a class {name!r} already; choose another name")
