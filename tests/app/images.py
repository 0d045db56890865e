"""Projects with drawn images in them, as an import leaves them, without a cluster."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from sqlmodel import Session, col, select

from axons.app.jobs.kinds import kind_name, kind_of
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services.imports import image_id_of
from axons.app.services.jobs import add_job, end_job
from axons.app.services.projects import ProjectCreate, create_project
from axons.app.tables import Image, Job, Project, Tile
from axons.data.decoding import Decoder
from axons.data.importing import Upload, normalise_upload
from axons.data.layers import annotation_of, to_json
from axons.data.tiles import TileGrid
from tests.drawing import draw_disks


def add_project(platform: Platform, actor: Actor, **fields: Any) -> Project:
    form = ProjectCreate(**{"name": "nerve", "classes": ["bg", "ring", "core"], "tile": 64, **fields})
    return platform.database.write(lambda session: create_project(session, actor, form))


def png(pixels: np.ndarray, **options: Any) -> bytes:
    """An (H, W, 1 or 3) image, or (H, W) mask, as PNG."""
    buffer = io.BytesIO()
    Picture.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(
        buffer, "PNG", **options
    )
    return buffer.getvalue()


def add_images(
    platform: Platform, actor: Actor, project: Project, folder: Path, *, names: Sequence[str] = ("a.png",)
) -> list[Image]:
    """Images of 100 x 150 px through the steps of an import job, in this process."""
    for number, name in enumerate(names):
        (folder / name).write_bytes(png(draw_disks(100, 150, seed=number, channels=3).image))
    job = platform.database.write(lambda session: add_job(session, actor, "import", project, request={"uploads": []}))
    with Decoder() as decoder:
        rows = [imported_row(platform, decoder, job, project, folder / name) for name in names]
    platform.database.write(lambda session: commit(session, job.id, rows))
    platform.database.write(lambda session: end_job(session, session.get_one(Job, job.id), "done", ""))
    return platform.database.read(lambda session: images_of(session, project))


def imported_row(platform: Platform, decoder: Decoder, job: Job, project: Project, path: Path) -> dict[str, Any]:
    """What the work of an import yields for a file."""
    upload = Upload(image_id=image_id_of(job.id, path.name), uri=str(path), name=path.name)
    target_uri = platform.uri(f"projects/{project.id}")
    image = normalise_upload(upload, decoder, target_uri=target_uri, grid=TileGrid(tile=project.tile))
    return {"image": image.model_dump(mode="json"), "stored_bytes": 1000}


def images_of(session: Session, project: Project) -> list[Image]:
    return list(session.exec(select(Image).where(col(Image.project_id) == project.id).order_by(col(Image.name))))


def tiles_of(platform: Platform, image: Image, *, tiling_id: str | None = None) -> list[Tile]:
    """Tiles of an image, row by row."""

    def read(session: Session) -> list[Tile]:
        asked = select(Tile).where(col(Tile.image_id) == image.id)
        if tiling_id is not None:
            asked = asked.where(col(Tile.tiling_id) == tiling_id)
        return list(session.exec(asked.order_by(col(Tile.row0), col(Tile.col0))))

    return platform.database.read(read)


def commit(session: Session, job_id: str, rows: list[dict[str, Any]]) -> None:
    job = session.get_one(Job, job_id)
    kind_of(kind_name(job)).commit(session, job, rows)


def run_job(platform: Platform, job_id: str) -> tuple[list[dict[str, Any]], str]:
    """A job from its request to its sentence, as the dispatcher does it, in this process."""
    job = platform.database.read(lambda session: session.get_one(Job, job_id))
    kind = kind_of(kind_name(job))
    request = platform.database.read(lambda session: kind.prepare(platform, session, session.get_one(Job, job_id)))
    rows = list(kind.work(request))
    told = [row for row in rows if row.keys() != {"progress"}]
    platform.database.write(lambda session: commit(session, job_id, told))

    def finish(session: Session) -> str:
        found = session.get_one(Job, job_id)
        reason = kind.finish(session, found)
        end_job(session, found, "done", reason)
        return reason

    return rows, platform.database.write(finish)


def document_of(plane: np.ndarray) -> dict[str, Any]:
    """What an editor sends for an (H, W) plane of values."""
    return to_json(annotation_of(plane))


def mask_of(seed: int) -> np.ndarray:
    """The truth of the image with this number."""
    return draw_disks(100, 150, seed=seed).mask
