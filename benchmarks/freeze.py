"""Freezing 500 labelled tiles into shards on a started Ray, against a pool of two processes with OpenCV.

Peer: `multiprocessing.Pool(2)`, started before; for each image it reads the working TIFF with OpenCV, fills the same
polygons with `cv2.fillPoly`, counts pixels and objects of each class, and writes one .npz of pixels and mask a tile,
hashed. It checks no label, syncs nothing to disk, and paints 3 % too much. Target: 0.8 × the pool, each warm.
"""

import gzip
import hashlib
import json
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import ray

from axons.data.freezing import freeze
from axons.data.layers import SUBPIXEL, Annotation, PolygonLayer, count_values, crc32, pack
from axons.data.tiles import TileGrid, Window
from axons.data.training_set import ChosenImage, ChosenTile, FreezeRequest
from axons.model.normalisation import statistics
from benchmarks.measuring import Result, alternate, medians, seconds
from tests.drawing import CLASSES, write_working

_TILE, _SIDE = 256, 1280  # 25 tiles an image
_POLYGONS = 8  # a tile


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    images = [_image(scratch, i) for i in range(2 if is_small else 20)]
    request = FreezeRequest(name="polygons", classes=CLASSES, images=images)
    num_tiles = sum(len(image.tiles) for image in images)
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with get_context("spawn").Pool(2) as pool:
        count = iter(range(100))

        def ours() -> None:
            freeze(request, target_uri=str(scratch / f"set-{next(count)}"))

        def theirs() -> None:
            folder = scratch / f"tiles-{next(count)}"
            folder.mkdir()
            pool.starmap(_write_tiles, [(image, folder) for image in images], chunksize=1)

        ours()
        theirs()
        took = medians(alternate(3, ours=ours, pool=theirs))
    ray.shutdown()
    return Result(
        figures=[seconds(f"{num_tiles} tiles, Pool(2) with OpenCV", took["ours"], took["pool"], at_least=0.8)],
        notes=[
            "the pool writes a file a tile and syncs nothing; ours checks each label's checksum, keeps 128 px of "
            "context, counts objects across tiles, draws points, and syncs what it writes"
        ],
    )


def _image(scratch: Path, number: int) -> ChosenImage:
    """An RGB image of polygons, each in one tile, with its labels as they are saved."""
    rng = np.random.default_rng(number)
    annotations = {window: _annotation(rng) for window in TileGrid(tile=_TILE).windows(_SIDE, _SIDE)}
    planes = {window: annotation.plane() for window, annotation in annotations.items()}
    mask = np.zeros((_SIDE, _SIDE), np.uint8)
    for window, plane in planes.items():
        mask[window.slices] = plane
    grey = np.array([120, 40, 210])[mask] + rng.normal(0, 8, mask.shape)
    image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    mean, std = statistics(image)
    name = f"polygons-{number}"
    return ChosenImage(
        image_id=name,
        name=f"{name}.png",
        working_uri=write_working(scratch / "images" / f"{name}.tif", image),
        height=_SIDE,
        width=_SIDE,
        channels=3,
        dtype="uint8",
        mean=mean,
        std=std,
        tiles=[_tile(window, annotations[window], planes[window]) for window in annotations],
    )


def _annotation(rng: np.random.Generator) -> Annotation:
    """The whole tile as background, polygons of two classes on it."""
    full = np.array([[0, 0], [0, _TILE], [_TILE, _TILE], [_TILE, 0]]) * SUBPIXEL
    layers = [PolygonLayer(value=0, rings=(full,))]
    for i in range(_POLYGONS):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 32))
        reach = rng.uniform(10, 40) * rng.uniform(0.8, 1.2, 32)
        ring = rng.uniform(0, _TILE, 2) + reach[:, None] * np.column_stack([np.sin(angles), np.cos(angles)])
        layers.append(PolygonLayer(value=1 + i % 2, rings=(np.rint(ring * SUBPIXEL).astype(np.int64),)))
    return Annotation(height=_TILE, width=_TILE, layers=tuple(layers))


def _tile(window: Window, annotation: Annotation, plane: np.ndarray) -> ChosenTile:
    return ChosenTile(
        row0=window.row0,
        col0=window.col0,
        height=window.height,
        width=window.width,
        annotation=pack(annotation),
        crc32=crc32(plane),
        counts=count_values(plane),
    )


def _write_tiles(image: ChosenImage, folder: Path) -> None:
    """What a script would do for one image: read it, paint each tile's polygons, write pixels and mask."""
    cv2.setNumThreads(1)
    counts: list[np.ndarray] = []
    objects: list[list[int]] = []
    hashes: list[str] = []
    pixels = cv2.imread(image.working_uri, cv2.IMREAD_COLOR_RGB)
    for tile in image.tiles:
        mask = np.full((tile.height, tile.width), 255, np.uint8)
        for layer in json.loads(gzip.decompress(tile.annotation))["layers"]:
            vertices = np.array(layer["rings"][0]).reshape(-1, 2)[:, ::-1]
            # OpenCV counts from pixel centres; `shift` is the number of fractional bits.
            cv2.fillPoly(mask, [vertices - SUBPIXEL // 2], layer["value"], shift=4)
        counts.append(np.bincount(mask.reshape(-1), minlength=256)[: len(CLASSES)])
        objects.append([cv2.connectedComponents((mask == k).astype(np.uint8))[0] - 1 for k in range(1, len(CLASSES))])
        path = folder / f"{image.image_id}-{tile.row0}-{tile.col0}.npz"
        np.savez(
            path,
            image=pixels[tile.row0 : tile.row0 + tile.height, tile.col0 : tile.col0 + tile.width],
            mask=mask,
        )
        hashes.append(hashlib.sha256(path.read_bytes()).hexdigest())
