"""Files fetched from remote storage, kept on this node up to a size limit."""

import fcntl
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath


class NodeCache:
    """Least recently used files leave first; several processes of one user may share the folder.

    A file that leaves while somebody has it mapped stays readable for them: only its name goes.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def path(self, name: str, fetch: Callable[[Path], None]) -> Path:
        """The local file of `name`, which ends as it does.

        `fetch(target)` is called only if it is not here, by one process at a time.
        """
        entry = self._entry(name)
        if self._touch(entry):
            return entry
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked(entry.name[:2]):  # 256 lock files at most
            if self._touch(entry):
                return entry
            part = entry.with_name(f"part-{uuid.uuid4().hex}")
            try:
                fetch(part)
                part.replace(entry)
            finally:
                part.unlink(missing_ok=True)
        self._shrink(keep=entry)
        return entry

    def drop(self, name: str) -> None:
        """Forget one file."""
        self._entry(name).unlink(missing_ok=True)

    def _entry(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self._folder / f"{digest}.data{PurePosixPath(name).suffix}"

    def _touch(self, entry: Path) -> bool:
        try:
            os.utime(entry)
        except FileNotFoundError:
            return False
        return True

    def _shrink(self, keep: Path) -> None:
        with self._locked("shrink"):
            entries = sorted(self._entries())
            excess = sum(size for _, size, _ in entries) - self._limit_bytes
            for _, size, path in entries:
                if excess <= 0:
                    break
                if path != keep:
                    path.unlink(missing_ok=True)
                    excess -= size

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        for path in self._folder.glob("*.data*"):
            with suppress(FileNotFoundError):  # dropped by somebody else meanwhile
                status = path.stat()
                yield status.st_mtime, status.st_size, path

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
