"""Untrusted images are opened in a child process that is confined, watched, and replaced when it misbehaves."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from axons.data import decode_child
from axons.data.full_disk import SENTENCE as DISK_FULL
from axons.errors import AxonsError, ImageRefused, StorageFull

_SECONDS_PER_PIXEL = 60 / 150e6  # beyond the first minute, for what a tiled TIFF has above `max_pixels`
_LOOK_EVERY_S = 0.02
_SMALL_BYTES = 500_000
_SAVE_OTHERWISE = "save it as a tiled TIFF or cut it into parts"


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What one upload may cost.

    Args:
        max_pixels: for everything but tiled TIFF.
        max_ratio: bytes of the working image over those of the upload, which counts as 0.5 MB if smaller.
    """

    max_bytes: int = 2 * 10**9
    max_pixels: int = 150 * 10**6
    max_tiled_pixels: int = 4 * 10**9
    max_ratio: int = 100
    max_seconds: float = 60
    max_resident_bytes: int = 10**9
    address_space_bytes: int = 3 * 10**9


@dataclass(frozen=True, kw_only=True)
class NormalisedImage:
    """What the child found out about an image.

    Args:
        height, width: after the EXIF orientation was applied.
        channels: 1 or 3.
        dtype: "uint8" or "uint16".
        pixel_size_um: where the file states it (OME, ImageJ).
        geo: GeoTIFF tags by number.
        notices: what was changed on the way, one sentence each.
    """

    format: str
    height: int
    width: int
    channels: int
    dtype: str
    pixel_size_um: float | None
    geo: dict[str, Any] | None
    notices: list[str]


@dataclass(frozen=True, kw_only=True)
class RawMask:
    """Values of a mask file: (H, W) uint8, or (H, W, 3) uint8 colours; `palette` if the values are palette indices."""

    values: np.ndarray
    palette: list[list[int]]
    notices: list[str]


class Decoder:
    """One child process that decodes one file at a time; close it, or use it in a `with` block."""

    def __init__(self, limits: DecodeLimits = DecodeLimits()) -> None:
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None

    def normalise(self, source: Path, target: Path, *, name: str) -> NormalisedImage:
        """Write the working image (tiled, pyramidal, lossless TIFF) of `source` to `target`.

        Args:
            name: what the person calls the file; it appears in errors and is never used as a path.
        Raises:
            ImageRefused: one sentence with the name, what is wrong and what to do.
            StorageFull: there is no room for the working image.
        """
        try:
            return NormalisedImage(**self._ask("normalise", source, target, name))
        except BaseException:
            target.unlink(missing_ok=True)  # never half a working image
            raise

    def read_mask(self, source: Path, *, name: str) -> RawMask:
        """The raw values of a mask file; which class they mean is settled by `masks.to_classes`.

        Raises:
            ImageRefused: as for `normalise`.
        """
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "mask.npy")
            facts = self._ask("read_mask", source, target, name)
            return RawMask(values=np.load(target, allow_pickle=False), **facts)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                assert pipe is not None
                pipe.close()
            self._child = None

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, operation: str, source: Path, target: Path, name: str) -> dict[str, Any]:
        child = self._running_child()
        request = {"operation": operation, "source": str(source), "target": str(target), "name": name}
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps({**request, "limits": asdict(self._limits)}).encode() + b"\n")
            answer = self._answer(child, request)
        except BaseException:
            self.close()  # whatever it was busy with, the next file gets a new child
            raise
        if _anonymous_bytes(child.pid) > self._limits.max_resident_bytes // 4:
            self.close()  # memory it has kept must not count against the next file
        if "full" in answer:
            raise StorageFull(DISK_FULL)
        if "refused" in answer:
            raise ImageRefused(answer["refused"])
        done: dict[str, Any] = answer["done"]
        return done

    def _answer(self, child: subprocess.Popen[bytes], request: dict[str, str]) -> dict[str, Any]:
        deadline = time.monotonic() + self._limits.max_seconds
        for message in self._messages(child):
            if message is None:
                self._check(child, request, deadline)
            elif "pixels" in message:
                deadline += max(0, message["pixels"] - self._limits.max_pixels) * _SECONDS_PER_PIXEL
            else:
                return message
        name = request["name"]
        raise ImageRefused(f"{name!r} brought the decoder down; open it in an image editor and save it again")

    def _messages(self, child: subprocess.Popen[bytes]) -> Iterator[dict[str, Any] | None]:
        """Messages of the child until it ends; None whenever it is time to look after it."""
        assert child.stdout is not None
        pending = b""
        pipe = select.poll()  # not select.select, which cannot take a file number above 1023
        pipe.register(child.stdout, select.POLLIN)
        while True:
            if not pipe.poll(_LOOK_EVERY_S * 1000):
                yield None
                continue
            if not (data := os.read(child.stdout.fileno(), 1 << 16)):
                return
            *lines, pending = (pending + data).split(b"\n")
            yield from map(json.loads, lines)

    def _check(self, child: subprocess.Popen[bytes], request: dict[str, str], deadline: float) -> None:
        name, limits = request["name"], self._limits
        if time.monotonic() > deadline:
            raise ImageRefused(f"{name!r} takes more than {limits.max_seconds:.0f} s to decode; {_SAVE_OTHERWISE}")
        if _anonymous_bytes(child.pid) > limits.max_resident_bytes:
            memory = f"{limits.max_resident_bytes / 1e9:.1f} GB of memory"
            raise ImageRefused(f"{name!r} needs more than {memory} to decode; {_SAVE_OTHERWISE}")
        # A mask's values are not compressed: `max_pixels` limits them.
        unpacked = _size(request["target"]) if request["operation"] == "normalise" else 0
        if unpacked > limits.max_ratio * max(_size(request["source"]), _SMALL_BYTES):
            raise ImageRefused(
                f"{name!r} unpacks to more than {limits.max_ratio} times its size; save it in another format"
            )

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self.close()
        if self._child is None:
            self._child = _start_child(self._limits.address_space_bytes)
        return self._child


def _start_child(address_space_bytes: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        # By path, not by module: the child needs nothing of ours, and finds its libraries wherever we found them.
        [sys.executable, "-P", decode_child.__file__, str(address_space_bytes), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        # No secret of ours, one thread (import runs several children), few memory arenas (they count as address space).
        env={
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TMPDIR": tempfile.gettempdir(),
            "VIPS_CONCURRENCY": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        },
    )
    assert child.stdout is not None
    if not child.stdout.readline():
        raise AxonsError("the decoder process does not start; reinstall with `pip install -e .`")
    return child


def _anonymous_bytes(pid: int) -> int:
    """Resident memory that is not a mapped file: what the process really costs."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(memory.rss - getattr(memory, "shared", 0))


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0
