"""Import jobs: uploads, buckets, folders and manifests become images with tiles, and with the labels beside them."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from axons.app.jobs.label_rows import commit_labels, label_rows, labels_sentence
from axons.app.jobs.sources import SourceFile, list_source, unpack_upload
from axons.app.platform import Platform
from axons.app.services.imports import (
    MAX_FILES,
    ImportRequest,
    accept_imported,
    accept_refusal,
    closing_sentence,
    image_id_of,
    own_places,
)
from axons.app.services.label_classes import classes_of
from axons.app.services.tilings import current_tiling
from axons.app.services.uploads import release_uploads
from axons.app.tables import Job, Project, Upload, User
from axons.data.decoding import DecodeLimits
from axons.data.image_names import KnownImage, index_images, match_image
from axons.data.importing import ImportedImage, LabelFile, Refusal, import_images, import_label_files
from axons.data.importing import Upload as EngineUpload
from axons.data.labeller import SUFFIX as LABELS_SUFFIX
from axons.data.rows import Row
from axons.data.storage import local_file, open_storage, split_uri
from axons.data.tiles import TileGrid
from axons.errors import AxonsError


class StoredUpload(Row):
    """A completed upload: where it lies and what its person calls it."""

    id: str
    uri: str
    name: str


class ImportWork(Row):
    """All that the work needs; `classes` are indices by name, `own` addresses that no source may lead to."""

    job_id: str
    storage_uri: str
    folder: str
    tile: int
    classes: dict[str, int]
    uploads: list[StoredUpload]
    source: str | None
    own: list[str]
    may_read_folders: bool
    keeps_originals: bool
    max_bytes: int


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """See `axons.app.jobs`."""
    request = ImportRequest.model_validate(job.request)
    project = session.get_one(Project, job.project_id)
    work = ImportWork(
        job_id=job.id,
        storage_uri=platform.storage.uri,
        folder=f"projects/{project.id}",
        tile=current_tiling(session, project.id).tile,
        classes={row.name: row.index for row in classes_of(session, project.id) if row.deleted_at is None},
        uploads=stored_uploads(platform, session, request.uploads),
        source=request.source,
        own=own_places(platform.settings),
        may_read_folders=session.get_one(User, job.user_id).role == "administrator",
        keeps_originals=project.keeps_originals,
        max_bytes=platform.settings.max_upload_bytes,
    )
    return work.model_dump(mode="json")


def stored_uploads(platform: Platform, session: Session, upload_ids: Sequence[str]) -> list[StoredUpload]:
    """The uploads of a request, in its order."""
    found = {row.id: row for row in session.exec(select(Upload).where(col(Upload.id).in_(upload_ids)))}
    rows = [found[upload_id] for upload_id in upload_ids if upload_id in found]
    return [StoredUpload(id=row.id, uri=platform.uri(row.key), name=row.name) for row in rows]


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows `{"image": ..., ...}` and `{"refusal": ...}`, one for each file, with the progress between them.

    Files called `<image>__labels.json` are the labels of their images (Django Labeller), in rows of `label_rows`.

    Raises:
        AxonsError: the source is not there, or holds too much.
    """
    job = ImportWork.model_validate(request)
    files: dict[str, SourceFile] = {}
    label_files: list[SourceFile] = []
    for found in _files(job):
        if isinstance(found, Refusal):
            yield {"refusal": found.model_dump()}
        elif found.name.lower().endswith(LABELS_SUFFIX):
            label_files.append(found)
        else:
            files[image_id_of(job.job_id, found.place)] = found
    uploads = [EngineUpload(image_id=id_, uri=file.uri, name=file.name) for id_, file in files.items()]
    results = import_images(
        uploads,
        target_uri=f"{job.storage_uri}/{job.folder}",
        grid=TileGrid(tile=job.tile),
        limits=DecodeLimits(max_bytes=job.max_bytes),
    )
    images = []
    for number, result in enumerate(results, start=1):
        if isinstance(result, Refusal):
            yield {"refusal": result.model_dump()}
        else:
            yield _image_row(job, result, files[result.image_id])
            sides = {"height": result.height, "width": result.width}
            images.append(KnownImage(image_id=result.image_id, name=result.name, **sides))
        yield {"progress": number / len(uploads)}
    yield from _labels(job, label_files, images)


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """See `axons.app.jobs`."""
    for row in rows:
        if "image" in row:
            extras = {name: value for name, value in row.items() if name != "image"}
            accept_imported(session, job, ImportedImage.model_validate(row["image"]), **extras)
        elif "refusal" in row:
            accept_refusal(session, job, Refusal.model_validate(row["refusal"]))
        else:
            commit_labels(session, job, row)


def finish(session: Session, job: Job) -> str:
    """See `axons.app.jobs`."""
    release_uploads(session, job.request["uploads"])
    sentence = closing_sentence(job.result.get("num_images", 0), job.result.get("refused", []), what="image")
    return f"{sentence}; {labels_sentence(job)}" if job.result.get("num_tiles") else sentence


def fail(session: Session, job: Job) -> None:
    """See `axons.app.jobs`."""
    release_uploads(session, job.request["uploads"])


def _files(job: ImportWork) -> Iterator[SourceFile | Refusal]:
    for number, found in enumerate(_found(job)):
        if number >= MAX_FILES:
            raise AxonsError(f"there are more than {MAX_FILES} files; import them in several parts")
        yield found


def _found(job: ImportWork) -> Iterator[SourceFile | Refusal]:
    scratch_uri = f"{job.storage_uri}/tmp/{job.job_id}"
    if job.source is not None:
        yield from list_source(job.source, own=job.own, may_read_folders=job.may_read_folders, scratch_uri=scratch_uri)
    for upload in job.uploads:
        with tempfile.TemporaryDirectory() as folder:
            yield from unpack_upload(
                upload.uri, place=upload.id, name=upload.name, folder=Path(folder), scratch_uri=scratch_uri
            )


def _labels(job: ImportWork, files: Sequence[SourceFile], images: Sequence[KnownImage]) -> Iterator[dict[str, Any]]:
    """The labels that came with the images."""
    index = index_images(images)
    paired: dict[str, LabelFile] = {}
    for file in files:
        image = match_image(file.name, index)
        if isinstance(image, str) or image.image_id in paired:
            reason = f"{file.name!r} has no image of its own beside it; send the image with it"
            yield {"refusal": {"image_id": file.place, "name": file.name, "reason": reason}}
        else:
            paired[image.image_id] = LabelFile(place=file.place, uri=file.uri, name=file.name, images=[image])
    grid = TileGrid(tile=job.tile)
    for result in import_label_files(list(paired.values()), kind="labeller", classes=job.classes, grid=grid):
        yield from [{"refusal": result.model_dump()}] if isinstance(result, Refusal) else label_rows(result)


def _image_row(job: ImportWork, image: ImportedImage, file: SourceFile) -> dict[str, Any]:
    stored_bytes = size_of(image.working_uri) + size_of(image.sheet_uri)
    if job.keeps_originals:
        original = local_file(file.uri)
        open_storage(f"{job.storage_uri}/{job.folder}").write(f"{image.image_id}.original", original)
        stored_bytes += original.stat().st_size
    return {
        "image": image.model_dump(mode="json"),
        "stored_bytes": stored_bytes,
        "has_original": job.keeps_originals,
        "group": file.group,
        "pixel_size_um": file.pixel_size_um,
    }


def size_of(uri: str) -> int:
    """Bytes of a stored object."""
    folder, name = split_uri(uri)
    return open_storage(folder).size(name)
