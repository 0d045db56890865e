"""Who did what to what, for ever."""

from typing import Any

from sqlmodel import Session, col, select

from axons.app.policy import Actor, require
from axons.app.services.paging import page_of
from axons.app.tables import Audit


def record(session: Session, actor: Actor | None, action: str, object_kind: str, object_id: str, **detail: Any) -> None:
    """Add an audit row to the transaction of the deed; `detail` never holds a secret."""
    session.add(
        Audit(
            actor_id=actor.user_id if actor else None,
            action=action,
            object_kind=object_kind,
            object_id=object_id,
            detail=detail,
        )
    )


def list_audit(
    session: Session, actor: Actor, chosen: dict[str, str | None], *, cursor: str | None, limit: int
) -> tuple[list[Audit], str | None]:
    """A page of the audit, the newest first.

    Args:
        chosen: values of columns that the rows must have; None is any.
    Raises:
        NotAllowed: the actor is no administrator.
    """
    require(actor, "audit.read")
    wanted = [getattr(Audit, name) == value for name, value in chosen.items() if value is not None]
    statement = select(Audit).where(*wanted)
    return page_of(session, statement, [col(Audit.number)], cursor=cursor, limit=limit, newest_first=True)
