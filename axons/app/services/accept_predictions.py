"""Predictions become labels: what a model made of a whole image, tile by tile, where no person has labelled."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import and_
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services import audit
from axons.app.services.annotations import Labels, add_revision
from axons.app.services.images import get_image, is_test_image
from axons.app.services.label_classes import classes_of
from axons.app.services.pre_labels import project_values
from axons.app.services.predictions import get_prediction, pixels_file
from axons.app.services.tiles import is_open_elsewhere, status_of
from axons.app.services.tilings import check_no_other_tiling, current_tiling
from axons.app.tables import Image, Model, Prediction, Project, Revision, Tile, now
from axons.data.layers import UNLABELLED, Origin, annotation_of
from axons.data.mask_files import MaskFile
from axons.data.tiles import Window
from axons.errors import Conflict

SOURCE = "prediction"  # of a revision: nobody has looked at these labels tile by tile

_MAX_TILES = 4096  # in one request: some 20 s
_AT_ONCE = 64  # tiles in one transaction, so that others save in between

Verdict = Literal["written", "unchanged", "kept", "refused"]


class PredictionAccept(BaseModel):
    """Which tiles shall get what the model has made of them."""

    model_config = ConfigDict(extra="forbid")

    replaces_labels: bool = Field(False, description="Also those that people have labelled; their history stays.")


class Accepted(BaseModel):
    """What became of the tiles of an image.

    Args:
        written: have the prediction as their labels now.
        unchanged: had these labels before.
        kept: people have labelled them.
        refused: are done, or open in the editor of somebody else.
        notices: what a person should know about it.
    """

    written: int = 0
    unchanged: int = 0
    kept: int = 0
    refused: int = 0
    notices: list[str] = []


@dataclass(frozen=True, kw_only=True)
class _Acceptable:
    """A prediction that may become labels: with the project's value of each of its classes, and the tiles' ids."""

    prediction: Prediction
    model: Model
    image: Image
    values: np.ndarray
    notices: list[str]
    tile_ids: Sequence[str]


def accept_prediction(platform: Platform, actor: Actor, prediction_id: str, form: PredictionAccept) -> Accepted:
    """Make the mask the newest revision of the image's tiles; a second time nothing changes.

    Raises:
        NotFound: there is no such prediction for the actor.
        NotAllowed: the actor only looks.
        Conflict: it is not done or not of an image of the project, its image is for the test or has too many tiles,
            or the model knows none of the project's classes.
    """
    found = platform.database.read(lambda session: _acceptable(session, actor, prediction_id))
    mask = MaskFile(pixels_file(platform, found.prediction))
    origin = Origin(
        id=f"prediction-{found.prediction.id}",
        by=actor.name,
        at=now().isoformat(timespec="seconds"),
        source=f"model:{found.model.id}",
    )
    counts: Counter[Verdict] = Counter()
    for start in range(0, len(found.tile_ids), _AT_ONCE):
        ids = found.tile_ids[start : start + _AT_ONCE]

        def read(session: Session, ids: Sequence[str] = ids) -> list[Tile]:
            judged = [(tile, _verdict(tile, source, actor, form)) for tile, source in _with_sources(session, ids)]
            return [tile for tile, verdict in judged if verdict == "written"]

        # Outside of the transaction that writes: it takes its time, and others want to save.
        labels = {tile.id: _labels(mask, tile, found.values, origin) for tile in platform.database.read(read)}

        def write(
            session: Session, ids: Sequence[str] = ids, labels: Mapping[str, Labels] = labels
        ) -> Counter[Verdict]:
            return _accept(session, actor, ids, labels, form)

        counts += platform.database.write(write)
    accepted = Accepted.model_validate({**counts, "notices": found.notices})
    detail = accepted.model_dump(exclude={"notices"}) | {"image_id": found.image.id, "model_id": found.model.id}
    platform.database.write(
        lambda session: audit.record(session, actor, "prediction.accept", "prediction", prediction_id, **detail)
    )
    return accepted


def _acceptable(session: Session, actor: Actor, prediction_id: str) -> _Acceptable:
    prediction, model = get_prediction(session, actor, prediction_id)
    if prediction.image_id is None:
        raise Conflict(f"{prediction.name!r} came for its prediction alone; add it to the project's images first")
    image = get_image(session, actor, prediction.image_id, "annotate")
    if prediction.state != "done":
        raise Conflict(f"the prediction of {prediction.name!r} is {prediction.state}; wait until it is done")
    if is_test_image(session, image):
        raise Conflict(
            f"image {image.name!r} is kept for the test, whose labels must not come from a model; label it by hand"
        )
    project = session.get_one(Project, image.project_id)
    check_no_other_tiling(session, project)
    names = [known["name"] for known in model.card["classes"]]
    values = project_values(names, classes_of(session, project.id))
    if values is None:
        raise Conflict(f"model {model.name!r} knows none of the project's classes; choose another, or rename a class")
    here = (col(Tile.tiling_id) == current_tiling(session, project.id).id, col(Tile.image_id) == image.id)
    tile_ids = session.exec(select(Tile.id).where(*here).order_by(col(Tile.row0), col(Tile.col0))).all()
    if len(tile_ids) > _MAX_TILES:
        raise Conflict(
            f"image {image.name!r} has {len(tile_ids)} tiles, up to {_MAX_TILES} go at once; choose larger tiles"
        )
    unknown = [name for name, value in zip(names, values, strict=True) if value == UNLABELLED]
    told = [f"the project has no class {name!r}: what the model takes for it stays unlabelled" for name in unknown]
    return _Acceptable(prediction=prediction, model=model, image=image, values=values, notices=told, tile_ids=tile_ids)


def _with_sources(session: Session, tile_ids: Sequence[str]) -> list[tuple[Tile, str | None]]:
    """Tiles, and where the labels that they have come from."""
    newest = and_(col(Revision.tile_id) == Tile.id, col(Revision.number) == Tile.revision)
    asked = select(Tile, Revision.source).outerjoin(Revision, newest).where(col(Tile.id).in_(tile_ids))
    return [(tile, source) for tile, source in session.exec(asked)]


def _verdict(tile: Tile, source: str | None, actor: Actor, form: PredictionAccept) -> Verdict:
    """Whether a tile may be written, before its new labels are known."""
    if tile.status == "done" or is_open_elsewhere(tile, actor):
        return "refused"
    is_labelled = status_of(tile.counts) != "unlabelled"
    return "kept" if is_labelled and source != SOURCE and not form.replaces_labels else "written"


def _labels(mask: MaskFile, tile: Tile, values: np.ndarray, origin: Origin) -> Labels:
    """What the model made of a tile, in the values of the project."""
    table = np.full(256, UNLABELLED, np.uint8)
    table[: len(values)] = values
    plane = table[mask.read(Window(tile.row0, tile.col0, tile.height, tile.width))]
    return Labels.of(annotation_of(plane, origin=origin))


def _accept(
    session: Session, actor: Actor, tile_ids: Sequence[str], labels: Mapping[str, Labels], form: PredictionAccept
) -> Counter[Verdict]:
    """Write those of some tiles that may be written still, and count what became of all."""
    counts: Counter[Verdict] = Counter()
    for tile, source in _with_sources(session, tile_ids):
        verdict = _verdict(tile, source, actor, form)
        if verdict == "written" and (tile.id not in labels or _is_same(tile, labels[tile.id])):
            verdict = "unchanged"
        if verdict == "written":
            add_revision(session, tile, labels[tile.id], author_id=actor.user_id, source=SOURCE)
        counts[verdict] += 1
    return counts


def _is_same(tile: Tile, labels: Labels) -> bool:
    return tile.crc32 == labels.crc32 or (tile.revision == 0 and not labels.annotation.layers)
