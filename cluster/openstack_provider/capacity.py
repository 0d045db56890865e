"""`python -m openstack_provider.capacity FILE`: tell the Ray of this machine how far its cluster can grow.

A training runs on a GPU where the cluster can have one, even while all GPU machines are off. Ray keeps a place for that
knowledge and looks there, but its autoscaler does not fill it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.core.generated.autoscaler_pb2 import ClusterConfig  # type: ignore[attr-defined]  # made at run time


def capacity(config: dict[str, Any]) -> ClusterConfig:
    """What each type of node has, and how many of it there can be.

    Args:
        config: the cluster's file as `ray up` has written it to the head.
    """
    told = ClusterConfig()
    for name, node_type in config["available_node_types"].items():
        is_head = name == config["head_node_type"]
        most = 1 if is_head else min(node_type["max_workers"], config["max_workers"])
        least = 1 if is_head else node_type["min_workers"]
        told.node_group_configs.add(name=name, resources=node_type["resources"], min_count=least, max_count=most)
    return told


def tell(config: dict[str, Any], *, address: str) -> None:
    """Tell the Ray whose head listens at this address, with the token of the environment."""
    GcsClient(address=address).report_cluster_config(capacity(config).SerializeToString())


if __name__ == "__main__":
    tell(json.loads(Path(sys.argv[1]).expanduser().read_text()), address=canonicalize_bootstrap_address_or_die("auto"))
