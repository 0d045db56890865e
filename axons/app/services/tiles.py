"""Tiles: the list, who works on which, what comes next, and which are done."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, and_, bindparam, case, or_, true, update
from sqlmodel import Session, col, select

from axons.app.policy import Actor, project_role_may
from axons.app.services import audit
from axons.app.services.access import get_project, project_role
from axons.app.services.paging import page_of
from axons.app.services.tile_order import ORDER, lies_before
from axons.app.services.tilings import current_tiling
from axons.app.tables import Image, Project, Tile, Tiling, User, now
from axons.app.texts import Identifier
from axons.errors import Conflict, NotFound

Status = Literal["unlabelled", "started", "done"]

Owner = Literal["anybody", "mine"]

LEASE_S = 90.0
_MAX_ASSIGNED = 500
_NONE_LEFT = "every tile is done, blank or open elsewhere"
_NONE_FITS = "no tile that is not blank or open elsewhere fits what you have asked for"
# Part of every step in the editor: putting such a question together takes longer than its answer.
_TILE = (
    select(Tile, Image, Project)
    .join(Image, col(Image.id) == col(Tile.image_id))
    .join(Project, col(Project.id) == col(Tile.project_id))
    .where(col(Tile.id) == bindparam("tile_id"), col(Image.deleted_at).is_(None))
)


class TilePublic(BaseModel):
    """A tile and the head of its annotation; `counts` are pixels by value, 255 unlabelled."""

    id: str
    project_id: str
    tiling_id: str
    image_id: str
    row0: int
    col0: int
    height: int
    width: int
    mean: float
    contrast: float
    sharpness: float
    is_blank: bool
    is_blurred: bool
    status: str
    revision: int
    crc32: int | None
    counts: dict[str, int]
    labelled_by: str | None
    labelled_at: datetime | None
    assigned_to: str | None

    @classmethod
    def of(cls, tile: Tile) -> "TilePublic":
        """The public part of a row."""
        return cls(**tile.model_dump())


class TileDetail(TilePublic):
    """A tile with what its editor needs to know of its image."""

    image_name: str
    image_height: int
    image_width: int
    pixel_size_um: float | None
    lease: "LeasePublic"


class LeasePublic(BaseModel):
    """Who has a tile open at the moment: advice for others, not a lock."""

    is_mine: bool
    holder: str | None
    until: datetime | None


class Next(BaseModel):
    """The next tile to label and why it is this one; none if everything is done."""

    tile: TilePublic | None
    reason: str


class TileAssign(BaseModel):
    """Tiles, and all tiles of images, that one person shall label; `user_id` null gives them to everybody again."""

    model_config = ConfigDict(extra="forbid")

    user_id: Identifier | None
    tile_ids: Annotated[list[Identifier], Field(max_length=_MAX_ASSIGNED)] = []
    image_ids: Annotated[list[Identifier], Field(max_length=_MAX_ASSIGNED)] = []


@dataclass(frozen=True, kw_only=True)
class TileFilter:
    """Which tiles a list shall have."""

    status: Status | None = None
    class_index: int | None = None
    image_id: str | None = None
    tiling_id: str | None = None
    is_blank: bool | None = None
    assigned_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which tiles the queue shall offer.

    Args:
        status: None is all that are not done.
        owner: "mine" are those that were given to the person or that the person has labelled.
    """

    status: Status | None = None
    owner: Owner = "anybody"


def list_tiles(
    session: Session, actor: Actor, project_id: str, wanted: TileFilter, *, cursor: str | None = None, limit: int
) -> tuple[list[Tile], str | None]:
    """Tiles of a project image by image, row by row, and the cursor of the next page."""
    project = get_project(session, actor, project_id)
    tiling_id = wanted.tiling_id or current_tiling(session, project.id).id
    asked = (
        select(Tile)
        .join(Image, col(Tile.image_id) == Image.id)
        .where(col(Tile.project_id) == project.id, col(Tile.tiling_id) == tiling_id, col(Image.deleted_at).is_(None))
    )
    for column, value in (
        (col(Tile.status), wanted.status),
        (col(Tile.image_id), wanted.image_id),
        (col(Tile.is_blank), wanted.is_blank),
        (col(Tile.assigned_to), wanted.assigned_to),
    ):
        if value is not None:
            asked = asked.where(column == value)
    if wanted.class_index is not None:
        counts: Any = col(Tile.counts)
        asked = asked.where(counts[str(wanted.class_index)].as_string().is_not(None))
    keys = [col(Tile.image_id), col(Tile.row0), col(Tile.col0)]
    return page_of(session, asked, keys, cursor=cursor, limit=limit)


def get_tile(
    session: Session, actor: Actor, tile_id: str, action: Literal["view", "annotate", "edit"] = "view"
) -> tuple[Tile, Image]:
    """A tile of a project where the actor may do this, and its image.

    Raises:
        NotFound: there is none, its image is in the trash, or the actor may not see it.
    """
    found = session.exec(_TILE, params={"tile_id": tile_id}).first()
    if found is None:
        raise _no_tile(tile_id)
    tile, image, _project = found  # the session has the project now: to look at it again asks nothing
    try:
        get_project(session, actor, tile.project_id, action)
    except NotFound as error:
        raise _no_tile(tile_id) from error
    return tile, image


def detail(session: Session, actor: Actor, tile: Tile, image: Image) -> TileDetail:
    """A tile as its editor needs it."""
    return TileDetail(
        **tile.model_dump(),
        image_name=image.name,
        image_height=image.height,
        image_width=image.width,
        pixel_size_um=image.pixel_size_um,
        lease=lease_of(session, actor, tile),
    )


def take_lease(session: Session, actor: Actor, tile_id: str, *, takes_over: bool = False) -> LeasePublic:
    """Say that the actor has the tile open, for 90 s; whoever had it open before keeps it, unless it is taken over."""
    tile, _image = get_tile(session, actor, tile_id, "annotate")
    if takes_over or not is_open_elsewhere(tile, actor):
        tile.leased_by = actor.user_id
        tile.leased_until = now() + timedelta(seconds=LEASE_S)
        session.add(tile)
    return lease_of(session, actor, tile)


def release_lease(session: Session, actor: Actor, tile_id: str) -> None:
    """Say that the actor has closed the tile."""
    tile, _image = get_tile(session, actor, tile_id, "annotate")
    if tile.leased_by == actor.user_id:
        tile.leased_by = tile.leased_until = None
        session.add(tile)


def lease_of(session: Session, actor: Actor, tile: Tile) -> LeasePublic:
    """Who has a tile open."""
    if tile.leased_by is None or tile.leased_until is None or tile.leased_until < now():
        return LeasePublic(is_mine=False, holder=None, until=None)
    holder = session.get_one(User, tile.leased_by)
    return LeasePublic(
        is_mine=holder.id == actor.user_id, holder=holder.display_name or holder.name, until=tile.leased_until
    )


def mark_done(session: Session, actor: Actor, tile_id: str) -> Tile:
    """Say that a tile needs no more labels; from now on they stay as they are."""
    tile, _image = get_tile(session, actor, tile_id, "annotate")
    tile.status = "done"
    session.add(tile)
    return tile


def reopen(session: Session, actor: Actor, tile_id: str) -> Tile:
    """Let a tile that was done be labelled again."""
    tile, _image = get_tile(session, actor, tile_id, "annotate")
    if tile.status == "done":
        tile.status = status_of(tile.counts)
        session.add(tile)
        audit.record(session, actor, "tile.reopen", "tile", tile.id, revision=tile.revision)
    return tile


def is_open_elsewhere(tile: Tile, actor: Actor) -> bool:
    """Whether somebody else has the tile in an editor at the moment."""
    return tile.leased_until is not None and tile.leased_until >= now() and tile.leased_by != actor.user_id


def status_of(counts: dict[str, int]) -> Status:
    """What labels say of a tile that is not done."""
    return "started" if any(value != "255" for value in counts) else "unlabelled"


def assign_tiles(session: Session, actor: Actor, project_id: str, form: TileAssign) -> int:
    """Say who shall label tiles of the current tiling; gives how many there are. Another tiling begins unassigned.

    Raises:
        NotFound: there is no project for the actor, or a tile or image is not of it.
        NotAllowed: the actor does not own the project.
        Conflict: the person may not label here.
    """
    project = get_project(session, actor, project_id, "manage")
    if form.user_id is not None:
        _check_may_label(session, project, form.user_id)
    wanted = or_(col(Tile.id).in_(form.tile_ids), col(Tile.image_id).in_(form.image_ids))
    tiling = current_tiling(session, project.id)
    found = session.exec(select(Tile).where(col(Tile.tiling_id) == tiling.id, wanted)).all()
    _check_all_found(form.tile_ids, {tile.id for tile in found}, "tile")
    _check_all_found(form.image_ids, {tile.image_id for tile in found}, "image")
    for tile in found:
        tile.assigned_to = form.user_id
    audit.record(session, actor, "tile.assign", "project", project.id, user_id=form.user_id, num_tiles=len(found))
    return len(found)


def release_tiles(session: Session, project_id: str, user_id: str) -> None:
    """Give the tiles of somebody who labels here no more to everybody."""
    is_theirs = (col(Tile.project_id) == project_id, col(Tile.assigned_to) == user_id)
    session.exec(update(Tile).where(*is_theirs).values(assigned_to=None))


def next_tile(
    session: Session, actor: Actor, project_id: str, wanted: Wanted = Wanted(), *, after: str | None = None
) -> Next:
    """The tile to label next: mine first, then those begun, then in order; not those that others have open.

    Args:
        after: id of the tile that the person leaves: the search goes on behind it, then from the beginning.
    """
    project = get_project(session, actor, project_id, "annotate")
    found = first_in_order(session, actor, waiting(current_tiling(session, project.id), actor, wanted), after=after)
    if found is None:
        is_filtered = wanted != Wanted()
        return Next(tile=None, reason=_NONE_FITS if is_filtered else _NONE_LEFT)
    return Next(tile=TilePublic.of(found), reason=_why(found, actor))


def first_in_order(
    session: Session, actor: Actor, allowed: ColumnElement[bool], *, after: str | None = None
) -> Tile | None:
    """See `next_tile`; `allowed` is a condition on `Tile` rows joined with their `Image`."""
    leaving = session.get(Tile, after) if after is not None else None
    begun = and_(col(Tile.status) == "started", col(Tile.labelled_by) == actor.user_id)
    rank = case((col(Tile.assigned_to) == actor.user_id, 0), (begun, 1), else_=2)
    order: list[Any] = [rank, *ORDER]
    if leaving is not None and (image := session.get(Image, leaving.image_id)) is not None:
        order.insert(1, case((lies_before(leaving, image), 1), else_=0))
    if leaving is not None:
        allowed = and_(allowed, col(Tile.id) != leaving.id)
    asked = select(Tile).join(Image, col(Tile.image_id) == Image.id).where(allowed).order_by(*order)
    return session.exec(asked.limit(1)).first()


def waiting(tiling: Tiling, actor: Actor, wanted: Wanted) -> ColumnElement[bool]:
    """The condition on `Tile` rows, joined with their `Image`, that the actor may be offered."""
    is_mine = or_(col(Tile.assigned_to) == actor.user_id, col(Tile.labelled_by) == actor.user_id)
    return and_(
        col(Tile.tiling_id) == tiling.id,
        col(Tile.status) != "done" if wanted.status is None else col(Tile.status) == wanted.status,
        is_mine if wanted.owner == "mine" else true(),
        col(Tile.is_blank).is_(False),
        col(Image.deleted_at).is_(None),
        col(Image.is_excluded).is_(False),
        or_(col(Tile.assigned_to).is_(None), col(Tile.assigned_to) == actor.user_id),
        or_(col(Tile.leased_until).is_(None), col(Tile.leased_until) < now(), col(Tile.leased_by) == actor.user_id),
    )


def _why(tile: Tile, actor: Actor) -> str:
    if tile.assigned_to == actor.user_id:
        return "it is yours to label"
    if tile.status == "done":
        return "it is done, to be looked at again"
    if tile.status == "started":
        return "you have begun it" if tile.labelled_by == actor.user_id else "somebody has begun it"
    return "it has no labels yet"


def _check_may_label(session: Session, project: Project, user_id: str) -> None:
    user = session.get(User, user_id)
    role = project_role(session, Actor.of(user), project) if user is not None else None
    if not project_role_may(role, "annotate"):
        raise Conflict(f"nobody {user_id!r} may label in project {project.name!r}; add the person as editor first")


def _check_all_found(wanted: list[str], found: set[str], what: str) -> None:
    if missing := [id_ for id_ in wanted if id_ not in found]:
        raise NotFound(f"the project has no {what} {missing[0]!r} now; look at its list of {what}s")


def _no_tile(tile_id: str) -> NotFound:
    return NotFound(f"there is no tile {tile_id!r}; look at the tiles of your project")
