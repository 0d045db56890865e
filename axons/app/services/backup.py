"""Everything an installation keeps, in one file, and back."""

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from axons.app.platform import Platform
from axons.app.policy import Actor, require
from axons.app.services import audit
from axons.app.services.uploads import check_free_space
from axons.errors import ArchiveRefused, Conflict

DATABASE = "axons.db"

_AREAS = ("projects", "training-sets", "models")
_STORAGE = "storage"


def write_backup(platform: Platform, actor: Actor, folder: Path) -> Path:
    """A ZIP of the database and of every object that lasts, in `folder`.

    The database goes first: objects are written before the rows that name them, so none of them is missing.

    Raises:
        NotAllowed: it is for administrators.
        Conflict: the database is PostgreSQL, which has tools of its own.
        StorageFull: there is no room for it.
    """
    require(actor, "backup")
    if not platform.database.is_sqlite:
        raise Conflict("the database is PostgreSQL; back it up with pg_dump, and the storage with its own tools")
    objects = [stored for area in _AREAS for stored in platform.storage.list_objects(area)]
    check_free_space(platform.settings, sum(stored.size for stored in objects))
    platform.database.write(lambda session: audit.record(session, actor, "backup", "installation", "all"))
    copy = folder / DATABASE
    platform.database.copy_to(copy)
    target = folder / "backup.zip"
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(copy, DATABASE)
        for key in sorted({stored.key for area in _AREAS for stored in platform.storage.list_objects(area)}):
            archive.write(platform.storage.local_path(key), f"{_STORAGE}/{key}")
    copy.unlink()
    return target


def restore(file: Path, data: Path) -> None:
    """Make a data folder of a backup; secrets are made anew at its first start.

    Raises:
        Conflict: the folder holds something already.
        ArchiveRefused: the file is no backup.
    """
    if data.exists() and any(data.iterdir()):
        raise Conflict(f"the folder {str(data)!r} is not empty; restore into a new one")
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if DATABASE not in names or not all(_is_ours(name) for name in names):
                raise ArchiveRefused(
                    f"{str(file)!r} is no backup of axons; give a file that `axons backup` has written"
                )
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            data.chmod(0o700)
            for name in names:
                target = data / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as part:
                    shutil.copyfileobj(source, part, 1 << 20)
    except zipfile.BadZipFile as error:
        raise ArchiveRefused(f"{str(file)!r} is damaged ({error}); use another backup") from error


def _is_ours(name: str) -> bool:
    parts = PurePosixPath(name).parts
    is_plain = not name.startswith("/") and ".." not in parts and "\\" not in name
    return is_plain and (name == DATABASE or (len(parts) > 2 and parts[0] == _STORAGE and parts[1] in _AREAS))
