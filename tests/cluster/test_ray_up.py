"""`ray up` itself with cluster.yaml: the cloud is on loopback, and what would go to the head by SSH is kept."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.commands import get_or_create_head_node
from ray.autoscaler._private.providers import _clear_provider_cache, _get_node_provider

from tests.cluster.cloud import Cloud

ANSWERS = {
    "command -v docker": b"/usr/bin/docker",
    ".Config.Env": b'["HOME=/root"]',
    "printenv HOME": b"/root",
    "/proc/meminfo": b"MemAvailable: 15000000 kB",
    ".Runtimes": b"{}",
}


class Ssh:
    """In the place of `subprocess`: each command succeeds and is kept."""

    DEVNULL = subprocess.DEVNULL

    def __init__(self) -> None:
        self.commands: list[str] = []

    def check_call(self, command: list[str], **_: Any) -> None:
        self.commands.append(" ".join(command))

    def check_output(self, command: list[str], **_: Any) -> bytes:
        self.check_call(command)
        return next((answer for part, answer in ANSWERS.items() if part in self.commands[-1]), b"")

    def only(self, part: str) -> str:
        """The one command with this text in it."""
        (command,) = [command for command in self.commands if part in command]
        return command


@pytest.fixture
def bring_up(cloud: Cloud, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    secrets = tmp_path / "axons.env"
    secrets.write_text("")
    config["file_mounts"] = {"~/axons.env": str(secrets)}
    monkeypatch.chdir(tmp_path)
    cloud.boots_at_once = True
    _clear_provider_cache()

    def bring_up() -> Ssh:
        ssh = Ssh()
        get_or_create_head_node(
            config,
            "cluster.yaml",
            no_restart=False,
            restart_only=False,
            yes=True,
            override_cluster_name=None,
            _runner=ssh,
        )
        return ssh

    yield bring_up
    _clear_provider_cache()


def test_ray_up_makes_a_head_that_offers_ten_cpus_and_starts_the_platform(bring_up, cloud):
    ssh = bring_up()
    (head,) = cloud.machines.values()
    assert head.metadata["ray-node-status"] == "up-to-date" and head.flavor == "HEAD-FLAVOR"
    assert "ubuntu@203.0." in ssh.only("docker run") and "ghcr.io/mupacif/axons-ovh:cpu" in ssh.only("docker run")
    assert "ray start --head --node-ip-address=" in ssh.only("ray start")
    assert '"CPU":10' in ssh.only("ray start") and '"driver":6' in ssh.only("ray start")
    assert "entry web --address auto" in ssh.only("entry web")


def test_ray_up_again_keeps_the_head(bring_up, cloud):
    bring_up()
    bring_up()
    assert cloud.creations == 1


def test_what_ray_down_deletes_is_this_cluster_alone(bring_up, cloud, config):
    bring_up()
    (head,) = cloud.machines.values()
    others = _get_node_provider(config["provider"], "another-class")
    others.create_node(config["available_node_types"]["head"]["node_config"], {"ray-node-type": "head"}, 1)
    provider = _get_node_provider(config["provider"], "axons")
    provider.terminate_nodes(provider.nodes_for_teardown({}))
    assert cloud.deletions == [head.name]
