"""Exporting a project: all that it needs elsewhere, as one ZIP; see `project_archive`."""

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.project_archive import (
    DOCUMENT,
    ArchivedClass,
    ArchivedExample,
    ArchivedImage,
    ArchivedLabels,
    ArchivedMember,
    ArchivedModel,
    ArchivedSet,
    ProjectDocument,
    example_member,
    image_member,
    labels_member,
    model_member,
    set_member,
)
from axons.app.services.examples import examples_of
from axons.app.services.label_classes import classes_of
from axons.app.services.tilings import current_tiling
from axons.app.tables import Example, Image, Job, Model, Project, Revision, Tile, TrainingSet
from axons.data.rows import Row
from axons.data.storage import local_file, open_storage, sha256_of
from axons.data.training_set import MANIFEST, load_training_set
from axons.errors import AxonsError
from axons.model.files import CROPS, WEIGHTS

_ROWS = 500  # at a time: labels are some KB each


class ProjectWork(Row):
    """All that the work needs; `working_uris`, `set_uris` and the like follow the lists of the document.

    Args:
        labels_uri: one `_ImageLabels` a line, image by image.
        key: where the archive goes.
    """

    storage_uri: str
    key: str
    document: ProjectDocument
    working_uris: list[str]
    set_uris: list[str]
    model_uris: list[str]
    example_uris: list[str]
    labels_uri: str


class _ImageLabels(Row):
    """Labels of a tile of the image with this number."""

    number: int
    labels: ArchivedLabels


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """The rows as they are now; labels go into a file, for there may be many."""
    project = session.get_one(Project, job.project_id)
    live = (col(Image.project_id) == project.id, col(Image.deleted_at).is_(None))
    images = session.exec(select(Image).where(*live).order_by(col(Image.name), col(Image.id))).all()
    is_ready = (col(TrainingSet.project_id) == project.id, col(TrainingSet.state) == "ready")
    sets = session.exec(
        select(TrainingSet).where(*is_ready, col(TrainingSet.deleted_at).is_(None)).order_by(col(TrainingSet.number))
    ).all()
    of_project = (col(Model.project_id) == project.id, col(Model.deleted_at).is_(None))
    models = session.exec(select(Model).where(*of_project).order_by(col(Model.name), col(Model.version))).all()
    examples = examples_of(session, project.id)
    labels_key = f"tmp/{job.id}/labels-{job.attempt}.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.jsonl")
        _write_labels(session, project, [image.id for image in images], path)
        platform.storage.write(labels_key, path)
    work = ProjectWork(
        storage_uri=platform.storage.uri,
        key=f"tmp/export-{job.id}-{job.attempt}/project.zip",
        document=_document(session, project, images, sets, models, examples),
        working_uris=[platform.uri(image.working_key) for image in images],
        set_uris=[platform.uri(row.key) for row in sets],
        model_uris=[platform.uri(row.key) for row in models],
        example_uris=[platform.uri(row.key) for row in examples],
        labels_uri=platform.uri(labels_key),
    )
    return work.model_dump(mode="json")


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Pack member by member, as they are: they would not get smaller. The document comes last, with their hashes."""
    job = ProjectWork.model_validate(request)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "project.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            members = list(_add_labels(archive, job.labels_uri))
            files = list(_files(job))
            for count, (name, uri) in enumerate(files, start=1):
                members.append(_add_file(archive, name, local_file(uri)))
                yield {"progress": 0.9 * count / len(files)}
            archive.writestr(DOCUMENT, job.document.model_copy(update={"members": members}).packed())
        open_storage(job.storage_uri).write(job.key, path)
        num_bytes = path.stat().st_size
    yield {"file": {"key": job.key, "name": f"{job.document.name}.zip", "bytes": num_bytes}}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """Remember where the file is; `jobs/{id}/file` serves it."""
    for row in rows:
        job.result = {**job.result, "file": row["file"]}


def finish(session: Session, job: Job) -> str:
    """How large it is."""
    return f"project exported, {job.result['file']['bytes'] / 1e6:.1f} MB"


def _document(
    session: Session,
    project: Project,
    images: Sequence[Image],
    sets: Sequence[TrainingSet],
    models: Sequence[Model],
    examples: Sequence[Example],
) -> ProjectDocument:
    of_image = set(ArchivedImage.model_fields) - {"source_id"}
    return ProjectDocument(
        **project.model_dump(include={"name", "description", "instructions", "threshold"}),
        tile=current_tiling(session, project.id).tile,
        classes=[
            ArchivedClass(index=row.index, name=row.name, colour=row.colour, is_deleted=row.deleted_at is not None)
            for row in classes_of(session, project.id)
        ],
        images=[ArchivedImage(**row.model_dump(include=of_image), source_id=row.known_as) for row in images],
        training_sets=[ArchivedSet(**row.model_dump(include=set(ArchivedSet.model_fields))) for row in sets],
        models=[ArchivedModel(**row.model_dump(include=set(ArchivedModel.model_fields))) for row in models],
        examples=[ArchivedExample(caption=row.caption, is_good=row.is_good) for row in examples],
    )


def _write_labels(session: Session, project: Project, image_ids: Sequence[str], path: Path) -> None:
    """The newest labels of each tile, image by image."""
    numbers = {image_id: number for number, image_id in enumerate(image_ids)}
    tiling = current_tiling(session, project.id)
    asked = (
        select(Tile, Revision.layers)
        .join(Revision, (col(Revision.tile_id) == Tile.id) & (col(Revision.number) == Tile.revision))
        .where(col(Tile.tiling_id) == tiling.id)
        .order_by(col(Tile.image_id), col(Tile.row0), col(Tile.col0))
    )
    with path.open("wb") as file:
        for tile, layers in session.exec(asked, execution_options={"yield_per": _ROWS}):
            if tile.image_id in numbers:
                labels = ArchivedLabels(
                    row0=tile.row0,
                    col0=tile.col0,
                    revision=tile.revision,
                    is_done=tile.status == "done",
                    layers=layers,
                )
                file.write(_ImageLabels(number=numbers[tile.image_id], labels=labels).packed() + b"\n")


def _add_labels(archive: zipfile.ZipFile, uri: str) -> Iterator[ArchivedMember]:
    with local_file(uri).open("rb") as lines:
        rows = (_ImageLabels.unpacked(line, name="the labels", error=AxonsError) for line in lines)
        for number, of_image in groupby(rows, key=lambda row: row.number):
            digest, num_bytes = hashlib.sha256(), 0
            with archive.open(labels_member(number), "w") as member:
                for row in of_image:
                    line = row.labels.packed() + b"\n"
                    digest.update(line)
                    num_bytes += member.write(line)
            yield ArchivedMember(name=labels_member(number), sha256=digest.hexdigest(), num_bytes=num_bytes)


def _files(job: ProjectWork) -> Iterator[tuple[str, str]]:
    """Name and address of each stored object that goes along."""
    for number, uri in enumerate(job.working_uris):
        yield image_member(number), uri
    for number, uri in enumerate(job.example_uris):
        yield example_member(number), uri
    for number, (row, uri) in enumerate(zip(job.document.training_sets, job.set_uris, strict=True)):
        shards = load_training_set(uri, sha256=row.sha256).shards
        for key in (MANIFEST, *(shard.key for shard in shards)):
            yield set_member(number, key), f"{uri}/{key}"
    for number, (model, uri) in enumerate(zip(job.document.models, job.model_uris, strict=True)):
        for key in (WEIGHTS, CROPS) if model.card.crops_sha256 else (WEIGHTS,):
            yield model_member(number, key), f"{uri}/{key}"


def _add_file(archive: zipfile.ZipFile, name: str, path: Path) -> ArchivedMember:
    archive.write(path, name)
    return ArchivedMember(name=name, sha256=sha256_of(path), num_bytes=path.stat().st_size)
