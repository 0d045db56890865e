"""The manifests for Kubernetes fit together, and say the same as the other ways to a cluster."""

import json
from typing import Any

import pytest
import yaml
from openstack_provider.capacity import capacity

from tests.cluster.files import CLUSTER


def manifests(name: str) -> dict[tuple[str, str], Any]:
    """The documents of one file by kind and name."""
    documents = yaml.safe_load_all((CLUSTER / "kuberay" / name).read_text())
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


@pytest.fixture(scope="module")
def all_manifests() -> dict[tuple[str, str], Any]:
    return {**manifests("raycluster.yaml"), **manifests("access.yaml"), **manifests("secret.example.yaml")}


@pytest.fixture(scope="module")
def groups(all_manifests: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """The workers of the cluster by the name of their group."""
    return {group["groupName"]: group for group in all_manifests["RayCluster", "axons"]["spec"]["workerGroupSpecs"]}


def test_gpu_machines_offer_no_cpu_so_that_no_cpu_work_starts_one(groups):
    assert groups["v100s"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "1"}
    assert (groups["v100s"]["replicas"], groups["v100s"]["minReplicas"]) == (0, 0)


def test_what_the_platform_is_told_of_the_cluster_is_what_the_groups_can_be(all_manifests, groups):
    told = capacity(json.loads(all_manifests["ConfigMap", "axons-capacity"]["data"]["capacity.json"]))
    most = {group.name: group.max_count for group in told.node_group_configs if group.name != "head"}
    assert most == {name: group["maxReplicas"] for name, group in groups.items()}


def test_all_that_the_pods_name_is_there(all_manifests, groups):
    head = all_manifests["RayCluster", "axons"]["spec"]["headGroupSpec"]
    pods = [group["template"]["spec"] for group in [head, *groups.values()]]
    accounts = {("ServiceAccount", pod["serviceAccountName"]) for pod in pods}
    containers = [container for pod in pods for container in pod["containers"]]
    secrets = {("Secret", source["secretRef"]["name"]) for one in containers for source in one.get("envFrom", [])}
    assert accounts | secrets <= set(all_manifests)


def test_a_training_gets_no_right_on_kubernetes_and_no_secret_of_the_head(groups):
    for group in groups.values():
        pod = group["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert [one["envFrom"] for one in pod["containers"]] == [[{"secretRef": {"name": "axons-workers"}}]]


def test_from_outside_only_caddy_is_reached(all_manifests):
    assert [port["port"] for port in all_manifests["Service", "axons-door"]["spec"]["ports"]] == [80, 443]
    (rule,) = all_manifests["NetworkPolicy", "axons-door"]["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [80, 443]
