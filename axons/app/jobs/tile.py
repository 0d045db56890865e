"""Tile jobs: another tile size, with all labels copied from the mosaic of the tiles before."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from sqlalchemy import func
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.services import annotations
from axons.app.services.annotations import Labels
from axons.app.services.imports import add_tiles
from axons.app.services.tilings import TileRequest, current_tiling
from axons.app.tables import Image, Job, Project, Revision, Tile, Tiling, now
from axons.data.importing import ImportedImage, tile_images
from axons.data.importing import Tile as MeasuredTile
from axons.data.layers import UNLABELLED, Origin, annotation_of, unpack
from axons.data.tiles import TileGrid, Window


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """See `axons.app.jobs`; images in the trash are tiled too, for they may come back."""
    images = session.exec(select(Image).where(col(Image.project_id) == job.project_id).order_by(col(Image.id)))
    return {
        "tile": TileRequest.model_validate(job.request).tile,
        "images": [_imported(platform, image).model_dump(mode="json") for image in images],
    }


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows `{"image_id": ..., "tiles": [...]}`, one for each image, with the progress between them."""
    images = [ImportedImage.model_validate(image) for image in request["images"]]
    measured = tile_images(images, grid=TileGrid(tile=request["tile"]))
    for number, (image_id, tiles) in enumerate(measured, start=1):
        yield {"image_id": image_id, "tiles": [tile.model_dump(mode="json") for tile in tiles]}
        yield {"progress": number / len(images)}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """See `axons.app.jobs`."""
    tiling = session.get_one(Tiling, job.target_id)
    if tiling.is_current:  # finished before
        return
    for row in rows:
        if "tiles" in row and (image := session.get(Image, row["image_id"])) is not None:
            if not _tiles(session, tiling, image.id):
                tiles = [MeasuredTile.model_validate(tile) for tile in row["tiles"]]
                add_tiles(session, tiling, image.id, tiles)
            _copy_labels(session, job, tiling, image)


def finish(session: Session, job: Job) -> str:
    """See `axons.app.jobs`; what was labelled while the job ran is copied once more."""
    tiling = session.get_one(Tiling, job.target_id)
    before = current_tiling(session, tiling.project_id)
    if before.id == tiling.id:
        return _sentence(session, tiling)
    for image in session.exec(select(Image).where(col(Image.project_id) == tiling.project_id)):
        _copy_labels(session, job, tiling, image)
    before.is_current = False
    tiling.is_current = True
    project = session.get_one(Project, tiling.project_id)
    project.tile, project.updated_at = tiling.tile, now()
    session.flush()
    return _sentence(session, tiling)


def _copy_labels(session: Session, job: Job, tiling: Tiling, image: Image) -> None:
    """Give each tile what the tiles before show at its place; nothing changes if they were copied as they are now."""
    before = [tile for tile in _tiles(session, current_tiling(session, tiling.project_id), image.id) if tile.revision]
    if not before:
        return
    state = uuid5(UUID(job.id), "/".join(f"{tile.id}:{tile.revision}" for tile in before))
    masks: dict[str, np.ndarray] = {}
    for tile in _tiles(session, tiling, image.id):
        meeting = [(old, part) for old in before if (part := _window(old).intersection(_window(tile)))]
        if not meeting or _has_revision(session, tile, str(state)):
            continue
        plane = np.full((tile.height, tile.width), UNLABELLED, np.uint8)
        for old, part in meeting:
            if old.id not in masks:
                masks[old.id] = unpack(annotations.newest_layers(session, old)).plane()
            plane[part.seen_from(_window(tile)).slices] = masks[old.id][part.seen_from(_window(old)).slices]
        labels = Labels.of(annotation_of(plane, origin=Origin(source=f"retile:{job.id}")))
        if tile.revision == 0 and not labels.annotation.layers:
            continue
        annotations.add_revision(session, tile, labels, author_id=job.user_id, save_id=str(state), source="retile")
        if sum(part.area for old, part in meeting if old.status == "done") == tile.height * tile.width:
            tile.status = "done"


def _tiles(session: Session, tiling: Tiling, image_id: str) -> Sequence[Tile]:
    asked = select(Tile).where(col(Tile.tiling_id) == tiling.id, col(Tile.image_id) == image_id)
    return session.exec(asked.order_by(col(Tile.row0), col(Tile.col0))).all()


def _has_revision(session: Session, tile: Tile, save_id: str) -> bool:
    same = (col(Revision.tile_id) == tile.id, col(Revision.save_id) == save_id)
    return session.exec(select(Revision.id).where(*same)).first() is not None


def _window(tile: Tile) -> Window:
    return Window(tile.row0, tile.col0, tile.height, tile.width)


def _sentence(session: Session, tiling: Tiling) -> str:
    mine = col(Tile.tiling_id) == tiling.id
    total = session.exec(select(func.count()).select_from(Tile).where(mine)).one()
    labelled = session.exec(select(func.count()).select_from(Tile).where(mine, col(Tile.revision) > 0)).one()
    return f"tiles are {tiling.tile} px now: {total} tiles, labels copied to {labelled} of them"


def _imported(platform: Platform, image: Image) -> ImportedImage:
    """An image as the engine knows it."""
    fields = set(ImportedImage.model_fields) - {"image_id", "working_uri", "sheet_uri", "tiles"}
    return ImportedImage(
        **image.model_dump(include=fields),
        image_id=image.id,
        working_uri=platform.uri(image.working_key),
        sheet_uri=platform.uri(image.sheet_key),
        tiles=[],
    )
