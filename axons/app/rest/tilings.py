"""Tile sizes of a project."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.services import tilings
from axons.app.services.jobs import JobPublic, public_jobs
from axons.app.services.tilings import TilingCreate

router = APIRouter(prefix="/projects/{project_id}/tilings", tags=["tiles"])


class TilingPublic(BaseModel):
    """A tile size; the tiles of earlier ones can still be looked at."""

    id: str
    tile: int
    is_current: bool
    created_at: datetime


@router.get("", operation_id="list_tilings")
def list_tilings(platform: PlatformOf, actor: ActorOf, project_id: Id) -> list[TilingPublic]:
    """The tilings of a project, the newest first."""
    return platform.database.read(
        lambda session: [TilingPublic(**row.model_dump()) for row in tilings.list_tilings(session, actor, project_id)]
    )


@router.post("", status_code=202, operation_id="create_tiling")
def create_tiling(platform: PlatformOf, actor: ActorOf, project_id: Id, form: TilingCreate) -> JobPublic:
    """Change the tile size as a job; all labels come along."""
    return platform.database.write(
        lambda session: public_jobs(session, [tilings.start_tiling(session, actor, project_id, form)])[0]
    )
