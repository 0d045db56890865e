"""Why a cloud gives no server, said so that an administrator knows what to do."""

import re
import sys
from typing import Any

from openstack.exceptions import HttpException, NotFoundException, SDKException
from ray.autoscaler.node_launch_exception import NodeLaunchException

QUOTA = re.compile(r"quota|limit exceeded|maximum number|overlimit", re.IGNORECASE)


def launch_failure(error: Exception, *, cloud: Any, flavor: str, num_created: int, count: int) -> NodeLaunchException:
    """The error as Ray shows it in `ray status`: a short category, and what to do.

    Args:
        cloud: the connection, asked for the project's limits where a quota is exceeded.
        num_created: servers of the `count` that were created before.
    """
    status = error.status_code if isinstance(error, HttpException) else None
    message = str(getattr(error, "details", None) or error)
    so_far = f"{num_created} of {count} servers of flavor {flavor!r} were created, then the cloud refused: {message}"
    if status == 413 or (status in (403, 409) and QUOTA.search(message)):
        used = _exhausted(cloud, flavor)
        return _failure("QuotaExceeded", f"{so_far}{used}; delete servers or have the project's quota raised")
    if status in (401, 403):
        return _failure("Forbidden", f"{so_far}; check the rights of the project's user (OS_* in axons.env)")
    if isinstance(error, NotFoundException):
        return _failure("NotFound", f"{so_far}; correct the name in cluster.yaml")
    return _failure("CloudError", f"{so_far}; it is tried again")


def _exhausted(cloud: Any, flavor: str) -> str:
    """Which quota has no room for one more server of this flavor, as text; empty if the cloud does not say."""
    try:
        limits = cloud.compute.get_limits().absolute
        wanted = cloud.compute.find_flavor(flavor, ignore_missing=False)
    except SDKException:
        return ""
    quotas = (
        ("servers", limits.instances_used, limits.instances, 1),
        ("cores", limits.total_cores_used, limits.total_cores, wanted.vcpus),
        ("MB of memory", limits.total_ram_used, limits.total_ram, wanted.ram),
    )
    full = [
        f"{used} of {total} {name} are in use and {more} more are needed"
        for name, used, total, more in quotas
        if 0 <= total < used + more  # -1 is no limit
    ]
    return f" ({'; '.join(full)})" if full else ""


def _failure(category: str, description: str) -> NodeLaunchException:
    return NodeLaunchException(category, description, sys.exc_info())
