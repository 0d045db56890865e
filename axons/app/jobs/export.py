"""Export jobs: the labels of a project as one ZIP for other tools."""

import json
import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from axons.app.pictures import colours_by_index
from axons.app.platform import Platform
from axons.app.services.annotation_files import ExportRequest, file_stem
from axons.app.services.label_classes import classes_of
from axons.app.services.tilings import current_tiling
from axons.app.tables import Image, Job, Project, Revision, Tile
from axons.data.formats import ExportFormat
from axons.data.label_files import PlacedLabels, coco_annotations, mosaic
from axons.data.pictures import encode_mask
from axons.data.pipelines import stream
from axons.data.rows import Row
from axons.data.storage import local_file, open_storage
from axons.data.tiles import Window

_MAX_PIXELS = 150 * 10**6  # a whole plane is held in memory


class ExportClass(Row):
    """A class as other tools shall know it."""

    index: int
    name: str
    colour: str


class ExportTile(Row):
    """Packed labels of a tile."""

    row0: int
    col0: int
    height: int
    width: int
    layers: bytes


class ExportImage(Row):
    """An image with labels; `stem` is its path in the archive without the extension."""

    name: str
    stem: str
    working_uri: str
    height: int
    width: int
    tiles: list[ExportTile]


class ExportWork(Row):
    """All that the work needs; `key` is where the archive goes."""

    job_id: str
    storage_uri: str
    key: str
    project: str
    format: ExportFormat
    with_images: bool
    classes: list[ExportClass]
    images: list[ExportImage]


class _Part(Row):
    """What became of one image: an object in storage, or a reason why there is none."""

    number: int
    refusal: str | None = None
    num_ignored: int = 0


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """See `axons.app.jobs`."""
    request = ExportRequest.model_validate(job.request)
    project = session.get_one(Project, job.project_id)
    classes = [ExportClass(index=c.index, name=c.name, colour=c.colour) for c in classes_of(session, project.id)]
    work = ExportWork(
        job_id=job.id,
        storage_uri=platform.storage.uri,
        key=f"tmp/export-{job.id}-{job.attempt}/labels.zip",
        project=project.name,
        format=request.format,
        with_images=request.with_images,
        classes=classes,
        images=list(_labelled_images(platform, session, project)),
    )
    return work.model_dump(mode="json")


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Progress, `{"notice": ...}`, and at last `{"file": ...}`."""
    job = ExportWork.model_validate(request)
    rows = [json.dumps({"number": n, "image": image.model_dump(mode="json")}) for n, image in enumerate(job.images)]
    colours = colours_by_index([(row.index, row.colour) for row in job.classes])
    scratch_uri = f"{job.storage_uri}/tmp/{job.job_id}"
    parts = stream(
        [row.encode() for row in rows], _write_part, kind=job.format, colours=colours, scratch_uri=scratch_uri
    )
    written: list[int] = []
    for count, answer in enumerate(parts, start=1):
        part = _Part.model_validate_json(answer)
        name = job.images[part.number].name
        if part.refusal is not None:
            yield {"notice": part.refusal}
        else:
            written.append(part.number)
        if part.num_ignored:
            yield {"notice": f"{name!r} has {part.num_ignored} px that are ignored on purpose, which COCO cannot hold"}
        yield {"progress": 0.9 * count / len(rows)}
    num_bytes = _write_archive(job, sorted(written), scratch_uri)
    yield {
        "file": {"key": job.key, "name": f"{job.project} {job.format}.zip", "bytes": num_bytes},
        "images": len(written),
    }


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """See `axons.app.jobs`."""
    for row in rows:
        if "notice" in row:
            job.result = {**job.result, "notices": sorted({*job.result.get("notices", []), row["notice"]})}
        elif "file" in row:
            job.result = {**job.result, "file": row["file"], "num_images": row["images"]}


def finish(session: Session, job: Job) -> str:
    """See `axons.app.jobs`."""
    notices = job.result.get("notices", [])
    sentence = f"labels of {job.result['num_images']} images exported"
    return f"{sentence}; {notices[0]}" if notices else sentence


def _labelled_images(platform: Platform, session: Session, project: Project) -> Iterator[ExportImage]:
    live = (col(Image.project_id) == project.id, col(Image.deleted_at).is_(None))
    images = session.exec(select(Image).where(*live).order_by(col(Image.name), col(Image.id))).all()
    labels = _labels(session, project)
    taken: set[str] = set()
    for image in images:
        if image.id in labels:
            yield ExportImage(
                name=image.name,
                stem=_free(file_stem(image.name), taken),
                working_uri=platform.uri(image.working_key),
                height=image.height,
                width=image.width,
                tiles=labels[image.id],
            )


def _labels(session: Session, project: Project) -> dict[str, list[ExportTile]]:
    tiling = current_tiling(session, project.id)
    asked = (
        select(Tile, Revision.layers)
        .join(Revision, (col(Revision.tile_id) == Tile.id) & (col(Revision.number) == Tile.revision))
        .where(col(Tile.tiling_id) == tiling.id, col(Tile.status) != "unlabelled")
        .order_by(col(Tile.image_id), col(Tile.row0), col(Tile.col0))
    )
    found: dict[str, list[ExportTile]] = {}
    for tile, layers in session.exec(asked):
        window = {"row0": tile.row0, "col0": tile.col0, "height": tile.height, "width": tile.width}
        found.setdefault(tile.image_id, []).append(ExportTile(**window, layers=layers))
    return found


def _free(stem: str, taken: set[str]) -> str:
    """The stem, with a number if another image has it."""
    number, free = 2, stem
    while free.casefold() in taken:
        number, free = number + 1, f"{stem}-{number}"
    taken.add(free.casefold())
    return free


def _write_part(row: bytes, *, kind: str, colours: list[str], scratch_uri: str) -> Iterator[bytes]:
    """The labels of one image in storage; runs on workers."""
    document = json.loads(row)
    image, number = ExportImage.model_validate(document["image"]), int(document["number"])
    if image.height * image.width > _MAX_PIXELS:
        limit = f"the limit is {_MAX_PIXELS // 10**6} Mpx"
        yield _Part(
            number=number, refusal=f"{image.name!r} is too large for one mask, {limit}; it was left out"
        ).packed()
        return
    tiles = [PlacedLabels(window=Window(t.row0, t.col0, t.height, t.width), packed=t.layers) for t in image.tiles]
    plane = mosaic(tiles, Window(0, 0, image.height, image.width))
    num_ignored = 0
    if kind == "png":
        data = encode_mask(plane, colours)
    else:
        annotations, num_ignored = coco_annotations(plane)
        data = json.dumps(annotations).encode()
    open_storage(scratch_uri).write(f"part-{number}", data)
    yield _Part(number=number, num_ignored=num_ignored).packed()


def _write_archive(job: ExportWork, written: Sequence[int], scratch_uri: str) -> int:
    """Put the parts together; returns the archive's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            classes = json.dumps([row.model_dump() for row in job.classes], indent=2)
            archive.writestr("classes.json", classes)
            if job.format == "coco":
                document = json.dumps(_coco_document(job, written, scratch_uri))
                archive.writestr("annotations.json", document, compress_type=zipfile.ZIP_DEFLATED)
            else:
                for number in written:
                    archive.write(local_file(f"{scratch_uri}/part-{number}"), f"masks/{job.images[number].stem}.png")
            for number in written if job.with_images else ():
                image = job.images[number]
                archive.write(local_file(image.working_uri), f"images/{image.stem}.tif")
        open_storage(job.storage_uri).write(job.key, path)
        return path.stat().st_size


def _coco_document(job: ExportWork, written: Sequence[int], scratch_uri: str) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for number in written:
        for annotation in json.loads(local_file(f"{scratch_uri}/part-{number}").read_bytes()):
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, **annotation})
    return {
        "info": {"description": job.project},
        "images": [
            {
                "id": number + 1,
                "file_name": _file_name(job.images[number]),
                "height": job.images[number].height,
                "width": job.images[number].width,
            }
            for number in written
        ],
        "categories": [{"id": row.index + 1, "name": row.name} for row in job.classes],
        "annotations": annotations,
    }


def _file_name(image: ExportImage) -> str:
    extension = re.search(r"\.[A-Za-z0-9]{1,5}$", image.name)
    return image.stem + (extension.group() if extension else ".tif")
