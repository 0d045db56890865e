"""Import jobs whose purpose is annotations: mask files and COCO files become labels of tiles."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlmodel import Session

from axons.app.jobs.import_images import StoredUpload, stored_uploads
from axons.app.jobs.sources import SourceFile, unpack_upload
from axons.app.platform import Platform
from axons.app.services.annotation_files import (
    AnnotationImportRequest,
    KnownImage,
    accept_labels,
    coding_of,
    known_images,
    match_image,
)
from axons.app.services.imports import accept_refusal
from axons.app.services.label_classes import classes_of
from axons.app.services.tilings import current_tiling
from axons.app.services.uploads import release_uploads
from axons.app.tables import Job
from axons.data.coco import read_coco
from axons.data.importing import ImportedLabels, MaskUpload, Refusal, TileLabels, import_masks, survey_masks
from axons.data.label_files import cut_annotation
from axons.data.layers import Annotation, count_values, crc32, pack
from axons.data.masks import Coding, guess_coding
from axons.data.rows import Row
from axons.data.storage import local_file
from axons.data.tiles import TileGrid
from axons.errors import AnnotationRefused


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
    """Rows `{"labels": ..., "image_id": ...}`, one a tile, and `{"refusal": ...}`, with the progress between them."""
    job = AnnotationWork.model_validate(request)
    files: list[SourceFile] = []
    for found in _files(job):
        if isinstance(found, Refusal):
            yield {"refusal": found.model_dump()}
        else:
            files.append(found)
    yield from _coco_rows(job, files) if job.request.format == "coco" else _mask_rows(job, files)


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """See `axons.app.jobs`."""
    keeps_existing = AnnotationImportRequest.model_validate(job.request).keeps_existing
    for row in rows:
        if "labels" in row:
            labels = TileLabels.model_validate(row["labels"])
            accept_labels(session, job, row["image_id"], labels, keeps_existing=keeps_existing)
        elif "notice" in row:
            notices = {*job.result.get("notices", []), row["notice"]}
            job.result = {**job.result, "notices": sorted(notices)}
        elif "refusal" in row:
            accept_refusal(session, job, Refusal.model_validate(row["refusal"]))


def finish(session: Session, job: Job) -> str:
    """See `axons.app.jobs`."""
    release_uploads(session, job.request["uploads"])
    num_tiles, num_replaced = job.result.get("num_tiles", 0), job.result.get("num_replaced", 0)
    sentence = f"labels of {num_tiles} tile{'' if num_tiles == 1 else 's'} imported"
    if num_replaced:
        sentence += f", {num_replaced} of them had others before, which are in their history"
    if kept_in := job.result.get("kept_in"):
        sentence += f"; in {len(kept_in)} images tiles that were labelled or done were left alone"
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


def _mask_rows(job: AnnotationWork, files: Sequence[SourceFile]) -> Iterator[dict[str, Any]]:
    masks: dict[str, MaskUpload] = {}
    for file in files:
        image = match_image(file.name, job.images)
        if isinstance(image, str) or image.image_id in masks:
            reason = (
                image if isinstance(image, str) else f"{file.name!r} is a second mask of {image.name!r}; choose one"
            )
            yield {"refusal": {"image_id": file.place, "name": file.name, "reason": reason}}
        else:
            size = {"height": image.height, "width": image.width}
            masks[image.image_id] = MaskUpload(image_id=image.image_id, uri=file.uri, name=file.name, **size)
    uploads = list(masks.values())
    results = import_masks(
        uploads,
        coding=coding_of(job.request) or _guessed(uploads, len(job.classes)),
        num_classes=len(job.classes),
        grid=TileGrid(tile=job.tile),
    )
    for number, result in enumerate(results, start=1):
        yield from [{"refusal": result.model_dump()}] if isinstance(result, Refusal) else _label_rows(result)
        yield {"progress": number / len(uploads)}


def _guessed(masks: Sequence[MaskUpload], num_classes: int) -> Coding:
    values: set[int] = set()
    for found in survey_masks(masks):
        if not isinstance(found, Refusal):
            values |= set(found.values)
    return guess_coding(values, num_classes)


def _label_rows(labels: ImportedLabels) -> Iterator[dict[str, Any]]:
    for notice in labels.notices:
        yield {"notice": f"{labels.name}: {notice}"}
    for tile in labels.tiles:
        yield {"labels": tile.model_dump(mode="json"), "image_id": labels.image_id}


def _coco_rows(job: AnnotationWork, files: Sequence[SourceFile]) -> Iterator[dict[str, Any]]:
    names = [name if name is not None else f"\0{index}" for index, name in enumerate(job.classes)]
    for number, file in enumerate(files, start=1):
        try:
            found = read_coco(local_file(file.uri), names, name=file.name)
        except AnnotationRefused as error:
            yield {"refusal": {"image_id": file.place, "name": file.name, "reason": str(error)}}
            continue
        for place, image in enumerate(found):
            if image.annotation is None:
                yield _refused_image(file, place, image.name, image.refusal or "")
            elif image.annotation.layers:
                yield from _coco_image_rows(job, file, place, image.name, image.annotation)
        yield {"progress": number / len(files)}


def _coco_image_rows(
    job: AnnotationWork, file: SourceFile, place: int, name: str, annotation: Annotation
) -> Iterator[dict[str, Any]]:
    image = match_image(name, job.images)
    if isinstance(image, str):
        yield _refused_image(file, place, name, image)
        return
    if (annotation.height, annotation.width) != (image.height, image.width):
        reason = (
            f"{name!r} has {annotation.width} x {annotation.height} px in {file.name!r} but the image has "
            f"{image.width} x {image.height} px; export the file again"
        )
        yield _refused_image(file, place, name, reason)
        return
    for window, part in cut_annotation(annotation, TileGrid(tile=job.tile)):
        plane = part.plane()
        labels = TileLabels(
            row0=window.row0, col0=window.col0, annotation=pack(part), crc32=crc32(plane), counts=count_values(plane)
        )
        yield {"labels": labels.model_dump(mode="json"), "image_id": image.image_id}


def _refused_image(file: SourceFile, place: int, name: str, reason: str) -> dict[str, Any]:
    return {"refusal": {"image_id": f"{file.place}-{place}", "name": name, "reason": reason}}
