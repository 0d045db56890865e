"""The audit, for administrators to read; nobody changes it."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlmodel import Session

from axons.app.rest.context import PAGE, ActorOf, Cursor, Limit, Page, PlatformOf
from axons.app.services import audit
from axons.app.services.users import names_of

router = APIRouter(prefix="/audit", tags=["audit"])

Filter = Annotated[str | None, Query(max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]


class AuditPublic(BaseModel):
    """Who did what to what; `actor_id` and the person's sign-in name are None where the server did it itself."""

    number: int
    at: datetime
    actor_id: str | None
    actor_name: str | None
    action: str
    object_kind: str
    object_id: str
    detail: dict[str, Any]


@router.get("", operation_id="list_audit")
def list_audit(
    platform: PlatformOf,
    actor: ActorOf,
    actor_id: Filter = None,
    object_id: Filter = None,
    action: Filter = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[AuditPublic]:
    """What was done, the newest first; administrators may."""

    def answer(session: Session) -> Page[AuditPublic]:
        chosen = {"actor_id": actor_id, "object_id": object_id, "action": action}
        rows, following = audit.list_audit(session, actor, chosen, cursor=cursor, limit=limit)
        names = names_of(session, (row.actor_id for row in rows))
        items = [AuditPublic(**row.model_dump(), actor_name=names.get(row.actor_id or "")) for row in rows]
        return Page(items=items, next=following)

    return platform.database.read(answer)
