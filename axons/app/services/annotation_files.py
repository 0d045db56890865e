"""Labels from other tools and for other tools: the requests of the jobs, and how imported labels get into tiles."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services.access import get_project
from axons.app.services.annotations import PackedLabels, add_revision
from axons.app.services.jobs import add_job
from axons.app.services.label_classes import classes_of
from axons.app.services.tilings import check_no_other_tiling, current_tiling
from axons.app.services.travel import start_project_export
from axons.app.services.uploads import use_uploads
from axons.app.tables import FINAL_STATES, Image, Job, Project, Revision, Tile
from axons.app.texts import Colour, Identifier
from axons.data.formats import ExportFormat, ImportFormat
from axons.data.image_names import KnownImage
from axons.data.importing import TileLabels
from axons.data.masks import Coding, ColourCoding, GreyCoding, parse_colour
from axons.errors import Conflict, InvalidRequest, NotFound


class AnnotationImportCreate(BaseModel):
    """Label files to import; several may come in a ZIP.

    Masks (`png`), `labeller` and `labelme` files are called like their images; `coco` and `cvat` files name them.
    Without a table, single-channel masks hold class indices, or grey values spread evenly from black to white.
    """

    model_config = ConfigDict(extra="forbid")

    uploads: list[Identifier] = Field(min_length=1, max_length=10_000)
    format: ImportFormat = "png"
    colours: dict[Colour, int] | None = Field(None, max_length=256, description="Colour -> class index, for PNG.")
    greys: dict[int, int] | None = Field(None, max_length=256, description="Grey value -> class index, for PNG.")
    keeps_existing: bool = Field(False, description="Leave tiles alone that have labels already.")
    fills_background: bool = Field(
        False, description="What the labels of an image leave open becomes background; not for PNG, which says it all."
    )


class AnnotationImportRequest(BaseModel):
    """The request of an `import` job whose purpose is annotations, as `Job.request` holds it."""

    purpose: Literal["annotations"] = "annotations"
    uploads: list[str]
    format: ImportFormat
    colours: dict[str, int] | None = None
    greys: dict[int, int] | None = None
    keeps_existing: bool = False
    fills_background: bool = False


class ExportCreate(BaseModel):
    """What to export: labels for other tools, or the whole project to import it elsewhere."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[ExportFormat, "project"] = "png"
    with_images: bool = Field(False, description="Also the working images, as TIFF; a project always has them.")


class ExportRequest(BaseModel):
    """The request of an `export` job, as `Job.request` holds it."""

    format: ExportFormat
    with_images: bool = False


def start_annotation_import(session: Session, actor: Actor, project_id: str, form: AnnotationImportCreate) -> Job:
    """Put an import of labels into the queue.

    Raises:
        InvalidRequest: a table names a class that the project lacks, or there are two tables.
        Conflict: an upload is not complete, or the project is being tiled anew.
    """
    project = get_project(session, actor, project_id, "annotate")
    check_no_other_tiling(session, project)
    _check_tables(session, project, form)
    use_uploads(session, actor, form.uploads, project, "annotations")
    request = AnnotationImportRequest(**form.model_dump())
    return add_job(session, actor, "import", project, request=request.model_dump(mode="json"))


def start_export(session: Session, actor: Actor, project_id: str, form: ExportCreate) -> Job:
    """Put an export of all labels, or of the whole project, into the queue."""
    if form.format == "project":
        return start_project_export(session, actor, project_id)
    project = get_project(session, actor, project_id)
    return add_job(session, actor, "export", project, request=ExportRequest(**form.model_dump()).model_dump())


def exported_file(session: Session, job: Job) -> tuple[str, str]:
    """Key and name of the file that a job has made.

    Raises:
        Conflict: the job is not over.
        NotFound: it has made none.
    """
    file = job.result.get("file")
    if job.state not in FINAL_STATES:
        raise Conflict(f"the {job.kind} job is {job.state}; wait until it is done")
    if file is None:
        raise NotFound(f"the {job.kind} job {job.id!r} has made no file; start an export")
    return file["key"], file["name"]


def coding_of(request: AnnotationImportRequest) -> Coding | None:
    """How masks are coded; None if that has to be found out from them."""
    if request.colours:
        return ColourCoding(classes={parse_colour(colour): index for colour, index in request.colours.items()})
    if request.greys:
        return GreyCoding(classes=request.greys)
    return None


def known_images(session: Session, project_id: str) -> list[KnownImage]:
    """The images of a project, by name."""
    live = (col(Image.project_id) == project_id, col(Image.deleted_at).is_(None))
    return [
        KnownImage(image_id=image.id, name=image.name, height=image.height, width=image.width)
        for image in session.exec(select(Image).where(*live).order_by(col(Image.name), col(Image.id)))
    ]


def accept_labels(session: Session, job: Job, image_id: str, labels: TileLabels, *, keeps_existing: bool) -> None:
    """Make imported labels the newest revision of their tile; nothing changes if they were accepted before."""
    assert job.project_id is not None
    tiling = current_tiling(session, job.project_id)
    place = (col(Tile.row0) == labels.row0, col(Tile.col0) == labels.col0)
    asked = select(Tile).where(col(Tile.tiling_id) == tiling.id, col(Tile.image_id) == image_id, *place)
    tile = session.exec(asked).first()
    save_id = f"import-{job.id}"
    if tile is None or _is_saved(session, tile, save_id):
        return
    had_labels = any(value != "255" for value in tile.counts)
    if had_labels and (keeps_existing or tile.status == "done"):
        kept_in = sorted({*job.result.get("kept_in", []), image_id})
        job.result = {**job.result, "kept_in": kept_in}
        return
    packed = PackedLabels(
        packed=labels.annotation,
        crc32=labels.crc32,
        counts={str(value): count for value, count in labels.counts.items()},
    )
    add_revision(session, tile, packed, author_id=job.user_id, save_id=save_id, source="import")
    num_tiles, num_replaced = job.result.get("num_tiles", 0) + 1, job.result.get("num_replaced", 0) + had_labels
    job.result = {**job.result, "num_tiles": num_tiles, "num_replaced": num_replaced}


def accept_done(session: Session, job: Job, image_id: str) -> None:
    """Mark the tiles of an image done, as its label file says; not where labels of our own were kept."""
    assert job.project_id is not None
    if image_id in job.result.get("kept_in", []):
        return
    tiling = current_tiling(session, job.project_id)
    for tile in session.exec(select(Tile).where(col(Tile.tiling_id) == tiling.id, col(Tile.image_id) == image_id)):
        tile.status = "done"
        session.add(tile)


def file_stem(name: str) -> str:
    """A path inside an archive for an image of this name, without the extension; the same name wherever possible."""
    parts = [re.sub(r'[\\:*?"<>|]', "_", part) for part in name.split("/") if part not in ("", ".", "..")]
    stem = "/".join(parts) or "image"
    head, dot, _extension = stem.rpartition(".")
    return head if dot and head else stem


def _check_tables(session: Session, project: Project, form: AnnotationImportCreate) -> None:
    if form.fills_background and form.format == "png":
        raise InvalidRequest("fills_background", "masks say of each pixel what it is; paint the background in the mask")
    if form.colours and form.greys:
        raise InvalidRequest("greys", "masks are coded by colours or by grey values; give one table")
    known = {row.index for row in classes_of(session, project.id)} | {254, 255}
    for field, table in (("colours", form.colours), ("greys", form.greys)):
        if unknown := sorted(set((table or {}).values()) - known):
            raise InvalidRequest(field, f"{unknown[0]} is no class of the project; add the class, or use 254 or 255")
    if wrong := [value for value in form.greys or {} if not 0 <= value <= 255]:
        raise InvalidRequest("greys", f"{wrong[0]} is no grey value; use 0 to 255")


def _is_saved(session: Session, tile: Tile, save_id: str) -> bool:
    same = (col(Revision.tile_id) == tile.id, col(Revision.save_id) == save_id)
    return session.exec(select(Revision.id).where(*same)).first() is not None
