"""The door of an installation: a real Caddy with our Caddyfile, in front of a small server."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from axons.client import Client
from axons.errors import ServerUnavailable
from tests.cluster.files import CLUSTER

pytestmark = pytest.mark.skipif(
    shutil.which("caddy") is None, reason="Caddy is not installed (on Debian: apt install caddy)"
)

FORGED = {
    "X-Request-Timeout-Seconds": "0",
    "X-Request-Disconnect-Disabled": "?1",
    "serve_multiplexed_model_id": "another",
    "Serve-Multiplexed-Model-Id": "another",
    "X-Request-Id": "somebody-elses",
    "X-Real-Ip": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
}


class Platform(ThreadingHTTPServer):
    """Tells what it was asked, takes bodies, and sends an event of which the next waits for the test."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, str]] = []
        self.num_bytes = 0
        self.go_on = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Platform

    def do_GET(self) -> None:
        self.server.asked.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        if self.path.startswith("/events"):
            self.server.go_on.wait(10)
            self.wfile.write(b"data: second\n\n")

    def do_PUT(self) -> None:
        if "Content-Length" in self.headers:
            self.server.num_bytes += len(self.rfile.read(int(self.headers["Content-Length"])))
        else:
            while length := int(self.rfile.readline() or b"0", 16):  # empty where Caddy has hung up
                self.server.num_bytes += len(self.rfile.read(length))
                self.rfile.readline()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with Platform() as platform:
        threading.Thread(target=platform.serve_forever, daemon=True).start()
        yield platform
        platform.shutdown()


@pytest.fixture(scope="module")
def door(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client that trusts Caddy's own authority and nobody else."""
    folder = tmp_path_factory.mktemp("caddy")
    https, http = _free_port(), _free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "AXONS_SITE": f"https://localhost:{https}",
        "AXONS_HTTP_PORT": str(http),
        "AXONS_UPSTREAM": f"127.0.0.1:{platform.server_port}",
    }
    command = ["caddy", "run", "--config", str(CLUSTER / "Caddyfile"), "--adapter", "caddyfile"]
    with (folder / "log").open("w") as log:
        caddy = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        trust = _trust(folder / "caddy/pki/authorities/local/root.crt", https, folder / "log")
        about = {"http": str(http), "authority": str(folder / "caddy/pki/authorities/local/root.crt")}
        with httpx.Client(base_url=f"https://localhost:{https}", verify=trust, params=about) as client:
            yield client
    finally:
        caddy.terminate()
        caddy.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _trust(authority: Path, port: int, log: Path) -> ssl.SSLContext:
    """Caddy's authority, as soon as it answers with a certificate of it."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(OSError):
            trust = ssl.create_default_context(cafile=authority)
            with (
                socket.create_connection(("127.0.0.1", port), timeout=1) as plain,
                trust.wrap_socket(plain, server_hostname="localhost"),
            ):
                return trust
        time.sleep(0.05)
    raise AssertionError(f"Caddy does not answer; its log: {log.read_text()}")


def test_a_request_by_https_reaches_the_platform_which_is_told_so(door, platform):
    assert door.get("/").text == "data: first\n\n"
    assert platform.asked[-1]["x-forwarded-proto"] == "https"


def test_headers_by_which_a_client_would_steer_ray_serve_are_taken_off(door, platform):
    door.get("/", headers={**FORGED, "If-Match": '"7"'})
    asked = platform.asked[-1]
    assert not [name for name in FORGED if name.lower() in asked]
    assert asked["if-match"] == '"7"'


def test_nobody_can_say_that_they_are_somebody_else(door, platform):
    door.get("/", headers={"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil"})
    asked = platform.asked[-1]
    assert asked["x-forwarded-for"] in ("127.0.0.1", "::1")
    assert asked["x-forwarded-proto"] == "https" and "evil" not in asked["x-forwarded-host"]


def test_a_part_of_an_upload_passes(door, platform):
    before = platform.num_bytes
    assert door.put("/part", content=bytes(8 << 20)).status_code == 204
    assert platform.num_bytes - before == 8 << 20


def test_a_body_above_the_limit_is_refused(door):
    assert door.put("/part", content=bytes((16 << 20) + 1)).status_code == 413


def test_a_body_that_does_not_say_its_length_is_cut_off_at_the_limit(door, platform):
    platform.num_bytes = 0
    answer = door.put("/part", content=(bytes(1 << 20) for _ in range(40)))
    assert answer.status_code in (413, 502)  # older versions of Caddy say 502
    assert platform.num_bytes <= 16 << 20


def test_events_arrive_when_they_are_sent(door, platform):
    with door.stream("GET", "/events") as answer:
        chunks = answer.iter_bytes()
        assert next(chunks) == b"data: first\n\n"
        platform.go_on.set()
        assert next(chunks) == b"data: second\n\n"


def test_http_leads_to_https(door):
    port = door.params["http"]
    answer = httpx.get(f"http://localhost:{port}/", follow_redirects=False)
    assert answer.status_code == 308
    assert answer.headers["location"].startswith("https://localhost")


def test_the_command_believes_the_authority_that_the_environment_names(door, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", door.params["authority"])
    with Client(f"https://localhost:{door.base_url.port}") as client:
        assert client.text("projects") == "data: first\n\n"


def test_the_command_believes_no_other_authority(door):
    with Client(f"https://localhost:{door.base_url.port}", patience_s=0) as client, pytest.raises(ServerUnavailable):
        client.text("projects")
