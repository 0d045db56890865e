"""Import jobs whose purpose is annotations: masks and the files of other tools become labels of tiles."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlmodel import Session

from axons.app.jobs.import_images import StoredUpload, stored_uploads
from axons.app.jobs.label_rows import commit_labels, label_rows, labels_sentence
from axons.app.jobs.sources import SourceFile, unpack_upload
from axons.app.platform import Platform
from axons.app.services.annotation_files import AnnotationImportRequest, coding_of, known_images
from axons.app.services.imports import accept_refusal
from axons.app.services.label_classes import classes_of
from axons.app.services.tilings import current_tiling
from axons.app.services.uploads import release_uploads
from axons.app.tables import Job
from axons.data.formats import ONE_IMAGE_A_FILE
from axons.data.image_names import KnownImage, index_images, match_image
from axons.data.importing import (
    ImportedLabels,
    LabelFile,
    MaskUpload,
    Refusal,
    import_label_files,
    import_masks,
    survey_masks,
)
from axons.data.masks import Coding, guess_coding
from axons.data.rows import Row
from axons.data.tiles import TileGrid

# What lies beside the labels in our own exports.
_PASSED_OVER = ("classes.json", "schema.json")


class AnnotationWork(Row):
    """All that the work needs; `classes` are names by index, None for one that was deleted."""

    job_id: str
    storage_uri: str
    tile: int
    classes: list[str | None]
    uploads: list[StoredUpload]
    images: list[KnownImage]
    request: AnnotationImportRequest


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """See `axons.app.jobs`."""
    assert job.project_id is not None
    request = AnnotationImportRequest.model_validate(job.request)
    work = AnnotationWork(
        job_id=job.id,
        storage_uri=platform.storage.uri,
        tile=current_tiling(session, job.project_id).tile,
        classes=[None if row.deleted_at else row.name for row in classes_of(session, job.project_id)],
        uploads=stored_uploads(platform, session, request.uploads),
        images=known_images(session, job.project_id),
        request=request,
    )
    return work.model_dump(mode="json")


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of `label_rows` and `{"refusal": ...}`, with the progress between them."""
    job = AnnotationWork.model_validate(request)
    files: list[SourceFile] = []
    for found in _files(job):
        if isinstance(found, Refusal):
            yield {"refusal": found.model_dump()}
        else:
            files.append(found)
    label_files: list[LabelFile] = []
    for file in _paired(job, files):
        if isinstance(file, Refusal):
            yield {"refusal": file.model_dump()}
        else:
            label_files.append(file)
    num_images = len({image.image_id for file in label_files for image in file.images})
    seen: set[str] = set()
    for number, result in enumerate(_results(job, label_files), start=1):
        if isinstance(result, Refusal):
            yield {"refusal": result.model_dump()}
        elif result.image_id in seen:
            reason = f"{result.name!r} has labels in two places; choose one of them"
            yield {"refusal": {"image_id": f"{result.image_id}-again", "name": result.name, "reason": reason}}
        else:
            seen.add(result.image_id)
            yield from label_rows(result)
        yield {"progress": min(1.0, number / max(1, num_images))}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """See `axons.app.jobs`."""
    keeps_existing = AnnotationImportRequest.model_validate(job.request).keeps_existing
    for row in rows:
        if "refusal" in row:
            accept_refusal(session, job, Refusal.model_validate(row["refusal"]))
        else:
            commit_labels(session, job, row, keeps_existing=keeps_existing)


def finish(session: Session, job: Job) -> str:
    """See `axons.app.jobs`."""
    release_uploads(session, job.request["uploads"])
    sentence = labels_sentence(job)
    if refused := job.result.get("refused"):
        sentence += f"; {len(refused)} refused: {refused[0]['reason']}"
    return sentence


def fail(session: Session, job: Job) -> None:
    """See `axons.app.jobs`."""
    release_uploads(session, job.request["uploads"])


def _files(job: AnnotationWork) -> Iterator[SourceFile | Refusal]:
    for upload in job.uploads:
        with tempfile.TemporaryDirectory() as folder:
            yield from unpack_upload(
                upload.uri,
                place=upload.id,
                name=upload.name,
                folder=Path(folder),
                scratch_uri=f"{job.storage_uri}/tmp/{job.job_id}",
            )


def _paired(job: AnnotationWork, files: Sequence[SourceFile]) -> Iterator[LabelFile | Refusal]:
    """The files with the images that they may be about: the one of their name, or any."""
    index = index_images(job.images)
    taken: dict[str, str] = {}
    for file in files:
        if file.name.rpartition("/")[2] in _PASSED_OVER:
            continue
        images = job.images
        if job.request.format in ONE_IMAGE_A_FILE:
            image = match_image(file.name, index)
            if isinstance(image, str):
                yield Refusal(image_id=file.place, name=file.name, reason=image)
                continue
            if image.image_id in taken:
                reason = f"{file.name!r} is for {image.name!r} as {taken[image.image_id]!r} is; choose one of the two"
                yield Refusal(image_id=file.place, name=file.name, reason=reason)
                continue
            taken[image.image_id] = file.name
            images = [image]
        yield LabelFile(place=file.place, uri=file.uri, name=file.name, images=images)


def _results(job: AnnotationWork, files: Sequence[LabelFile]) -> Iterator[ImportedLabels | Refusal]:
    grid = TileGrid(tile=job.tile)
    if job.request.format != "png":
        classes = {name: index for index, name in enumerate(job.classes) if name is not None}
        return import_label_files(
            files,
            kind=job.request.format,
            classes=classes,
            grid=grid,
            fills_background=job.request.fills_background,
        )
    masks = [
        MaskUpload(image_id=image.image_id, uri=file.uri, name=file.name, height=image.height, width=image.width)
        for file in files
        for image in file.images
    ]
    coding = coding_of(job.request) or _guessed(masks, len(job.classes))
    return import_masks(masks, coding=coding, num_classes=len(job.classes), grid=grid)


def _guessed(masks: Sequence[MaskUpload], num_classes: int) -> Coding:
    values: set[int] = set()
    for found in survey_masks(masks):
        if not isinstance(found, Refusal):
            values |= set(found.values)
    return guess_coding(values, num_classes)
