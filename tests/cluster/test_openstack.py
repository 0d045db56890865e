"""Servers of an OpenStack cloud as nodes of Ray: through the real openstacksdk, to a cloud on loopback."""

import logging
from typing import Any

import pytest
from openstack_provider import OpenStackNodeProvider
from openstack_provider.servers import to_metadata, to_tags
from ray.autoscaler.node_launch_exception import NodeLaunchException

from tests.cluster.cloud import Cloud, ray_answers

HEAD = {"ray-node-type": "head", "ray-user-node-type": "head", "ray-node-status": "uninitialized"}
WORKER = {"ray-node-type": "worker", "ray-user-node-type": "v100s", "ray-node-status": "uninitialized"}


@pytest.fixture
def provider(cloud: Cloud, config: dict[str, Any]) -> OpenStackNodeProvider:
    return OpenStackNodeProvider(config["provider"], "axons")


def start(provider: OpenStackNodeProvider, config: dict[str, Any], tags: dict[str, str], count: int = 1) -> list[str]:
    """As Ray starts nodes: with the node type's own sections."""
    declared = config["available_node_types"][tags["ray-user-node-type"]]
    resources = declared["resources"]
    return list(provider.create_node_with_resources_and_labels(declared["node_config"], tags, count, resources, {}))


@pytest.fixture
def head(provider: OpenStackNodeProvider, cloud: Cloud, config: dict[str, Any]) -> str:
    (head,) = start(provider, config, HEAD)
    cloud.boot()
    return head


def test_a_node_is_found_by_its_tags_and_has_its_addresses(provider, head):
    assert provider.non_terminated_nodes({"ray-node-type": "head"}) == [head]
    assert provider.non_terminated_nodes({"ray-node-type": "worker"}) == []
    assert provider.is_running(head) and not provider.is_terminated(head)
    assert (provider.internal_ip(head), provider.external_ip(head)) == ("127.77.0.2", "203.0.0.2")
    assert provider.get_node_id("127.77.0.2", use_internal_ip=True) == head


def test_a_node_that_boots_has_no_address_yet(provider, cloud, config, head):
    (worker,) = start(provider, config, WORKER)
    assert not provider.is_running(worker) and not provider.is_terminated(worker)
    assert provider.internal_ip(worker) is None


def test_tags_live_in_the_servers_metadata(provider, cloud, head):
    provider.set_node_tags(head, {"ray-node-status": "up-to-date"})
    assert provider.node_tags(head)["ray-node-status"] == "up-to-date"
    assert cloud.machines[head].metadata["ray-node-status"] == "up-to-date"


@pytest.mark.parametrize("key", ["ray-node-type", "ray.io/node~type", "a:b c%é"])
def test_any_tag_comes_back_from_metadata(key):
    metadata = to_metadata({key: "é"})
    assert to_tags(metadata) == {key: "é"}
    assert all(character.isalnum() or character in "-_:. " for name in metadata for character in name)
    assert all(name.isascii() for name in metadata)


def test_a_tag_too_long_for_metadata_is_refused():
    with pytest.raises(ValueError, match="a value of 256 characters; server metadata takes 255, choose shorter names"):
        to_metadata({"ray-node-name": "x" * 256})


def test_a_worker_starts_ray_in_the_container_with_what_its_type_declares(provider, cloud, config, head):
    (worker,) = start(provider, config, WORKER)
    environment, service = (file["content"] for file in cloud.machines[worker].cloud_init()["write_files"])
    assert "--gpus all" in service and "ghcr.io/mupacif/axons-ovh:gpu ray start --block" in service
    assert "--address=127.77.0.2:6379 --node-manager-port=6380" in service
    assert '"CPU": 13, "GPU": 1, "memory": 30064771072' in environment
    assert "RAY_AUTH_TOKEN=value-of-RAY_AUTH_TOKEN\n" in environment
    assert "AWS_ACCESS_KEY_ID=value-of-WORKER_ACCESS_KEY_ID\n" in environment
    assert "AXONS_" not in environment


def test_a_worker_does_not_get_the_keys_of_the_cloud(provider, cloud, config, head):
    (worker,) = start(provider, config, WORKER)
    assert "secret-of-the-cloud" not in str(cloud.machines[worker].cloud_init())


def test_a_worker_without_a_head_is_refused(provider, cloud, config):
    with pytest.raises(NodeLaunchException, match="has no head with an address; run `ray up` first"):
        start(provider, config, WORKER)
    assert not cloud.machines


def test_servers_of_others_are_never_touched(provider, cloud, config, head):
    other = OpenStackNodeProvider(config["provider"], "another-class")
    assert other.non_terminated_nodes({}) == []
    with pytest.raises(ValueError, match="does not belong to cluster 'another-class'; it is left alone"):
        other.terminate_node(head)
    with pytest.raises(ValueError, match="it is left alone"):
        other.set_node_tags(head, {"ray-node-status": "up-to-date"})
    assert cloud.machines[head].task_state is None and "up-to-date" not in cloud.machines[head].metadata.values()


def test_a_server_with_no_tags_at_all_is_never_touched(provider, cloud, head):
    cloud.machines[head].metadata.clear()
    assert provider.non_terminated_nodes({}) == []


def test_a_node_that_is_terminated_is_no_longer_listed(provider, cloud, head):
    provider.terminate_nodes([head])
    assert provider.non_terminated_nodes({}) == []
    assert provider.is_terminated(head)
    cloud.reap()
    provider.terminate_node(head)  # again, as after a restart of the head
    assert len(cloud.deletions) == 1


@pytest.mark.parametrize("refusals", [[503], [502, 504, 429, 500]])
def test_passing_faults_of_the_cloud_are_repeated(provider, cloud, config, refusals):
    cloud.refuse = refusals
    start(provider, config, HEAD)
    assert cloud.creations == 1


def test_a_lost_answer_does_not_make_a_second_server(provider, cloud, config):
    cloud.lose_answers = 1
    (head,) = start(provider, config, HEAD)
    assert list(cloud.machines) == [head]


def test_a_cloud_that_stays_away_is_told_after_five_tries(provider, cloud, config):
    cloud.refuse = [503] * 99
    with pytest.raises(NodeLaunchException, match=r"\(CloudError\): 0 of 1 .* unavailable.*; it is tried again"):
        start(provider, config, HEAD)
    assert len(cloud.refuse) == 94


def test_an_exceeded_quota_is_named_and_what_was_created_stays(provider, cloud, config, head):
    cloud.quota["cores"] = 16 + 13 + 5
    with pytest.raises(NodeLaunchException) as refusal:
        start(provider, config, WORKER, count=2)
    assert refusal.value.category == "QuotaExceeded"
    assert "1 of 2 servers of flavor 'GPU-FLAVOR' were created" in refusal.value.description
    assert "Quota exceeded for cores" in refusal.value.description
    assert "(29 of 34 cores are in use and 13 more are needed)" in refusal.value.description
    assert len(cloud.machines) == 2


@pytest.mark.parametrize(("field", "what"), [("flavor", "Flavor"), ("image", "Image")])
def test_a_name_that_the_cloud_does_not_know_is_told(provider, config, field, what):
    config["available_node_types"]["head"]["node_config"][field] = "no-such-name"
    with pytest.raises(NodeLaunchException, match=f"No {what} found for no-such-name.*; correct the name"):
        start(provider, config, HEAD)


def test_a_server_that_fails_to_boot_is_deleted_and_its_fault_is_told(provider, cloud, config, head, caplog):
    (worker,) = start(provider, config, WORKER)
    cloud.boot(fault="No valid host was found.")
    with caplog.at_level(logging.ERROR):
        assert provider.non_terminated_nodes({}) == [head]
    assert "type v100s is deleted, the cloud could not boot it: No valid host was found." in caplog.text
    assert cloud.machines[worker].task_state == "deleting"
    with pytest.raises(NodeLaunchException, match="No valid host was found.; the next is tried in a minute"):
        start(provider, config, WORKER)


def test_a_worker_is_up_once_ray_answers_on_it(provider, cloud, config, head):
    (worker,) = start(provider, config, WORKER)
    (machine,) = cloud.boot()
    provider.non_terminated_nodes({})
    assert provider.node_tags(worker)["ray-node-status"] == "uninitialized"
    with ray_answers(machine, 6380):
        provider.non_terminated_nodes({})
    assert provider.node_tags(worker)["ray-node-status"] == "up-to-date"


def test_a_worker_on_which_ray_does_not_come_up_is_deleted_with_its_console_shown(
    provider, cloud, config, head, caplog
):
    start(provider, config, WORKER)
    cloud.boot()
    cloud.grow_older(minutes=21)
    assert provider.non_terminated_nodes({}) == [head]
    assert "Ray does not answer on it after 20 minutes (ACTIVE)" in caplog.text
    assert "no route to the head" in caplog.text
