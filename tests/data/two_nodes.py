"""Import, tiling and freezing on a cluster of one node, then of two; prints where each task ran and what came out.

Run as `python -m tests.data.two_nodes FOLDER`: a process that is connected to another Ray cannot join this one.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import ray
from PIL import Image
from ray.cluster_utils import Cluster

from axons.data.decoding import DecodeLimits
from axons.data.freezing import FrozenShard, _write_shard, finish_freeze, plan_freeze
from axons.data.importing import ImportedImage, Upload, _import_image, _Outcome, _tile_image, label_tiles
from axons.data.pipelines import stream
from axons.data.storage import sha256_of
from axons.data.tiles import TileGrid
from axons.data.training_set import ChosenImage, ChosenTile, FreezeRequest
from tests.drawing import CLASSES, draw_disks

NUM_IMAGES = 10
SIZE = 512
GRID = TileGrid(tile=256)
_SECONDS = 0.1  # each task takes at least so long, so that the two nodes work at the same time


def on_node(row: bytes, *, work: Callable[..., Iterator[bytes]], **arguments: object) -> Iterator[bytes]:
    """What `work` yields for a row, with the node on which it ran."""
    time.sleep(_SECONDS)
    for answer in work(row, **arguments):
        yield json.dumps({"node": ray.get_runtime_context().get_node_id(), "answer": answer.decode()}).encode()


def spread(rows: Sequence[bytes], work: Callable[..., Iterator[bytes]], **arguments: object) -> tuple[int, list[str]]:
    """Rows through the product's `stream`: on how many nodes they were worked on, and the answers in order."""
    told = [json.loads(answer) for answer in stream(rows, on_node, work=work, **arguments)]
    return len({one["node"] for one in told}), sorted(one["answer"] for one in told)


def run(folder: Path, uploads: list[Upload]) -> dict[str, object]:
    """The three stages once: nodes by stage, and what they made."""
    target_uri = str(folder / "target")
    import_nodes, answers = spread(
        [upload.packed() for upload in uploads], _import_image, target_uri=target_uri, grid=GRID, limits=DecodeLimits()
    )
    images = [_Outcome.model_validate_json(answer).image for answer in answers]
    assert all(images)
    tile_nodes, tiled = spread([image.packed() for image in images], _tile_image, grid=TileGrid(tile=100, overlap=20))
    plan = plan_freeze(FreezeRequest(name="disks", classes=CLASSES, images=[chosen(image) for image in images]))
    freeze_nodes, frozen = spread([s.packed() for s in plan.shards], _write_shard, target_uri=target_uri)
    training_set = finish_freeze(plan, [FrozenShard.model_validate_json(s) for s in frozen], target_uri=target_uri)
    files = {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}
    return {
        "nodes": {"import": import_nodes, "tile": tile_nodes, "freeze": freeze_nodes},
        "rows": [row.replace(str(folder), "") for row in [*answers, *tiled]],
        "training_set": training_set.sha256(),
        "files": files,
    }


def chosen(image: ImportedImage) -> ChosenImage:
    """An imported image with the labels of its drawing."""
    labels = label_tiles(image.image_id, image.name, drawing(int(image.name)).mask, GRID, notices=[])
    same = {name: getattr(image, name) for name in ChosenImage.model_fields if name in ImportedImage.model_fields}
    tiles = [ChosenTile(**tile.model_dump(), height=256, width=256) for tile in labels.tiles]
    return ChosenImage(**{**same, "tiles": tiles})


def drawing(number: int):
    return draw_disks(SIZE, SIZE, seed=number)


def draw_uploads(folder: Path) -> list[Upload]:
    """Drawn images as PNG, big enough that their training set has several shards."""
    folder.mkdir()
    for number in range(NUM_IMAGES):
        Image.fromarray(np.repeat(drawing(number).image, 3, axis=2)).save(folder / str(number), "PNG", compress_level=1)
    return [Upload(image_id=f"image-{n}", uri=str(folder / str(n)), name=str(n)) for n in range(NUM_IMAGES)]


def main(folder: Path) -> None:
    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    uploads = draw_uploads(folder / "uploads")
    cluster = Cluster(initialize_head=True, head_node_args=node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    one = run(folder / "one", uploads)
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    two = run(folder / "two", uploads)
    ray.shutdown()
    cluster.shutdown()
    (folder / "answer.json").write_text(json.dumps({"one": one, "two": two}))


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    main(Path(sys.argv[1]))
