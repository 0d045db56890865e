"""Backups, for administrators."""

import shutil
import tempfile
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from axons.app.rest.context import ActorOf, PlatformOf
from axons.app.rest.downloads import file_of
from axons.app.rest.problems import documented
from axons.app.services import backup
from axons.app.tables import now

router = APIRouter(prefix="/backups", tags=["backups"])


@router.get(
    "/now",
    operation_id="download_backup",
    response_class=FileResponse,
    responses={**file_of("application/zip"), **documented(507)},
)
def download_backup(platform: PlatformOf, actor: ActorOf) -> FileResponse:
    """The database and every object that lasts, as they are now, as a ZIP for `axons restore`."""
    folder = Path(tempfile.mkdtemp(prefix="backup-", dir=platform.settings.data))
    try:
        file = backup.write_backup(platform, actor, folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return FileResponse(
        file,
        media_type="application/zip",
        filename=f"axons-{now():%Y-%m-%d}.zip",
        headers={"Cache-Control": "private, no-store"},
        background=BackgroundTask(shutil.rmtree, folder),
    )
