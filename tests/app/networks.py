"""A second machine, as far as the network goes: a namespace joined to ours by a virtual cable."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

OUR_ADDRESS, THEIR_ADDRESS = "198.18.77.1", "198.18.77.2"  # of the range for tests between machines

_CONNECT = """
import json, socket, sys
reached = []
for port in json.loads(sys.argv[2]):
    try:
        socket.create_connection((sys.argv[1], port), timeout=5).close()
        reached.append(port)
    except OSError:
        pass
print(json.dumps(reached))
"""


@dataclass(frozen=True)
class OtherNetwork:
    """A namespace whose only neighbour is this machine."""

    name: str
    cable: str

    def reached(self, ports: Iterable[int]) -> set[int]:
        """Those ports of this machine that answer to whoever asks from there."""
        words = [sys.executable, "-c", _CONNECT, OUR_ADDRESS, json.dumps(sorted(ports))]
        return set(json.loads(_ip("netns", "exec", self.name, *words)))

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """A command that runs there, where only the network is another."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *words], **options)

    def cut(self) -> None:
        """Let nothing through in either direction, until `mend`."""
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        """Let everything through again."""
        _ip("link", "set", self.cable, "up")


@contextmanager
def other_network() -> Iterator[OtherNetwork]:
    """Join one for as long as the test takes; skip the test where this machine does not allow it."""
    name, ours, theirs = (f"{kind}{os.getpid()}" for kind in ("axons-", "axo", "axt"))
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces need root and the command `ip`: {error}")
    try:
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        try:
            _ip("address", "add", f"{OUR_ADDRESS}/30", "dev", ours)
            _ip("link", "set", ours, "up")
            _ip("-n", name, "address", "add", f"{THEIR_ADDRESS}/30", "dev", theirs)
            _ip("-n", name, "link", "set", theirs, "up")
            _ip("-n", name, "link", "set", "lo", "up")
            yield OtherNetwork(name, ours)
        finally:
            _ip("link", "delete", ours)
    finally:
        _ip("netns", "delete", name)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=120).stdout
