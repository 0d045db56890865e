"""COCO annotations (polygons and run-length masks) as layers."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from axons.data.layers import (
    MAX_SIDE,
    SUBPIXEL,
    UNLABELLED,
    Annotation,
    Layer,
    MaskLayer,
    Origin,
    PolygonLayer,
    mask_to_layers,
)
from axons.errors import AnnotationRefused

_MAX_BYTES = 100 << 20
_MAX_MASK_PIXELS = 1 << 29
_MAX_DIGITS = 7  # of a number in a compressed mask: 35 bits, more than any image has pixels


@dataclass(frozen=True, kw_only=True)
class CocoImage:
    """One image of a COCO file: its name, size and labels; `refusal` says why its labels were turned down."""

    name: str
    annotation: Annotation | None
    refusal: str | None = None


def read_coco(path: Path, classes: Sequence[str], *, name: str) -> list[CocoImage]:
    """The labels of each image of a COCO file; a category belongs to the class of the same name.

    Annotations are painted in the file's order, the later one on top. Polygon coordinates are pixel edges, as ours; the
    parts of a segmentation are painted one after the other (their union). What no annotation covers is unlabelled.

    Raises:
        AnnotationRefused: the file as a whole cannot be read; a fault of one image is told in its `refusal`.
    """
    document = _load(path, name)
    try:
        category_names = {category["id"]: _short(category["name"]) for category in document["categories"]}
        by_image = defaultdict(list)
        for annotation in document["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        images = [
            (_short(image["file_name"]), int(image["height"]), int(image["width"]), by_image.pop(image["id"], []))
            for image in document["images"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"is not a COCO file ({type(error).__name__}: {_short(error)})"
        raise AnnotationRefused(f"{name!r} {reason}; it needs images, categories and annotations") from error
    if by_image:
        stranger = _short(next(iter(by_image)))
        raise AnnotationRefused(f"{name!r} annotates image {stranger!r}, which is not in its list; export it again")
    reader = _Reader(
        name, category_names, {key: classes.index(text) for key, text in category_names.items() if text in classes}
    )
    return [reader.read(*image) for image in images]


@dataclass
class _Reader:
    """A COCO file while it is read; all its masks together have a limit, for each may be as large as its image."""

    name: str
    category_names: Mapping[Any, str]
    class_of: Mapping[Any, int]
    num_mask_pixels: int = 0

    def read(self, image_name: str, height: int, width: int, annotations: list[dict[str, Any]]) -> CocoImage:
        try:
            blank = Annotation(height=height, width=width)
            layers = tuple(layer for annotation in annotations for layer in self._layers(annotation, blank))
            return CocoImage(name=image_name, annotation=replace(blank, layers=layers))
        except AnnotationRefused as error:
            return CocoImage(name=image_name, annotation=None, refusal=f"{image_name!r}: {error}")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"a segmentation is malformed ({type(error).__name__}: {_short(error)}); export the file again"
            return CocoImage(name=image_name, annotation=None, refusal=f"{image_name!r}: {reason}")

    def _layers(self, annotation: dict[str, Any], image: Annotation) -> Sequence[Layer]:
        identity, segmentation = annotation["category_id"], annotation["segmentation"]
        if identity not in self.class_of:
            category = self.category_names.get(identity, _short(identity))
            raise AnnotationRefused(f"category {category!r} is no class of the project; add the class or leave it out")
        if not segmentation:
            raise AnnotationRefused("an annotation has no outline, only a box; draw it or leave it out")
        class_index, origin = self.class_of[identity], Origin(source=f"import:{self.name}"[:200])
        if not isinstance(segmentation, dict):
            return [PolygonLayer(value=class_index, rings=(_ring(part),), origin=origin) for part in segmentation]
        masks = _mask_layers(segmentation, class_index, image, origin)
        self.num_mask_pixels += sum(mask.values.size for mask in masks)
        if self.num_mask_pixels > _MAX_MASK_PIXELS:
            raise AnnotationRefused(
                f"the masks of {self.name!r} have more than {_MAX_MASK_PIXELS >> 20} Mpx in all; split it by image"
            )
        return masks


def _ring(part: Sequence[float]) -> np.ndarray:
    """Columns and rows in pixels -> (V, 2) rows and columns in sixteenths."""
    points = np.array(part, np.float64).reshape(-1, 2)[:, ::-1]
    if not (np.abs(points) <= 2 * MAX_SIDE).all():  # neither is NaN
        raise ValueError("a coordinate is not a number near the image")
    return np.rint(points * SUBPIXEL).astype(np.int64)


def _mask_layers(
    segmentation: dict[str, Any], class_index: int, image: Annotation, origin: Origin
) -> Sequence[MaskLayer]:
    """A run-length mask; its runs go down the columns and begin with background."""
    height, width = image.height, image.width
    if [int(side) for side in segmentation["size"]] != [height, width]:
        raise AnnotationRefused(
            f"a mask has size {_short(segmentation['size'])} but the image is {height} x {width} px; "
            "export the file again"
        )
    counts = segmentation["counts"]
    runs = _uncompressed(counts) if isinstance(counts, str) else np.array(counts)
    if runs.dtype.kind != "i" or runs.ndim != 1:
        raise ValueError("the runs of a mask are not whole numbers")
    if runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise AnnotationRefused(f"a mask's runs do not add up to its {height * width} px; export the file again")
    # Only the columns it meets: hundreds of small masks on a large image must not each cost the whole image.
    edges = np.cumsum(runs)[: len(runs) // 2 * 2]
    if not len(edges):
        return ()
    col0, col1 = int(edges[0]) // height, -(-int(edges[-1]) // height)
    lengths = np.diff(np.concatenate([[col0 * height], edges, [col1 * height]]))
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(col1 - col0, height).T
    plane = np.where(inside, np.uint8(class_index), np.uint8(UNLABELLED))
    return [replace(layer, col0=layer.col0 + col0) for layer in mask_to_layers(plane, origin=origin)]


def _uncompressed(counts: str) -> np.ndarray:
    """The runs of COCO's text form: six bits a character, the highest says "more follows"; from the fourth number on,
    differences to the number two before.

    Our own: on hostile text pycocotools 2.0.11 writes beyond its memory.
    """
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero((codes & 0x20) == 0)
    if not len(codes) or codes.min() < 0 or codes.max() > 0x3F or codes[-1] & 0x20:
        raise ValueError("a compressed mask is cut off or has a character that does not belong there")
    starts = np.concatenate([[0], ends[:-1] + 1])
    num_digits = ends - starts + 1
    if num_digits.max() > _MAX_DIGITS:
        raise ValueError("a compressed mask has a number of too many digits")
    place = np.arange(len(codes)) - np.repeat(starts, num_digits)
    numbers = np.add.reduceat((codes & 0x1F) << 5 * place, starts)
    numbers -= ((codes[ends] & 0x10) > 0).astype(np.int64) << 5 * num_digits
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _short(value: Any) -> str:
    return str(value)[:300]


def _load(path: Path, name: str) -> Any:
    if path.stat().st_size > _MAX_BYTES:
        raise AnnotationRefused(
            f"{name!r} has {path.stat().st_size >> 20} MB, the limit is {_MAX_BYTES >> 20} MB; split it by image"
        )
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise AnnotationRefused(f"{name!r} is not JSON ({error}); export it again") from error
