"""What a second node of one CPU adds to import, tiling and freezing: seconds with one node and with two, as JSON.

`python -m benchmarks.second_node`. Both nodes are on this machine, each pinned to a core of its own (without that, the
threads of the first would use both cores); the driver and Ray's own processes live on the first one's, and the disk is
shared. Medians of three rounds; the workers have been started before.
"""

import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from PIL import Image
from ray.cluster_utils import Cluster

from axons.data.freezing import freeze
from axons.data.importing import ImportedImage, Upload, import_images, label_tiles, tile_images
from axons.data.tiles import TileGrid
from axons.data.training_set import ChosenImage, ChosenTile, FreezeRequest
from tests.drawing import CLASSES, Drawing, draw_disks

NUM_IMAGES = 64
HEIGHT, WIDTH = 1200, 1600
ROUNDS = 3
GRID = TileGrid(tile=256)
FINE_GRID = TileGrid(tile=64, overlap=16)
STORE_BYTES = 100 << 20

_CORES = os.sched_getaffinity(0)


def main() -> None:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        drawings = [draw_disks(HEIGHT, WIDTH, seed=i, count=12, channels=3) for i in range(NUM_IMAGES)]
        uploads = [_upload(Path(folder, f"{i}.jpg"), drawing) for i, drawing in enumerate(drawings)]
        _stay_on_core(0)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False},
        )
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        one = _measure(Path(folder, "one"), uploads, drawings)
        _stay_on_core(1)  # what is started from here on
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        _stay_on_core(0)
        two = _measure(Path(folder, "two"), uploads, drawings)
        ray.shutdown()
        cluster.shutdown()
    answer: dict[str, Any] = {
        stage: {"one": round(one[stage], 2), "two": round(two[stage], 2), "ratio": round(one[stage] / two[stage], 2)}
        for stage in one
    }
    sys.stdout.write(json.dumps(answer) + "\n")


def _stay_on_core(number: int) -> None:
    os.sched_setaffinity(0, {sorted(_CORES)[number]})


def _measure(folder: Path, uploads: list[Upload], drawings: list[Drawing]) -> dict[str, float]:
    """Median seconds of each stage on the cluster as it is."""
    images = _import(uploads, folder / "first")  # starts the workers
    request = FreezeRequest(
        name="disks", classes=CLASSES, images=[_chosen(image, drawings[int(image.name)]) for image in images]
    )
    return {
        "import": _median(lambda i: _import(uploads, folder / f"images-{i}")),
        "tile": _median(lambda _: list(tile_images(images, grid=FINE_GRID))),
        "freeze": _median(lambda i: freeze(request, target_uri=str(folder / f"set-{i}"))),
    }


def _median(work: Callable[[int], object]) -> float:
    seconds = []
    for i in range(ROUNDS):
        began = time.perf_counter()
        work(i)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _import(uploads: list[Upload], target: Path) -> list[ImportedImage]:
    images = list(import_images(uploads, target_uri=str(target), grid=GRID))
    assert all(isinstance(image, ImportedImage) for image in images)
    return sorted(images, key=lambda image: int(image.name))  # type: ignore[arg-type, return-value]


def _upload(path: Path, drawing: Drawing) -> Upload:
    Image.fromarray(drawing.image).save(path, quality=92)
    return Upload(image_id=f"image-{path.stem}", uri=str(path), name=path.stem)


def _chosen(image: ImportedImage, drawing: Drawing) -> ChosenImage:
    labels = label_tiles(image.image_id, image.name, drawing.mask, GRID, notices=[])
    windows = {(window.row0, window.col0): window for window in GRID.windows(HEIGHT, WIDTH)}
    tiles = [
        ChosenTile(**tile.model_dump(), height=window.height, width=window.width)
        for tile in labels.tiles
        for window in [windows[tile.row0, tile.col0]]
    ]
    same = {name: getattr(image, name) for name in ChosenImage.model_fields if name in ImportedImage.model_fields}
    return ChosenImage(**{**same, "tiles": tiles})


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    main()
