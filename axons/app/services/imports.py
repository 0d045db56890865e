"""Files become images: the request of an import job, and how what the engine makes of it gets into the tables."""

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import insert
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services.access import get_project
from axons.app.services.jobs import add_job
from axons.app.services.tilings import check_no_other_tiling, current_tiling
from axons.app.services.uploads import check_limits, use_uploads
from axons.app.settings import Settings
from axons.app.tables import Image, Job, Project, Tile, Tiling, now
from axons.app.texts import Identifier, ShortLine
from axons.data.importing import ImportedImage, Refusal
from axons.data.importing import Tile as MeasuredTile
from axons.errors import InvalidRequest, NotAllowed

MAX_FILES = 10_000


class ImportCreate(BaseModel):
    """Images to import: completed uploads (an image each, or a ZIP of images), or a source on the server's side."""

    model_config = ConfigDict(extra="forbid")

    uploads: list[Identifier] = Field([], max_length=MAX_FILES)
    source: ShortLine | None = Field(
        None, description="s3://bucket/prefix, a CSV manifest there, or for administrators a folder of the server."
    )


class ImportRequest(BaseModel):
    """The request of an `import` job whose purpose is images, as `Job.request` holds it."""

    purpose: Literal["images"] = "images"
    uploads: list[str] = []
    source: str | None = None


def start_import(session: Session, actor: Actor, project_id: str, form: ImportCreate, *, settings: Settings) -> Job:
    """Put an import into the queue.

    Raises:
        InvalidRequest: neither uploads nor a source, or both.
        NotAllowed: the source is not for the actor.
        Conflict: an upload is not complete, or the project is being tiled anew.
        LimitReached: the project is full.
    """
    project = get_project(session, actor, project_id, "edit")
    if bool(form.uploads) == (form.source is not None):
        raise InvalidRequest("uploads", "an import takes either uploads or a source; give one of the two")
    check_no_other_tiling(session, project)
    if form.source is not None:
        check_source(form.source, actor, settings)
    use_uploads(session, actor, form.uploads, project, "images")
    check_limits(session, settings, project, 0)
    request = ImportRequest(uploads=form.uploads, source=form.source)
    return add_job(session, actor, "import", project, request=request.model_dump())


def check_source(source: str, actor: Actor, settings: Settings) -> None:
    """Whether somebody may read from there with the server's own keys.

    Raises:
        NotAllowed: folders are for administrators, buckets for them and educators, our own storage for nobody.
        InvalidRequest: another kind of address.
    """
    if "://" not in source:
        if not actor.is_administrator:
            raise NotAllowed("folders of the server are for administrators; upload the files instead")
        if not Path(source).is_absolute():
            raise InvalidRequest("source", f"{source!r} is not the whole path of a folder; begin it with /")
    elif not source.startswith("s3://"):
        raise InvalidRequest("source", f"{source!r} is neither s3://bucket/prefix nor a folder; choose one of them")
    elif actor.role == "student":
        raise NotAllowed("buckets are for educators and administrators; upload the files instead")
    if is_inside_own(source, own_places(settings)):
        raise NotAllowed(f"{source!r} belongs to the platform itself; choose another place")


def own_places(settings: Settings) -> list[str]:
    """Where the platform keeps its own objects, database and secrets."""
    return [settings.storage, str(settings.data.absolute())]


def is_inside_own(source: str, own: list[str]) -> bool:
    """Whether an address lies in a place of the platform's own, or around one."""
    place = _normal(source)
    return any(place.startswith(_normal(mine)) or _normal(mine).startswith(place) for mine in own)


def image_id_of(job_id: str, place: str) -> str:
    """The id of the image that a job makes of the file at `place` in its request: the same at each attempt."""
    return str(uuid5(UUID(job_id), place))


def accept_imported(
    session: Session,
    job: Job,
    image: ImportedImage,
    *,
    stored_bytes: int = 0,
    has_original: bool = False,
    group: str | None = None,
    pixel_size_um: float | None = None,
) -> None:
    """Add an image with its tiles; nothing changes if it was added before.

    Args:
        group, pixel_size_um: from a manifest; the latter goes before what the file says.
    """
    project = session.get(Project, job.project_id)
    if project is None or session.get(Image, image.image_id) is not None:
        return
    folder = f"projects/{project.id}"
    fields = image.model_dump(exclude={"image_id", "working_uri", "sheet_uri", "tiles", "name", "notices"})
    row = Image(
        **fields | ({"pixel_size_um": pixel_size_um} if pixel_size_um is not None else {}),
        id=image.image_id,
        name=image.name[-255:],
        notices=image.notices + _duplicate_notices(session, project, image),
        project_id=project.id,
        working_key=f"{folder}/{image.image_id}.tif",
        sheet_key=f"{folder}/{image.image_id}.jpg",
        original_key=f"{folder}/{image.image_id}.original" if has_original else None,
        stored_bytes=stored_bytes,
        group=group,
        created_by=job.user_id,
    )
    session.add(row)
    session.flush()
    add_tiles(session, current_tiling(session, project.id), image.image_id, image.tiles)
    project.updated_at = now()
    job.result = {**job.result, "num_images": job.result.get("num_images", 0) + 1}


def accept_refusal(session: Session, job: Job, refusal: Refusal) -> None:
    """Remember a file that was turned down, once."""
    refused = job.result.get("refused", [])
    if all(known["image_id"] != refusal.image_id for known in refused):
        job.result = {**job.result, "refused": [*refused, refusal.model_dump()]}


def add_tiles(session: Session, tiling: Tiling, image_id: str, tiles: Sequence[MeasuredTile]) -> None:
    """The tiles of an image that has none in this tiling yet."""
    rows: list[dict[str, Any]] = [
        {
            **tile.model_dump(),
            "id": str(uuid5(UUID(image_id), f"{tiling.id}/{tile.row0}/{tile.col0}")),
            "project_id": tiling.project_id,
            "tiling_id": tiling.id,
            "image_id": image_id,
            "status": "unlabelled",
            "revision": 0,
            "counts": {},
        }
        for tile in tiles
    ]
    session.execute(insert(Tile), rows)


def closing_sentence(num_done: int, refused: list[dict[str, Any]], *, what: str) -> str:
    """How an import ended, with the first reason if something was turned down."""
    done = f"{num_done} {what}{'' if num_done == 1 else 's'} imported"
    if not refused:
        return done
    return f"{done}, {len(refused)} refused: {refused[0]['reason']}"


def _duplicate_notices(session: Session, project: Project, image: ImportedImage) -> list[str]:
    same = (
        select(Image.name)
        .where(col(Image.project_id) == project.id, col(Image.sha256) == image.sha256, col(Image.deleted_at).is_(None))
        .order_by(col(Image.created_at))
    )
    found = session.exec(same).first()
    return (
        [] if found is None else [f"is the same file as {found!r}, which the project has already; delete one of them"]
    )


def _normal(address: str) -> str:
    scheme, _, path = address.rpartition("://")
    parts = posixpath.normpath(path).strip("/")
    return f"{scheme}:/{parts}/" if parts else f"{scheme}:/"
