"""Small disks of their own, in memory, which can be filled."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BALLAST = "ballast"


@contextmanager
def volume(folder: Path, *, num_bytes: int) -> Iterator[Path]:
    """A file system of so many bytes at `folder`, gone afterwards; skips the test where nothing may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={num_bytes},mode=700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Take every byte that is left."""
    with (folder / _BALLAST).open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC


def free(folder: Path) -> None:
    """Give back what `fill` has taken."""
    (folder / _BALLAST).unlink()
