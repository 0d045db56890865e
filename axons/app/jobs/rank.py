"""Ranking as a job: a model looks at the tiles of a project, to tell which of them are worth labelling next."""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from sqlmodel import Session, col, delete, select

from axons.app.jobs.predict import THREADS, predictor_of
from axons.app.platform import Platform
from axons.app.services.images import is_test
from axons.app.services.label_classes import classes_of
from axons.app.services.pre_labels import margin_for, project_values
from axons.app.services.predictions import scale_for
from axons.app.services.tilings import current_tiling
from axons.app.tables import Image, Job, Model, Tile, TileScore
from axons.data.images import WorkingImage
from axons.data.layers import MAX_CLASS_INDEX, UNLABELLED
from axons.data.pipelines import stream
from axons.data.rows import Row
from axons.data.storage import local_file
from axons.data.tiles import Window
from axons.data.usefulness import usefulness
from axons.errors import AxonsError
from axons.serve.predictor import segment
from axons.train.driver import cluster_gpus

_REGION = 1024  # px: tiles that begin in such a square are predicted in one go


class TileToRank(Row):
    """A tile, and where it lies in its image."""

    id: str
    row0: int
    col0: int
    height: int
    width: int

    @property
    def window(self) -> Window:
        """Where it lies."""
        return Window(self.row0, self.col0, self.height, self.width)


class RankRegion(Row):
    """Neighbouring tiles of an image, which are predicted in one go.

    Args:
        values: the value in the project's labels of each class of the model.
    """

    working_uri: str
    mean: list[float]
    std: list[float]
    model_uri: str
    values: list[int]
    scale: float
    tiles: list[TileToRank]


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """Every tile that may be asked for and has no score of this job yet; what is for the test is not looked at."""
    model = session.get_one(Model, job.request["model_id"])
    assert job.project_id is not None
    values = project_values([found["name"] for found in model.card["classes"]], classes_of(session, job.project_id))
    scored = select(TileScore.tile_id).where(col(TileScore.job_id) == job.id)
    asked = (
        select(Tile, Image)
        .join(Image, col(Image.id) == col(Tile.image_id))
        .where(
            col(Tile.tiling_id) == current_tiling(session, job.project_id).id,
            col(Tile.status) != "done",
            col(Tile.is_blank).is_(False),
            col(Tile.id).not_in(scored),
            col(Image.deleted_at).is_(None),
            col(Image.is_excluded).is_(False),
            ~is_test(),
        )
        .order_by(col(Image.id), col(Tile.row0), col(Tile.col0))
    )
    regions = []
    for _, of_image in groupby(session.exec(asked), key=lambda row: row[1].id):
        rows = list(of_image)
        image = rows[0][1]
        scale, _notices = scale_for(model, None, image.pixel_size_um)
        for tiles in _neighbourhoods([tile for tile, _ in rows], round(_REGION / max(1.0, scale))):
            region = RankRegion(
                working_uri=platform.uri(image.working_key),
                mean=image.mean,
                std=image.std,
                model_uri=platform.uri(model.key),
                values=[] if values is None else values.tolist(),
                scale=scale,
                tiles=tiles,
            )
            regions.append(region.model_dump(mode="json"))
    return {"regions": regions, "gpu_share": platform.settings.segmenter_gpu_share}


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows `{"scores": [...]}` for each region, or `{"refusal": ...}`, with the progress between them."""
    share = float(request["gpu_share"]) if cluster_gpus() > 0 else 0.0
    rows = [json.dumps(region).encode() for region in request["regions"]]
    answers = stream(rows, rank_region, num_cpus=0 if share else THREADS, num_gpus=share, on_gpu=share > 0)
    for number, answer in enumerate(answers, start=1):
        yield json.loads(answer)
        yield {"progress": number / len(rows)}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """See `axons.app.jobs`; a tile that is gone meanwhile needs no score."""
    for row in rows:
        if "refusal" in row:
            job.result = {**job.result, "refusal": row["refusal"]}
            continue
        wanted = [score["tile_id"] for score in row["scores"]]
        there = set(session.exec(select(Tile.id).where(col(Tile.id).in_(wanted))).all())
        about = {"job_id": job.id, "project_id": job.project_id, "model_id": job.request["model_id"]}
        for score in row["scores"]:
            if score["tile_id"] in there:
                session.merge(TileScore(**score, **about))


def finish(session: Session, job: Job) -> str:
    """These scores take the place of all earlier ones, unless there are none."""
    mine = session.exec(select(TileScore).where(col(TileScore.job_id) == job.id)).all()
    refusal = job.result.get("refusal")
    if not mine:
        return f"no tile could be ranked: {refusal}"[:400] if refusal else "no tile is left that could be ranked"
    session.exec(delete(TileScore).where(col(TileScore.project_id) == job.project_id, col(TileScore.job_id) != job.id))
    job.result = {**job.result, "num_tiles": len(mine), "rarest": _rarest(mine)}
    return f"{len(mine)} tiles ranked" + (f"; some could not be: {refusal}"[:300] if refusal else "")


def fail(session: Session, job: Job) -> None:
    """Half a ranking is none; the one before stays."""
    session.exec(delete(TileScore).where(col(TileScore.job_id) == job.id))


def rank_region(row: bytes, *, on_gpu: bool) -> Iterator[bytes]:
    """Predict the tiles of a region with what is around them, and score each."""
    region = RankRegion.model_validate_json(row)
    try:
        predictor = predictor_of(region.model_uri, on_gpu)
        image = WorkingImage(local_file(region.working_uri))
        window = _hull(region.tiles).grown(margin_for(region.scale), image.height, image.width)
        found = segment(image.read(window), predictor, scale=region.scale, of_whole=(region.mean, region.std))
    except AxonsError as error:
        yield json.dumps({"refusal": str(error)}).encode()
        return
    known = np.array(region.values or [UNLABELLED] * len(predictor.card.classes), np.uint8)
    scores = []
    for tile in region.tiles:
        inner = tile.window.seen_from(window).slices
        judged = usefulness(known[found.mask[inner]], found.confidence[inner])
        pixels = {str(value): count for value, count in judged.class_pixels.items() if value <= MAX_CLASS_INDEX}
        fields = {"tile_id": tile.id, "score": judged.score, "unsure_share": judged.unsure_share}
        scores.append({**fields, "class_pixels": pixels})
    yield json.dumps({"scores": scores}).encode()


def _neighbourhoods(tiles: Sequence[Tile], side: int) -> Iterator[list[TileToRank]]:
    """The tiles by the square of `side` px, or of one tile if that is larger, in which they begin."""
    places = sorted(tiles, key=lambda tile: (tile.row0 // side, tile.col0 // side, tile.row0, tile.col0))
    for _, group in groupby(places, key=lambda tile: (tile.row0 // side, tile.col0 // side)):
        yield [TileToRank(**tile.model_dump(include=set(TileToRank.model_fields))) for tile in group]


def _hull(tiles: Sequence[TileToRank]) -> Window:
    row0, col0 = min(tile.row0 for tile in tiles), min(tile.col0 for tile in tiles)
    row1, col1 = max(tile.row0 + tile.height for tile in tiles), max(tile.col0 + tile.width for tile in tiles)
    return Window(row0, col0, row1 - row0, col1 - col0)


def _rarest(scores: Sequence[TileScore]) -> int | None:
    """The class with the fewest pixels among those that the model sees anywhere, background left out."""
    pixels: dict[int, int] = {}
    for score in scores:
        for value, count in score.class_pixels.items():
            pixels[int(value)] = pixels.get(int(value), 0) + count
    pixels.pop(0, None)
    return min(pixels, key=lambda value: (pixels[value], value), default=None)
