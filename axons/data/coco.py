"""COCO annotations: polygons and run-length masks as layers, and planes as run-length masks."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from axons.data import shapes
from axons.data.formats import IGNORED_NAME
from axons.data.label_files import ImageLabels, LayerMaker, read_json, refusing_malformed, short
from axons.data.layers import IGNORED, Layer, MaskLayer
from axons.data.outlines import Part, parts_of
from axons.errors import AnnotationRefused

_MAX_DIGITS = 7  # of a number in a compressed mask: 35 bits, more than any image has pixels


def read_coco(path: Path, classes: Mapping[str, int], *, name: str) -> list[ImageLabels]:
    """The labels of each image of a COCO file; a category belongs to the class of the same name.

    Annotations are painted in the file's order, the later one on top. Polygon coordinates are pixel edges, as ours; the
    parts of a segmentation are painted one after the other (their union). What no annotation covers is unlabelled.

    Raises:
        AnnotationRefused: the file as a whole cannot be read; a fault of one image is told in its `refusal`.
    """
    document = read_json(path, name)
    with refusing_malformed(name, what="a COCO file", needs="images, categories and annotations"):
        categories = {category["id"]: short(category["name"]) for category in document["categories"]}
        by_image = defaultdict(list)
        for annotation in document["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        images = [
            (short(image["file_name"]), (int(image["height"]), int(image["width"])), by_image.pop(image["id"], []))
            for image in document["images"]
        ]
    if by_image:
        stranger = short(next(iter(by_image)))
        raise AnnotationRefused(f"{name!r} annotates image {stranger!r}, which is not in its list; export it again")
    maker = LayerMaker(name, classes)

    def read(image_name: str, size: tuple[int, int], annotations: list[dict[str, Any]]) -> ImageLabels:
        return maker.image(image_name, size, lambda: _layers(annotations, categories, size, maker))

    return [read(*image) for image in images]


def coco_annotations(plane: np.ndarray) -> list[dict[str, Any]]:
    """COCO annotations of an (H, W) plane of values, one for each part; `category_id` is the class index + 1.

    Masks are uncompressed runs, which read back to exactly these pixels.
    """
    return [{"category_id": part.value + 1, **_coco_mask(part, plane.shape)} for part in parts_of(plane)]


def coco_document(
    description: str,
    classes: Iterable[tuple[int, str]],
    images: Sequence[tuple[str, int, int]],
    annotations: Sequence[list[dict[str, Any]]],
) -> str:
    """A COCO file.

    Args:
        classes: indices and names.
        images: file names, heights and widths.
        annotations: for each image, of `coco_annotations`.
    """
    listed = [{"image_id": i, **found} for i, of_image in enumerate(annotations, start=1) for found in of_image]
    categories = [{"id": index + 1, "name": name} for index, name in classes]
    if any(found["category_id"] == IGNORED + 1 for found in listed):
        categories.append({"id": IGNORED + 1, "name": IGNORED_NAME})
    return json.dumps(
        {
            "info": {"description": description},
            "images": [
                {"id": i, "file_name": name, "height": height, "width": width}
                for i, (name, height, width) in enumerate(images, start=1)
            ],
            "categories": categories,
            "annotations": [{"id": i, **found} for i, found in enumerate(listed, start=1)],
        }
    )


def _layers(
    annotations: Sequence[dict[str, Any]], categories: Mapping[Any, str], size: tuple[int, int], maker: LayerMaker
) -> list[Layer]:
    names = [categories.get(annotation["category_id"], short(annotation["category_id"])) for annotation in annotations]
    maker.check_classes(names)
    layers: list[Layer] = []
    for label, annotation in zip(names, annotations, strict=True):
        segmentation = annotation["segmentation"]
        if not segmentation:
            raise AnnotationRefused("an annotation has no outline, only a box; draw it or leave it out")
        if isinstance(segmentation, dict):
            layers += _mask_layers(segmentation, label, size, maker)
        else:
            layers += [maker.polygon(label, [shapes.ring(_pairs(part))]) for part in segmentation]
    return layers


def _pairs(part: Sequence[float]) -> np.ndarray:
    return np.array(part, np.float64).reshape(-1, 2)


def _mask_layers(
    segmentation: dict[str, Any], label: str, size: tuple[int, int], maker: LayerMaker
) -> Sequence[MaskLayer]:
    """A run-length mask; its runs go down the columns and begin with background."""
    height, width = size
    if [int(side) for side in segmentation["size"]] != [height, width]:
        raise AnnotationRefused(
            f"a mask has size {short(segmentation['size'])} but the image is {height} x {width} px; "
            "export the file again"
        )
    counts = segmentation["counts"]
    runs = _uncompressed(counts) if isinstance(counts, str) else np.array(counts)
    if runs.dtype.kind != "i" or runs.ndim != 1:
        raise ValueError("the runs of a mask are not whole numbers")
    if runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise AnnotationRefused(f"a mask's runs do not add up to its {height * width} px; export the file again")
    return _masked(np.cumsum(runs)[: len(runs) // 2 * 2].reshape(-1, 2), label, height, maker)


def _masked(spans: np.ndarray, label: str, height: int, maker: LayerMaker) -> Sequence[MaskLayer]:
    """The mask of (N, 2) starts and ends of what is inside, counted down the columns of an image of `height` px."""
    starts, ends = spans[spans[:, 0] < spans[:, 1]].T
    if not len(starts):
        return ()
    # Only the box that it meets: thousands of small masks on a large image must not each cost the whole image.
    cols, last_cols, rows, last_rows = starts // height, (ends - 1) // height, starts % height, (ends - 1) % height
    is_wrapped = (cols < last_cols).any()  # a run goes on at the top of the next column
    top, bottom = (0, height) if is_wrapped else (int(rows.min()), int(last_rows.max()) + 1)
    left, box = int(cols[0]), (bottom - top, int(last_cols[-1] - cols[0]) + 1)
    maker.reserve(box[0] * box[1])
    first = (cols - left) * box[0] + rows - top
    edges = np.column_stack([first, first + ends - starts]).reshape(-1)
    lengths = np.diff(np.concatenate([[0], edges, [box[0] * box[1]]]))
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(box[1], box[0]).T
    return [maker.mask(label, top, left, inside)]


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


def _coco_mask(part: Part, shape: tuple[int, ...]) -> dict[str, Any]:
    """Segmentation, bounding box and area of one part; COCO counts down the columns, background first."""
    height, width = shape
    cols, rows = np.nonzero(part.inside.T)
    places = (cols + part.col0) * height + rows + part.row0
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    starts = places[np.concatenate([[0], breaks])]
    ends = places[np.concatenate([breaks - 1, [len(places) - 1]])] + 1
    edges = np.column_stack([starts, ends]).reshape(-1)
    counts = np.diff(np.concatenate([[0], edges, [height * width]])).tolist()
    return {
        "segmentation": {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]},
        "bbox": [part.col0, part.row0, part.inside.shape[1], part.inside.shape[0]],
        "area": len(places),
        "iscrowd": 0,
    }
