"""The trash."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.services import trash

router = APIRouter(prefix="/trash", tags=["trash"])


class TrashPublic(BaseModel):
    """Something deleted that can come back until `purge_after`."""

    id: str
    kind: str
    object_id: str
    label: str
    project_id: str | None
    deleted_by: str
    deleted_at: datetime
    purge_after: datetime


@router.get("", operation_id="list_trash")
def list_trash(platform: PlatformOf, actor: ActorOf) -> list[TrashPublic]:
    """What you can have back, the newest first."""
    return platform.database.read(
        lambda session: [TrashPublic(**row.model_dump()) for row in trash.list_trash(session, actor)]
    )


@router.post("/{trash_id}/restore", operation_id="restore_trash")
def restore_trash(platform: PlatformOf, actor: ActorOf, trash_id: Id) -> TrashPublic:
    """Take something out of the trash."""
    return platform.database.write(lambda session: TrashPublic(**trash.restore(session, actor, trash_id).model_dump()))
