"""The platform on several nodes of one machine, by one command: `python -m tests.cluster.several`, until Ctrl-C.

PostgreSQL, an S3 server, Caddy, and a Ray cluster whose nodes are as far apart as one machine lets them be: each has an
address, a home and a temporary folder of its own, and what they share goes through S3. The V100S is logical: a node
says that it has one and trainings are sent there, but they compute on the CPU, which all nodes share.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import s3fs

from tests.app.postgres import running_postgres
from tests.cluster.files import CLUSTER
from tests.conftest import free_port, wait_for_port

HEAD = "head"
V100S = "V100S"
BUCKET = "axons"
PATIENCE_S = 240

_ROOT = Path(__file__).parents[2]
_STORE_BYTES = 100 << 20
_KEYS = {"AWS_ACCESS_KEY_ID": "several", "AWS_SECRET_ACCESS_KEY": "several", "AWS_REGION": "us-east-1"}


@dataclass
class Node:
    """A node of Ray: `ray start` in a session of its own.

    Attributes:
        address: by which Ray knows it.
        folder: home, temporary files, cache and Ray's session of all that runs on it.
    """

    name: str
    address: str
    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End all that runs on it at once, as if somebody had pulled the plug."""
        with suppress(psutil.NoSuchProcess):
            whole = psutil.Process(self.process.pid)
            everything = [whole, *whole.children(recursive=True)]
            for process in everything:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(everything[1:], timeout=10)
        self.process.wait(10)

    def stop(self) -> None:
        """End it in peace; what does not obey is killed."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        self.kill()


@dataclass
class Several:
    """All that runs; nodes come and go by `add_node` and `Node.kill`.

    Attributes:
        url: of the platform, behind Caddy; `inner_url` before it.
        settings: variables by which the platform finds database and storage, for the head alone.
        told: what `axons up` has told.
    """

    folder: Path
    head_port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)
    url: str = ""
    inner_url: str = ""
    authority: Path = Path()
    settings: dict[str, str] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def ray_address(self) -> str:
        return f"{_address(1)}:{self.head_port}"

    @property
    def dashboard_url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def ray_token(self) -> str:
        return (self.folder / "ray-token").read_text()

    def add_node(self, name: str, *, cpus: int = 0, v100s: int = 0) -> Node:
        """Start one and wait until Ray counts it in; the first is the head, with the drivers' places."""
        if name == HEAD:
            how = ["--head", "--port", str(self.head_port), "--dashboard-host", "127.0.0.1"]
            how += ["--dashboard-port", str(self.dashboard_port), "--ray-client-server-port", str(free_port())]
            resources = {"driver": 2}
        else:
            how, resources = ["--address", self.ray_address], {V100S: v100s} if v100s else {}
        address = _address(len(self.nodes) + 1)
        folder = self.folder / name
        environment = {**self.environment, "HOME": str(folder), "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir(parents=True)
        command = [
            _program("ray"), "start", "--block", *how, "--node-ip-address", address, "--temp-dir", str(folder / "ray"),
            "--num-cpus", str(cpus), "--num-gpus", "0", "--resources", json.dumps(resources),
            "--object-store-memory", str(_STORE_BYTES), "--dashboard-agent-listen-port", str(free_port()),
        ]  # fmt: skip
        cores = _cores_of(len(self.nodes)) if v100s else None
        process = _start(command, environment, log=folder / "log", cores=cores)
        until = time.monotonic() + PATIENCE_S
        while address not in self.alive():
            assert time.monotonic() < until, (folder / "log").read_text()
            if process.poll() is not None:  # `ray start` gives up after 30 s, which a busy machine may need
                process = _start(command, environment, log=folder / "log", cores=cores)
            time.sleep(0.2)
        node = self.nodes[name] = Node(name, address, folder, environment, process)
        return node

    def alive(self) -> dict[str, str]:
        """Ray's ids of the nodes that it counts in, by their addresses."""
        try:
            nodes = self.ask_ray("nodes")
        except (httpx.HTTPError, KeyError):  # the dashboard has not begun yet
            return {}
        return {node["node_ip"]: node["node_id"] for node in nodes if node["state"] == "ALIVE"}

    def ask_ray(self, what: str, **query: Any) -> list[dict[str, Any]]:
        """Rows of Ray's state: nodes, actors, tasks."""
        answer = self._ask(f"v0/{what}", {"detail": 1, "limit": 10_000, **query})
        rows: list[dict[str, Any]] = answer["data"]["result"]["result"]
        return rows

    def applications(self) -> dict[str, str]:
        """The states of those that Ray Serve knows."""
        found = self._ask("serve/applications/", {})["applications"]
        return {name: application["status"] for name, application in found.items()}

    def _ask(self, path: str, query: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {self.ray_token}"}
        answer = httpx.get(f"{self.dashboard_url}/api/{path}", headers=headers, params=query, timeout=30)
        return answer.raise_for_status().json()


@contextmanager
def running_several(
    folder: Path, *, port: int, cpu_workers: int = 1, v100s_workers: int = 1, with_sample: bool = False
) -> Iterator[Several]:
    """The platform at https://localhost:`port`, ready; at the end nothing of it runs any more.

    Args:
        folder: short, for the path of a socket has at most 107 bytes.
    """
    with running_stores(folder, url=f"https://localhost:{port}") as several, ExitStack() as running:
        several.add_node(HEAD, cpus=2)  # the platform and the Segmenter take more than a half
        for number in range(1, cpu_workers + 1):
            several.add_node(f"cpu-{number}", cpus=1)
        for number in range(1, v100s_workers + 1):
            several.add_node(f"v100s-{number}", v100s=1)
        _start_platform(several, running, with_sample=with_sample)
        _start_caddy(several, port, running)
        yield several


@contextmanager
def running_stores(folder: Path, *, url: str) -> Iterator[Several]:
    """PostgreSQL and an S3 server, and no node yet; at the end nothing runs any more, nor do the nodes added."""
    several = Several(folder, url=url)
    _write_secret(folder / "ray-token")
    with ExitStack() as running:
        postgres = running.enter_context(running_postgres(is_durable=True))
        storage = _start_storage(folder, running)
        several.settings = {
            "AXONS_DATABASE_URL": postgres.empty_database(),
            "AXONS_STORAGE_URL": f"s3://{BUCKET}/platform",
            "AXONS_PUBLIC_URL": url,
        }
        several.environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(_ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "ray-token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
            "RAY_worker_niceness": "0",  # as in the image
            # Idle processes for each node, at 60 MB each, would be most of what the machine has.
            "RAY_prestart_worker_first_driver": "0",
            "RAY_enable_worker_prestart": "0",
            **storage,
        }
        running.callback(lambda: [node.stop() for node in reversed(several.nodes.values())])
        yield several


def _start_storage(folder: Path, running: ExitStack) -> dict[str, str]:
    """An S3 server with our bucket; returns the variables by which nodes find it."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    process = _start(command, {"PATH": os.environ["PATH"]}, log=folder / "s3.log")
    running.callback(_end, process)
    wait_for_port(port)
    url = f"http://127.0.0.1:{port}"
    key, secret = _KEYS["AWS_ACCESS_KEY_ID"], _KEYS["AWS_SECRET_ACCESS_KEY"]
    files = s3fs.S3FileSystem(key=key, secret=secret, endpoint_url=url, skip_instance_cache=True)
    files.mkdir(BUCKET)
    return {**_KEYS, "AWS_ENDPOINT_URL_S3": url}


def _start_platform(several: Several, running: ExitStack, *, with_sample: bool) -> None:
    """`axons up` on the head, which alone knows the database."""
    port = free_port()
    several.inner_url = f"http://127.0.0.1:{port}"
    environment = {
        **several.nodes[HEAD].environment,
        **several.settings,
        "AXONS_SEGMENTER_GPU_SHARE": "0",
        "AXONS_TRAIN_CPU_RESOURCES": json.dumps({V100S: 1}),
    }
    command = [sys.executable, "-m", "axons", "up", "--address", several.ray_address, "--port", str(port), "--json"]
    command += ["--data", str(several.folder / "platform"), "--sample" if with_sample else "--no-sample"]
    log = several.folder / "up.log"
    process = _start(command, environment, log=log, stdout=subprocess.PIPE)
    running.callback(_end, process, signal.SIGINT)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, log.read_text()
    several.told = json.loads(line)


def _start_caddy(several: Several, port: int, running: ExitStack) -> None:
    """HTTPS with a certificate of Caddy's own authority."""
    folder = several.folder / "caddy"
    folder.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "AXONS_SITE": several.url,
        "AXONS_HTTP_PORT": str(free_port()),
        "AXONS_UPSTREAM": several.inner_url.removeprefix("http://"),
    }
    command = ["caddy", "run", "--config", str(CLUSTER / "Caddyfile"), "--adapter", "caddyfile"]
    process = _start(command, environment, log=folder / "log")
    running.callback(_end, process)
    several.authority = folder / "caddy/pki/authorities/local/root.crt"
    until = time.monotonic() + PATIENCE_S
    while not _answers(port, several.authority):
        assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.1)


def _answers(port: int, authority: Path) -> bool:
    try:
        trust = ssl.create_default_context(cafile=authority)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            trust.wrap_socket(plain, server_hostname="localhost").close()
    except OSError:
        return False
    return True


def _start(
    command: list[str],
    environment: dict[str, str],
    *,
    log: Path,
    stdout: int | None = None,
    cores: list[int] | None = None,
) -> subprocess.Popen[bytes]:
    """A process that a Ctrl-C in our terminal does not reach, on some cores or all: we end it in its turn."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=stdout or output, stderr=output, start_new_session=True, cwd=log.parent
        )
    if cores:
        psutil.Process(process.pid).cpu_affinity(cores)
    return process


def _end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    process.send_signal(number)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _write_secret(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _cores_of(number: int) -> list[int]:
    """One for each V100S: a step of a training that waits for all cores would take seconds on a busy machine."""
    cores = psutil.Process().cpu_affinity()
    return [cores[number % len(cores)]]


def _address(number: int) -> str:
    """All of 127/8 is this machine; 127.0.0.1 is that of the platform and of Caddy."""
    return f"127.0.1.{number}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.several", description=__doc__)
    parser.add_argument("--port", type=int, default=8443, help="of HTTPS")
    parser.add_argument("--cpu-workers", type=int, default=1, help="beside the head")
    parser.add_argument("--v100s-workers", type=int, default=1, help="with a logical V100S each")
    asked = parser.parse_args()
    stop = signal.default_int_handler
    signal.signal(signal.SIGTERM, stop)
    folder = Path(tempfile.mkdtemp(prefix="axons-several-", dir="/tmp"))
    try:
        with running_several(
            folder, port=asked.port, cpu_workers=asked.cpu_workers, v100s_workers=asked.v100s_workers, with_sample=True
        ) as several:
            _tell(several)
            signal.pause()
    except KeyboardInterrupt:
        sys.stdout.write("Stopped.\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tell(several: Several) -> None:
    nodes = ", ".join(f"{node.name} {node.address}" for node in several.nodes.values())
    sys.stdout.write(
        f"Axons is ready at {several.url}\n\n"
        f"  sign in          {several.told['sign_in_link']}   (once, within ten minutes)\n"
        f"  trust            {several.authority}\n"
        f"  nodes            {nodes}\n"
        f"  Ray dashboard    {several.dashboard_url}   token: cat {several.folder / 'ray-token'}\n"
        f"  all files        {several.folder}\n\nCtrl-C stops it and deletes all files.\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
