"""The manifests for AKS fit those for Kubernetes, and give workers no secret."""

from typing import Any

import jsonpatch
import kubernetes_validate
import pytest
import yaml
from openstack_provider.capacity import capacity
from ray._private.accelerators import NvidiaGPUAcceleratorManager

from tests.cluster.files import CLUSTER

AZURE = CLUSTER / "kuberay" / "azure"
KUBERNETES = "1.37"


def manifests(path: Any) -> dict[tuple[str, str], Any]:
    """The documents of a file by kind and name."""
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(path.read_text())}


@pytest.fixture(scope="module")
def cluster() -> Any:
    """The RayCluster as `kubectl patch --local` makes it."""
    plain = manifests(CLUSTER / "kuberay" / "raycluster.yaml")["RayCluster", "axons"]
    patch = yaml.safe_load((AZURE / "raycluster-patch.yaml").read_text())
    return jsonpatch.JsonPatch(patch).apply(plain)["spec"]


@pytest.mark.parametrize("name", ["access.yaml", "secret.example.yaml", "capacity.yaml"])
def test_kubernetes_takes_each_document(name):
    for document in manifests(AZURE / name).values():
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_every_pod_is_somebody_to_azure_and_none_has_a_key(cluster):
    accounts = manifests(AZURE / "access.yaml")
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]
        account = accounts["ServiceAccount", pod["spec"]["serviceAccountName"]]
        assert pod["metadata"]["labels"]["azure.workload.identity/use"] == "true"
        assert "azure.workload.identity/client-id" in account["metadata"]["annotations"]
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **pod}, KUBERNETES, strict=True)
    secrets = manifests(AZURE / "secret.example.yaml")
    assert set(secrets["Secret", "axons-workers"]["stringData"]) == {"RAY_USAGE_STATS_ENABLED"}


def test_the_platform_is_told_of_the_groups_that_there_are(cluster):
    [told] = manifests(AZURE / "capacity.yaml").values()
    most = {
        each.name: each.max_count for each in capacity(yaml.safe_load(told["data"]["capacity.json"])).node_group_configs
    }
    groups = {group["groupName"]: group["maxReplicas"] for group in cluster["workerGroupSpecs"]}
    assert {name: count for name, count in most.items() if name != "head"} == groups
    card = NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type("Tesla T4")
    assert f"accelerator_type:{card}" in cluster["workerGroupSpecs"][0]["rayStartParams"]["resources"]


def test_rights_and_ways_are_those_of_the_other_clouds():
    here, elsewhere = manifests(AZURE / "access.yaml"), manifests(CLUSTER / "kuberay" / "access.yaml")
    assert elsewhere.keys() < here.keys()
    assert here["Role", "axons-operator"] == elsewhere["Role", "axons-operator"]
    assert here["NetworkPolicy", "axons-door"] == elsewhere["NetworkPolicy", "axons-door"]
    inside = [each["NetworkPolicy", "axons-inside"]["spec"] for each in (here, elsewhere)]
    assert inside[0]["ingress"] == inside[1]["ingress"]
    blocked = [spec["egress"][0]["to"][0]["ipBlock"]["except"] for spec in inside]
    assert set(blocked[1]) < set(blocked[0])
    assert here["ServiceAccount", "axons-workers"]["automountServiceAccountToken"] is False
