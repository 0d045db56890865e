"""The cloud-init of a worker: a service that keeps Ray running in the container."""

import json
import shlex
from collections.abc import Mapping, Sequence

import yaml

ENV_FILE = "/etc/axons/worker.env"
SERVICE = """\
[Unit]
Description=Ray worker of the cluster
Requires=docker.service
After=docker.service network-online.target
Wants=network-online.target

[Service]
ExecStartPre=-/usr/bin/docker rm --force ray
ExecStart={command}
ExecStop=/usr/bin/docker stop --time 30 ray
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def cloud_init(
    *,
    head: str,
    port: int,
    container: str,
    run_options: Sequence[str],
    resources: Mapping[str, float],
    labels: Mapping[str, str],
    env: Mapping[str, str],
) -> str:
    """User data that starts Ray at boot, and again whenever it ends, with the resources that the node's type declares.

    Args:
        head: where the cluster's head listens, `address:port`.
        port: where the worker's Ray listens.
        env: variables for the container; they lie in a file that only root reads.
    Raises:
        ValueError: a value has a line break, which an environment file cannot hold.
    """
    for name, value in env.items():
        if "\n" in value:
            raise ValueError(f"{name} has a line break, which a worker's environment cannot hold; write it in one line")
    # Ray finds the card's name by itself.
    declared = {name: amount for name, amount in resources.items() if not name.startswith("accelerator_type:")}
    everything = {
        **env,
        "RAY_OVERRIDE_RESOURCES": json.dumps(declared),
        "RAY_OVERRIDE_LABELS": json.dumps(dict(labels)),
    }
    gpus = ["--gpus", "all"] if resources.get("GPU", 0) > 0 else []
    command = [
        *("/usr/bin/docker", "run", "--rm", "--name", "ray", "--network", "host", "--ipc", "host"),
        *("--env-file", ENV_FILE, *gpus, *run_options, container),
        *("ray", "start", "--block", f"--address={head}", f"--node-manager-port={port}"),
    ]
    files = [
        {"path": ENV_FILE, "permissions": "0600", "content": "".join(f"{k}={v}\n" for k, v in everything.items())},
        {
            "path": "/etc/systemd/system/ray-worker.service",
            "permissions": "0644",
            "content": SERVICE.format(command=shlex.join(command).replace("%", "%%").replace("$", "$$")),
        },
    ]
    start = [["systemctl", "daemon-reload"], ["systemctl", "enable", "--now", "ray-worker.service"]]
    return "#cloud-config\n" + yaml.safe_dump({"write_files": files, "runcmd": start}, sort_keys=False, width=1000)
