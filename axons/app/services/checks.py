"""What stands out among the images of a project, so that a person can leave it out before it teaches a model."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

from pydantic import BaseModel
from sqlalchemy import Integer, cast, func
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services.access import get_project
from axons.app.services.tilings import current_tiling
from axons.app.tables import Image, Tile
from axons.data.measuring import near_duplicates

_MUCH_CLIPPED = 0.2  # of the pixels at the lowest or highest value
_MOSTLY = 0.5

Kind = Literal["duplicate", "near-duplicate", "size", "blur", "dark", "bright", "blank"]


class Finding(BaseModel):
    """Something about an image that a person should look at.

    Args:
        other_id, other_name: the image that it looks like.
        share: of its pixels or tiles, 0 to 1.
    """

    kind: Kind
    image_id: str
    name: str
    is_excluded: bool
    other_id: str | None = None
    other_name: str | None = None
    share: float | None = None


class SizeCount(BaseModel):
    """How many images have one size."""

    height: int
    width: int
    channels: int
    num_images: int


class ProjectChecks(BaseModel):
    """Findings, kind by kind, and the sizes, the commonest first; images that are excluded count as well."""

    num_images: int
    findings: list[Finding]
    sizes: list[SizeCount]


def check_images(session: Session, actor: Actor, project_id: str) -> ProjectChecks:
    """Look at what the import has measured; no pixel is read."""
    project = get_project(session, actor, project_id)
    asked = select(Image).where(col(Image.project_id) == project.id, col(Image.deleted_at).is_(None))
    images = session.exec(asked.order_by(col(Image.created_at), col(Image.name), col(Image.id))).all()
    sizes = Counter(_size(image) for image in images)
    findings = [
        *_duplicates(images),
        *_near_duplicates(images),
        *_odd_sizes(images, sizes),
        *_blurred(images, _tile_counts(session, project.id)),
        *_badly_exposed(images),
    ]
    counts = [
        SizeCount(height=height, width=width, channels=channels, num_images=number)
        for (height, width, channels), number in sizes.most_common()
    ]
    return ProjectChecks(num_images=len(images), findings=findings, sizes=counts)


def _duplicates(images: Sequence[Image]) -> Iterator[Finding]:
    """The same file as an earlier one."""
    for _sha256, same in groupby(sorted(images, key=lambda image: image.sha256), key=lambda image: image.sha256):
        first, *others = same  # sorting keeps the order of those that are equal
        yield from (_finding("duplicate", image, other=first) for image in others)


def _near_duplicates(images: Sequence[Image]) -> Iterator[Finding]:
    """Looks like an earlier one, as freezing a training set would say; each image is told of once."""
    told = set()
    for i, j in near_duplicates([image.hashes for image in images]):
        if j not in told and images[i].sha256 != images[j].sha256:
            told.add(j)
            yield _finding("near-duplicate", images[j], other=images[i])


def _odd_sizes(images: Sequence[Image], sizes: Counter[tuple[int, int, int]]) -> Iterator[Finding]:
    """Unlike most; where no size is that of most images, none is odd."""
    for usual, number in sizes.most_common(1):
        if number > _MOSTLY * len(images):
            yield from (_finding("size", image) for image in images if _size(image) != usual)


def _blurred(images: Sequence[Image], counts: dict[str, tuple[int, int, int]]) -> Iterator[Finding]:
    """Most tiles that show something show it without fine detail, or no tile shows anything."""
    for image in images:
        num_tiles, num_blank, num_blurred = counts.get(image.id, (0, 0, 0))
        num_seen = num_tiles - num_blank
        if num_tiles and not num_seen:
            yield _finding("blank", image)
        elif num_seen and num_blurred > _MOSTLY * num_seen:
            yield _finding("blur", image, share=num_blurred / num_seen)


def _badly_exposed(images: Sequence[Image]) -> Iterator[Finding]:
    """Many pixels at an end of the scale, where the camera could tell nothing apart."""
    for image in images:
        if image.dark_share > _MUCH_CLIPPED:
            yield _finding("dark", image, share=image.dark_share)
        if image.bright_share > _MUCH_CLIPPED:
            yield _finding("bright", image, share=image.bright_share)


def _finding(kind: Kind, image: Image, *, other: Image | None = None, share: float | None = None) -> Finding:
    return Finding(
        kind=kind,
        image_id=image.id,
        name=image.name,
        is_excluded=image.is_excluded,
        other_id=other.id if other else None,
        other_name=other.name if other else None,
        share=share,
    )


def _size(image: Image) -> tuple[int, int, int]:
    return image.height, image.width, image.channels


def _tile_counts(session: Session, project_id: str) -> dict[str, tuple[int, int, int]]:
    """Tiles of each image: all, blank and blurred."""
    blank, blurred = cast(col(Tile.is_blank), Integer), cast(col(Tile.is_blurred), Integer)
    asked = (
        select(Tile.image_id, func.count(), func.sum(blank), func.sum(blurred))
        .where(col(Tile.tiling_id) == current_tiling(session, project_id).id)
        .group_by(col(Tile.image_id))
    )
    return {image_id: (total, int(bare), int(dim)) for image_id, total, bare, dim in session.exec(asked)}
