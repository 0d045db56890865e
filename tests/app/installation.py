"""`axons up` as a process of its own, for tests of the whole."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from axons.app import local_ray
from axons.client import Client
from tests.app.browser import PASSWORD
from tests.conftest import free_port


@dataclass
class Installation:
    """A data folder, and the process that serves it with `settings` in its environment."""

    data: Path
    port: int
    log: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    told: dict[str, Any] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *arguments: str) -> dict[str, Any]:
        """Start it, and return what it tells once it is ready."""
        self.process = subprocess.Popen(
            [*AXONS, "up", "--port", str(self.port), "--data", str(self.data), "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=self.log.open("a"),
            text=True,
            env=environment(self.data, **self.settings),
        )
        self.told = self.hear()
        return self.told

    def hear(self) -> dict[str, Any]:
        """What it tells the next time that it is ready."""
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        told: dict[str, Any] = json.loads(line)
        return told

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal to the process and wait for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def token(self) -> str:
        """A personal token, for the code of the last start; it can be had once."""
        assert self.told is not None
        with Client(self.url) as stranger:
            return str(stranger.act("auth/code", {"code": self.told["code"], "token_name": "test"})["token"])

    def client(self) -> Client:
        """A client that is signed in by the code of the last start."""
        return Client(self.url, self.token())

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for it, besides the process itself."""
        return list(local_ray.processes_of(local_ray.session_folder(self.data)))


AXONS = [sys.executable, "-m", "axons"]


def install(folder: Path, **settings: str) -> Installation:
    """An installation that has not been started."""
    return Installation(data=folder / "data", port=free_port(), log=folder / "up.log", settings=settings)


def environment(data: Path, **more: str) -> dict[str, str]:
    """The environment of a person without settings, with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AXONS_", "RAY_"))}
    return kept | {"HOME": str(data.parent / "home"), "XDG_CONFIG_HOME": str(data.parent / "config"), **more}


def command(installation: Installation, *arguments: str, is_ok: bool = True, **more: str) -> Any:
    """Run `axons … --json` as a person would, with more in its environment; returns what it prints, or complains of."""
    done = subprocess.run(
        [*AXONS, *arguments, "--json"],
        capture_output=True,
        text=True,
        env=environment(installation.data, AXONS_URL=installation.url, **more),
    )
    assert (done.returncode == 0) == is_ok, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def first_sign_in(url: str, account: dict[str, Any]) -> str:
    """Choose a password in place of the first one, as in a browser; returns a personal token."""
    with httpx.Client(base_url=f"{url}/api/v1/auth/", headers={"Origin": url}, timeout=120) as browser:
        first = account["password"]
        browser.post("login", json={"name": account["name"], "password": first}).raise_for_status()
        browser.post("password", json={"current": first, "new": PASSWORD}).raise_for_status()
        return str(browser.post("tokens", json={"name": "tests"}).raise_for_status().json()["token"])
