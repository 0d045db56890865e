"""Which type of node Ray's autoscaler starts for the work that waits."""

from typing import Any

from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer


def score(
    node_resources: dict[str, Any], demands: list[dict[str, Any]], node_type: str, *, node_availability_summary: Any
) -> tuple[bool, int, float, float] | None:
    """Ray's own score, but none for a GPU machine where no work asks for a GPU.

    Ray only prefers CPU machines: where it may start no more of them, waiting CPU work would start a GPU machine.
    Named in `RAY_AUTOSCALER_UTILIZATION_SCORER` on the head.
    """
    if node_resources.get("GPU", 0) > 0 and not any(demand.get("GPU", 0) > 0 for demand in demands):
        return None
    return _default_utilization_scorer(
        node_resources, demands, node_type, node_availability_summary=node_availability_summary
    )
