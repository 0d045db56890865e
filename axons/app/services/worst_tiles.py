"""The worst tiles of an evaluation, as tiles of the project that a person may correct: never those of the test."""

from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, col, func, select

from axons.app.services.images import is_test
from axons.app.services.tilings import current_tiling
from axons.app.tables import Image, Tile, TrainingSet
from axons.data.tiles import Window

_MIN_SHARE = 0.5  # of the smaller of both: tiles that only touch what is wrong are left alone


class WorstTilePublic(BaseModel):
    """A tile to correct.

    Args:
        rank: of the picture in the evaluation's `worst`, from 1.
        error_rate: share of the judged pixels there that are wrong, 0 to 1.
        is_corrected: whether its labels have changed since the set was frozen.
    """

    tile_id: str
    image_name: str
    row0: int
    col0: int
    rank: int
    error_rate: float
    status: str
    is_corrected: bool


def tiles_to_correct(session: Session, training_set: TrainingSet, worst: list[dict[str, Any]]) -> list[WorstTilePublic]:
    """Tiles of the current tiling that lie where a model errs most, the worst first, each once.

    Args:
        worst: as `axons.train.evaluation.WorstTile`, of training or validation images.
    """
    scale = training_set.summary["scale"]
    tiling = current_tiling(session, training_set.project_id)
    images = _images(session, training_set.project_id, [place["image_id"] for place in worst])
    found: dict[str, WorstTilePublic] = {}
    for rank, place in enumerate(worst, start=1):
        image = images.get(place["image_id"])
        if image is None:  # in the trash, or kept for the test by now
            continue
        window = _unscaled(place, scale)
        for tile in session.exec(_beneath(tiling.id, image.id, window)).all():
            if tile.id not in found and _lies_in(tile, window):
                found[tile.id] = WorstTilePublic(
                    tile_id=tile.id,
                    image_name=image.name,
                    rank=rank,
                    error_rate=place["error_rate"],
                    is_corrected=tile.labelled_at is not None and tile.labelled_at > training_set.created_at,
                    **tile.model_dump(include={"row0", "col0", "status"}),
                )
    return list(found.values())


def _images(session: Session, project_id: str, known_as: list[str]) -> dict[str, Image]:
    rows = session.exec(
        select(Image).where(
            col(Image.project_id) == project_id,
            col(Image.deleted_at).is_(None),
            func.coalesce(Image.source_id, Image.id).in_(known_as),
            ~is_test(),
        )
    )
    return {image.known_as: image for image in rows}


def _unscaled(place: dict[str, Any], scale: float) -> Window:
    """A place of a training set in the pixels of its image."""
    return Window(*(round(place[side] / scale) for side in ("row0", "col0", "height", "width")))


def _beneath(tiling_id: str, image_id: str, window: Window) -> Any:
    return (
        select(Tile)
        .where(
            col(Tile.tiling_id) == tiling_id,
            col(Tile.image_id) == image_id,
            col(Tile.row0) < window.row0 + window.height,
            col(Tile.col0) < window.col0 + window.width,
            col(Tile.row0) + col(Tile.height) > window.row0,
            col(Tile.col0) + col(Tile.width) > window.col0,
        )
        .order_by(col(Tile.row0), col(Tile.col0))
    )


def _lies_in(tile: Tile, window: Window) -> bool:
    whole = Window(tile.row0, tile.col0, tile.height, tile.width)
    shared = whole.intersection(window)
    return shared is not None and shared.area >= _MIN_SHARE * min(whole.area, window.area)
