"""Files on their way in, part by part: resumable, in any order, and gone after their time."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services.access import get_project, limit_of
from axons.app.services.projects import stored_bytes
from axons.app.settings import Settings
from axons.app.tables import Image, Project, Upload, now
from axons.app.texts import FileName
from axons.data.storage import new_key
from axons.errors import Conflict, InvalidRequest, LimitReached, NotFound, StorageFull, TooLarge

Purpose = Literal["images", "annotations", "project", "model", "prediction", "example"]

_OF_A_PROJECT = ("images", "annotations", "prediction", "example")
_INCOMING = "incoming"


class UploadCreate(BaseModel):
    """A file that somebody is going to send; what it is for says which project it needs."""

    model_config = ConfigDict(extra="forbid")

    name: FileName
    num_bytes: int = Field(ge=1, le=2**53)
    purpose: Purpose = "images"
    project_id: str | None = Field(None, max_length=64, pattern="^[A-Za-z0-9_-]+$")


class UploadPublic(BaseModel):
    """An upload: send part n, from 0, with bytes n * part_bytes up to (n + 1) * part_bytes of the file."""

    id: str
    name: str
    num_bytes: int
    part_bytes: int
    num_parts: int
    missing: list[int]
    state: str
    purpose: str
    project_id: str | None
    expires_at: str

    @classmethod
    def of(cls, upload: Upload) -> "UploadPublic":
        """The public part of a row."""
        missing = [n for n in range(num_parts(upload)) if str(n) not in upload.parts]
        return cls(
            **upload.model_dump(include=set(cls.model_fields) - {"expires_at"}),
            num_parts=num_parts(upload),
            missing=missing,
            expires_at=upload.expires_at.isoformat(),
        )


def create_upload(platform: Platform, actor: Actor, form: UploadCreate) -> Upload:
    """Begin an upload.

    Raises:
        TooLarge, StorageFull, LimitReached: the file is too large, for the installation, the disk or the person.
        InvalidRequest: no project is named.
    """
    settings = platform.settings
    if form.num_bytes > settings.max_upload_bytes:
        limit = f"{settings.max_upload_bytes / 1e6:.0f} MB"
        raise TooLarge(f"{form.name!r} has {form.num_bytes / 1e6:.0f} MB, the limit is {limit}; split it")
    if form.purpose in _OF_A_PROJECT and form.project_id is None:
        raise InvalidRequest("project_id", f"{form.purpose} belong to a project; say which")
    check_free_space(settings, 2 * form.num_bytes)  # the parts, and the file that they become

    def create(session: Session) -> Upload:
        if form.project_id is not None:
            project = get_project(session, actor, form.project_id, "edit")
            check_limits(session, settings, project, form.num_bytes)
        upload = Upload(
            **form.model_dump(),
            user_id=actor.user_id,
            part_bytes=settings.upload_part_bytes,
            key=f"{new_key('tmp')}/file",
            expires_at=now() + timedelta(seconds=settings.upload_ttl_s),
        )
        session.add(upload)
        return upload

    return platform.database.write(create)


def get_upload(session: Session, actor: Actor, upload_id: str) -> Upload:
    """An upload of the actor's.

    Raises:
        NotFound: there is none, or its time is over.
    """
    upload = session.get(Upload, upload_id)
    if upload is None or upload.user_id != actor.user_id or upload.state == "expired" or upload.expires_at < now():
        raise NotFound(f"there is no upload {upload_id!r}, or its time is over; begin it again")
    return upload


def open_upload(session: Session, actor: Actor, upload_id: str) -> Upload:
    """An upload of the actor's that still takes parts.

    Raises:
        Conflict: it is complete.
    """
    upload = get_upload(session, actor, upload_id)
    if upload.state != "open":
        raise Conflict(f"upload {upload_id!r} is complete and takes no more parts; begin another")
    return upload


def expected_bytes(upload: Upload, number: int) -> int:
    """Length of a part.

    Raises:
        InvalidRequest: the file has no such part.
    """
    if not 0 <= number < num_parts(upload):
        raise InvalidRequest("number", f"part {number} is not one of 0 to {num_parts(upload) - 1}; count from 0")
    return min(upload.part_bytes, upload.num_bytes - number * upload.part_bytes)


def add_part(platform: Platform, actor: Actor, upload_id: str, number: int, file: Path) -> Upload:
    """Keep one part; one that has arrived before is not written again.

    Args:
        file: holds the part, on the disk of the storage if that is a folder: then it is not copied.
    Raises:
        InvalidRequest: the part has another length.
    """
    upload = platform.database.read(lambda session: open_upload(session, actor, upload_id))
    size, wanted = file.stat().st_size, expected_bytes(upload, number)
    if size != wanted:
        raise InvalidRequest("body", f"part {number} has {size} bytes instead of {wanted}; send exactly these")
    if str(number) in upload.parts:
        return upload
    key = _part_key(upload, number)
    platform.storage.delete_prefix(key)  # of a try whose row was never written
    platform.storage.write(key, file)

    def record(session: Session) -> Upload:
        upload = open_upload(session, actor, upload_id)
        upload.parts = {**upload.parts, str(number): size}
        upload.expires_at = now() + timedelta(seconds=platform.settings.upload_ttl_s)
        return upload

    try:
        return platform.database.write(record)
    except NotFound:  # aborted meanwhile
        platform.storage.delete_prefix(key)
        raise


def complete_upload(platform: Platform, actor: Actor, upload_id: str) -> Upload:
    """Join the parts into one object; done twice, nothing changes.

    Raises:
        Conflict: parts are missing.
    """
    upload = platform.database.read(lambda session: get_upload(session, actor, upload_id))
    if upload.state != "open":
        return upload
    if missing := UploadPublic.of(upload).missing:
        raise Conflict(f"upload {upload_id!r} still misses {len(missing)} parts, the first is {missing[0]}; send them")
    with incoming_folder(platform.settings) as folder:
        joined = folder / "file"
        with joined.open("wb") as target:
            for number in range(num_parts(upload)):
                target.write(platform.storage.read(_part_key(upload, number)))
        assert joined.stat().st_size == upload.num_bytes
        platform.storage.write(upload.key, joined)

    def close(session: Session) -> Upload:
        upload = get_upload(session, actor, upload_id)
        if upload.state == "open":
            upload.state = "complete"
            upload.expires_at = now() + timedelta(hours=platform.settings.temporary_hours)
        return upload

    try:
        closed = platform.database.write(close)
    except NotFound:
        platform.storage.delete_prefix(_folder(upload))
        raise
    for number in range(num_parts(upload)):
        platform.storage.delete_prefix(_part_key(upload, number))
    return closed


def abort_upload(platform: Platform, actor: Actor, upload_id: str) -> None:
    """Forget an upload at once.

    Raises:
        Conflict: a job is working on it.
    """

    def expire(session: Session) -> Upload:
        upload = get_upload(session, actor, upload_id)
        if upload.state == "used":
            raise Conflict(f"a job is working on upload {upload_id!r}; cancel the job first")
        upload.state = "expired"
        return upload

    _forget(platform, platform.database.write(expire))


def use_uploads(
    session: Session, actor: Actor, upload_ids: list[str], project: Project | None, purpose: Purpose
) -> None:
    """Give complete uploads to a job that is being added; they stay until `release_uploads`.

    Args:
        project: that they belong to; None for a whole project that is on its way in.
    Raises:
        Conflict: one is not complete, or another job has it.
        InvalidRequest: one is for something else.
    """
    for upload_id in upload_ids:
        upload = get_upload(session, actor, upload_id)
        if (upload.project_id, upload.purpose) != (project.id if project else None, purpose):
            whose = f"{purpose} of this project" if project else "a whole project"
            raise InvalidRequest("uploads", f"upload {upload_id!r} is not for {whose}; send it again")
        if upload.state != "complete":
            waits = "is not complete" if upload.state == "open" else "is used by another job"
            raise Conflict(f"upload {upload_id!r} {waits}; wait until it is, or begin another")
        upload.state = "used"
        upload.expires_at = now() + timedelta(days=365)  # until its job is over


def release_uploads(session: Session, upload_ids: list[str]) -> None:
    """Let go of the uploads of a job that is over; `expire_uploads` deletes them."""
    for upload in session.exec(select(Upload).where(col(Upload.id).in_(upload_ids))):
        upload.state = "expired"


def expire_uploads(platform: Platform) -> int:
    """Delete what nobody completed or used in time, objects first; returns the number of uploads."""

    def expire(session: Session) -> list[Upload]:
        over = (col(Upload.expires_at) < now()) | (col(Upload.state) == "expired")
        uploads = list(session.exec(select(Upload).where(over)))
        for upload in uploads:
            upload.state = "expired"
        return uploads

    uploads = platform.database.write(expire)
    for upload in uploads:
        _forget(platform, upload)
    _sweep_incoming(platform.settings)
    return len(uploads)


def num_parts(upload: Upload) -> int:
    """In how many parts the file comes."""
    return -(-upload.num_bytes // upload.part_bytes)


def check_free_space(settings: Settings, num_bytes: int) -> None:
    """Refuse what would fill a disk.

    Raises:
        StorageFull: below `Settings.min_free_bytes` afterwards.
    """
    free = free_bytes(settings)
    if free - num_bytes < settings.min_free_bytes:
        raise StorageFull(
            f"the server has {free / 1e9:.1f} GB of free space, too little for {num_bytes / 1e6:.0f} MB more; "
            "tell the administrator"
        )


def free_bytes(settings: Settings) -> int:
    """Free space on the disk of the data folder, or on that of a storage folder elsewhere if it has less."""
    settings.data.mkdir(parents=True, exist_ok=True)
    folders = [settings.data]
    if "://" not in settings.storage and Path(settings.storage).is_dir():
        folders.append(Path(settings.storage))
    return min(shutil.disk_usage(folder).free for folder in folders)


def check_limits(session: Session, settings: Settings, project: Project, num_bytes: int) -> None:
    """Refuse what a project or its owner has no room for.

    Raises:
        LimitReached: with the limit.
    """
    waiting = select(func.coalesce(func.sum(Upload.num_bytes), 0)).where(col(Upload.project_id) == project.id)
    planned = num_bytes + int(session.exec(waiting).one())
    in_project = stored_bytes(session, project.id) + planned
    of_project = limit_of(session, project, "max_project_bytes", settings.max_project_bytes)
    if in_project > of_project:
        raise _limit(f"project {project.name!r}", in_project, of_project)
    of_person = _bytes_of(session, project.owner_id) + planned
    of_user = limit_of(session, project, "max_user_bytes", settings.max_user_bytes)
    if of_person > of_user:
        raise _limit("the projects of its owner", of_person, of_user)


def room_of(session: Session, settings: Settings, user_id: str) -> int:
    """Bytes that a further project of a person may have, outside any classroom."""
    return max(0, min(settings.max_project_bytes, settings.max_user_bytes - _bytes_of(session, user_id)))


def check_room(session: Session, settings: Settings, user_id: str, num_bytes: int) -> None:
    """Refuse a whole project for which a person has no room.

    Raises:
        LimitReached: with the limit.
    """
    room = room_of(session, settings, user_id)
    if num_bytes > room:
        raise _limit("the new project", num_bytes, room)


@contextmanager
def incoming_folder(settings: Settings) -> Iterator[Path]:
    """A folder for files in the making, beside a storage folder so that they need not be copied into it."""
    parent = settings.data / _INCOMING
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def _bytes_of(session: Session, user_id: str) -> int:
    """Bytes of the images in all projects of a person."""
    total = (
        select(func.coalesce(func.sum(Image.stored_bytes), 0))
        .join(Project, col(Image.project_id) == Project.id)
        .where(col(Project.owner_id) == user_id)
    )
    return int(session.exec(total).one())


def _limit(whose: str, num_bytes: int, limit: float) -> LimitReached:
    return LimitReached(
        f"{whose} would have {num_bytes / 1e9:.2f} GB, the limit is {limit / 1e9:.2f} GB; delete images or ask for more"
    )


def _part_key(upload: Upload, number: int) -> str:
    return f"{_folder(upload)}/part-{number}"


def _folder(upload: Upload) -> str:
    return upload.key.rpartition("/")[0]


def _forget(platform: Platform, upload: Upload) -> None:
    platform.storage.delete_prefix(_folder(upload))
    upload_id = upload.id

    def delete(session: Session) -> None:
        if row := session.get(Upload, upload_id):
            session.delete(row)

    platform.database.write(delete)


def _sweep_incoming(settings: Settings) -> None:
    """Folders that a killed process has left."""
    oldest = now().timestamp() - settings.upload_ttl_s
    for folder in (settings.data / _INCOMING).glob("*"):
        if folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)
