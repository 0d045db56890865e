"""Labels of whole images: as files of other tools tell them, put together from tiles, cut into the labels of tiles."""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from axons.data.formats import IGNORED_NAME
from axons.data.layers import (
    IGNORED,
    MAX_ROW_CROSSINGS,
    MAX_SIDE,
    SEE_THROUGH,
    SUBPIXEL,
    UNLABELLED,
    Annotation,
    Layer,
    MaskLayer,
    Origin,
    PolygonLayer,
    render,
    row_crossings,
    unpack,
)
from axons.data.tiles import TileGrid, Window
from axons.errors import AnnotationRefused, ImageRefused

MAX_FILE_BYTES = 100 << 20

_MAX_IMAGE_SIDE = 2 * MAX_SIDE  # vertices may lie as far out
_MAX_MASK_PIXELS = 1 << 29
_MAX_VERTICES = 10_000_000
_MALFORMED = (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError)


@dataclass(frozen=True, kw_only=True)
class PlacedLabels:
    """Packed labels (see `layers.pack`) and where in the image they lie."""

    window: Window
    packed: bytes

    def plane(self) -> np.ndarray:
        """(H, W) uint8 of values."""
        return unpack(self.packed).plane()


@dataclass(frozen=True, kw_only=True)
class ImageLabels:
    """What a file of another tool says of one image.

    Args:
        name: of the image.
        size: height and width; None if the file does not tell.
        layers: from the lowest to the topmost, in pixels of the whole image.
        is_done: whether somebody has said that the image needs no more labels.
        notices: what was left out.
        refusal: why all labels of the image were turned down.
    """

    name: str
    size: tuple[int, int] | None = None
    layers: tuple[Layer, ...] = ()
    is_done: bool = False
    notices: tuple[str, ...] = ()
    refusal: str | None = None

    def plane(self) -> np.ndarray:
        """Render by R1 at the size that the file tells."""
        assert self.size is not None and self.refusal is None
        return render(self.layers, *self.size)


@dataclass
class LayerMaker:
    """Makes layers of the shapes in one file; all of them together have limits.

    Args:
        name: of the file, for the layers' source and for errors.
        classes: class index by name.
    """

    name: str
    classes: Mapping[str, int]
    _num_mask_pixels: int = field(default=0, init=False)
    _num_vertices: int = field(default=0, init=False)
    _num_layers: int = field(default=0, init=False)

    def check_classes(self, labels: Iterable[str]) -> None:
        """Raises `AnnotationRefused` with the names that are no classes of the project."""
        unknown = [f"{short(label)!r}" for label in dict.fromkeys(labels) if self._find(label) is None]
        if unknown:
            listed = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
            what = f"labels {listed} are no classes" if len(unknown) > 1 else f"label {listed} is no class"
            raise AnnotationRefused(f"{what} of the project; add what is missing or leave it out of the file")

    def polygon(self, label: str, rings: Sequence[np.ndarray]) -> PolygonLayer:
        """What lies inside rings (see `shapes.ring`), even-odd."""
        self._num_vertices += sum(len(ring) for ring in rings)
        if self._num_vertices > _MAX_VERTICES:
            raise AnnotationRefused(
                f"the outlines of {self.name!r} have more than {_MAX_VERTICES} vertices in all; split it by image"
            )
        return PolygonLayer(value=self._value(label), rings=tuple(rings), origin=self._origin())

    def mask(self, label: str, row0: int, col0: int, inside: np.ndarray) -> MaskLayer:
        """An (H, W) bool mask whose corner lies at (row0, col0) of the image; `reserve` its pixels before making it."""
        if row0 < 0 or col0 < 0:
            raise AnnotationRefused(f"a mask begins at ({row0}, {col0}), outside the image; export the file again")
        values = np.where(inside, np.uint8(self._value(label)), np.uint8(SEE_THROUGH))
        return MaskLayer(row0=row0, col0=col0, values=values, origin=self._origin())

    def reserve(self, num_pixels: int) -> None:
        """Raises `AnnotationRefused` if masks of so many pixels more are too much: few bytes can stand for many."""
        if self._num_mask_pixels + num_pixels > _MAX_MASK_PIXELS:
            raise AnnotationRefused(
                f"the masks of {self.name!r} have more than {_MAX_MASK_PIXELS >> 20} Mpx in all; split it by image"
            )
        self._num_mask_pixels += num_pixels

    def image(
        self,
        name: str,
        size: tuple[int, int] | None,
        make: Callable[[], Sequence[Layer]],
        *,
        notices: Sequence[str] = (),
        is_done: bool = False,
    ) -> ImageLabels:
        """The labels of an image, whose layers `make` makes; what it raises is the image's refusal."""
        try:
            if size is not None:
                _check_size(*size)
            layers = tuple(make())
        except (AnnotationRefused, ImageRefused) as error:
            return ImageLabels(name=name, refusal=f"{name!r}: {error}")
        except _MALFORMED as error:
            reason = f"a shape is malformed ({type(error).__name__}: {short(error)}); export the file again"
            return ImageLabels(name=name, refusal=f"{name!r}: {reason}")
        return ImageLabels(name=name, size=size, layers=layers, notices=tuple(notices), is_done=is_done)

    def _value(self, label: str) -> int:
        self.check_classes([label])
        value = self._find(label)
        assert value is not None
        return value

    def _find(self, label: str) -> int | None:
        found = self.classes.get(label)
        return IGNORED if found is None and label == IGNORED_NAME else found

    def _origin(self) -> Origin:
        self._num_layers += 1
        return import_origin(self.name, self._num_layers)


def import_origin(name: str, number: int = 0) -> Origin:
    """The origin of a layer, with this number, of a file: saves of one tile are merged by the ids of its layers."""
    token = hashlib.sha256(name.encode()).hexdigest()[:16]
    return Origin(id=f"{token}-{number}", source=f"import:{name}"[:200])


def read_json(path: Path, name: str) -> Any:
    """The value in a JSON file that somebody sent.

    Raises:
        AnnotationRefused: it is too large, or no JSON.
    """
    check_file_size(path, name)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise AnnotationRefused(f"{name!r} is not JSON ({short(error)}); export it again") from error


def check_file_size(path: Path, name: str) -> None:
    """Raises `AnnotationRefused` if a label file is too large to be read at once."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise AnnotationRefused(
            f"{name!r} has {path.stat().st_size >> 20} MB, the limit is {MAX_FILE_BYTES >> 20} MB; split it by image"
        )


@contextmanager
def refusing_malformed(name: str, *, what: str, needs: str) -> Iterator[None]:
    """A part that is missing while a file is read makes the file no `what`.

    Raises:
        AnnotationRefused: with what the file `needs`.
    """
    try:
        yield
    except _MALFORMED as error:
        reason = f"is not {what} ({type(error).__name__}: {short(error)})"
        raise AnnotationRefused(f"{name!r} {reason}; it needs {needs}") from error


def short(value: Any) -> str:
    """A text of a file, as far as it fits into a sentence; characters that cannot be stored become question marks."""
    return "".join("?" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in str(value)[:300])


def mosaic(tiles: Sequence[PlacedLabels], region: Window, *, step: int = 1) -> np.ndarray:
    """What tiles show of a region: (⌈H / step⌉, ⌈W / step⌉) uint8 of values, unlabelled where there is none.

    Args:
        step: take every so manieth row and column, the first of the region among them.
    """
    plane = np.full((-(-region.height // step), -(-region.width // step)), UNLABELLED, np.uint8)
    for tile in tiles:
        if part := tile.window.intersection(region):
            at = part.seen_from(region)
            row, col = -(-at.row0 // step), -(-at.col0 // step)  # the first that are taken, in the plane
            values = tile.plane()[part.seen_from(tile.window).slices][
                row * step - at.row0 :: step, col * step - at.col0 :: step
            ]
            plane[row : row + values.shape[0], col : col + values.shape[1]] = values
    return plane


def cut_layers(
    layers: Sequence[Layer], height: int, width: int, grid: TileGrid, *, ground: Origin | None = None
) -> Iterator[tuple[Window, Annotation]]:
    """The labels of an image as those of its tiles; polygons stay polygons, tiles without labels are left out.

    Args:
        ground: with one, what no layer covers becomes background, of that origin, instead of staying unlabelled.
    Raises:
        AnnotationRefused: the outlines in one tile are too many to be drawn.
    """
    bounds = np.array([_bounds(layer) for layer in layers], np.int64).reshape(-1, 4)
    for window in grid.windows(height, width):
        end = SUBPIXEL * np.array([window.row0 + window.height, window.col0 + window.width])
        start = SUBPIXEL * np.array([window.row0, window.col0])
        meets = (bounds[:, :2] < end).all(axis=1) & (bounds[:, 2:] > start).all(axis=1)
        part = crop([layers[i] for i in np.flatnonzero(meets).tolist()], window)
        if ground is not None:
            below = MaskLayer(row0=0, col0=0, values=np.zeros((window.height, window.width), np.uint8), origin=ground)
            part = replace(part, layers=(below, *part.layers))
        part = replace(part, layers=_joined_masks(part))
        if (crossings := row_crossings(part)) > MAX_ROW_CROSSINGS:
            raise AnnotationRefused(
                f"the outlines cross {crossings} rows of pixels in one tile; simplify them to {MAX_ROW_CROSSINGS}"
            )
        if part.layers and (part.plane() != UNLABELLED).any():
            yield window, part


def crop(layers: Sequence[Layer], window: Window) -> Annotation:
    """The annotation of a window, which renders to the same values as the layers do there."""
    cropped = (_cropped(layer, window) for layer in layers)
    kept = tuple(layer for layer in cropped if layer is not None)
    return Annotation(height=window.height, width=window.width, layers=kept)


def _joined_masks(annotation: Annotation) -> tuple[Layer, ...]:
    """The layers with masks that follow each other made one: a file may have one for each of a thousand cells."""
    joined: list[Layer] = []
    for is_mask, run in groupby(annotation.layers, key=lambda layer: isinstance(layer, MaskLayer)):
        if not is_mask:
            joined += run
            continue
        values = np.full((annotation.height, annotation.width), SEE_THROUGH, np.uint8)
        for layer in run:
            assert isinstance(layer, MaskLayer)
            height, width = layer.values.shape
            below = values[layer.row0 : layer.row0 + height, layer.col0 : layer.col0 + width]
            np.copyto(below, layer.values, where=layer.values != SEE_THROUGH)
        painted = values != SEE_THROUGH
        if painted.any():
            [box] = ndimage.find_objects(painted.astype(np.uint8))
            row0, col0 = box[0].start, box[1].start
            joined.append(MaskLayer(row0=row0, col0=col0, values=values[box].copy(), origin=layer.origin))
    return tuple(joined)


def _bounds(layer: Layer) -> tuple[int, int, int, int]:
    """First row and column, and end of rows and columns, in sixteenths."""
    if isinstance(layer, PolygonLayer):
        points = np.concatenate(layer.rings) if layer.rings else np.zeros((1, 2), np.int64)
        (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0)
        return int(top), int(left), int(bottom), int(right)
    height, width = layer.values.shape
    row0, col0 = layer.row0 * SUBPIXEL, layer.col0 * SUBPIXEL
    return row0, col0, row0 + height * SUBPIXEL, col0 + width * SUBPIXEL


def _cropped(layer: Layer, window: Window) -> Layer | None:
    if isinstance(layer, PolygonLayer):
        return _cropped_polygon(layer, window)
    height, width = layer.values.shape
    part = Window(layer.row0, layer.col0, height, width).intersection(window)
    if part is None:
        return None
    values = layer.values[part.seen_from(Window(layer.row0, layer.col0, height, width)).slices]
    place = part.seen_from(window)
    return MaskLayer(row0=place.row0, col0=place.col0, values=np.ascontiguousarray(values), origin=layer.origin)


def _cropped_polygon(layer: PolygonLayer, window: Window) -> PolygonLayer | None:
    """The same polygon counted from the window's corner: whole pixels away, so it covers the same pixels."""
    top, left, bottom, right = _bounds(layer)
    row0, col0 = window.row0 * SUBPIXEL, window.col0 * SUBPIXEL
    if bottom <= row0 or right <= col0:
        return None
    if top >= row0 + window.height * SUBPIXEL or left >= col0 + window.width * SUBPIXEL:
        return None
    return replace(layer, rings=tuple(ring - (row0, col0) for ring in layer.rings))


def _check_size(height: int, width: int) -> None:
    if not (1 <= height <= _MAX_IMAGE_SIDE and 1 <= width <= _MAX_IMAGE_SIDE):
        raise AnnotationRefused(
            f"an image of {height} x {width} px cannot take labels; its sides may be 1 to {_MAX_IMAGE_SIDE} px"
        )
