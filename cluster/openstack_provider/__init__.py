"""Ray's autoscaler on OpenStack clouds: a node provider, and a score by which CPU work never starts a GPU machine."""

from openstack_provider.provider import OpenStackNodeProvider
from openstack_provider.scoring import score

__all__ = ["OpenStackNodeProvider", "score"]
