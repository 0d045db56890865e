"""A cluster whose GPU machines are off knows that it can have them."""

from collections.abc import Iterator

import pytest
import ray
from openstack_provider.capacity import tell
from ray._raylet import GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, GCS_AUTOSCALER_STATE_NAMESPACE
from ray.experimental.internal_kv import _internal_kv_del

from axons.errors import ConfigurationRefused
from axons.train.driver import check_fits, cluster_gpus


@pytest.fixture
def forgetting(local_ray: None) -> Iterator[None]:
    """Other tests have no GPU to hope for."""
    yield
    _internal_kv_del(GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, namespace=GCS_AUTOSCALER_STATE_NAMESPACE)


def test_a_training_counts_on_machines_that_are_off(config, forgetting):
    tell(config, address=ray.get_runtime_context().gcs_address)
    assert cluster_gpus() == 4


def test_a_preset_may_ask_for_what_a_machine_that_is_off_will_have_and_for_no_more(config, forgetting):
    tell(config, address=ray.get_runtime_context().gcs_address)
    check_fits("card", {"GPU": 1, "CPU": 13, "memory": 28 << 30})
    with pytest.raises(ConfigurationRefused, match="'cards' asks each machine for 2 GPU, and .*: the most is 1 GPU;"):
        check_fits("cards", {"GPU": 2})
