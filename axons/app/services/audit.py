"""Who did what to what, for ever."""

from typing import Any

from sqlmodel import Session

from axons.app.policy import Actor
from axons.app.tables import Audit


def record(
    session: Session, actor: Actor | None, action: str, object_kind: str, object_id: str, **detail: Any
) -> None:
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
