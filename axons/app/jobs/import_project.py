"""Importing a project that was exported elsewhere: nothing in the archive is believed, and all of it comes in or none.

Members are held to their hashes, working images are decoded anew in the confined child like any upload, labels are
rendered, weights are loaded. Objects are written first, under addresses of this attempt; the rows follow in one
transaction.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from sqlmodel import Session, col, select

from axons.app.jobs.freeze import summary_of
from axons.app.jobs.import_images import size_of
from axons.app.platform import Platform
from axons.app.project_archive import (
    DOCUMENT,
    VERSION,
    ArchivedImage,
    ArchivedLabels,
    ArchivedModel,
    ProjectDocument,
    example_member,
    image_member,
    labels_member,
    model_member,
    set_member,
)
from axons.app.services.annotations import Labels, check_labels, read_labels
from axons.app.services.examples import decoded_picture
from axons.app.services.training_sets import TrainingSetCreate
from axons.app.services.travel import (
    ArrivedExample,
    ArrivedImage,
    ArrivedLabels,
    ArrivedModel,
    ArrivedProject,
    ArrivedSet,
    accept_project,
)
from axons.app.services.uploads import release_uploads, room_of
from axons.app.tables import Job, Upload
from axons.data.archives import ArchiveLimits, unpack_archive
from axons.data.decoding import Decoder
from axons.data.importing import ImportedImage, Refusal, Tile, import_images
from axons.data.importing import Upload as EngineUpload
from axons.data.rows import Row
from axons.data.storage import local_file, open_storage, sha256_of
from axons.data.tiles import TileGrid
from axons.data.training_set import MANIFEST, SPLITS, TrainingSet, load_training_set
from axons.errors import ArchiveRefused, AxonsError, ChecksumMismatch, ObjectNotFound, TrainingSetRefused
from axons.model.files import CARD, CROPS, WEIGHTS, load_weights, read_tensors

_MAX_MEMBERS = 40_000
_MAX_DOCUMENT_BYTES = 64 << 20
_MAX_LINE_BYTES = 32 << 20
_MAX_GEO_BYTES = 20_000
_SHARD = re.compile(r"shards/[A-Za-z0-9_-]+\.safetensors")
_AREAS = ("projects", "training-sets", "models")


class ProjectImportWork(Row):
    """All that the work needs; `project_id` is that of this attempt, `room` what all of it may take, in bytes."""

    job_id: str
    project_id: str
    storage_uri: str
    upload_uri: str
    name: str
    room: int


@dataclass(frozen=True, kw_only=True)
class _Archive:
    """An archive whose members are all there and all what its document says, unpacked."""

    name: str
    document: ProjectDocument
    files: Mapping[str, Path]
    sha256s: Mapping[str, str]

    def member(self, name: str, *, sha256: str | None = None) -> Path:
        """A member; with a hash, the one that has it.

        Raises:
            ArchiveRefused: there is none, or it is another.
        """
        if name not in self.files:
            raise _refused(self.name, f"lacks {name!r}")
        if sha256 is not None and self.sha256s.get(name) != sha256:
            raise _refused(self.name, f"is damaged: {name!r} is not the one that belongs there")
        return self.files[name]


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """See `axons.app.jobs`."""
    upload = session.exec(select(Upload).where(col(Upload.id).in_(job.request["uploads"]))).one()
    work = ProjectImportWork(
        job_id=job.id,
        project_id=str(uuid5(UUID(job.id), str(job.attempt))),
        storage_uri=platform.storage.uri,
        upload_uri=platform.uri(upload.key),
        name=upload.name,
        room=room_of(session, platform.settings, job.user_id),
    )
    return work.model_dump(mode="json")


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Progress, and at last `{"arrived": ...}`; after a failure no object of this attempt is left.

    Raises:
        ArchiveRefused: what is wrong with the archive.
    """
    job = ProjectImportWork.model_validate(request)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield from _take_in(job, Path(folder))
    except BaseException:  # also when the job is cancelled
        for area in _AREAS:
            open_storage(job.storage_uri).delete_prefix(f"{area}/{job.project_id}")
        raise


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """See `axons.app.jobs`."""
    for row in rows:
        accept_project(session, job, ArrivedProject.model_validate(row["arrived"]))


def finish(session: Session, job: Job) -> str:
    """See `axons.app.jobs`."""
    release_uploads(session, job.request["uploads"])
    counts = [(what, job.result[f"num_{what}s"]) for what in ("image", "training_set", "model")]
    told = ", ".join(f"{count} {what.replace('_', ' ')}{'' if count == 1 else 's'}" for what, count in counts)
    return f"project {job.result['name']!r} imported: {told}"


def fail(session: Session, job: Job) -> None:
    """See `axons.app.jobs`."""
    release_uploads(session, job.request["uploads"])


def _take_in(job: ProjectImportWork, folder: Path) -> Iterator[dict[str, Any]]:
    archive = _open(job, folder)
    yield {"progress": 0.1}
    sets = [_take_set(job, archive, number) for number in range(len(archive.document.training_sets))]
    models = [_take_model(job, archive, number) for number in range(len(archive.document.models))]
    examples = _take_examples(job, archive)
    yield {"progress": 0.2}
    rows = folder / "images.jsonl"
    with rows.open("wb") as file:
        for count, image in enumerate(_take_images(job, archive), start=1):
            file.write(image.packed() + b"\n")
            yield {"progress": 0.2 + 0.75 * count / len(archive.document.images)}
    key = f"tmp/{job.job_id}/{job.project_id}.jsonl"
    open_storage(job.storage_uri).write(key, rows)
    arrived = ArrivedProject(
        project_id=job.project_id,
        document=archive.document.model_copy(update={"members": []}),
        images_uri=f"{job.storage_uri}/{key}",
        training_sets=sets,
        models=models,
        examples=examples,
    )
    yield {"arrived": arrived.model_dump(mode="json")}


def _open(job: ProjectImportWork, folder: Path) -> _Archive:
    try:
        path = local_file(job.upload_uri)
    except ObjectNotFound as error:
        raise ArchiveRefused(f"{job.name!r} is not in storage any more; send it again") from error
    unpacked = folder / "members"
    unpacked.mkdir()
    limits = ArchiveLimits(max_files=_MAX_MEMBERS, max_unpacked_bytes=job.room)
    files: dict[str, Path] = {}
    for file in unpack_archive(path, unpacked, name=job.name, limits=limits):
        if file.path is None:
            raise ArchiveRefused(file.refusal)
        if file.name in files:
            raise _refused(job.name, f"holds {file.name!r} twice")
        files[file.name] = file.path
    document = _document(job.name, files)
    _check_members(job.name, document, files)
    sha256s = {member.name: member.sha256 for member in document.members}
    return _Archive(name=job.name, document=document, files=files, sha256s=sha256s)


def _document(name: str, files: Mapping[str, Path]) -> ProjectDocument:
    if DOCUMENT not in files:
        raise ArchiveRefused(f"{name!r} is no exported project: it has no {DOCUMENT}; use `axons project export`")
    if files[DOCUMENT].stat().st_size > _MAX_DOCUMENT_BYTES:
        raise _refused(name, f"has a {DOCUMENT} of more than {_MAX_DOCUMENT_BYTES >> 20} MB")
    data = files[DOCUMENT].read_bytes()
    version = _version(data)
    if version != VERSION:
        raise ArchiveRefused(
            f"{name!r} is a project of format {version!r}, this server reads {VERSION}; update the older of the two"
        )
    document = ProjectDocument.unpacked(data, name=f"{DOCUMENT} in {name!r}", error=ArchiveRefused)
    for image in document.images:
        if len(json.dumps(image.geo)) > _MAX_GEO_BYTES:
            raise _refused(name, f"has a geo-reference of more than {_MAX_GEO_BYTES // 1000} KB for {image.name!r}")
    return document


def _version(data: bytes) -> Any:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document.get("version") if isinstance(document, dict) else None


def _check_members(name: str, document: ProjectDocument, files: Mapping[str, Path]) -> None:
    told = {member.name: member for member in document.members}
    if missing := sorted(told.keys() - files.keys()):
        raise _refused(name, f"lacks {missing[0]!r}")
    if strange := sorted(files.keys() - told.keys() - {DOCUMENT}):
        raise _refused(name, f"holds {strange[0]!r}, of which its {DOCUMENT} knows nothing")
    for member in told.values():
        if sha256_of(files[member.name]) != member.sha256:
            raise _refused(name, f"is damaged: {member.name!r} has another sha256 than was exported")


def _take_set(job: ProjectImportWork, archive: _Archive, number: int) -> ArrivedSet:
    """A training set, byte for byte; its hash vouches for the manifest, the manifest for the shards."""
    row = archive.document.training_sets[number]
    _checked_choices(archive, row.request)
    key = f"training-sets/{job.project_id}/{number}"
    target = open_storage(job.storage_uri).at(key)
    target.write(MANIFEST, archive.member(set_member(number, MANIFEST)))
    try:
        manifest = load_training_set(target.uri, sha256=row.sha256)
    except (ChecksumMismatch, TrainingSetRefused) as error:
        raise _refused(archive.name, f"is damaged: training set {row.name!r} is not the one that was frozen") from error
    if not _is_whole(manifest):
        raise _refused(archive.name, f"has a training set {row.name!r} whose parts do not fit each other")
    for shard in manifest.shards:
        if not _SHARD.fullmatch(shard.key):
            raise _refused(archive.name, f"has a shard called {shard.key[:80]!r}")
        target.write(shard.key, archive.member(set_member(number, shard.key), sha256=shard.sha256))
    return ArrivedSet(archived=row, key=key, summary=summary_of(manifest))


def _is_whole(manifest: TrainingSet) -> bool:
    counts = [known.get(split, []) for known in (manifest.balance.pixels, manifest.balance.objects) for split in SPLITS]
    return all(len(of_split) == manifest.num_classes for of_split in counts) and all(
        0 <= record.image < len(manifest.images) and 0 <= record.shard < len(manifest.shards)
        for record in manifest.records
    )


def _checked_choices(archive: _Archive, request: dict[str, Any]) -> None:
    try:
        TrainingSetCreate.model_validate(request)
    except ValueError as error:
        raise _refused(archive.name, "has a training set with choices that nobody could have made") from error


def _take_model(job: ProjectImportWork, archive: _Archive, number: int) -> ArrivedModel:
    """A model whose weights were loaded; scores that were measured elsewhere are told nowhere as ours."""
    row = archive.document.models[number]
    weights = archive.member(model_member(number, WEIGHTS), sha256=row.card.sha256)
    load_weights(row.card.spec, weights)
    origin = row.card.origin.model_copy(update={"run": None, "imported_from": archive.name})
    card = row.card.model_copy(update={"scores": {}, "origin": origin})
    key = f"models/{job.project_id}/{number}"
    target = open_storage(job.storage_uri).at(key)
    target.write(WEIGHTS, weights)
    if card.crops_sha256:
        target.write(CROPS, _checked_crops(archive, row, number))
    target.write(CARD, card.packed())
    return ArrivedModel(name=row.name, version=row.version, key=key, card=card)


def _checked_crops(archive: _Archive, row: ArchivedModel, number: int) -> Path:
    file = archive.member(model_member(number, CROPS), sha256=row.card.crops_sha256)
    shapes = {name: (tensor.ndim, tensor.shape[1:2]) for name, tensor in read_tensors(file).items()}
    if shapes != {"crops": (4, (row.card.channels,))}:
        raise _refused(archive.name, f"has crops for model {row.name!r} that are none")
    return file


def _take_examples(job: ProjectImportWork, archive: _Archive) -> list[ArrivedExample]:
    """The pictures of the examples, each decoded and made anew."""
    taken = []
    with Decoder() as decoder:
        for number, row in enumerate(archive.document.examples):
            file = archive.member(example_member(number))
            picture = decoded_picture(decoder, file, name=example_member(number))
            key = f"projects/{job.project_id}/{example_member(number)}"
            open_storage(job.storage_uri).write(key, picture.data)
            taken.append(ArrivedExample(archived=row, key=key, height=picture.height, width=picture.width))
    return taken


def _take_images(job: ProjectImportWork, archive: _Archive) -> Iterator[ArrivedImage]:
    """The images as they get ready, with their labels."""
    storage, images = open_storage(job.storage_uri), archive.document.images
    uploads, numbers = [], {}
    for number, row in enumerate(images):
        image_id = str(uuid5(UUID(job.project_id), str(number)))
        key = f"tmp/{job.job_id}/{image_id}.tif"
        storage.write(key, archive.member(image_member(number)))
        uploads.append(EngineUpload(image_id=image_id, uri=f"{job.storage_uri}/{key}", name=row.name))
        numbers[image_id] = number
    target_uri = f"{job.storage_uri}/projects/{job.project_id}"
    refusal: ArchiveRefused | None = None
    for result in import_images(uploads, target_uri=target_uri, grid=TileGrid(tile=archive.document.tile)):
        try:
            taken = _take_image(archive, numbers[result.image_id], result)
        except ArchiveRefused as error:
            refusal = refusal or error  # told when no worker writes any more, for then all of it is deleted
        else:
            yield taken
    if refusal is not None:
        raise refusal


def _take_image(archive: _Archive, number: int, found: ImportedImage | Refusal) -> ArrivedImage:
    if isinstance(found, Refusal):
        raise ArchiveRefused(found.reason)
    said = archive.document.images[number]
    _check_image(archive, said, found)
    return ArrivedImage(
        archived=said,
        image=found,
        stored_bytes=size_of(found.working_uri) + size_of(found.sheet_uri),
        labels=dict(_take_labels(archive, number, found.tiles)),
    )


def _check_image(archive: _Archive, said: ArchivedImage, found: ImportedImage) -> None:
    """What training sets tell of an image must be true; it is kept to the last digit, for their hashes."""
    shape = ("height", "width", "channels", "dtype")
    is_true = all(getattr(said, name) == getattr(found, name) for name in shape)
    for claimed, measured in ((said.mean, found.mean), (said.std, found.std)):
        is_true = is_true and len(claimed) == len(measured) and np.allclose(claimed, measured, atol=1e-6)
    if not is_true:
        raise _refused(archive.name, f"says of image {said.name!r} what is not true of its pixels")


def _take_labels(archive: _Archive, number: int, tiles: Sequence[Tile]) -> Iterator[tuple[str, ArrivedLabels]]:
    """The labels of an image by the place of the tile, each rendered."""
    if labels_member(number) not in archive.files:
        return
    windows = {f"{tile.row0}/{tile.col0}": tile for tile in tiles}
    class_indices = {row.index for row in archive.document.classes}
    with archive.files[labels_member(number)].open("rb") as file:
        while line := file.readline(_MAX_LINE_BYTES):
            row = ArchivedLabels.unpacked(line, name=f"a line of {labels_member(number)}", error=ArchiveRefused)
            place = f"{row.row0}/{row.col0}"
            if place not in windows:
                raise _refused(archive.name, f"has labels at {place}, twice or where image {number} has no tile")
            labels = _rendered(archive, row, windows.pop(place), class_indices)
            yield (
                place,
                ArrivedLabels(
                    revision=row.revision,
                    is_done=row.is_done,
                    layers=labels.packed,
                    crc32=labels.crc32,
                    counts=labels.counts,
                ),
            )


def _rendered(archive: _Archive, row: ArchivedLabels, tile: Tile, class_indices: set[int]) -> Labels:
    try:
        labels = read_labels(row.layers, is_gzipped=True)
        check_labels(labels, tile, class_indices)
    except AxonsError as error:
        raise ArchiveRefused(f"labels at {row.row0}/{row.col0} in {archive.name!r} are refused: {error}") from error
    return labels


def _refused(name: str, what: str) -> ArchiveRefused:
    return ArchiveRefused(f"{name!r} {what}; export the project again")
