"""Projects that travel from one platform to another: the requests of the jobs, and how what arrives gets into rows."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import insert
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.project_archive import ArchivedExample, ArchivedImage, ArchivedSet, ProjectDocument
from axons.app.services import audit
from axons.app.services.access import get_project
from axons.app.services.imports import add_tiles
from axons.app.services.jobs import add_job
from axons.app.services.projects import check_may_create
from axons.app.services.tiles import status_of
from axons.app.services.training_sets import hold_out
from axons.app.services.uploads import check_free_space, check_room, get_upload, use_uploads
from axons.app.tables import (
    Example,
    Image,
    Job,
    LabelClass,
    Model,
    Project,
    Revision,
    Tile,
    Tiling,
    TrainingSet,
    User,
    new_id,
    now,
)
from axons.app.texts import Identifier
from axons.data.importing import ImportedImage
from axons.data.rows import Row
from axons.data.storage import local_file
from axons.errors import AxonsError
from axons.model.files import ModelCard


class ProjectImport(BaseModel):
    """A project that was exported elsewhere, as a completed upload."""

    model_config = ConfigDict(extra="forbid")

    upload_id: Identifier


class ProjectExportRequest(BaseModel):
    """The request of an `export` job of a whole project, as `Job.request` holds it."""

    format: Literal["project"] = "project"


class ProjectImportRequest(BaseModel):
    """The request of an `import` job whose purpose is a project, as `Job.request` holds it."""

    purpose: Literal["project"] = "project"
    uploads: list[str]
    keeps_originals: bool


class ArrivedLabels(Row):
    """Labels of a tile that were checked, with checksum and pixels by value of what they render to."""

    revision: int
    is_done: bool
    layers: bytes
    crc32: int
    counts: dict[str, int]


class ArrivedImage(Row):
    """An image in its new place; `labels` by "row0/col0" of the tile."""

    archived: ArchivedImage
    image: ImportedImage
    stored_bytes: int
    labels: dict[str, ArrivedLabels]


class ArrivedSet(Row):
    """A training set in its new place."""

    archived: ArchivedSet
    key: str
    summary: dict[str, Any]


class ArrivedModel(Row):
    """A model in its new place; `card` as it is stored there."""

    name: str
    version: int
    key: str
    card: ModelCard


class ArrivedExample(Row):
    """An example whose picture is in its new place."""

    archived: ArchivedExample
    key: str
    height: int
    width: int


class ArrivedProject(Row):
    """A project whose objects are all in storage; `images_uri` holds one `ArrivedImage` a line."""

    project_id: str
    document: ProjectDocument
    images_uri: str
    training_sets: list[ArrivedSet]
    models: list[ArrivedModel]
    examples: list[ArrivedExample]


def start_project_export(session: Session, actor: Actor, project_id: str) -> Job:
    """Put an export of a project into the queue; who sees the project sees all that it takes along."""
    project = get_project(session, actor, project_id)
    audit.record(session, actor, "project.export", "project", project.id, name=project.name)
    return add_job(session, actor, "export", project, request=ProjectExportRequest().model_dump())


def start_project_import(session: Session, actor: Actor, platform: Platform, form: ProjectImport) -> Job:
    """Put an import of a project into the queue.

    Raises:
        NotAllowed: the actor may not create projects.
        Conflict: the upload is not complete; InvalidRequest: it is for something else.
        LimitReached, StorageFull: there is no room for it.
    """
    check_may_create(session, actor, None)
    upload = get_upload(session, actor, form.upload_id)
    use_uploads(session, actor, [upload.id], None, "project")
    check_room(session, platform.settings, actor.user_id, upload.num_bytes)
    check_free_space(platform.settings, 2 * upload.num_bytes)  # unpacked, and in its place
    request = ProjectImportRequest(uploads=[upload.id], keeps_originals=platform.settings.keep_originals)
    return add_job(session, actor, "import", None, request=request.model_dump())


def accept_project(session: Session, job: Job, arrived: ArrivedProject) -> None:
    """Make all rows of a project that has arrived; nothing changes if they are there already.

    Its person owns it and is the author of its labels: people do not travel.

    Raises:
        NotAllowed: the person may not create projects any more.
    """
    if session.get(Project, arrived.project_id) is not None:
        return
    actor = Actor.of(session.get_one(User, job.user_id))
    check_may_create(session, actor, None)
    document = arrived.document
    project = Project(
        **document.model_dump(include={"name", "description", "instructions", "tile", "threshold"}),
        id=arrived.project_id,
        owner_id=actor.user_id,
        keeps_originals=ProjectImportRequest.model_validate(job.request).keeps_originals,
    )
    tiling = Tiling(project_id=project.id, tile=project.tile, created_by=actor.user_id)
    session.add(project)
    session.flush()
    session.add(tiling)
    _add_classes(session, project, document)
    _add_training_sets(session, project, arrived.training_sets)
    _add_models(session, project, arrived.models)
    _add_examples(session, project, arrived.examples)
    session.flush()
    for image in _images(arrived.images_uri):
        _add_image(session, project, tiling, image)
    audit.record(session, actor, "project.import", "project", project.id, name=project.name)
    job.result = {
        **job.result,
        "project_id": project.id,
        "name": project.name,
        "num_images": len(document.images),
        "num_training_sets": len(document.training_sets),
        "num_models": len(document.models),
    }


def _images(uri: str) -> Iterator[ArrivedImage]:
    with local_file(uri).open("rb") as lines:
        for line in lines:
            yield ArrivedImage.unpacked(line, name="an image that has arrived", error=AxonsError)


def _add_classes(session: Session, project: Project, document: ProjectDocument) -> None:
    for row in document.classes:
        deleted_at = now() if row.is_deleted else None
        fields = row.model_dump(exclude={"is_deleted"})
        session.add(LabelClass(**fields, project_id=project.id, deleted_at=deleted_at))


def _add_training_sets(session: Session, project: Project, sets: list[ArrivedSet]) -> None:
    for row in sets:
        training_set = TrainingSet(
            **row.archived.model_dump(),
            project_id=project.id,
            state="ready",
            key=row.key,
            summary=row.summary,
            created_by=project.owner_id,
        )
        session.add(training_set)
        session.flush()
        hold_out(session, training_set)


def _add_models(session: Session, project: Project, models: list[ArrivedModel]) -> None:
    for row in models:
        session.add(
            Model(
                project_id=project.id,
                name=row.name,
                version=row.version,
                key=row.key,
                sha256=row.card.sha256,
                card=row.card.model_dump(mode="json"),
                created_by=project.owner_id,
            )
        )


def _add_examples(session: Session, project: Project, examples: list[ArrivedExample]) -> None:
    for number, row in enumerate(examples, start=1):
        fields = row.archived.model_dump() | row.model_dump(exclude={"archived"})
        session.add(Example(**fields, project_id=project.id, number=number, created_by=project.owner_id))


def _add_image(session: Session, project: Project, tiling: Tiling, arrived: ArrivedImage) -> None:
    """An image with its tiles and their labels."""
    measured, folder = arrived.image, f"projects/{project.id}"
    fields = measured.model_dump(exclude={"image_id", "working_uri", "sheet_uri", "tiles"})
    row = Image(
        **fields | arrived.archived.model_dump(),
        id=measured.image_id,
        project_id=project.id,
        working_key=f"{folder}/{measured.image_id}.tif",
        sheet_key=f"{folder}/{measured.image_id}.jpg",
        stored_bytes=arrived.stored_bytes,
        created_by=project.owner_id,
    )
    session.add(row)
    session.flush()
    add_tiles(session, tiling, row.id, measured.tiles)
    revisions: list[dict[str, Any]] = []
    for tile in session.exec(select(Tile).where(col(Tile.tiling_id) == tiling.id, col(Tile.image_id) == row.id)):
        if labels := arrived.labels.get(f"{tile.row0}/{tile.col0}"):
            _label(tile, labels, project.owner_id)
            revisions.append(_revision(tile, labels, project.owner_id))
    session.flush()
    if revisions:
        session.execute(insert(Revision), revisions)


def _label(tile: Tile, labels: ArrivedLabels, author_id: str) -> None:
    tile.revision, tile.crc32, tile.counts = labels.revision, labels.crc32, labels.counts
    tile.status = "done" if labels.is_done else status_of(labels.counts)
    tile.labelled_by, tile.labelled_at = author_id, now()


def _revision(tile: Tile, labels: ArrivedLabels, author_id: str) -> dict[str, Any]:
    return {
        **labels.model_dump(include={"layers", "crc32", "counts"}),
        "id": new_id(),
        "tile_id": tile.id,
        "number": labels.revision,
        "save_id": new_id(),
        "seconds": 0.0,
        "source": "import",
        "author_id": author_id,
        "created_at": now(),
    }
