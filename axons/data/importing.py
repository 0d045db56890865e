"""Uploads become working images and tiles, mask files become labels; on Ray Data, file by file."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from axons.data.coco import read_coco
from axons.data.cvat import read_cvat
from axons.data.decoding import DecodeLimits, Decoder
from axons.data.formats import ONE_IMAGE_A_FILE, VectorFormat
from axons.data.image_names import KnownImage, index_images, match_image
from axons.data.images import ContrastLimits, WorkingImage
from axons.data.label_files import ImageLabels, cut_layers, import_origin
from axons.data.labeller import read_labeller
from axons.data.labelme import read_labelme
from axons.data.layers import Annotation, Origin, annotation_of, count_values, crc32, pack
from axons.data.masks import Coding, check_size, to_classes
from axons.data.measuring import MeasuredTile, measure, measure_tiles, thumbnail_sheet
from axons.data.pipelines import stream
from axons.data.rows import Row
from axons.data.storage import local_file, open_storage, sha256_of
from axons.data.tiles import TileGrid, Window
from axons.errors import AnnotationRefused, AxonsError, ImageRefused, ObjectNotFound


class Upload(Row):
    """A file somebody sent: `uri` is where it lies, `name` what they call it, `image_id` the id it shall get."""

    image_id: str
    uri: str
    name: str


class Tile(Row):
    """A tile of an image: its window, and what was measured of it (see `measuring.MeasuredTile`)."""

    row0: int
    col0: int
    height: int
    width: int
    mean: float
    contrast: float
    sharpness: float
    is_blank: bool
    is_blurred: bool

    @property
    def window(self) -> Window:
        """Where it lies in the image."""
        return Window(self.row0, self.col0, self.height, self.width)

    @classmethod
    def of(cls, tile: MeasuredTile) -> "Tile":
        """The row of a measured tile."""
        return cls(
            row0=tile.window.row0,
            col0=tile.window.col0,
            height=tile.window.height,
            width=tile.window.width,
            mean=tile.mean,
            contrast=tile.contrast,
            sharpness=tile.sharpness,
            is_blank=tile.is_blank,
            is_blurred=tile.is_blurred,
        )


class ImportedImage(Row):
    """A working image in storage and all that is known of it.

    Args:
        sha256, num_bytes: of the upload.
        mean, std: per channel, 0 to 1 of the data type's range.
        hashes: see `measuring.perceptual_hashes`.
        working_uri, sheet_uri: the working TIFF, and the sheet of tile thumbnails `sheet_step` px apart.
        notices: what was changed on the way.
    """

    image_id: str
    name: str
    sha256: str
    num_bytes: int
    format: str
    height: int
    width: int
    channels: int
    dtype: str
    mean: list[float]
    std: list[float]
    contrast_low: float
    contrast_high: float
    dark_share: float
    bright_share: float
    hashes: list[str]
    pixel_size_um: float | None
    geo: dict[str, Any] | None
    notices: list[str]
    working_uri: str
    sheet_uri: str
    sheet_step: int
    tiles: list[Tile]

    @property
    def contrast_limits(self) -> ContrastLimits:
        """Values shown as black and white."""
        return ContrastLimits(self.contrast_low, self.contrast_high)


class Refusal(Row):
    """A file that was turned down: `reason` is one sentence for the person who sent it."""

    image_id: str
    name: str
    reason: str


class MaskUpload(Row):
    """A mask file for an image of `height` by `width` px."""

    image_id: str
    uri: str
    name: str
    height: int
    width: int


class TileLabels(Row):
    """Labels of one tile: `annotation` as `layers.pack` writes it, its checksum and its pixels by value."""

    row0: int
    col0: int
    annotation: bytes
    crc32: int
    counts: dict[int, int]


class ImportedLabels(Row):
    """The labels of one image, tile by tile; wholly unlabelled tiles are left out.

    Args:
        is_done: whether the file says that the image needs no more labels.
    """

    image_id: str
    name: str
    tiles: list[TileLabels]
    notices: list[str]
    is_done: bool = False


class LabelFile(Row):
    """A file of another tool that holds labels, and the images that it may be about.

    Args:
        place: says which file of its job it is, the same at each attempt.
    """

    place: str
    uri: str
    name: str
    images: list[KnownImage]


class MaskSurvey(Row):
    """The values that occur in a single-channel mask file; none for a mask in colour."""

    name: str
    values: list[int]


class _Outcome(Row):
    image: ImportedImage | None = None
    labels: ImportedLabels | None = None
    survey: MaskSurvey | None = None
    refusal: Refusal | None = None


def import_images(
    uploads: Sequence[Upload], *, target_uri: str, grid: TileGrid, limits: DecodeLimits = DecodeLimits()
) -> Iterator[ImportedImage | Refusal]:
    """Make working images, tiles and thumbnails of uploads, as they get ready.

    Objects are `target_uri/<image_id>.tif` and `.jpg`: running it twice changes nothing.

    Raises:
        ValueError: the tiles of `grid` overlap, or two uploads have one id.
    """
    _check_grid(grid)
    if len({upload.image_id for upload in uploads}) < len(uploads):
        raise ValueError(f"some of {len(uploads)} uploads share an image_id; give each its own")
    for answer in stream(
        [upload.packed() for upload in uploads], _import_image, target_uri=target_uri, grid=grid, limits=limits
    ):
        outcome = _Outcome.model_validate_json(answer)
        result = outcome.image or outcome.refusal
        assert result is not None
        yield result


def import_masks(
    masks: Sequence[MaskUpload],
    *,
    coding: Coding,
    num_classes: int,
    grid: TileGrid,
    limits: DecodeLimits = DecodeLimits(),
) -> Iterator[ImportedLabels | Refusal]:
    """Make labels of mask files, tile by tile, as they get ready.

    Raises:
        ValueError: the tiles of `grid` overlap.
    """
    _check_grid(grid)
    rows = [mask.packed() for mask in masks]
    for answer in stream(rows, _import_mask, coding=coding, num_classes=num_classes, grid=grid, limits=limits):
        outcome = _Outcome.model_validate_json(answer)
        result = outcome.labels or outcome.refusal
        assert result is not None
        yield result


def import_label_files(
    files: Sequence[LabelFile],
    *,
    kind: VectorFormat,
    classes: Mapping[str, int],
    grid: TileGrid,
    fills_background: bool = False,
    limits: DecodeLimits = DecodeLimits(),
) -> Iterator[ImportedLabels | Refusal]:
    """Make labels of the files of another tool, image by image, as they get ready.

    Args:
        classes: class index by name.
        fills_background: what the labels of an image leave open becomes background instead of staying unlabelled.
    Raises:
        ValueError: the tiles of `grid` overlap.
    """
    _check_grid(grid)
    for answer in stream(
        [file.packed() for file in files],
        _import_label_file,
        kind=kind,
        classes=classes,
        grid=grid,
        fills_background=fills_background,
        limits=limits,
    ):
        outcome = _Outcome.model_validate_json(answer)
        result = outcome.labels or outcome.refusal
        assert result is not None
        yield result


def survey_masks(
    masks: Sequence[MaskUpload], *, limits: DecodeLimits = DecodeLimits()
) -> Iterator[MaskSurvey | Refusal]:
    """The values in mask files, to settle their coding (`masks.guess_coding`) before they are imported."""
    for answer in stream([mask.packed() for mask in masks], _survey_mask, limits=limits):
        outcome = _Outcome.model_validate_json(answer)
        result = outcome.survey or outcome.refusal
        assert result is not None
        yield result


def tile_images(images: Sequence[ImportedImage], *, grid: TileGrid) -> Iterator[tuple[str, list[Tile]]]:
    """The tiles of another grid, measured on the working images: pairs of image id and tiles."""
    for answer in stream([image.packed() for image in images], _tile_image, grid=grid):
        image = ImportedImage.model_validate_json(answer)
        yield image.image_id, image.tiles


def _check_grid(grid: TileGrid) -> None:
    if grid.overlap:
        raise ValueError(
            f"overlap is {grid.overlap} px; import by tiles without overlap, so that a pixel has one owner"
        )


def _import_image(row: bytes, *, target_uri: str, grid: TileGrid, limits: DecodeLimits) -> Iterator[bytes]:
    upload = Upload.model_validate_json(row)
    try:
        yield _Outcome(image=normalise_upload(upload, _decoder(limits), target_uri=target_uri, grid=grid)).packed()
    except (ImageRefused, ObjectNotFound) as error:
        yield _Outcome(refusal=_refusal(upload, error)).packed()


def normalise_upload(upload: Upload, decoder: Decoder, *, target_uri: str, grid: TileGrid) -> ImportedImage:
    """One upload to its working image and thumbnails in storage, measured.

    Raises:
        ImageRefused: see `Decoder.normalise`.
    """
    target = open_storage(target_uri)
    with tempfile.TemporaryDirectory() as folder:
        source, working = local_file(upload.uri), Path(folder, "working.tif")
        facts = decoder.normalise(source, working, name=upload.name)
        image = WorkingImage(working)
        measured = measure(image, grid)
        sheet, step = thumbnail_sheet(image, grid, measured.contrast_limits)
        target.write(f"{upload.image_id}.tif", working)
        target.write(f"{upload.image_id}.jpg", sheet)
        return ImportedImage(
            image_id=upload.image_id,
            name=upload.name,
            sha256=sha256_of(source),
            num_bytes=source.stat().st_size,
            format=facts.format,
            height=facts.height,
            width=facts.width,
            channels=facts.channels,
            dtype=facts.dtype,
            mean=measured.mean,
            std=measured.std,
            contrast_low=measured.contrast_limits.low,
            contrast_high=measured.contrast_limits.high,
            dark_share=measured.dark_share,
            bright_share=measured.bright_share,
            hashes=measured.hashes,
            pixel_size_um=facts.pixel_size_um,
            geo=facts.geo,
            notices=facts.notices,
            working_uri=f"{target.uri}/{upload.image_id}.tif",
            sheet_uri=f"{target.uri}/{upload.image_id}.jpg",
            sheet_step=step,
            tiles=[Tile.of(tile) for tile in measured.tiles],
        )


def label_tiles(image_id: str, name: str, mask: np.ndarray, grid: TileGrid, *, notices: list[str]) -> ImportedLabels:
    """Cut an (H, W) uint8 mask of values into the labels of its tiles."""
    origin = import_origin(name)
    annotations = ((window, annotation_of(mask[window.slices], origin=origin)) for window in grid.windows(*mask.shape))
    tiles = [_tile_labels(window, annotation) for window, annotation in annotations if annotation.layers]
    return ImportedLabels(image_id=image_id, name=name, tiles=tiles, notices=notices)


def _tile_labels(window: Window, annotation: Annotation) -> TileLabels:
    plane = annotation.plane()
    return TileLabels(
        row0=window.row0,
        col0=window.col0,
        annotation=pack(annotation),
        crc32=crc32(plane),
        counts=count_values(plane),
    )


def _import_mask(
    row: bytes, *, coding: Coding, num_classes: int, grid: TileGrid, limits: DecodeLimits
) -> Iterator[bytes]:
    upload = MaskUpload.model_validate_json(row)
    try:
        raw = _decoder(limits).read_mask(local_file(upload.uri), name=upload.name)
        mask = to_classes(raw, coding, name=upload.name, num_classes=num_classes)
        check_size(mask, name=upload.name, height=upload.height, width=upload.width)
        yield _Outcome(
            labels=label_tiles(upload.image_id, upload.name, mask.values, grid, notices=mask.notices)
        ).packed()
    except (ImageRefused, AnnotationRefused, ObjectNotFound) as error:
        yield _Outcome(refusal=_refusal(upload, error)).packed()


def _import_label_file(
    row: bytes,
    *,
    kind: VectorFormat,
    classes: Mapping[str, int],
    grid: TileGrid,
    fills_background: bool,
    limits: DecodeLimits,
) -> Iterator[bytes]:
    file = LabelFile.model_validate_json(row)
    readers: dict[VectorFormat, Callable[..., list[ImageLabels]]] = {
        "coco": read_coco,
        "cvat": read_cvat,
        "labeller": read_labeller,
        "labelme": partial(read_labelme, decode_mask=partial(_decode_png, _decoder(limits), name=file.name)),
    }
    try:
        found = readers[kind](local_file(file.uri), classes, name=file.name)
    except (AnnotationRefused, ObjectNotFound) as error:
        yield _Outcome(refusal=Refusal(image_id=file.place, name=file.name, reason=_reason(file.name, error))).packed()
        return
    images, ground = index_images(file.images), import_origin(file.name) if fills_background else None
    for number, labels in enumerate(found):
        image = file.images[0] if kind in ONE_IMAGE_A_FILE else match_image(labels.name, images)
        is_empty = not labels.layers and labels.refusal is None and not labels.is_done
        if is_empty and (isinstance(image, str) or ground is None):
            continue
        try:
            yield _Outcome(labels=_cut(labels, image, file.name, grid, ground)).packed()
        except AnnotationRefused as error:
            refusal = Refusal(image_id=f"{file.place}-{number}", name=labels.name, reason=str(error))
            yield _Outcome(refusal=refusal).packed()


def _cut(
    labels: ImageLabels, image: KnownImage | str, file_name: str, grid: TileGrid, ground: Origin | None
) -> ImportedLabels:
    """The labels of an image as those of its tiles.

    Raises:
        AnnotationRefused: they were turned down, belong to no image of ours, or to one of another size.
    """
    if labels.refusal is not None or isinstance(image, str):
        raise AnnotationRefused(labels.refusal or str(image))
    if labels.size not in (None, (image.height, image.width)):
        height, width = labels.size or (0, 0)
        raise AnnotationRefused(
            f"{labels.name!r} has {width} x {height} px in {file_name!r} but the image has "
            f"{image.width} x {image.height} px; export the file again"
        )
    try:
        cut = list(cut_layers(labels.layers, image.height, image.width, grid, ground=ground))
    except AnnotationRefused as error:
        raise AnnotationRefused(f"{labels.name!r}: {error}") from error
    return ImportedLabels(
        image_id=image.image_id,
        name=labels.name,
        tiles=[_tile_labels(window, annotation) for window, annotation in cut],
        notices=list(labels.notices),
        is_done=labels.is_done,
    )


def _decode_png(decoder: Decoder, data: bytes, *, name: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mask.png")
        path.write_bytes(data)
        return decoder.read_mask(path, name=name).values


def _survey_mask(row: bytes, *, limits: DecodeLimits) -> Iterator[bytes]:
    upload = MaskUpload.model_validate_json(row)
    try:
        raw = _decoder(limits).read_mask(local_file(upload.uri), name=upload.name)
        values = np.unique(raw.values).tolist() if raw.values.ndim == 2 else []
        yield _Outcome(survey=MaskSurvey(name=upload.name, values=values)).packed()
    except (ImageRefused, ObjectNotFound) as error:
        yield _Outcome(refusal=_refusal(upload, error)).packed()


def _tile_image(row: bytes, *, grid: TileGrid) -> Iterator[bytes]:
    image = ImportedImage.model_validate_json(row)
    measured = measure_tiles(WorkingImage(local_file(image.working_uri)), grid, image.contrast_limits)
    yield image.model_copy(update={"tiles": [Tile.of(tile) for tile in measured]}).packed()


def _refusal(upload: Upload | MaskUpload, error: AxonsError) -> Refusal:
    return Refusal(image_id=upload.image_id, name=upload.name, reason=_reason(upload.name, error))


def _reason(name: str, error: AxonsError) -> str:
    # The address of the storage says nothing to the person who sent the file.
    return f"{name!r} is not in storage any more; send it again" if isinstance(error, ObjectNotFound) else str(error)


@cache
def _decoder(limits: DecodeLimits) -> Decoder:
    """One child per worker process, kept from file to file."""
    return Decoder(limits)
