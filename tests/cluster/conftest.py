"""A fresh cloud for each test, which openstacksdk finds by its usual variables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tenacity
import yaml
from ray.autoscaler._private.util import prepare_config

from tests.cluster.cloud import Cloud, running_cloud
from tests.cluster.files import CLUSTER

IDENTITY = {
    "OS_AUTH_URL": "{url}/identity/v3",
    "OS_USERNAME": "axons",
    "OS_PASSWORD": "secret-of-the-cloud",
    "OS_PROJECT_NAME": "school",
    "OS_USER_DOMAIN_NAME": "Default",
    "OS_PROJECT_DOMAIN_NAME": "Default",
    "OS_REGION_NAME": "R1",
}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda _seconds: None)
    with running_cloud() as cloud:
        for name, value in IDENTITY.items():
            monkeypatch.setenv(name, value.format(url=cloud.url))
        yield cloud


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """cluster.yaml as the head has it, with the variables it names."""
    config = prepare_config(yaml.safe_load((CLUSTER / "cluster.yaml").read_text()))
    for name in (each.partition("=")[2] or each for each in config["provider"]["worker_env"]):
        monkeypatch.setenv(name, f"value-of-{name}")
    key = tmp_path / "key"
    key.write_text("a key that nobody signs in with")
    return {**config, "file_mounts": {}, "auth": {**config["auth"], "ssh_private_key": str(key)}}
