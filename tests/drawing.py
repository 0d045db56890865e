"""Images drawn in code, whose truth is known by geometry, and training sets frozen from them without a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips

from axons.data.freezing import FrozenShard, _write_shard, finish_freeze, plan_freeze
from axons.data.importing import label_tiles
from axons.data.tiles import TileGrid
from axons.data.training_set import ChosenImage, ChosenTile, FreezeRequest, LabelClass, Split, TrainingSet
from axons.model.normalisation import statistics

CLASSES = [
    LabelClass(name="background", colour="#000000"),
    LabelClass(name="ring", colour="#E69F00"),
    LabelClass(name="core", colour="#56B4E9"),
]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """(H, W, C) uint8 image and (H, W) uint8 mask of class indices."""

    image: np.ndarray
    mask: np.ndarray


def draw_disks(
    height: int, width: int, *, seed: int = 0, count: int = 6, channels: int = 1, noise: float = 8
) -> Drawing:
    """Bright cores in dark rings on a mid-grey ground, three classes."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    for _ in range(count):
        row, col = rng.uniform(0, height), rng.uniform(0, width)
        outer = rng.uniform(0.12, 0.25) * min(height, width)
        distance = np.hypot(rows - row, cols - col)
        mask[distance < outer] = 1
        mask[distance < 0.6 * outer] = 2
    grey = np.array([120, 40, 210])[mask] + rng.normal(0, noise, (height, width))
    image = np.clip(grey, 0, 255).astype(np.uint8)
    return Drawing(image=np.repeat(image[..., None], channels, axis=2), mask=mask)


def write_working(path: Path, image: np.ndarray) -> str:
    """A working TIFF of an (H, W, C) image, as the decoding child writes it; returns its address."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"tile": True, "tile_width": 256, "tile_height": 256, "pyramid": True, "compression": "deflate"}
    pyvips.Image.new_from_array(image).tiffsave(str(path), **options)
    return str(path)


def choose(
    folder: Path,
    name: str,
    drawing: Drawing,
    *,
    tile: int = 64,
    split: Split | None = None,
    group: str | None = None,
    pixel_size_um: float | None = None,
) -> ChosenImage:
    """A drawing as an image chosen for a training set, its working TIFF in `folder`."""
    grid = TileGrid(tile=tile)
    windows = {(w.row0, w.col0): w for w in grid.windows(*drawing.mask.shape)}
    labels = label_tiles(name, name, drawing.mask, grid, notices=[])
    mean, std = statistics(drawing.image)
    return ChosenImage(
        image_id=name,
        name=f"{name}.png",
        working_uri=write_working(folder / f"{name}.tif", drawing.image),
        height=drawing.image.shape[0],
        width=drawing.image.shape[1],
        channels=drawing.image.shape[2],
        dtype=drawing.image.dtype.name,
        mean=mean,
        std=std,
        pixel_size_um=pixel_size_um,
        group=group,
        split=split,
        tiles=[
            ChosenTile(**t.model_dump(), height=windows[t.row0, t.col0].height, width=windows[t.row0, t.col0].width)
            for t in labels.tiles
        ],
    )


def freeze_here(request: FreezeRequest, *, target_uri: str) -> TrainingSet:
    """`freezing.freeze` in this process."""
    plan = plan_freeze(request)
    frozen = [
        FrozenShard.model_validate_json(answer)
        for shard in plan.shards
        for answer in _write_shard(shard.packed(), target_uri=target_uri)
    ]
    return finish_freeze(plan, frozen, target_uri=target_uri)


def freeze_disks(
    folder: Path,
    *,
    target_uri: str | None = None,
    splits: Sequence[Split] = ("train", "train", "val", "test"),
    size: int = 96,
    channels: int = 1,
) -> tuple[str, TrainingSet]:
    """A small frozen training set of drawn disks: its address and manifest."""
    images = [
        choose(folder / "images", f"disks-{i}", draw_disks(size, size, seed=i, channels=channels), split=split)
        for i, split in enumerate(splits)
    ]
    request = FreezeRequest(name="disks", classes=CLASSES, images=images, window=32)
    uri = target_uri or str(folder / "training-set")
    return uri, freeze_here(request, target_uri=uri)
