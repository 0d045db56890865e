"""The manifests for Kubernetes fit together, and say the same as the other ways to a cluster."""

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml
from openstack_provider.capacity import capacity
from ray._private.accelerators import NvidiaGPUAcceleratorManager
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.serve.schema import ServeDeploySchema

from tests.cluster.files import CLUSTER

KUBERNETES = "1.37"


def manifests(name: str) -> dict[tuple[str, str], Any]:
    """The documents of one file by kind and name."""
    documents = yaml.safe_load_all((CLUSTER / "kuberay" / name).read_text())
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


@pytest.fixture(scope="module")
def all_manifests() -> dict[tuple[str, str], Any]:
    names = ("raycluster.yaml", "rayservice.yaml", "access.yaml", "capacity.yaml", "door.yaml", "secret.example.yaml")
    return {key: document for name in names for key, document in manifests(name).items()}


@pytest.fixture(scope="module")
def groups(all_manifests: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """The workers of the cluster by the name of their group."""
    return {group["groupName"]: group for group in all_manifests["RayCluster", "axons"]["spec"]["workerGroupSpecs"]}


@pytest.fixture(scope="module")
def types(all_manifests: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """The kinds of machine as Ray's autoscaler reads them from the manifest."""
    found = all_manifests["RayCluster", "axons"]
    cluster = {**found, "metadata": {**found["metadata"], "namespace": "default"}}
    return _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]


def test_kubernetes_takes_every_document_of_its_own_kinds(all_manifests):
    for (kind, _), document in all_manifests.items():
        if not kind.startswith("Ray"):
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_kubernetes_takes_every_pod(all_manifests):
    head = all_manifests["RayService", "axons"]["spec"]["rayClusterConfig"]["headGroupSpec"]
    spec = all_manifests["RayCluster", "axons"]["spec"]
    for group in [head, spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_service_is_the_same_cluster_prepared_before_and_deployed_by_kuberay(all_manifests):
    service = all_manifests["RayService", "axons"]["spec"]["rayClusterConfig"]
    cluster = all_manifests["RayCluster", "axons"]["spec"]
    assert all(service[name] == cluster[name] for name in cluster if name != "headGroupSpec")
    pod, same = service["headGroupSpec"]["template"]["spec"], cluster["headGroupSpec"]["template"]["spec"]
    assert [one["command"] for one in pod["initContainers"]] == [["axons", "prepare"]]
    assert "entry web" in same["containers"][0]["args"][0]
    assert "entry web" not in pod["containers"][0]["args"][0]
    assert {**pod["containers"][0], "args": []} == {**same["containers"][0], "args": []}
    assert (pod["containers"][1:], pod["volumes"]) == (same["containers"][1:], same["volumes"])


def test_the_service_deploys_the_applications_of_serve_yaml(all_manifests):
    config = yaml.safe_load(all_manifests["RayService", "axons"]["spec"]["serveConfigV2"])
    assert config["applications"] == yaml.safe_load((CLUSTER / "serve.yaml").read_text())["applications"]
    ServeDeploySchema.model_validate(config)


def test_the_gpu_group_declares_the_card_by_rays_name_for_it(types):
    name = NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type("Tesla V100S-PCIE-32GB")
    assert name == "V100S"
    assert types["v100s"]["resources"][f"accelerator_type:{name}"] == 1


def test_gpu_machines_offer_no_cpu_so_that_no_cpu_work_starts_one(types):
    assert (types["v100s"]["resources"]["CPU"], types["v100s"]["resources"]["GPU"]) == (0, 1)
    assert types["v100s"]["min_workers"] == 0


def test_what_the_platform_is_told_of_the_cluster_is_what_the_groups_can_be(all_manifests, types):
    config = json.loads(all_manifests["ConfigMap", "axons-capacity"]["data"]["capacity.json"])
    most = {group.name: group.max_count for group in capacity(config).node_group_configs if group.name != "head"}
    assert most == {name: found["max_workers"] for name, found in types.items() if name in most}
    for name, told in config["available_node_types"].items():
        real = types[name if name in types else "headgroup"]["resources"]
        assert {**real, **told["resources"]} == real


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


def test_the_head_has_keys_of_its_own_for_the_storage(all_manifests):
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert all(keys <= all_manifests["Secret", name]["stringData"].keys() for name in ("axons-workers", "axons-head"))
    service = all_manifests["RayService", "axons"]["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    cluster = all_manifests["RayCluster", "axons"]["spec"]["headGroupSpec"]["template"]["spec"]
    for container in (service["initContainers"][0], service["containers"][0], cluster["containers"][0]):
        # Of a variable that several sources give, Kubernetes takes the last one's.
        assert [source["secretRef"]["name"] for source in container["envFrom"]] == ["axons-workers", "axons-head"]


def test_from_outside_only_caddy_is_reached(all_manifests):
    assert [port["port"] for port in all_manifests["Service", "axons-door"]["spec"]["ports"]] == [80, 443]
    (rule,) = all_manifests["NetworkPolicy", "axons-door"]["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [80, 443]
