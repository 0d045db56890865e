"""Help with labelling before there is a network: a random forest that learns from a few strokes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import BoundedSemaphore

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services.annotations import Labels, check_fits
from axons.app.services.images import is_test
from axons.app.services.pre_labels import Suggestion, suggestible_tile
from axons.app.services.predictions import seat
from axons.app.services.tilings import current_tiling
from axons.app.tables import Image, Revision, Tile
from axons.data.layers import MAX_CLASS_INDEX
from axons.data.pixel_forest import ForestAnswer, ForestRequest, StrokedTile, fill_by_forest
from axons.errors import AxonsError, Conflict, SegmenterBusy, ServerUnavailable

SOURCE = "forest"

_MAX_OTHER_PIXELS = 1 << 20  # of tiles whose features may have to be computed first
_MAX_OTHERS = 16
_AT_ONCE = 8  # each keeps a thread of the server waiting, and others want to save
_TIMEOUT_S = 60.0
_RETRY_AFTER_S = 5
_PLACES = BoundedSemaphore(_AT_ONCE)

Forest = Callable[[ForestRequest], ForestAnswer]


def suggest_by_forest(
    platform: Platform, actor: Actor, forest: Forest, tile_id: str, labels: Labels, *, uses_other_tiles: bool
) -> Suggestion:
    """Fill what `labels` leaves open of a tile, from these labels and those of other tiles of the project.

    Raises:
        NotFound, NotAllowed: there is no tile that the actor labels.
        AnnotationRefused: the labels do not fit it.
        Conflict: its image is for the test, or fewer than two classes are labelled.
        SegmenterBusy, ServerUnavailable: there is no place at the moment.
    """

    def read(session: Session) -> ForestRequest:
        tile, image = suggestible_tile(session, actor, tile_id)
        check_fits(session, tile, labels)
        others = _others(session, tile, image) if uses_other_tiles else []
        _check_classes([labels.counts, *(other.counts for other, _, _ in others)])
        return ForestRequest(
            tile=_stroked(platform, tile, image, labels.packed),
            others=[_stroked(platform, *other) for other in others],
        )

    request = platform.database.read(read)
    with seat(actor):
        found = forest(request)
    return Suggestion(values=found.values, confidence=found.confidence, source=SOURCE, notices=[])


def forest_by_ray(request: ForestRequest) -> ForestAnswer:
    """On a worker of the cluster.

    Raises:
        SegmenterBusy: too many want one at the moment, or it takes too long.
        ServerUnavailable: Ray is away.
    """
    if not ray.is_initialized():  # Ray would start a cluster of its own on this machine, without a word
        raise ServerUnavailable("this server is not connected to Ray, which runs the forest; try again in a moment")
    with _place():
        answer = _fill.remote(request)
        try:
            return ray.get(answer, timeout=_TIMEOUT_S)
        except GetTimeoutError as error:
            ray.cancel(answer)
            raise SegmenterBusy(
                f"the forest has not answered within {_TIMEOUT_S:g} seconds; try again when fewer people are at work",
                _RETRY_AFTER_S,
            ) from error
        except RayTaskError as error:
            if isinstance(error.cause, AxonsError):  # its text is for a person; Ray's would be a stack trace
                raise error.cause from error
            raise
        except (RayError, ConnectionError) as error:
            raise ServerUnavailable("the process that ran the forest is gone; try again in a moment") from error


# Here, not where the function is: what it costs is the affair of whoever puts the parts together.
_fill = ray.remote(num_cpus=1, max_retries=2)(fill_by_forest)


@contextmanager
def _place() -> Iterator[None]:
    if not _PLACES.acquire(blocking=False):
        raise SegmenterBusy(
            f"{_AT_ONCE} forests are growing already; try again in {_RETRY_AFTER_S} seconds", _RETRY_AFTER_S
        )
    try:
        yield
    finally:
        _PLACES.release()


def _others(session: Session, tile: Tile, image: Image) -> list[tuple[Tile, Image, bytes]]:
    """Other labelled tiles of the project with their labels, the newest first; what is for the test teaches nobody."""
    asked = (
        select(Tile, Image, Revision.layers)
        .join(Image, col(Image.id) == col(Tile.image_id))
        .join(Revision, (col(Revision.tile_id) == col(Tile.id)) & (col(Revision.number) == col(Tile.revision)))
        .where(
            col(Tile.tiling_id) == current_tiling(session, tile.project_id).id,
            col(Tile.id) != tile.id,
            col(Tile.status) != "unlabelled",
            col(Image.deleted_at).is_(None),
            col(Image.is_excluded).is_(False),
            col(Image.channels) == image.channels,
            ~is_test(),
        )
        .order_by(col(Tile.labelled_at).desc(), col(Tile.id))
        .limit(_MAX_OTHERS)
    )
    found: list[tuple[Tile, Image, bytes]] = []
    pixels = 0
    for other, its_image, layers in session.exec(asked):
        pixels += other.height * other.width
        if found and pixels > _MAX_OTHER_PIXELS:
            break
        found.append((other, its_image, layers))
    return found


def _check_classes(counts: Sequence[dict[str, int]]) -> None:
    values = {int(value) for of_tile in counts for value in of_tile}
    num_classes = sum(value <= MAX_CLASS_INDEX for value in values)
    if num_classes < 2:
        raise Conflict(
            f"a forest learns from strokes of at least two classes, and {num_classes} is labelled; "
            "draw one stroke on what you look for and one on the background"
        )


def _stroked(platform: Platform, tile: Tile, image: Image, packed: bytes) -> StrokedTile:
    return StrokedTile(
        **tile.model_dump(include={"row0", "col0", "height", "width"}),
        working_uri=platform.uri(image.working_key),
        mean=image.mean,
        std=image.std,
        labels=packed,
    )
