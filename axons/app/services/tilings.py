"""Tile sizes of a project: another one takes all labels along."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services.access import get_project
from axons.app.services.jobs import add_job
from axons.app.services.projects import TileSide
from axons.app.tables import FINAL_STATES, Job, Project, Tiling
from axons.errors import Conflict


class TilingCreate(BaseModel):
    """Another tile size."""

    model_config = ConfigDict(extra="forbid")

    tile: TileSide


class TileRequest(BaseModel):
    """The request of a `tile` job, as `Job.request` holds it; the tiling it fills is the job's target."""

    tile: int


def current_tiling(session: Session, project_id: str) -> Tiling:
    """The tiling that people label."""
    current = (col(Tiling.project_id) == project_id, col(Tiling.is_current))
    return session.exec(select(Tiling).where(*current)).one()


def list_tilings(session: Session, actor: Actor, project_id: str) -> Sequence[Tiling]:
    """The tilings of a project, the newest first."""
    project = get_project(session, actor, project_id)
    asked = select(Tiling).where(col(Tiling.project_id) == project.id)
    return session.exec(asked.order_by(col(Tiling.created_at).desc())).all()


def start_tiling(session: Session, actor: Actor, project_id: str, form: TilingCreate) -> Job:
    """Put a change of the tile size into the queue.

    Raises:
        Conflict: the project has this tile size, or something else is changing its tiles.
    """
    project = get_project(session, actor, project_id, "edit")
    if current_tiling(session, project.id).tile == form.tile:
        raise Conflict(f"the tiles of {project.name!r} are {form.tile} px already; choose another size")
    check_no_other_tiling(session, project)
    if _is_active(session, project, "import"):
        raise Conflict(f"images are being imported into {project.name!r}; wait until this is done")
    tiling = Tiling(project_id=project.id, tile=form.tile, is_current=False, created_by=actor.user_id)
    session.add(tiling)
    session.flush()
    request = TileRequest(tile=form.tile)
    return add_job(session, actor, "tile", project, request=request.model_dump(), target_id=tiling.id)


def check_no_other_tiling(session: Session, project: Project) -> None:
    """What adds tiles waits for what replaces them.

    Raises:
        Conflict: the project is being tiled.
    """
    if _is_active(session, project, "tile"):
        raise Conflict(f"the tiles of {project.name!r} are being changed; wait until this is done")


def _is_active(session: Session, project: Project, kind: str) -> bool:
    active = (col(Job.project_id) == project.id, col(Job.kind) == kind, col(Job.state).not_in(FINAL_STATES))
    return session.exec(select(Job.id).where(*active)).first() is not None
