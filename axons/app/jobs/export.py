"""Export jobs: the labels of a project as one ZIP for other tools."""

import json
import posixpath
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlmodel import Session, col, select

from axons.app.pictures import colours_by_index
from axons.app.platform import Platform
from axons.app.services.annotation_files import ExportRequest, file_stem
from axons.app.services.label_classes import classes_of
from axons.app.services.tilings import current_tiling
from axons.app.tables import Image, Job, LabelClass, Project, Revision, Tile
from axons.data.coco import coco_annotations, coco_document
from axons.data.cvat import cvat_document, cvat_image
from axons.data.formats import IGNORED_NAME, ExportFormat
from axons.data.label_files import PlacedLabels, mosaic
from axons.data.label_studio import label_studio_config, label_studio_task
from axons.data.labeller import labeller_document, labeller_schema
from axons.data.labelme import labelme_document
from axons.data.layers import IGNORED
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
    """An image with labels; `stem` is its path in the archive without the extension, `is_done` if all its tiles are."""

    number: int
    name: str
    stem: str
    working_uri: str
    height: int
    width: int
    is_done: bool
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

    @property
    def labels(self) -> list[tuple[str, str]]:
        """Names and colours of the classes, and of what is ignored on purpose."""
        return [*((row.name, row.colour) for row in self.classes), (IGNORED_NAME, "#808080")]


class _PartWork(Row):
    """What the part of one image is made of; `names` are those of the values."""

    image: ExportImage
    format: ExportFormat
    with_images: bool
    names: dict[int, str]
    colours: list[str]


class _Part(Row):
    """What became of one image: an object in storage, or a reason why there is none."""

    number: int
    refusal: str | None = None


# Where the part of an image lies in the archive, for formats of one file an image.
_OWN_FILES: dict[ExportFormat, str] = {
    "png": "masks/{}.png",
    "labelme": "labels/{}.json",
    "labeller": "labels/{}__labels.json",
}
_PARTS: dict[ExportFormat, Callable[[np.ndarray, _PartWork], bytes]] = {
    "png": lambda plane, part: encode_mask(plane, part.colours),
    "coco": lambda plane, _part: json.dumps(coco_annotations(plane)).encode(),
    "cvat": lambda plane, part: cvat_image(part.image.number, _file_name(part.image), plane, part.names).encode(),
    "labelme": lambda plane, part: labelme_document(plane, part.names, image_path=_seen_from_labels(part)),
    "labelstudio": lambda plane, part: label_studio_task(
        plane, part.names, image_path=_tiff(part.image) if part.with_images else _file_name(part.image)
    ),
    "labeller": lambda plane, part: labeller_document(
        plane, part.names, image_filename=posixpath.basename(_file_name(part.image)), is_done=part.image.is_done
    ),
}


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """See `axons.app.jobs`."""
    request = ExportRequest.model_validate(job.request)
    project = session.get_one(Project, job.project_id)
    work = ExportWork(
        job_id=job.id,
        storage_uri=platform.storage.uri,
        key=f"tmp/export-{job.id}-{job.attempt}/labels.zip",
        project=project.name,
        format=request.format,
        with_images=request.with_images,
        classes=_named_apart(classes_of(session, project.id)),
        images=list(_labelled_images(platform, session, project)),
    )
    return work.model_dump(mode="json")


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Progress, `{"notice": ...}`, and at last `{"file": ...}`."""
    job = ExportWork.model_validate(request)
    names = {row.index: row.name for row in job.classes} | {IGNORED: IGNORED_NAME}
    colours = colours_by_index([(row.index, row.colour) for row in job.classes])
    options = {"format": job.format, "with_images": job.with_images, "names": names, "colours": colours}
    rows = [_PartWork(image=image, **options).packed() for image in job.images]
    scratch_uri = f"{job.storage_uri}/tmp/{job.job_id}"
    written: list[int] = []
    for count, answer in enumerate(stream(rows, _write_part, scratch_uri=scratch_uri), start=1):
        part = _Part.model_validate_json(answer)
        if part.refusal is not None:
            yield {"notice": part.refusal}
        else:
            written.append(part.number)
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
    labels, unfinished = _labels(session, project), _unfinished(session, project)
    taken: set[str] = set()
    for number, image in enumerate(image for image in images if image.id in labels):
        yield ExportImage(
            number=number,
            name=image.name,
            stem=_free(file_stem(image.name), taken),
            working_uri=platform.uri(image.working_key),
            height=image.height,
            width=image.width,
            is_done=image.id not in unfinished,
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


def _unfinished(session: Session, project: Project) -> set[str]:
    """Images with tiles that are neither done nor blank."""
    tiling = current_tiling(session, project.id)
    open_tiles = (col(Tile.tiling_id) == tiling.id, col(Tile.status) != "done", col(Tile.is_blank).is_(False))
    return set(session.exec(select(Tile.image_id).where(*open_tiles).distinct()))


def _named_apart(rows: Sequence[LabelClass]) -> list[ExportClass]:
    """The classes; one that was deleted says so if another has its name now, for files know classes by name."""
    live = {row.name.casefold() for row in rows if row.deleted_at is None}
    return [
        ExportClass(
            index=row.index,
            name=f"{row.name} (deleted, {row.index})" if row.deleted_at and row.name.casefold() in live else row.name,
            colour=row.colour,
        )
        for row in rows
    ]


def _free(stem: str, taken: set[str]) -> str:
    """The stem, with a number if another image has it."""
    number, free = 2, stem
    while free.casefold() in taken:
        number, free = number + 1, f"{stem}-{number}"
    taken.add(free.casefold())
    return free


def _write_part(row: bytes, *, scratch_uri: str) -> Iterator[bytes]:
    """The labels of one image in storage; runs on workers."""
    part = _PartWork.model_validate_json(row)
    image = part.image
    if image.height * image.width > _MAX_PIXELS:
        limit = f"the limit is {_MAX_PIXELS // 10**6} Mpx"
        reason = f"{image.name!r} is too large for one mask, {limit}; it was left out"
        yield _Part(number=image.number, refusal=reason).packed()
        return
    tiles = [PlacedLabels(window=Window(t.row0, t.col0, t.height, t.width), packed=t.layers) for t in image.tiles]
    plane = mosaic(tiles, Window(0, 0, image.height, image.width))
    open_storage(scratch_uri).write(f"part-{image.number}", _PARTS[part.format](plane, part))
    yield _Part(number=image.number).packed()


def _write_archive(job: ExportWork, written: Sequence[int], scratch_uri: str) -> int:
    """Put the parts together; returns the archive's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("classes.json", json.dumps([row.model_dump() for row in job.classes], indent=2))
            own_file = _OWN_FILES.get(job.format)
            if own_file is not None:
                # PNG is packed already.
                packing = zipfile.ZIP_STORED if job.format == "png" else zipfile.ZIP_DEFLATED
                for number in written:
                    part = local_file(f"{scratch_uri}/part-{number}")
                    archive.write(part, own_file.format(job.images[number].stem), compress_type=packing)
            for name, pieces in _joint_files(job, written, scratch_uri):
                with archive.open(name, "w", force_zip64=True) as file:
                    for piece in pieces:
                        file.write(piece.encode())
            for number in written if job.with_images else ():
                image = job.images[number]
                archive.write(local_file(image.working_uri), _tiff(image), compress_type=zipfile.ZIP_STORED)
        open_storage(job.storage_uri).write(job.key, path)
        return path.stat().st_size


def _joint_files(job: ExportWork, written: Sequence[int], scratch_uri: str) -> Iterator[tuple[str, Iterable[str]]]:
    """Files about all images, and their text piece by piece."""
    images = [job.images[number] for number in written]
    parts = (local_file(f"{scratch_uri}/part-{number}").read_text() for number in written)
    if job.format == "coco":
        listed = [(_file_name(image), image.height, image.width) for image in images]
        classes = [(row.index, row.name) for row in job.classes]
        document = coco_document(job.project, classes, listed, [json.loads(part) for part in parts])
        yield "annotations.json", [document]
    elif job.format == "cvat":
        yield "annotations.xml", cvat_document(job.project, job.labels, parts)
    elif job.format == "labelstudio":
        yield "tasks.json", _json_list(parts)
        yield "labelling-interface.xml", [label_studio_config(job.labels)]
    elif job.format == "labeller":
        yield "schema.json", [labeller_schema(job.project, job.labels)]


def _json_list(texts: Iterable[str]) -> Iterator[str]:
    yield "["
    for number, text in enumerate(texts):
        yield f",\n{text}" if number else text
    yield "]\n"


def _seen_from_labels(part: _PartWork) -> str:
    """Where the image of a label file lies: in the archive, or, if it is not there, beside the file."""
    if not part.with_images:
        return posixpath.basename(_file_name(part.image))
    return posixpath.relpath(_tiff(part.image), posixpath.dirname(f"labels/{part.image.stem}"))


def _tiff(image: ExportImage) -> str:
    return f"images/{image.stem}.tif"


def _file_name(image: ExportImage) -> str:
    extension = re.search(r"\.[A-Za-z0-9]{1,5}$", image.name)
    return image.stem + (extension.group() if extension else ".tif")
