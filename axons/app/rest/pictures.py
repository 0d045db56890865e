"""Answers that are pictures or files: with an ETag, and without a body for whoever has them already."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header, Response

IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", max_length=1000)]


def picture_of(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The description of an answer that is a picture, for `responses` of a route."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media_types}
    return {
        200: {"content": content, "description": "The picture."},
        304: {"description": "You have it already."},
    }


PNG, JPEG = picture_of("image/png"), picture_of("image/jpeg")


def etag_of(*parts: object) -> str:
    """An ETag of what a picture is made from."""
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"'


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether the client has this version."""
    if if_none_match is None:
        return False
    return "*" in if_none_match or etag in [part.strip().removeprefix("W/") for part in if_none_match.split(",")]


def picture(
    make: Callable[[], bytes], *, etag: str, if_none_match: str | None, media_type: str, **headers: str
) -> Response:
    """The picture, or 304 without making it."""
    headers = {"ETag": etag, **headers}
    if is_known(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(make(), media_type=media_type, headers=headers)
