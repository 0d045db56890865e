"""A cluster whose GPU machines are off knows that it can have them."""

from collections.abc import Iterator

import pytest
import ray
from openstack_provider.capacity import tell
from ray._raylet import GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, GCS_AUTOSCALER_STATE_NAMESPACE
from ray.experimental.internal_kv import _internal_kv_del

from axons.train.driver import cluster_gpus


@pytest.fixture
def forgetting(local_ray: None) -> Iterator[None]:
    """Other tests have no GPU to hope for."""
    yield
    _internal_kv_del(GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, namespace=GCS_AUTOSCALER_STATE_NAMESPACE)


def test_a_training_counts_on_machines_that_are_off(config, forgetting):
    tell(config, address=ray.get_runtime_context().gcs_address)
    assert cluster_gpus() == 4
