"""Labels in advance: what a model makes of one tile, for a person to accept or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from pydantic import BaseModel, ConfigDict
from sqlmodel import Session

from axons.app.pictures import tile_window
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services import tiles
from axons.app.services.access import get_project
from axons.app.services.images import is_test_image
from axons.app.services.label_classes import classes_of
from axons.app.services.models import get_model
from axons.app.services.predictions import Segment, check_may_predict, scale_for, seat
from axons.app.tables import Image, LabelClass, Model, Tile
from axons.app.texts import Identifier
from axons.data.images import WorkingImage
from axons.data.layers import UNLABELLED
from axons.data.storage import local_file
from axons.data.tiles import Window
from axons.errors import Conflict

_MARGIN = 128  # px around the tile, as the network sees them: what lies at the edge is judged with its surroundings
_MAX_MARGIN = 512


class PreLabelCreate(BaseModel):
    """Which model shall say what is in a tile."""

    model_config = ConfigDict(extra="forbid")

    model_id: Identifier


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What somebody else than a person makes of a tile.

    Args:
        values: (H, W) uint8, as in labels; unlabelled where nothing can be said.
        confidence: (H, W) uint8, 255 for certain.
        source: as layers of labels name it.
        notices: what a person should know about it.
    """

    values: np.ndarray
    confidence: np.ndarray
    source: str
    notices: list[str]


def pre_label(platform: Platform, actor: Actor, segment: Segment, tile_id: str, model_id: str) -> Suggestion:
    """Predict a tile with its surroundings, in the values of its project.

    Raises:
        NotFound: there is no tile or model for the actor.
        Conflict: its image is for the test, or the model knows none of the project's classes.
        NotAllowed: the educators of the classroom do not let their students predict at the moment.
        PredictionRefused, SegmenterBusy: see `predictions.predict`.
    """

    def read(session: Session) -> tuple[Tile, Image, Model, Sequence[LabelClass]]:
        tile, image = suggestible_tile(session, actor, tile_id)
        check_may_predict(session, actor, get_project(session, actor, tile.project_id))
        model, _ = get_model(session, actor, model_id)
        return tile, image, model, classes_of(session, tile.project_id)

    tile, image, model, classes = platform.database.read(read)
    names = [found["name"] for found in model.card["classes"]]
    values = project_values(names, classes)
    if values is None:
        raise Conflict(f"model {model.name!r} knows none of the project's classes; choose another, or rename a class")
    scale, notices = scale_for(model, None, image.pixel_size_um)
    window = tile_window(image, tile, margin_for(scale))
    pixels = WorkingImage(local_file(platform.uri(image.working_key))).read(window)
    with seat(actor):
        found = segment(pixels, platform.uri(model.key), scale, of_whole=(image.mean, image.std))
    inner = Window(tile.row0, tile.col0, tile.height, tile.width).seen_from(window).slices
    mask = values[found.mask[inner]]
    unknown = [name for name, value in zip(names, values, strict=True) if value == UNLABELLED]
    told = [f"the project has no class {name!r}: what the model takes for it stays unlabelled" for name in unknown]
    return Suggestion(
        values=mask,
        confidence=np.where(mask == UNLABELLED, np.uint8(0), found.confidence[inner]),
        source=f"model:{model.id}",
        notices=[*notices, *found.notices, *told],
    )


def margin_for(scale: float) -> int:
    """How much around a tile the network sees, px of the image."""
    return min(_MAX_MARGIN, ceil(_MARGIN / min(1.0, scale)))


def suggestible_tile(session: Session, actor: Actor, tile_id: str) -> tuple[Tile, Image]:
    """A tile that the actor labels, where others than people may make suggestions.

    Raises:
        NotFound, NotAllowed: see `tiles.get_tile`.
        Conflict: its image is for the test.
    """
    tile, image = tiles.get_tile(session, actor, tile_id, "annotate")
    if is_test_image(session, image):
        raise Conflict(
            f"image {image.name!r} is kept for the test, whose labels must not come from a model; label it by hand"
        )
    return tile, image


def project_values(names: Sequence[str], classes: Sequence[LabelClass]) -> np.ndarray | None:
    """The value in the project's labels of each class of a model, by name; None if it knows nothing but background.

    A model's first class is background; a class that the project lacks is `UNLABELLED`.
    """
    indices = {row.name.casefold(): row.index for row in classes if row.deleted_at is None}
    found = [indices.get(name.casefold(), UNLABELLED) for name in names[1:]]
    return np.array([0, *found], np.uint8) if any(value not in (0, UNLABELLED) for value in found) else None
