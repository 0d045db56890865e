"""Pictures beside the canvas that show how a project is labelled, and how it is not."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import PIL.Image
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sqlmodel import Session, col, func, select

from axons.app import pictures
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.project_archive import MAX_EXAMPLES
from axons.app.services import audit, tiles
from axons.app.services.access import get_project
from axons.app.services.annotations import newest_layers
from axons.app.services.label_classes import classes_of
from axons.app.services.predictions import MAX_BYTES_AT_ONCE, borrowed_decoder, seat
from axons.app.services.turns import take_turns
from axons.app.services.uploads import get_upload, release_uploads
from axons.app.tables import Example, Image, Project, Tile, Upload
from axons.app.texts import Identifier, ShortLine
from axons.data.decoding import Decoder
from axons.data.images import ContrastLimits, WorkingImage
from axons.data.layers import training_mask, unpack
from axons.data.measuring import measure
from axons.data.pictures import as_colour, encode_picture, outlined, side_by_side
from axons.data.storage import local_file, new_key
from axons.data.tiles import TileGrid
from axons.errors import Conflict, InvalidRequest, LimitReached, NotFound, TooLarge

MAX_SIDE = 1024  # px of a picture

Caption = Annotated[ShortLine, StringConstraints(min_length=1)]


class ExampleCreate(BaseModel):
    """A tile as it is now, beside itself with its labels; or a picture that was uploaded for this (`example`)."""

    model_config = ConfigDict(extra="forbid")

    caption: Caption
    is_good: bool = Field(True, description="Shows how it is done; else how it is not.")
    tile_id: Identifier | None = None
    upload_id: Identifier | None = None

    @model_validator(mode="after")
    def _check(self) -> "ExampleCreate":
        if (self.tile_id is None) == (self.upload_id is None):
            raise ValueError("give either tile_id or upload_id")
        return self


class ExamplePublic(BaseModel):
    """An example; its picture is a PNG of this size."""

    id: str
    caption: str
    is_good: bool
    height: int
    width: int

    @classmethod
    def of(cls, row: Example) -> "ExamplePublic":
        """The public part of a row."""
        return cls(**row.model_dump(include=set(cls.model_fields)))


@dataclass(frozen=True, kw_only=True)
class ExamplePicture:
    """A PNG and its size."""

    data: bytes
    height: int
    width: int

    @classmethod
    def of(cls, pixels: np.ndarray) -> "ExamplePicture":
        """(H, W, 3) uint8, made smaller if it is too large."""
        factor = min(1.0, MAX_SIDE / max(pixels.shape[:2]))
        height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
        if factor < 1.0:
            pixels = np.asarray(PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.BOX))
        return cls(data=encode_picture(pixels), height=height, width=width)


def examples_of(session: Session, project_id: str) -> Sequence[Example]:
    """The examples of a project in their order."""
    asked = select(Example).where(col(Example.project_id) == project_id)
    return session.exec(asked.order_by(col(Example.number), col(Example.id))).all()


def get_example(session: Session, actor: Actor, project_id: str, example_id: str) -> Example:
    """An example of a project that the actor sees.

    Raises:
        NotFound: there is none.
    """
    project = get_project(session, actor, project_id)
    row = session.get(Example, example_id)
    if row is None or row.project_id != project.id:
        raise NotFound(f"the project has no example {example_id!r}; look at its examples")
    return row


def add_example(platform: Platform, actor: Actor, project_id: str, form: ExampleCreate) -> Example:
    """Make the picture, then the row that points to it, as the last in the list.

    Raises:
        NotFound, NotAllowed: no such project, tile or upload is the actor's to use.
        LimitReached: there are as many as people look at.
        ImageRefused: the uploaded file is not a usable image.
    """
    platform.database.read(lambda session: _check_room(session, get_project(session, actor, project_id, "edit")))
    if form.tile_id is not None:
        picture = _of_tile(platform, actor, project_id, form.tile_id)
    else:
        assert form.upload_id is not None  # the form has checked it
        picture = _of_upload(platform, actor, project_id, form.upload_id)
    key = f"{new_key('projects')}.png"
    platform.storage.write(key, picture.data)

    def add(session: Session) -> Example:
        project = get_project(session, actor, project_id, "edit")
        take_turns(session, project)
        last = _check_room(session, project)
        row = Example(
            project_id=project.id,
            number=last + 1,
            key=key,
            caption=form.caption,
            is_good=form.is_good,
            height=picture.height,
            width=picture.width,
            created_by=actor.user_id,
        )
        session.add(row)
        if form.upload_id is not None:
            release_uploads(session, [form.upload_id])
        return row

    return platform.database.write(add)


def delete_example(session: Session, actor: Actor, project_id: str, example_id: str) -> None:
    """Show it no longer; its picture goes when no copy of the project shows it either."""
    get_project(session, actor, project_id, "edit")
    row = get_example(session, actor, project_id, example_id)
    session.delete(row)
    audit.record(session, actor, "example.delete", "project", project_id, caption=row.caption)


def decoded_picture(decoder: Decoder, path: Path, *, name: str) -> ExamplePicture:
    """A file from elsewhere, decoded in the confined child and made anew.

    Raises:
        ImageRefused: it is not a usable image.
    """
    with tempfile.TemporaryDirectory() as folder:
        working = Path(folder, "image.tif")
        decoder.normalise(path, working, name=name)
        image = WorkingImage(working)
        factor = min(1.0, MAX_SIDE / max(image.height, image.width))
        pixels = image.shrunk(max(1, round(image.height * factor)), max(1, round(image.width * factor)))
        limits = measure(image, TileGrid(tile=1024)).contrast_limits
    return ExamplePicture.of(np.ascontiguousarray(as_colour(limits.view(pixels))))


def _check_room(session: Session, project: Project) -> int:
    """The place of the last example."""
    asked = select(func.count(), func.max(Example.number)).where(col(Example.project_id) == project.id)
    count, last = session.exec(asked).one()
    if count >= MAX_EXAMPLES:
        raise LimitReached(f"the project has {count} examples, which is all there can be; delete one first")
    return int(last or 0)


def _of_tile(platform: Platform, actor: Actor, project_id: str, tile_id: str) -> ExamplePicture:
    """The pixels, and beside them the same with their labels."""

    def read(session: Session) -> tuple[Tile, Image, bytes, list[tuple[int, str]]]:
        tile, image = tiles.get_tile(session, actor, tile_id)
        if tile.project_id != project_id:
            raise NotFound(f"the project has no tile {tile_id!r}; look at its tiles")
        classes = [(row.index, row.colour) for row in classes_of(session, tile.project_id)]
        return tile, image, newest_layers(session, tile), classes

    tile, image, layers, classes = platform.database.read(read)
    window = pictures.tile_window(image, tile, 0)
    pixels = WorkingImage(local_file(platform.uri(image.working_key))).read(window)
    view = ContrastLimits(image.contrast_low, image.contrast_high).view(pixels)
    labelled = outlined(view, training_mask(unpack(layers).plane()), pictures.colours_by_index(classes))
    return ExamplePicture.of(side_by_side([as_colour(view), labelled]))


def _of_upload(platform: Platform, actor: Actor, project_id: str, upload_id: str) -> ExamplePicture:
    def read(session: Session) -> Upload:
        upload = get_upload(session, actor, upload_id)
        if (upload.project_id, upload.purpose) != (project_id, "example"):
            raise InvalidRequest("upload_id", "the upload is not for an example of this project; send it again")
        if upload.state != "complete":
            raise Conflict(f"upload {upload.id!r} is {upload.state}; complete it first")
        if upload.num_bytes > MAX_BYTES_AT_ONCE:
            raise TooLarge(f"{upload.name!r} has more than {MAX_BYTES_AT_ONCE >> 20} MB; send a smaller picture")
        return upload

    upload = platform.database.read(read)
    with seat(actor), borrowed_decoder() as decoder:
        return decoded_picture(decoder, platform.storage.local_path(upload.key), name=upload.name)
