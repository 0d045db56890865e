"""The files of the cluster: Ray accepts them, and they say the same as the code."""

import re
import subprocess

import pytest
import yaml
from openstack_provider.address import address_in
from ray._private.accelerators import NvidiaGPUAcceleratorManager
from ray.autoscaler._private.util import prepare_config, validate_config, with_envs

from axons.app.local_ray import set_environment
from tests.cluster.files import CLUSTER


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-onprem.yaml"])
def test_ray_accepts_the_file_for_ray_up(name):
    validate_config(prepare_config(yaml.safe_load((CLUSTER / name).read_text())))


def test_the_gpu_type_declares_the_card_by_rays_name_for_it():
    name = NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type("Tesla V100S-PCIE-32GB")
    assert name == "V100S"
    config = yaml.safe_load((CLUSTER / "cluster.yaml").read_text())
    assert config["available_node_types"]["v100s"]["resources"][f"accelerator_type:{name}"] == 1


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-onprem.yaml"])
def test_the_head_starts_with_the_autoscaler_that_keeps_cpu_work_off_gpu_machines(name, tmp_path):
    config = yaml.safe_load((CLUSTER / name).read_text())
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\necho "$RAY_enable_autoscaler_v2 $SECRET_OF_THE_FILE"\n')
    ray.chmod(0o755)
    (tmp_path / "python").symlink_to("/bin/true")  # looks for the address
    (tmp_path / "axons.env").write_text("SECRET_OF_THE_FILE=from-the-file\n")
    # What `ray up` puts before each command, unless it is told otherwise by whoever calls it.
    (start,) = with_envs(config["head_start_ray_commands"][1:2], {"RAY_enable_autoscaler_v2": "1"})
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    told = subprocess.run(["bash", "-c", start], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == "0 from-the-file\n"


def test_the_autoscaler_outlives_outages_of_the_cloud():
    start = yaml.safe_load((CLUSTER / "cluster.yaml").read_text())["head_start_ray_commands"][1]
    assert "AUTOSCALER_MAX_NUM_FAILURES=1000000000 " in start


def test_the_head_finds_its_address_in_the_network_of_the_cluster():
    assert address_in("127.0.0.0/8") == "127.0.0.1"
    with pytest.raises(ValueError, match=r"no address in 203.0.113.0/24, only .*; correct it in cluster.yaml"):
        address_in("203.0.113.0/24")


def test_processes_of_ray_are_as_urgent_in_the_image_as_under_axons_up(tmp_path):
    environment: dict[str, str] = {}
    set_environment(environment, tmp_path)
    assert f"RAY_worker_niceness={environment['RAY_worker_niceness']}\n" in (CLUSTER / "Dockerfile").read_text()


def test_no_secret_stands_in_a_file_of_the_cluster():
    texts = [path.read_text() for path in CLUSTER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    values = re.findall(r"(?:PASSWORD|SECRET|TOKEN|_KEY)\w*[ \t]*[=:][ \t]*['\"]?(\w{8,})", "\n".join(texts))
    assert [value for value in values if not re.fullmatch("[A-Z_]+", value)] == []  # but names of variables


def test_each_variable_that_the_server_needs_is_in_the_example():
    needed = set(re.findall(r"\$\{(\w+):\?\}", (CLUSTER / "docker-compose.yaml").read_text()))
    offered = set(re.findall(r"^(\w+)=", (CLUSTER / "axons.env.example").read_text(), re.MULTILINE))
    assert needed == offered


@pytest.mark.parametrize(
    "name",
    [
        "Dockerfile",
        "cluster.yaml",
        "cluster-onprem.yaml",
        "docker-compose.yaml",
        "kuberay/raycluster.yaml",
        "kuberay/rayservice.yaml",
    ],
)
def test_all_files_name_one_image(name):
    text = (CLUSTER / name).read_text()
    assert set(re.findall(r"ghcr\.io/[\w./-]+", text)) == {"ghcr.io/mupacif/axons-ovh"}


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        ([], "axons up"),
        (["web", "--address", "auto"], "axons up --address auto"),
        (["train", "s3://bucket/run"], "python -m axons.train s3://bucket/run"),
        (["infer", "model.safetensors", "a b.png"], "axons predict --local model.safetensors a b.png"),
        (["ray", "start", "--block"], "ray start --block"),
    ],
)
def test_a_container_does_what_its_first_word_says(arguments, runs, tmp_path):
    for name in ("axons", "python", "ray"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    told = subprocess.run([CLUSTER / "entry", *arguments], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == f"{runs}\n"


def test_the_gpu_image_keeps_the_last_torch_for_the_v100s_and_all_else_as_tested():
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    assert '"torch>=2.7,<2.15"' in dockerfile and "'sm_70' in flags" in dockerfile
    (leave_out,) = re.findall(r"grep -viE '(.*)' constraints.txt", dockerfile)
    pins = (CLUSTER.parent / "constraints.txt").read_text().splitlines()
    left_out = {pin.partition("==")[0] for pin in pins if re.match(leave_out, pin, re.IGNORECASE)}
    assert {"torch", "torchvision", "triton", "nvidia-cudnn-cu13"} <= left_out
    assert not left_out & {"torchmetrics", "nvidia-ml-py", "ray"}
