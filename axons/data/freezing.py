"""Labelled images become a frozen training set: cut, render, pack and count, shard by shard, on Ray Data."""

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from axons import __version__
from axons.data.images import WorkingImage
from axons.data.layers import IGNORE_INDEX, crc32, training_mask, unpack
from axons.data.pipelines import stream
from axons.data.resizing import resize_image, resize_mask
from axons.data.rows import Row
from axons.data.shards import RecordData, draw_points, write_shard
from axons.data.storage import local_file, open_storage, sha256_of
from axons.data.tiles import TileGrid, Window
from axons.data.training_set import (
    MANIFEST,
    SPLITS,
    Balance,
    ChosenImage,
    ChosenTile,
    FreezeRequest,
    FrozenImage,
    Record,
    Shard,
    Split,
    TrainingSet,
    assign_splits,
    check_request,
    diversity_of,
    manifest_bytes,
    warnings_of,
)
from axons.errors import AnnotationRefused, TrainingSetRefused

CELL = 1024
CONTEXT = 128
WHOLE_IMAGE_PIXELS = 16 * 10**6

_SHARD_BYTES = 32 << 20
_MIN_SHARD_BYTES = 4 << 20
_SHARDS_WANTED = 8  # small sets still spread over a few workers


class _Cell(Row):
    """A part of an image, at its own size, that becomes one record; each labelled pixel is counted in one cell."""

    image: int
    row0: int
    col0: int
    height: int
    width: int
    split: Split
    margin: int  # context around the labelled pixels, or around the cell if it is kept whole
    is_trimmed: bool

    @property
    def window(self) -> Window:
        return Window(self.row0, self.col0, self.height, self.width)


class _ShardPlan(Row):
    """One task: the cells of one shard, and the images with the tiles that they touch."""

    shard: int
    cells: list[_Cell]
    images: dict[int, ChosenImage]
    scales: dict[int, float]
    num_classes: int
    channels: int
    seed: int


class FrozenCell(Row):
    """What became of a cell: its record, and the pixels and objects of each class counted in it."""

    record: Record
    pixels: list[int]
    objects: list[int]


class FrozenShard(Row):
    """A shard that lies in storage; `refusal` says why it could not be made."""

    number: int
    shard: Shard | None = None
    cells: list[FrozenCell] = []
    refusal: str | None = None


class FreezePlan(Row):
    """What will be frozen: the labelled images with their splits, and the work cut into shards."""

    request: FreezeRequest
    images: list[ChosenImage]
    splits: list[Split]
    shards: list[_ShardPlan]


def freeze(request: FreezeRequest, *, target_uri: str) -> TrainingSet:
    """Freeze a training set into `target_uri` and return its manifest; nothing is left there if it is refused.

    Raises:
        TrainingSetRefused: see `training_set.check_request`.
        AnnotationRefused: a tile renders to another checksum than was saved.
    """
    plan = plan_freeze(request)
    return finish_freeze(plan, list(write_shards(plan, target_uri=target_uri)), target_uri=target_uri)


def plan_freeze(request: FreezeRequest) -> FreezePlan:
    """Check the request, draw the splits and cut the work into shards; nothing is written yet.

    Which record goes to which shard follows from the request alone, whatever the scheduling.
    """
    images = check_request(request)
    splits = assign_splits(images, request)
    cells = [cell for i in range(len(images)) for cell in _cells(i, images[i], splits[i], request)]
    channels = max(image.channels for image in images)
    shards = []
    for number, group in enumerate(_group(cells, images)):
        used = sorted({cell.image for cell in group})
        shards.append(
            _ShardPlan(
                shard=number,
                cells=group,
                images={i: _with_tiles_near(images[i], [cell for cell in group if cell.image == i]) for i in used},
                scales={i: request.scale_of(images[i]) for i in used},
                num_classes=len(request.classes),
                channels=channels,
                seed=request.seed,
            )
        )
    return FreezePlan(request=request, images=images, splits=splits, shards=shards)


def write_shards(plan: FreezePlan, *, target_uri: str) -> Iterator[FrozenShard]:
    """Write every shard of the plan, on the cluster; yields each as it is done, in no set order."""
    for answer in stream([shard.packed() for shard in plan.shards], _write_shard, target_uri=target_uri):
        yield FrozenShard.model_validate_json(answer)


def finish_freeze(plan: FreezePlan, frozen: Sequence[FrozenShard], *, target_uri: str) -> TrainingSet:
    """Write the manifest over the shards that `write_shards` yielded.

    Raises:
        TrainingSetRefused, AnnotationRefused: as `freeze`; what was written is deleted. Also if another training set
            lies there, which stays.
    """
    target = open_storage(target_uri)
    try:
        training_set = _manifest(plan, sorted(frozen, key=lambda shard: shard.number))
    except (TrainingSetRefused, AnnotationRefused):
        if not target.exists(MANIFEST):
            target.delete_prefix("shards")
        raise
    manifest = manifest_bytes(training_set)
    if not target.write(MANIFEST, manifest) and target.read(MANIFEST) != manifest:  # not only this step run twice
        raise TrainingSetRefused(f"another training set lies at {target_uri}; freeze to a new address")
    return training_set


def compose(tiles: Sequence[ChosenTile], planes: dict[Window, np.ndarray], window: Window) -> np.ndarray:
    """The training mask of a window, from the rendered planes of the tiles it meets; elsewhere `IGNORE_INDEX`."""
    mask = np.full((window.height, window.width), IGNORE_INDEX, np.uint8)
    for tile in tiles:
        if shared := tile.window.intersection(window):
            mask[shared.seen_from(window).slices] = planes[tile.window][shared.seen_from(tile.window).slices]
    return mask


def _cells(index: int, image: ChosenImage, split: Split, request: FreezeRequest) -> Iterator[_Cell]:
    scale = request.scale_of(image)
    if split != "train" and image.height * image.width * scale**2 <= WHOLE_IMAGE_PIXELS:
        whole = {"row0": 0, "col0": 0, "height": image.height, "width": image.width}
        yield _Cell(image=index, **whole, split=split, margin=0, is_trimmed=False)
        return
    margin = round((CONTEXT if split == "train" else request.window) / scale)
    labelled = [tile.window for tile in image.tiles if any(value < len(request.classes) for value in tile.counts)]
    for window in TileGrid(tile=max(1, round(CELL / scale))).windows(image.height, image.width):
        if any(window.intersection(tile) for tile in labelled):
            yield _Cell(
                image=index,
                row0=window.row0,
                col0=window.col0,
                height=window.height,
                width=window.width,
                split=split,
                margin=margin,
                is_trimmed=True,
            )


def _group(cells: Sequence[_Cell], images: Sequence[ChosenImage]) -> Iterator[list[_Cell]]:
    sizes = [
        cell.window.area * (1 + images[cell.image].channels * np.dtype(images[cell.image].dtype).itemsize)
        for cell in cells
    ]
    limit = min(_SHARD_BYTES, max(_MIN_SHARD_BYTES, sum(sizes) // _SHARDS_WANTED))
    group: list[_Cell] = []
    filled = 0
    for cell, size in zip(cells, sizes, strict=True):
        if group and filled + size > limit:
            yield group
            group, filled = [], 0
        group.append(cell)
        filled += size
    yield group


def _with_tiles_near(image: ChosenImage, cells: Sequence[_Cell]) -> ChosenImage:
    reaches = [cell.window.grown(cell.margin, image.height, image.width) for cell in cells]
    near = [tile for tile in image.tiles if any(reach.intersection(tile.window) for reach in reaches)]
    return image.model_copy(update={"tiles": near})


def _write_shard(row: bytes, *, target_uri: str) -> Iterator[bytes]:
    plan = _ShardPlan.model_validate_json(row)
    try:
        records, cells = _records(plan)
    except AnnotationRefused as error:
        yield FrozenShard(number=plan.shard, refusal=str(error)).packed()
        return
    if not records:
        yield FrozenShard(number=plan.shard).packed()
        return
    key = f"shards/{plan.shard:05d}.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shard")
        write_shard(path, records)
        shard = Shard(key=key, sha256=sha256_of(path), num_bytes=path.stat().st_size)
        open_storage(target_uri).write(key, path)
    yield FrozenShard(number=plan.shard, shard=shard, cells=cells).packed()


def _records(plan: _ShardPlan) -> tuple[list[RecordData], list[FrozenCell]]:
    records: list[RecordData] = []
    cells: list[FrozenCell] = []
    opened = {i: WorkingImage(local_file(image.working_uri)) for i, image in plan.images.items()}
    planes = {i: _planes(image) for i, image in plan.images.items()}
    for cell in plan.cells:
        image, scale = plan.images[cell.image], plan.scales[cell.image]
        window = _record_window(cell, image, planes[cell.image])
        if window is None:
            continue
        mask = compose(image.tiles, planes[cell.image], window)
        inside = _core(cell, window)
        own = np.full_like(mask, IGNORE_INDEX)  # without the labels of the context, which are another record's own
        own[inside.slices] = mask[inside.slices]
        height, width = max(1, round(window.height * scale)), max(1, round(window.width * scale))
        scaled = resize_mask(own, height, width)
        rng = np.random.default_rng([plan.seed, zlib.crc32(image.image_id.encode()), cell.row0, cell.col0])
        pixels_hwc = np.broadcast_to(opened[cell.image].read(window), (window.height, window.width, plan.channels))
        records.append(
            RecordData(
                image=resize_image(pixels_hwc, height, width),
                # What is scored is scored once; what is learnt from is met as often at the edge of a cell as inside.
                mask=resize_mask(mask, height, width) if cell.split == "train" else scaled,
                points=draw_points(scaled, plan.num_classes, rng=rng),
            )
        )
        counted = _count_pixels(own, plan.num_classes)
        record = Record(
            image=cell.image,
            shard=plan.shard,
            index=len(cells),
            row0=round(window.row0 * scale),
            col0=round(window.col0 * scale),
            height=height,
            width=width,
            class_pixels=counted if scaled is own else _count_pixels(scaled, plan.num_classes),
        )
        cells.append(
            FrozenCell(
                record=record,
                pixels=counted,
                objects=_count_objects(mask, inside, plan.num_classes),
            )
        )
    return records, cells


def _planes(image: ChosenImage) -> dict[Window, np.ndarray]:
    planes = {}
    for tile in image.tiles:
        plane = unpack(tile.annotation).plane()
        if crc32(plane) != tile.crc32:
            raise AnnotationRefused(
                f"tile ({tile.row0}, {tile.col0}) of {image.name!r} renders to another checksum than was saved; "
                "open and save it again"
            )
        planes[tile.window] = training_mask(plane)
    return planes


def _record_window(cell: _Cell, image: ChosenImage, planes: dict[Window, np.ndarray]) -> Window | None:
    """The cell whole, or the bounding box of its labelled pixels; grown by the cell's margin."""
    if not cell.is_trimmed:
        return cell.window
    labelled = compose(image.tiles, planes, cell.window) != IGNORE_INDEX
    rows, cols = np.flatnonzero(labelled.any(axis=1)), np.flatnonzero(labelled.any(axis=0))
    if not len(rows):
        return None
    box = Window(
        cell.row0 + int(rows[0]), cell.col0 + int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1
    )
    return box.grown(cell.margin, image.height, image.width)


def _core(cell: _Cell, window: Window) -> Window:
    """The part of a record's window that lies in its cell, seen from the window; the rest is context."""
    core = cell.window.intersection(window)
    assert core is not None
    return core.seen_from(window)


def _count_pixels(mask: np.ndarray, num_classes: int) -> list[int]:
    return np.bincount(mask.reshape(-1), minlength=256)[:num_classes].tolist()


def _count_objects(mask: np.ndarray, inside: Window, num_classes: int) -> list[int]:
    """Objects of each class whose first pixel lies in the cell, so that one shared with a neighbour counts once."""
    objects = [0] * num_classes
    top, bottom = inside.row0, inside.row0 + inside.height
    left, right = inside.col0, inside.col0 + inside.width
    for class_index in range(1, num_classes):
        labels, _ = ndimage.label(mask == class_index)
        for i, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1):
            is_inside = top <= rows.start < bottom and left <= cols.start and cols.stop <= right
            if not is_inside and top <= rows.start < bottom:  # part of its first row may lie beside the cell
                first = cols.start + int(np.argmax(labels[rows.start, cols] == i))
                is_inside = left <= first < right
            objects[class_index] += is_inside
    return objects


def _manifest(plan: FreezePlan, frozen: Sequence[FrozenShard]) -> TrainingSet:
    request = plan.request
    for shard in frozen:
        if shard.refusal:
            raise AnnotationRefused(shard.refusal)
    if missing := {shard.shard for shard in plan.shards} - {shard.number for shard in frozen}:
        raise TrainingSetRefused(f"{len(missing)} of {len(plan.shards)} shards were not written; freeze again")
    cells = [cell for shard in frozen for cell in shard.cells]
    _check_learnable(request, [cell for cell in cells if plan.splits[cell.record.image] == "train"])
    numbers = {shard.number: i for i, shard in enumerate(shard for shard in frozen if shard.shard)}
    train = [image for image, split in zip(plan.images, plan.splits, strict=True) if split == "train"]
    channels = plan.shards[0].channels
    mean, std = _pooled(train, channels)
    return TrainingSet(
        name=request.name,
        classes=request.classes,
        channels=channels,
        scale=request.scale,
        pixel_size_um=request.pixel_size_um,
        seed=request.seed,
        images=[
            _frozen_image(image, split, request, channels)
            for image, split in zip(plan.images, plan.splits, strict=True)
        ],
        records=[cell.record.model_copy(update={"shard": numbers[cell.record.shard]}) for cell in cells],
        shards=[shard.shard for shard in frozen if shard.shard],
        mean=mean,
        std=std,
        balance=_balance(cells, plan.splits, len(request.classes)),
        diversity=diversity_of(plan.images),
        warnings=warnings_of(plan.images, plan.splits),
        code_version=__version__,
    )


def _check_learnable(request: FreezeRequest, cells: Sequence[FrozenCell]) -> None:
    for k, label_class in enumerate(request.classes):
        if not any(cell.pixels[k] for cell in cells):
            raise TrainingSetRefused(
                f"class {label_class.name!r} has no labelled pixel in the training images; "
                "label some there or change the split"
            )
        if not any(cell.record.class_pixels[k] for cell in cells):
            raise TrainingSetRefused(
                f"class {label_class.name!r} has no pixel left at the size of this training set; choose a larger scale"
            )


def _balance(cells: Sequence[FrozenCell], splits: Sequence[Split], num_classes: int) -> Balance:
    pixels = {split: np.zeros(num_classes, np.int64) for split in SPLITS}
    objects = {split: np.zeros(num_classes, np.int64) for split in SPLITS}
    for cell in cells:
        split = splits[cell.record.image]
        pixels[split] += cell.pixels
        objects[split] += cell.objects
    return Balance(
        pixels={split: counts.tolist() for split, counts in pixels.items()},
        objects={split: counts.tolist() for split, counts in objects.items()},
    )


def _frozen_image(image: ChosenImage, split: Split, request: FreezeRequest, channels: int) -> FrozenImage:
    scale = request.scale_of(image)
    mean, std = np.broadcast_to(image.mean, channels), np.broadcast_to(image.std, channels)
    return FrozenImage(
        image_id=image.image_id,
        name=image.name,
        split=split,
        group=image.group,
        height=max(1, round(image.height * scale)),
        width=max(1, round(image.width * scale)),
        channels=image.channels,
        dtype=image.dtype,
        scale=scale,
        pixel_size_um=image.pixel_size_um / scale if image.pixel_size_um else None,
        mean=mean.tolist(),
        std=std.tolist(),
        revisions=[(tile.row0, tile.col0, tile.revision, tile.crc32) for tile in image.tiles],
    )


def _pooled(images: Sequence[ChosenImage], channels: int) -> tuple[list[float], list[float]]:
    """Mean and std over all pixels of several images."""
    weights = np.array([image.height * image.width for image in images], np.float64)
    weights /= weights.sum()
    means = np.array([np.broadcast_to(image.mean, channels) for image in images])
    stds = np.array([np.broadcast_to(image.std, channels) for image in images])
    mean = weights @ means
    std = np.sqrt(weights @ (stds**2 + means**2) - mean**2)
    return mean.tolist(), std.tolist()
