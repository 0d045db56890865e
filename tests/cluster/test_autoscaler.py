"""Ray's own autoscaler on a cloud of ours: V100S machines come when somebody trains and go when nobody does."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from ray.autoscaler._private.autoscaler import StandardAutoscaler
from ray.autoscaler._private.load_metrics import LoadMetrics
from ray.autoscaler._private.providers import _clear_provider_cache
from ray.autoscaler._private.util import format_info_string

from tests.cluster.cloud import Cloud, ray_answers
from tests.cluster.test_openstack import HEAD, start

TRAINING = {"GPU": 0.75}


class Gcs:
    """The one call that the autoscaler makes to the head: nodes shall finish what they do."""

    def __init__(self) -> None:
        self.drained: list[bytes] = []

    def drain_nodes(self, node_ids: set[bytes], timeout: float) -> list[bytes]:
        self.drained += node_ids
        return list(node_ids)


class Scaling:
    """An autoscaler whose nodes report what the test says."""

    def __init__(self, config: dict[str, Any], cloud: Cloud) -> None:
        self.gcs, self.load, self._cloud, self._config = Gcs(), LoadMetrics(), cloud, config
        self.autoscaler = StandardAutoscaler(
            lambda: config, self.load, self.gcs, session_name="test", update_interval_s=0
        )
        self._provider = self.autoscaler.provider

    def look(self, *, waiting: Sequence[dict[str, float]] = (), idle_minutes: float = 0) -> None:
        """Every machine that is up reports; then the autoscaler acts."""
        for id in self._provider.non_terminated_nodes({}):
            tags, ip = self._provider.node_tags(id), self._provider.internal_ip(id)
            if ip and (tags["ray-node-type"] == "head" or tags["ray-node-status"] == "up-to-date"):
                resources = self._config["available_node_types"][tags["ray-user-node-type"]]["resources"]
                self.load.update(ip, id.encode(), resources, resources, 60 * idle_minutes, list(waiting))
        self.autoscaler.update()
        self._cloud.reap()

    def status(self) -> str:
        """What `ray status --verbose` prints."""
        return format_info_string(self.load.summary(), self.autoscaler.summary(), verbose=True)

    def machines(self) -> list[str]:
        """The type of each machine but the head, as the cloud has them."""
        types = [machine.metadata["ray-user-node-type"] for machine in self._cloud.machines.values()]
        return [type_ for type_ in types if type_ != "head"]


@pytest.fixture
def scaling(cloud: Cloud, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Scaling]:
    monkeypatch.setenv("RAY_AUTOSCALER_UTILIZATION_SCORER", "openstack_provider.score")
    config["provider"]["foreground_node_launch"] = True  # no thread to wait for
    _clear_provider_cache()
    scaling = Scaling(config, cloud)
    start(scaling.autoscaler.provider, config, HEAD)
    cloud.boot()
    yield scaling
    _clear_provider_cache()


def test_two_trainings_bring_two_gpu_machines_which_go_when_they_are_idle(scaling, cloud):
    scaling.look(idle_minutes=60)
    assert scaling.machines() == []
    scaling.look(waiting=[{"GPU": 1}, {"GPU": 1}])
    assert scaling.machines() == ["v100s", "v100s"]
    scaling.look(waiting=[{"GPU": 1}, {"GPU": 1}])  # they boot
    assert scaling.machines() == ["v100s", "v100s"]
    with ExitStack() as answering:
        for machine in cloud.boot():
            answering.enter_context(ray_answers(machine, 6380))
        scaling.look()
        scaling.look(idle_minutes=9)
        assert scaling.machines() == ["v100s", "v100s"]
        scaling.look(idle_minutes=11)
    assert scaling.machines() == []
    assert len(scaling.gcs.drained) == 2
    assert len(cloud.machines) == 1  # the head


def test_a_training_and_a_segmenter_share_one_card(scaling):
    scaling.look(waiting=[TRAINING, {"GPU": 0.25}])
    assert scaling.machines() == ["v100s"]


def test_never_more_machines_than_the_file_allows(scaling):
    scaling.look(waiting=[{"GPU": 1}] * 9)
    scaling.look(waiting=[{"GPU": 1}] * 9)
    assert scaling.machines() == ["v100s"] * 4


def test_work_for_cpus_never_starts_a_gpu_machine(scaling):
    scaling.look(waiting=[{"CPU": 1}] * 40)
    assert scaling.machines() == []


def test_work_for_cpus_starts_cpu_machines_where_the_file_allows_them(scaling, config):
    config["available_node_types"]["cpu"]["max_workers"] = 2
    scaling.autoscaler.reset()
    scaling.look(waiting=[{"CPU": 1}] * 40)
    assert set(scaling.machines()) == {"cpu"}


def test_a_machine_whose_ray_dies_is_replaced(scaling, cloud):
    scaling.look(waiting=[TRAINING])
    (machine,) = cloud.boot()
    with ray_answers(machine, 6380):
        scaling.look(waiting=[TRAINING])
    scaling.look()
    scaling.load.last_heartbeat_time_by_ip[machine.address] -= 31
    scaling.autoscaler.update()
    assert machine.name in cloud.deletions


def test_an_exceeded_quota_is_shown_by_rays_own_status(scaling, cloud):
    cloud.quota["cores"] = 16
    scaling.look(waiting=[TRAINING])
    assert scaling.machines() == []
    assert "v100s: QuotaExceeded" in scaling.status() and "Quota exceeded for cores" in scaling.status()


def test_a_boot_that_fails_is_shown_by_rays_own_status(scaling, cloud):
    scaling.look(waiting=[TRAINING])
    cloud.boot(fault="No valid host was found.")
    scaling.look(waiting=[TRAINING])
    assert scaling.machines() == []
    assert "v100s: BootFailed" in scaling.status() and "No valid host was found." in scaling.status()
