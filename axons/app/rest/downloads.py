"""Files that people take with them."""

import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services import audit

_PRIVATE = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
_PACKED = (".json", ".txt", ".csv", ".html")  # the others would not get smaller


def file_of(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The description of an answer that is a file, for `responses` of a route."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in media_types}
    return {200: {"content": content, "description": "The file."}}


def log_download(platform: Platform, actor: Actor, kind: str, object_id: str, file: str) -> None:
    """Write into the audit who takes what with them, before the first byte leaves."""
    platform.database.write(
        lambda session: audit.record(session, actor, f"{kind}.download", kind, object_id, file=file)
    )


def zip_answer(name: str, files: Mapping[str, Path | bytes]) -> FileResponse:
    """A ZIP of files, made on disk and deleted when it has been sent."""
    # The answer outlives this function; the background task deletes the file.
    target = tempfile.NamedTemporaryFile(suffix=".zip", delete=False)  # noqa: SIM115
    with target, zipfile.ZipFile(target, "w") as archive:
        for inside, content in files.items():
            method = zipfile.ZIP_DEFLATED if inside.endswith(_PACKED) else zipfile.ZIP_STORED
            if isinstance(content, bytes):
                archive.writestr(inside, content, compress_type=method)
            else:
                archive.write(content, inside, compress_type=method)
    path = Path(target.name)
    return FileResponse(
        path,
        media_type="application/zip",
        filename=safe_name(name, ".zip"),
        headers=_PRIVATE,
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def file_answer(path: Path, name: str, media_type: str) -> FileResponse:
    """A file from storage."""
    return FileResponse(path, media_type=media_type, filename=safe_name(name, ""), headers=_PRIVATE)


def bytes_answer(data: bytes, media_type: str, *, name: str | None = None) -> Response:
    """Bytes; with a name they are saved instead of shown."""
    headers = dict(_PRIVATE)
    if name is not None:
        headers["Content-Disposition"] = f'attachment; filename="{safe_name(name, "")}"'
    return Response(data, media_type=media_type, headers=headers)


def safe_name(name: str, suffix: str) -> str:
    """A file name that every system takes, of a name that a person has given."""
    return (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "download") + suffix
