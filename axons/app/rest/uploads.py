"""Uploads in parts."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi import Path as PathParameter
from starlette.requests import ClientDisconnect

from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.rest.problems import documented
from axons.app.services import uploads
from axons.app.services.uploads import UploadCreate, UploadPublic
from axons.errors import InvalidRequest, TooLarge

router = APIRouter(prefix="/uploads", tags=["uploads"])

PartNumber = Annotated[int, PathParameter(ge=0, le=1_000_000, description="Parts are counted from 0.")]
PartSha256 = Annotated[
    str | None, Header(alias="X-Part-SHA256", pattern="^[0-9a-f]{64}$", description="Hex digest of the part.")
]


def _expected_bytes(platform: PlatformOf, actor: ActorOf, upload_id: Id, number: PartNumber) -> int:
    """Asked before the body is read."""
    upload = platform.database.read(lambda session: uploads.open_upload(session, actor, upload_id))
    wanted = uploads.expected_bytes(upload, number)
    uploads.check_free_space(platform.settings, wanted)
    return wanted


async def _part_file(
    request: Request,
    platform: PlatformOf,
    wanted: Annotated[int, Depends(_expected_bytes)],
    sha256: PartSha256 = None,
) -> AsyncIterator[Path]:
    """The body in a file, gone after the request whatever becomes of it."""
    with uploads.incoming_folder(platform.settings) as folder:
        file = folder / "part"
        digest = await _spool(request, file, wanted)
        if sha256 is not None and digest != sha256:
            raise InvalidRequest("X-Part-SHA256", f"the part arrived with sha256 {digest}; send it again")
        yield file


async def _spool(request: Request, file: Path, wanted: int) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("wb") as target:
            async for chunk in request.stream():
                size += len(chunk)
                if size > wanted:
                    raise TooLarge(f"the part is longer than its {wanted} bytes; cut the file as `part_bytes` says")
                digest.update(chunk)
                target.write(chunk)
    except ClientDisconnect as error:
        raise InvalidRequest("body", f"the connection ended after {size} of {wanted} bytes; send it again") from error
    return digest.hexdigest()


@router.post("", status_code=201, operation_id="create_upload", responses=documented(507))
def create_upload(platform: PlatformOf, actor: ActorOf, form: UploadCreate) -> UploadPublic:
    """Begin an upload; the answer says how long the parts are."""
    return UploadPublic.of(uploads.create_upload(platform, actor, form))


@router.get("/{upload_id}", operation_id="get_upload")
def get_upload(platform: PlatformOf, actor: ActorOf, upload_id: Id) -> UploadPublic:
    """An upload with the parts that it misses: after a broken connection, go on with these."""
    return UploadPublic.of(platform.database.read(lambda session: uploads.get_upload(session, actor, upload_id)))


@router.put(
    "/{upload_id}/parts/{number}",
    operation_id="put_upload_part",
    responses=documented(507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def put_part(
    platform: PlatformOf,
    actor: ActorOf,
    upload_id: Id,
    number: PartNumber,
    file: Annotated[Path, Depends(_part_file)],
) -> UploadPublic:
    """Send one part as the raw body, in any order; a part may be sent again."""
    return UploadPublic.of(uploads.add_part(platform, actor, upload_id, number, file))


@router.post("/{upload_id}:complete", operation_id="complete_upload")
def complete_upload(platform: PlatformOf, actor: ActorOf, upload_id: Id) -> UploadPublic:
    """Say that all parts were sent; now the file can be imported."""
    return UploadPublic.of(uploads.complete_upload(platform, actor, upload_id))


@router.delete("/{upload_id}", status_code=204, operation_id="abort_upload")
def abort_upload(platform: PlatformOf, actor: ActorOf, upload_id: Id) -> Response:
    """Forget an upload and its parts."""
    uploads.abort_upload(platform, actor, upload_id)
    return Response(status_code=204)
