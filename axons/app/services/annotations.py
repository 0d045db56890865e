"""Labels of tiles: saved whole, revision by revision; nothing that was saved is ever changed."""

import gzip
import zlib
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, Field
from sqlalchemy import bindparam
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services import tiles
from axons.app.services.label_classes import classes_of
from axons.app.tables import Revision, Tile, User, new_id, now
from axons.data.importing import Tile as MeasuredTile
from axons.data.layers import (
    IGNORED,
    MAX_ROW_CROSSINGS,
    SEE_THROUGH,
    UNLABELLED,
    Annotation,
    PolygonLayer,
    from_json,
    pack,
    pack_json,
    row_crossings,
    to_json,
    unpack,
)
from axons.errors import AnnotationRefused, Conflict, NotFound, StaleRevision, TileLocked, TooLarge

Source = Literal["manual", "model", "merge"]
Seconds = Annotated[float, Field(ge=0, le=86_400)]

_MAX_JSON_BYTES = 64 << 20
_MAX_MASK_PIXELS = 1 << 28  # all boxes together: each is unpacked
_NO_CLASSES = frozenset({IGNORED, UNLABELLED, SEE_THROUGH})

# Asked at every save: see `sign_in`.
_LAYERS = select(Revision.layers).where(
    col(Revision.tile_id) == bindparam("tile_id"), col(Revision.number) == bindparam("number")
)
_SAVED_BEFORE = select(Revision).where(
    col(Revision.tile_id) == bindparam("tile_id"), col(Revision.save_id) == bindparam("save_id")
)


@dataclass(frozen=True, kw_only=True)
class PackedLabels:
    """Labels as they are stored, with checksum and pixels by value of what they render to."""

    packed: bytes
    crc32: int
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Labels(PackedLabels):
    """An annotation that was checked as far as that goes without its tile: rendered, with the values that it uses."""

    annotation: Annotation
    values: frozenset[int]

    @classmethod
    def of(cls, annotation: Annotation) -> "Labels":
        """Render an annotation."""
        document = to_json(annotation)
        return cls(
            annotation=annotation,
            packed=pack_json(document),
            crc32=document["crc32"],
            counts=document["counts"],
            values=_values(annotation),
        )


class RevisionPublic(BaseModel):
    """A saved state of a tile's labels."""

    number: int
    save_id: str
    crc32: int
    counts: dict[str, int]
    seconds: float
    source: str
    author_id: str
    author_name: str
    created_at: datetime


class Saved(BaseModel):
    """The revision that a save has made, and the state of its tile."""

    revision: int
    crc32: int
    counts: dict[str, int]
    status: str


def read_labels(body: bytes, *, is_gzipped: bool) -> Labels:
    """The labels that an editor sends: JSON as `axons.data.layers.to_json` writes it, rendered here once more.

    Raises:
        AnnotationRefused: malformed, or our rendering differs from that of the editor.
        TooLarge: more than a tile can hold.
    """
    document = _document(_unzipped(body) if is_gzipped else body)
    _check_cost(document)
    expected = document.pop("crc32", None)
    if type(expected) is not int:
        raise AnnotationRefused(f"annotation has crc32 {str(expected)[:40]!r}; send the checksum of what you see")
    annotation = from_json(document)
    _check_crossings(annotation)
    labels = Labels.of(annotation)
    if labels.crc32 != expected:
        raise AnnotationRefused(
            f"annotation renders to checksum {labels.crc32} here and to {expected} in your browser; "
            "keep the draft, reload the page and tell the administrator"
        )
    return labels


def save(
    platform: Platform,
    actor: Actor,
    tile_id: str,
    labels: Labels,
    *,
    base: int,
    save_id: str,
    seconds: float = 0.0,
    source: Source = "manual",
) -> Saved:
    """Make the labels the tile's newest revision; the same `save_id` again changes nothing.

    Args:
        base: the revision that the editor began with.
    Raises:
        StaleRevision: somebody has saved since; nothing is changed.
        TileLocked: the tile is done.
        AnnotationRefused: the labels do not fit the tile or the classes of its project.
        Conflict: the `save_id` was used for other labels.
    """

    def write(session: Session) -> Saved:
        tile, _image = tiles.get_tile(session, actor, tile_id, "annotate")
        if (done := _repeated(session, tile, save_id, labels)) is not None:
            return done
        check_fits(session, tile, labels)
        _check_base(tile, base)
        return add_revision(
            session, tile, labels, author_id=actor.user_id, save_id=save_id, source=source, seconds=seconds
        )

    return platform.database.write(write)


def restore(platform: Platform, actor: Actor, tile_id: str, number: int, *, base: int, save_id: str) -> Saved:
    """Make an earlier revision the newest once more.

    Raises:
        NotFound: there is no such revision.
        StaleRevision, TileLocked: see `save`.
    """
    packed = platform.database.read(lambda session: get_revision(session, actor, tile_id, number)).layers
    labels = Labels.of(unpack(packed))

    def write(session: Session) -> Saved:
        tile, _image = tiles.get_tile(session, actor, tile_id, "annotate")
        if (done := _repeated(session, tile, save_id, labels)) is not None:
            return done
        _check_base(tile, base)
        return add_revision(session, tile, labels, author_id=actor.user_id, save_id=save_id, source="restore")

    return platform.database.write(write)


def add_revision(
    session: Session,
    tile: Tile,
    labels: PackedLabels,
    *,
    author_id: str,
    save_id: str | None = None,
    source: str,
    seconds: float = 0.0,
) -> Saved:
    """Append a revision and move the head of the tile; the caller has checked what there is to check."""
    revision = Revision(
        tile_id=tile.id,
        number=tile.revision + 1,
        save_id=save_id or new_id(),
        layers=labels.packed,
        crc32=labels.crc32,
        counts=labels.counts,
        seconds=seconds,
        source=source,
        author_id=author_id,
    )
    tile.revision = revision.number
    tile.crc32 = labels.crc32
    tile.counts = labels.counts
    tile.status = tiles.status_of(labels.counts)
    tile.labelled_by, tile.labelled_at = author_id, now()
    # The head first: of two transactions that save at once, one fails here and is run again.
    session.add(tile)
    session.flush()
    session.add(revision)
    return _saved(tile, revision)


def current_layers(session: Session, actor: Actor, tile_id: str) -> tuple[Tile, bytes]:
    """A tile and its labels as `axons.data.layers.pack` writes them; without layers before the first save."""
    tile, _image = tiles.get_tile(session, actor, tile_id)
    return tile, newest_layers(session, tile)


def newest_layers(session: Session, tile: Tile) -> bytes:
    """The packed labels of a tile."""
    if tile.revision == 0:
        return pack(Annotation(height=tile.height, width=tile.width))
    return session.exec(_LAYERS, params={"tile_id": tile.id, "number": tile.revision}).one()


def get_revision(session: Session, actor: Actor, tile_id: str, number: int) -> Revision:
    """One revision of a tile.

    Raises:
        NotFound: there is none.
    """
    tile, _image = tiles.get_tile(session, actor, tile_id)
    wanted = (col(Revision.tile_id) == tile.id, col(Revision.number) == number)
    found = session.exec(select(Revision).where(*wanted)).first()
    if found is None:
        raise NotFound(f"the tile has no revision {number}; the newest is {tile.revision}")
    return found


def list_revisions(session: Session, actor: Actor, tile_id: str) -> list[RevisionPublic]:
    """The revisions of a tile without their layers, the newest first."""
    tile, _image = tiles.get_tile(session, actor, tile_id)
    asked = (
        select(Revision, User)
        .join(User, col(Revision.author_id) == User.id)
        .where(col(Revision.tile_id) == tile.id)
        .order_by(col(Revision.number).desc())
        .options(defer(Revision.layers))  # type: ignore[arg-type]  # SQLModel shows columns as their values
    )
    return [
        RevisionPublic(
            **revision.model_dump(include=set(RevisionPublic.model_fields) - {"author_name"}),
            author_name=author.display_name or author.name,
        )
        for revision, author in session.exec(asked)
    ]


def check_fits(session: Session, tile: Tile, labels: Labels) -> None:
    """Whether labels belong on a tile; classes that were deleted are still classes.

    Raises:
        AnnotationRefused: another size, or a value that is no class.
    """
    check_labels(labels, tile, {row.index for row in classes_of(session, tile.project_id)})


def check_labels(labels: Labels, tile: Tile | MeasuredTile, class_indices: Set[int]) -> None:
    """See `check_fits`; without a session."""
    height, width = labels.annotation.height, labels.annotation.width
    if (height, width) != (tile.height, tile.width):
        raise AnnotationRefused(
            f"annotation is for {height} x {width} px but the tile has {tile.height} x {tile.width} px; reload the tile"
        )
    if unknown := sorted(labels.values - class_indices - _NO_CLASSES):
        raise AnnotationRefused(f"annotation has class index {unknown[0]}, which the project lacks; add the class")


def _repeated(session: Session, tile: Tile, save_id: str, labels: Labels) -> Saved | None:
    found = session.exec(_SAVED_BEFORE, params={"tile_id": tile.id, "save_id": save_id}).first()
    if found is None:
        return None
    if found.crc32 != labels.crc32:
        raise Conflict(f"save_id {save_id!r} was used for other labels; make a new one for each save")
    return _saved(tile, found)


def _check_base(tile: Tile, base: int) -> None:
    if tile.status == "done":
        raise TileLocked("the tile is done and its labels stay as they are; reopen it first")
    if tile.revision != base:
        raise StaleRevision(
            f"the tile is at revision {tile.revision} and you began with {base}: somebody has saved since; merge both",
            tile.revision,
        )


def _saved(tile: Tile, revision: Revision) -> Saved:
    return Saved(revision=revision.number, crc32=revision.crc32, counts=revision.counts, status=tile.status)


def _unzipped(body: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        data = unzip.decompress(body, _MAX_JSON_BYTES + 1)
    except zlib.error as error:
        raise AnnotationRefused(f"annotation is not gzip ({error}); send it again") from error
    if len(data) <= _MAX_JSON_BYTES and not unzip.eof:
        raise AnnotationRefused("annotation is cut off; send it again")
    return data


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > _MAX_JSON_BYTES:
        raise TooLarge(f"annotation has more than {_MAX_JSON_BYTES >> 20} MB; flatten its layers")
    try:
        document = orjson.loads(data)
    except ValueError as error:
        raise AnnotationRefused(f"annotation is not JSON ({error}); send it again") from error
    if not isinstance(document, dict):
        raise AnnotationRefused("annotation is not a JSON object; send what the editor saved")
    return document


def _check_cost(document: dict[str, Any]) -> None:
    """Before anything is unpacked: few bytes of runs can stand for any number of pixels."""
    try:
        boxes = [layer["box"] for layer in document["layers"] if layer.get("t") == "mask"]
        pixels = sum(abs(int(box[2]) * int(box[3])) for box in boxes)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise AnnotationRefused(
            f"annotation is malformed ({type(error).__name__}: {str(error)[:80]}); send what the editor saved"
        ) from error
    if pixels > _MAX_MASK_PIXELS:
        raise TooLarge(f"the mask layers have {pixels >> 20} Mpx in all; flatten them to {_MAX_MASK_PIXELS >> 20}")


def _check_crossings(annotation: Annotation) -> None:
    if (crossings := row_crossings(annotation)) > MAX_ROW_CROSSINGS:
        raise TooLarge(f"the polygons cross {crossings} rows of pixels in all; simplify them to {MAX_ROW_CROSSINGS}")


def _values(annotation: Annotation) -> frozenset[int]:
    values: set[int] = set()
    for layer in annotation.layers:
        if isinstance(layer, PolygonLayer):
            values |= {layer.value, *layer.keep}
        else:
            values |= set(np.unique(layer.values).tolist())
    return frozenset(values)


def unzip_layers(packed: bytes) -> bytes:
    """The JSON of packed labels."""
    return gzip.decompress(packed)
