"""The queue by usefulness: tiles of which a model is unsure, tiles with the rarest class, and some at random."""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, and_, exists, func, or_
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services import tiles
from axons.app.services.access import get_project
from axons.app.services.images import is_test
from axons.app.services.jobs import add_job
from axons.app.services.models import get_model
from axons.app.services.predictions import check_may_predict
from axons.app.services.tiles import Next, TilePublic, Wanted
from axons.app.services.tilings import current_tiling
from axons.app.services.turns import take_turns
from axons.app.tables import FINAL_STATES, Image, Job, LabelClass, Tile, TileScore, Tiling, now
from axons.app.texts import Identifier
from axons.data.tiles import Window
from axons.errors import Conflict

# Of five tiles in a row three are unsure, one has the rarest class, one is picked at random.
_TURNS: tuple[Literal["unsure", "rare", "random"], ...] = ("unsure", "rare", "unsure", "random", "unsure")
_CANDIDATES = 200  # among which one is looked for that lies beside nothing new
_NONE_LEFT = (
    "every tile is done, blank or open elsewhere, apart from those of test images, which no model chooses; "
    "go on in order for these"
)
_NOT_RANKED = "no model has looked at the tiles yet, so this is the next in order"


class RankCreate(BaseModel):
    """Which model shall look at the tiles."""

    model_config = ConfigDict(extra="forbid")

    model_id: Identifier


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A person's question: which tiles may be offered, and the ranking that is asked."""

    actor: Actor
    tiling: Tiling
    allowed: ColumnElement[bool]
    job: Job
    after: str | None


def start_ranking(session: Session, actor: Actor, project_id: str, form: RankCreate) -> Job:
    """Put a ranking of the tiles of a project into the queue.

    Raises:
        NotFound, NotAllowed: see `get_project`, `get_model` and `check_may_predict`.
        Conflict: another ranking is not over.
    """
    project = get_project(session, actor, project_id, "edit")
    model, _ = get_model(session, actor, form.model_id)
    check_may_predict(session, actor, project)
    take_turns(session, project)
    jobs = session.exec(_jobs(project.id).where(col(Job.state).not_in(FINAL_STATES))).all()
    if any(_is_ranking(job) for job in jobs):
        raise Conflict(f"the tiles of {project.name!r} are being ranked; wait until this is done, or cancel it")
    return add_job(session, actor, "predict", project, request={"purpose": "ranking", "model_id": model.id})


def next_useful(
    session: Session, actor: Actor, project_id: str, wanted: Wanted = Wanted(), *, after: str | None = None
) -> Next:
    """The tile whose labels would teach a model most; tiles given to the person come first. Never one for the test.

    Until the person has done another tile the answer stays the same.

    Args:
        after: id of the tile that the person leaves.
    """
    project = get_project(session, actor, project_id, "annotate")
    tiling = current_tiling(session, project.id)
    allowed = and_(tiles.waiting(tiling, actor, wanted), ~is_test())
    is_given = and_(allowed, col(Tile.assigned_to) == actor.user_id)
    if _count(session, is_given):
        allowed = is_given
    job = _ranking(session, tiling)
    if job is None:
        found = tiles.first_in_order(session, actor, allowed, after=after)
        return Next(tile=TilePublic.of(found), reason=_NOT_RANKED) if found else Next(tile=None, reason=_NONE_LEFT)
    asked = _Asked(actor=actor, tiling=tiling, allowed=allowed, job=job, after=after)
    turn = _turn(session, asked)
    return (
        (_rare(session, asked) if turn == "rare" else None)
        or (_unsure(session, asked) if turn != "random" else None)
        or _random(session, asked)
        or Next(tile=None, reason=_NONE_LEFT)
    )


def _unsure(session: Session, asked: _Asked) -> Next | None:
    found = _chosen(session, asked, col(TileScore.score), [])
    if found is None:
        return None
    tile, score = found
    share = round(100 * score.unsure_share)
    reason = f"{share} % of the tile below 60 %" if share else "less sure than elsewhere"
    return Next(tile=TilePublic.of(tile), reason=f"the model is unsure here: {reason}")


def _rare(session: Session, asked: _Asked) -> Next | None:
    index = asked.job.result.get("rarest")
    if index is None:
        return None
    class_pixels: Any = col(TileScore.class_pixels)
    pixels = class_pixels[str(index)].as_integer()
    found = _chosen(session, asked, pixels, [pixels.is_not(None)])
    if found is None:
        return None
    named = (col(LabelClass.project_id) == asked.tiling.project_id, col(LabelClass.index) == index)
    name = session.exec(select(LabelClass.name).where(*named)).one()
    return Next(tile=TilePublic.of(found[0]), reason=f"has {name}, the rarest class")


def _random(session: Session, asked: _Asked) -> Next | None:
    is_other = and_(asked.allowed, col(Tile.id) != asked.after) if asked.after else asked.allowed
    count = _count(session, is_other)
    if not count:
        return None
    # The tile that is left is part of the seed, so that who goes on gets on.
    rng = np.random.default_rng(_number(asked, str(_num_done(session, asked)), asked.after or ""))
    place = int(rng.integers(count))
    ordered = select(Tile).join(Image, col(Image.id) == col(Tile.image_id)).where(is_other).order_by(col(Tile.id))
    return Next(tile=TilePublic.of(session.exec(ordered.offset(place).limit(1)).one()), reason="picked at random")


def _chosen(
    session: Session, asked: _Asked, by: Any, conditions: Sequence[ColumnElement[bool]]
) -> tuple[Tile, TileScore] | None:
    """The tile that is highest `by` something and lies beside nothing new; if all do, the highest."""
    best = (
        select(Tile, TileScore)
        .join(TileScore, col(TileScore.tile_id) == col(Tile.id))
        .join(Image, col(Image.id) == col(Tile.image_id))
        .where(asked.allowed, col(TileScore.job_id) == asked.job.id, *conditions)
        .order_by(by.desc(), col(Tile.id))
        .limit(_CANDIDATES)
    )
    found = list(session.exec(best).all())
    places = [tile.id for tile, _ in found]
    if asked.after in places:  # who leaves a tile goes on behind it
        start = places.index(asked.after)
        found = found[start + 1 :] + found[:start]
    new = _new_places(session, asked)
    return next((row for row in found if not _is_beside(row[0], new)), found[0] if found else None)


def _new_places(session: Session, asked: _Asked) -> dict[str, list[tuple[str, Window]]]:
    """By image, tiles that were labelled since the model has looked, or that others have open."""
    is_open = and_(col(Tile.leased_until) > now(), col(Tile.leased_by) != asked.actor.user_id)
    since: datetime = asked.job.created_at
    is_new = or_(col(Tile.labelled_at) > since, is_open)
    found: dict[str, list[tuple[str, Window]]] = defaultdict(list)
    for tile in session.exec(select(Tile).where(col(Tile.tiling_id) == asked.tiling.id, is_new)):
        found[tile.image_id].append((tile.id, _window(tile)))
    return found


def _is_beside(tile: Tile, places: dict[str, list[tuple[str, Window]]]) -> bool:
    reach = Window(tile.row0 - 1, tile.col0 - 1, tile.height + 2, tile.width + 2)
    return any(id_ != tile.id and reach.intersection(window) for id_, window in places.get(tile.image_id, ()))


def _turn(session: Session, asked: _Asked) -> Literal["unsure", "rare", "random"]:
    """Each person begins elsewhere in the five turns, so that a class does not go for the same things at once."""
    return _TURNS[(_num_done(session, asked) + _number(asked)) % len(_TURNS)]


def _number(asked: _Asked, *more: str) -> int:
    """The same for the same person and project."""
    return zlib.crc32("/".join([asked.tiling.project_id, asked.actor.user_id, *more]).encode())


def _num_done(session: Session, asked: _Asked) -> int:
    mine = (col(Tile.labelled_by) == asked.actor.user_id, col(Tile.status) == "done")
    of_tiling = select(func.count()).select_from(Tile).where(col(Tile.tiling_id) == asked.tiling.id, *mine)
    return session.exec(of_tiling).one()


def _count(session: Session, allowed: ColumnElement[bool]) -> int:
    joined = select(func.count()).select_from(Tile).join(Image, col(Image.id) == col(Tile.image_id))
    return session.exec(joined.where(allowed)).one()


def _ranking(session: Session, tiling: Tiling) -> Job | None:
    """The newest finished ranking that has scores of tiles of this tiling."""
    scores = select(1).select_from(TileScore).join(Tile, col(Tile.id) == col(TileScore.tile_id))
    has_scores = exists(scores.where(col(TileScore.job_id) == col(Job.id), col(Tile.tiling_id) == tiling.id))
    done = _jobs(tiling.project_id).where(col(Job.state) == "done", has_scores)
    return session.exec(done.order_by(col(Job.finished_at).desc()).limit(1)).first()


def _jobs(project_id: str) -> Any:
    return select(Job).where(col(Job.project_id) == project_id, col(Job.kind) == "predict")


def _is_ranking(job: Job) -> bool:
    return job.request.get("purpose") == "ranking"


def _window(tile: Tile) -> Window:
    return Window(tile.row0, tile.col0, tile.height, tile.width)
