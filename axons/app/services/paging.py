"""Pages of rows by cursor: the place after the last row, so that rows that come or go shift nothing."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import BindParameter, bindparam, tuple_
from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

from axons.errors import InvalidRequest

_T = TypeVar("_T")


def page_of(
    session: Session,
    statement: SelectOfScalar[_T],
    keys: Sequence[Any],
    *,
    cursor: str | None,
    limit: int,
    newest_first: bool = False,
) -> tuple[list[_T], str | None]:
    """Up to `limit` rows after `cursor`, and the cursor of the following page (None at the end).

    Args:
        keys: columns to order by; together they are unique.
    Raises:
        InvalidRequest: the cursor is not one of this list.
    """
    if cursor is not None:
        place, last = tuple_(*keys), tuple_(*_decoded(cursor, keys))
        statement = statement.where(place < last if newest_first else place > last)
    ordered = statement.order_by(*(key.desc() if newest_first else key.asc() for key in keys))
    rows = list(session.exec(ordered.limit(limit + 1)).all())
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], _encoded([getattr(rows[limit - 1], key.key) for key in keys])


def _encoded(values: Sequence[Any]) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def _decoded(cursor: str, keys: Sequence[Any]) -> list[BindParameter[Any]]:
    try:
        plain = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        places = zip(keys, plain, strict=True)
        return [
            bindparam(None, _as(getattr(key.type, "impl", key.type).python_type, value), type_=key.type)
            for key, value in places
        ]
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidRequest(
            "cursor", f"{cursor[:40]!r} is not of this list; take `next` of the page before"
        ) from error


def _as(kind: Any, value: Any) -> Any:
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return moment
    if type(value) is not kind or (kind is int and abs(value) >= 1 << 63) or (kind is str and "\0" in value):
        raise ValueError(f"{value!r} is not a place in this list")
    return value
