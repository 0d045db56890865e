"""The Segmenters of serve.yaml on a Ray with one logical GPU: who answers before, during and after a rush.

Run as `python -m tests.cluster.from_zero FOLDER`: a process that is connected to another Ray cannot start this one.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import ray
import yaml
from ray import serve
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from axons.serve.routing import SegmenterRouter
from axons.serve.segmenter import GPU_APPLICATION
from tests.cluster.files import CLUSTER
from tests.drawing import draw_disks
from tests.serve.models import make_model

SMALL = draw_disks(150, 170).image
LARGE = np.zeros((1000, 1000), np.uint8)
RUSH = 8
PATIENCE_S = 120


def segmenters() -> ServeDeploySchema:
    """Those of serve.yaml, which give up a GPU after seconds instead of minutes."""
    config = yaml.safe_load((CLUSTER / "serve.yaml").read_text())
    config["applications"] = [one for one in config["applications"] if one["name"].startswith("segmenter")]
    scaling = config["applications"][1]["deployments"][0]["autoscaling_config"]
    scaling.update(downscale_delay_s=1, downscale_to_zero_delay_s=1, look_back_period_s=2, metrics_interval_s=1)
    return ServeDeploySchema.model_validate(config)


def wait_until(holds: Callable[[], bool]) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_S, serve.status()
        time.sleep(0.2)
    return round(time.monotonic() - began, 1)


def running(name: str) -> int:
    """How many replicas of an application run; none where it is being built."""
    application = serve.status().applications.get(name)
    deployments = application.deployments.values() if application else ()
    return sum(deployment.replica_states.get("RUNNING", 0) for deployment in deployments)


def wishes() -> list[dict[str, float]]:
    """What Ray's autoscaler is told that somebody waits for."""
    demands = get_cluster_status(ray.get_runtime_context().gcs_address).resource_demands.ray_task_actor_demand
    return [dict(bundle.bundle) for demand in demands for bundle in demand.bundles_by_count]


def look(router: SegmenterRouter, model_uri: str) -> dict[str, object]:
    """Who answers a small image, and what of the GPU is free."""
    began = time.monotonic()
    found = router.segment(SMALL, model_uri=model_uri, timeout_s=PATIENCE_S)
    seconds = round(time.monotonic() - began, 2)
    free = ray.available_resources().get("GPU", 0)
    return {"notices": found.notices, "seconds": seconds, "free": free, "wishes": wishes(), "size": found.mask.shape}


def main(folder: Path, num_gpus: int) -> None:
    ray.init(
        address="local", num_cpus=4, num_gpus=num_gpus, include_dashboard=False, log_to_driver=False,
        object_store_memory=200 << 20, logging_level="ERROR",
    )  # fmt: skip
    model_uri, router = make_model(folder / "model"), SegmenterRouter()
    serve.start(proxy_location="Disabled")
    _get_global_client().deploy_apps(segmenters())
    told: dict[str, object] = {"start_s": wait_until(lambda: running("segmenter") == 1)}
    wait_until(lambda: GPU_APPLICATION in serve.status().applications)
    wait_until(lambda: router.gpu_replicas() == 0)
    told["before"] = look(router, model_uri)

    with ThreadPoolExecutor(RUSH) as pool:
        rush = [pool.submit(router.segment, LARGE, model_uri=model_uri, timeout_s=PATIENCE_S) for _ in range(RUSH)]
        told["rush"] = [one.result().mask.shape for one in rush]
    if num_gpus:
        told["up_s"] = wait_until(lambda: bool(router.gpu_replicas()))
        told["during"] = look(router, model_uri)
        told["down_s"] = wait_until(lambda: router.gpu_replicas() == 0)
        wait_until(lambda: ray.available_resources().get("GPU") == 1)
    else:
        told["wish_s"] = wait_until(lambda: {"GPU": 0.25} in wishes())
    told["after"] = look(router, model_uri)
    serve.shutdown()
    ray.shutdown()
    (folder / "answer.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
