"""Which image a label file, or an entry in one, is about: by its name without the extension."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from axons.data.rows import Row


class KnownImage(Row):
    """An image that labels may belong to."""

    image_id: str
    name: str
    height: int
    width: int


ImageIndex = Mapping[str, Sequence[KnownImage]]


def index_images(images: Sequence[KnownImage]) -> ImageIndex:
    """Images for `match_image`."""
    index: dict[str, list[KnownImage]] = defaultdict(list)
    for image in images:
        index[_stem_parts(image.name)[-1]].append(image)
    return index


def match_image(name: str, images: ImageIndex) -> KnownImage | str:
    """The image that a label file belongs to; or why there is none.

    `masks/mouse/a.png` belongs to `mouse/a.tif`, or to `a.tif` if there is no other; `a.png` to `mouse/a.tif` if only
    one image is called a. `a__labels.json` belongs to `a.tif`.
    """
    wanted = _stem_parts(re.sub(r"__labels(?=\.json$)", "", name, flags=re.IGNORECASE))
    stems = [(image, _stem_parts(image.name)) for image in images.get(wanted[-1], ())]
    inside = [(image, stem) for image, stem in stems if wanted[-len(stem) :] == stem]
    longest = max((len(stem) for _, stem in inside), default=0)
    found = [image for image, stem in inside if len(stem) == longest]
    found = found or [image for image, stem in stems if stem[-len(wanted) :] == wanted]
    if not found:
        return f"{name!r} has the name of no image of the project; call it like its image"
    if len(found) > 1:
        return f"{name!r} could belong to {len(found)} images, {found[0].name!r} is one; rename the images"
    return found[0]


def _stem_parts(name: str) -> list[str]:
    parts = [part for part in name.replace("\\", "/").casefold().split("/") if part]
    last = parts[-1] if parts else ""
    head, dot, _extension = last.rpartition(".")
    return [*parts[:-1], head if dot and head else last]
