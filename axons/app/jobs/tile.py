"""Tile jobs: another tile size, with all labels copied from the mosaic of the tiles before."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Self
from uuid import UUID, uuid5

from sqlalchemy import func
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.services.annotations import PackedLabels, add_revision, newest_layers
from axons.app.services.imports import add_tiles
from axons.app.services.tilings import TileRequest, current_tiling
from axons.app.tables import Image, Job, Project, Revision, Tile, Tiling, now
from axons.data.importing import ImportedImage, TileLabels, tile_images
from axons.data.importing import Tile as MeasuredTile
from axons.data.label_files import PlacedLabels, mosaic
from axons.data.layers import Origin, annotation_of, count_values, crc32, pack
from axons.data.rows import Row
from axons.data.tiles import TileGrid, Window


class OldTile(Row):
    """A tile with labels, as it was when it was looked at."""

    id: str
    row0: int
    col0: int
    height: int
    width: int
    revision: int
    is_done: bool
    layers: bytes

    @property
    def window(self) -> Window:
        """Where it lies in the image."""
        return Window(self.row0, self.col0, self.height, self.width)


class NewLabels(TileLabels):
    """Labels of a tile of the new size; it is done if all of it was."""

    is_done: bool


class TiledImage(Row):
    """What the work yields for an image; `state` names the labels that were copied."""

    image_id: str
    tiles: list[MeasuredTile]
    labels: list[NewLabels]
    state: str

    @classmethod
    def of(cls, job_id: str, image_id: str, tiles: list[MeasuredTile], old: Sequence[OldTile]) -> Self:
        """Copy the labels of the tiles before."""
        labels = list(_copied([tile.window for tile in tiles], old, source=f"retile:{job_id}"))
        return cls(image_id=image_id, tiles=tiles, labels=labels, state=_state(job_id, image_id, old))


class TileWork(Row):
    """All that the work needs; `labels` are the labelled tiles of each image."""

    job_id: str
    tile: int
    images: list[ImportedImage]
    labels: dict[str, list[OldTile]]


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """See `axons.app.jobs`; images in the trash are tiled too, for they may come back."""
    images = session.exec(select(Image).where(col(Image.project_id) == job.project_id).order_by(col(Image.id))).all()
    work = TileWork(
        job_id=job.id,
        tile=TileRequest.model_validate(job.request).tile,
        images=[_imported(platform, image) for image in images],
        labels={image.id: _labelled(session, image) for image in images},
    )
    return work.model_dump(mode="json")


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows `{"image": ...}`, a `TiledImage` each, with the progress between them."""
    job = TileWork.model_validate(request)
    measured = tile_images(job.images, grid=TileGrid(tile=job.tile))
    for number, (image_id, tiles) in enumerate(measured, start=1):
        image = TiledImage.of(job.job_id, image_id, tiles, job.labels[image_id])
        yield {"image": image.model_dump(mode="json")}
        yield {"progress": number / len(job.images)}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """See `axons.app.jobs`."""
    tiling = session.get_one(Tiling, job.target_id)
    for row in rows:
        if "image" in row and not tiling.is_current:
            _accept(session, job, tiling, TiledImage.model_validate(row["image"]))


def finish(session: Session, job: Job) -> str:
    """See `axons.app.jobs`; images that were labelled while the job ran are copied once more."""
    tiling = session.get_one(Tiling, job.target_id)
    before = current_tiling(session, tiling.project_id)
    if before.id != tiling.id:
        for image in session.exec(select(Image).where(col(Image.project_id) == tiling.project_id)):
            _accept_later_labels(session, job, tiling, image)
        before.is_current = False
        tiling.is_current = True
        project = session.get_one(Project, tiling.project_id)
        project.tile, project.updated_at = tiling.tile, now()
        session.flush()
    mine = col(Tile.tiling_id) == tiling.id
    total = session.exec(select(func.count()).select_from(Tile).where(mine)).one()
    labelled = session.exec(select(func.count()).select_from(Tile).where(mine, col(Tile.revision) > 0)).one()
    return f"tiles are {tiling.tile} px now: {total} tiles, labels copied to {labelled} of them"


def _accept(session: Session, job: Job, tiling: Tiling, image: TiledImage) -> None:
    """Add the tiles and labels of an image; nothing changes if they are there."""
    if session.get(Image, image.image_id) is None:
        return
    found = _tiles(session, tiling, image.image_id)
    if not found:
        add_tiles(session, tiling, image.image_id, image.tiles)
        found = _tiles(session, tiling, image.image_id)
    for labels in image.labels:
        tile = found[labels.row0, labels.col0]
        if _has_revision(session, tile, image.state):
            continue
        packed = PackedLabels(
            packed=labels.annotation,
            crc32=labels.crc32,
            counts={str(value): count for value, count in labels.counts.items()},
        )
        add_revision(session, tile, packed, author_id=job.user_id, save_id=image.state, source="retile")
        if labels.is_done:
            tile.status = "done"


def _accept_later_labels(session: Session, job: Job, tiling: Tiling, image: Image) -> None:
    """Of the rows alone it is seen whether somebody has saved meanwhile; only then labels are rendered here."""
    old = _labelled(session, image, with_layers=False)
    if not old or _is_copied(session, tiling, image.id, _state(job.id, image.id, old)):
        return
    old, found = _labelled(session, image), _tiles(session, tiling, image.id)
    tiles = [MeasuredTile(**tile.model_dump(include=set(MeasuredTile.model_fields))) for tile in found.values()]
    _accept(session, job, tiling, TiledImage.of(job.id, image.id, tiles, old))


def _copied(windows: Sequence[Window], old: Sequence[OldTile], *, source: str) -> Iterator[NewLabels]:
    """The labels at each window that meets a labelled tile, also if all were erased."""
    meeting = _meeting(windows, old)
    for window in windows:
        if tiles := meeting.get((window.row0, window.col0)):
            plane = mosaic([PlacedLabels(window=tile.window, packed=tile.layers) for tile in tiles], window)
            parts = [tile.window.intersection(window) for tile in tiles if tile.is_done]
            yield NewLabels(
                row0=window.row0,
                col0=window.col0,
                annotation=pack(annotation_of(plane, origin=Origin(source=source))),
                crc32=crc32(plane),
                counts=count_values(plane),
                is_done=sum(part.area for part in parts if part) == window.area,
            )


def _meeting(windows: Sequence[Window], old: Sequence[OldTile]) -> dict[tuple[int, int], list[OldTile]]:
    """The labelled tiles that each window of a grid meets, by its corner."""
    rows, cols = sorted({window.row0 for window in windows}), sorted({window.col0 for window in windows})
    found: dict[tuple[int, int], list[OldTile]] = {}
    for tile in old:
        for row0 in rows[bisect_right(rows, tile.row0) - 1 : bisect_left(rows, tile.row0 + tile.height)]:
            for col0 in cols[bisect_right(cols, tile.col0) - 1 : bisect_left(cols, tile.col0 + tile.width)]:
                found.setdefault((row0, col0), []).append(tile)
    return found


def _state(job_id: str, image_id: str, old: Sequence[OldTile]) -> str:
    return str(
        uuid5(UUID(job_id), f"{image_id}/" + "/".join(f"{tile.id}:{tile.revision}:{tile.is_done}" for tile in old))
    )


def _labelled(session: Session, image: Image, *, with_layers: bool = True) -> list[OldTile]:
    """The tiles of an image with labels, or with a mark that they are done, in the tiling of now."""
    tiling = current_tiling(session, image.project_id)
    return [
        OldTile(
            **tile.model_dump(include={"id", "row0", "col0", "height", "width", "revision"}),
            is_done=tile.status == "done",
            layers=newest_layers(session, tile) if with_layers else b"",
        )
        for tile in _tiles(session, tiling, image.id).values()
        if tile.revision or tile.status == "done"
    ]


def _tiles(session: Session, tiling: Tiling, image_id: str) -> dict[tuple[int, int], Tile]:
    asked = select(Tile).where(col(Tile.tiling_id) == tiling.id, col(Tile.image_id) == image_id)
    ordered = session.exec(asked.order_by(col(Tile.row0), col(Tile.col0)))
    return {(tile.row0, tile.col0): tile for tile in ordered}


def _has_revision(session: Session, tile: Tile, save_id: str) -> bool:
    same = (col(Revision.tile_id) == tile.id, col(Revision.save_id) == save_id)
    return session.exec(select(Revision.id).where(*same)).first() is not None


def _is_copied(session: Session, tiling: Tiling, image_id: str, state: str) -> bool:
    place = (col(Tile.tiling_id) == tiling.id, col(Tile.image_id) == image_id)
    copies = select(Revision.id).join(Tile, col(Revision.tile_id) == Tile.id)
    return session.exec(copies.where(*place, col(Revision.save_id) == state)).first() is not None


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
