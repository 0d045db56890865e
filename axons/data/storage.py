"""Objects under one address: a folder, `s3://bucket/prefix` or `abfs://container@account/prefix`."""

import hashlib
import os
import posixpath
import re
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from axons.data.encryption import encryption_of_this_node
from axons.data.full_disk import SENTENCE as DISK_FULL
from axons.data.full_disk import is_full_disk, telling_of_full_disks
from axons.data.node_cache import NodeCache
from axons.errors import ChecksumMismatch, ObjectNotFound, StorageFull, StorageRefused, StorageUnavailable

AREAS = ("projects", "training-sets", "models", "tmp")

_KEY = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*")
_PART = ".part-"
# Standard mode: exponential back-off with jitter on connection errors, time-outs, 5xx and throttling.
_S3_CLIENT = {"retries": {"mode": "standard", "max_attempts": 5}, "connect_timeout": 5, "read_timeout": 30}


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One listed object; `modified` is seconds since 1970."""

    key: str
    size: int
    modified: float


class Storage(ABC):
    """Read, write once, replace, list, delete, and fetch to a local file; keys are relative to `uri`.

    Keys are made by us (letters, digits, `._=-` between slashes), never by a person, and `..` is refused.
    Every method may raise `StorageUnavailable`; reads raise `ObjectNotFound`.
    """

    uri: str

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return the whole object."""

    @abstractmethod
    def write(self, key: str, data: bytes | Path) -> bool:
        """Create the object from bytes or a file; returns False, and leaves it alone, if the key exists.

        A file may become the object itself: nobody may change it afterwards, only delete it.
        Keys are unique or derived from what they hold, so an existing key means that this step has run before.
        """

    @abstractmethod
    def replace(self, key: str, data: bytes) -> None:
        """Create or replace the whole object at once; readers see the old bytes or the new, never a mixture."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether an object has this key."""

    @abstractmethod
    def size(self, key: str) -> int:
        """Bytes of the object."""

    @abstractmethod
    def list_objects(self, prefix: str = "") -> list[StoredObject]:
        """Objects below `prefix` (a folder), sorted by key; empty if there are none."""

    @abstractmethod
    def delete_prefix(self, prefix: str) -> None:
        """Delete every object below `prefix`, and the object of that very key; nothing there is fine."""

    @abstractmethod
    def delete_unfinished(self, *, older_than_s: float, now: float) -> int:
        """Delete what writers that died have left half-written for so long; returns how many pieces."""

    @abstractmethod
    def local_path(self, key: str, *, sha256: str | None = None) -> Path:
        """A local file with the object's bytes and ending, to be read only; from the node's cache if storage is remote.

        Args:
            sha256: hex digest the bytes must have; a cached copy that differs is fetched once more.
        Raises:
            ChecksumMismatch: storage itself holds other bytes.
        """

    def at(self, prefix: str) -> "Storage":
        """The same storage seen from `prefix`."""
        return open_storage(posixpath.join(self.uri, _checked(prefix)), cache=self._cache())

    @abstractmethod
    def _cache(self) -> NodeCache | None: ...


def open_storage(uri: str | Path, *, cache: NodeCache | None = None) -> Storage:
    """Storage rooted at `uri`; nothing is created or contacted yet.

    Args:
        uri: a folder, `file:///folder`, `s3://bucket[/prefix]` or `abfs://container@account.dfs.core.windows.net[/prefix]`.
            Endpoint and keys of S3 come from the standard `AWS_*` variables, those of Azure from `AZURE_STORAGE_*`.
        cache: where remote objects are kept on this node; without one, `default_cache()`.
    Raises:
        ValueError: another scheme.
    """
    text = str(uri)
    parts = urlsplit(text)
    if parts.scheme in ("s3", "abfs", "abfss"):
        return _BucketStorage(text.rstrip("/"), cache or default_cache())
    if parts.scheme == "file":
        return _FolderStorage(Path(unquote(parts.path)))
    if "://" in text:
        raise ValueError(f"storage address is {text!r}; use a folder, s3:// or abfs://")
    return _FolderStorage(Path(text))


def split_uri(uri: str) -> tuple[str, str]:
    """`folder/a/b` -> (`folder/a`, `b`): the address of the folder an object lies in, and its key there."""
    head, _, tail = uri.rstrip("/").rpartition("/")
    return head or ".", tail


def local_file(uri: str) -> Path:
    """A local file with the bytes of the object at `uri`, to be read only.

    Raises:
        ObjectNotFound: nothing lies there.
    """
    folder, name = split_uri(uri)
    if "://" in uri:
        return open_storage(folder).local_path(name)
    if not Path(uri).is_file():
        raise _not_found(folder, name)
    return Path(uri)


@cache
def default_cache() -> NodeCache:
    """The node's cache for this user: 20 GB in the temporary folder."""
    return NodeCache(Path(tempfile.gettempdir()) / f"axons-cache-{os.getuid()}", limit_bytes=20 * 10**9)


@cache
def fsspec_files(uri: str) -> tuple[Any, str]:
    """The file system that fsspec has for a remote `uri`, and the path of `uri` in it."""
    if uri.startswith("s3:"):
        files = fsspec.filesystem(
            "s3",
            config_kwargs=_S3_CLIENT,
            s3_additional_kwargs=encryption_of_this_node(),
            use_listings_cache=False,
        )
    else:
        files = fsspec.filesystem("abfs", **_azure_account(uri))
    return files, files._strip_protocol(uri)


def new_key(area: str) -> str:
    """A fresh server-made key in one of the four areas."""
    if area not in AREAS:
        raise ValueError(f"area is {area!r}; choose one of {', '.join(AREAS)}")
    return f"{area}/{uuid.uuid4()}"


def expire_temporary(storage: Storage, *, older_than_s: float, now: float, busy: Container[str] = ()) -> int:
    """Delete what has lain in `tmp/` for longer than `older_than_s`; returns the number of objects.

    Args:
        busy: folders of `tmp/` that somebody still works with, however old.
    """
    found = [stored for stored in storage.list_objects("tmp") if now - stored.modified > older_than_s]
    expired = [stored.key for stored in found if stored.key.split("/")[1] not in busy]
    for key in expired:
        storage.delete_prefix(key)
    return len(expired)


def sha256_of(data: bytes | Path) -> str:
    """Hex digest of bytes or of a file, which is read in pieces."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _FolderStorage(Storage):
    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.uri = str(self._root)

    def read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise _not_found(self.uri, key) from error

    def write(self, key: str, data: bytes | Path) -> bool:
        # Two writers of one key hold the same bytes, so the gap between this question and the rename does no harm.
        if self._path(key).exists():
            return False
        self._put(key, data)
        return True

    def replace(self, key: str, data: bytes) -> None:
        self._put(key, data)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def size(self, key: str) -> int:
        try:
            return self._path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _not_found(self.uri, key) from error

    def list_objects(self, prefix: str = "") -> list[StoredObject]:
        found = []
        for folder, _, names in os.walk(self._path(prefix) if prefix else self._root):
            for name in names:
                path = Path(folder, name)
                if not name.startswith(_PART) and (status := _status(path)):
                    key = path.relative_to(self._root).as_posix()
                    found.append(StoredObject(key=key, size=status.st_size, modified=status.st_mtime))
        return sorted(found, key=lambda stored: stored.key)

    def delete_prefix(self, prefix: str) -> None:
        path = self._path(prefix)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=False)
        else:
            path.unlink(missing_ok=True)

    def delete_unfinished(self, *, older_than_s: float, now: float) -> int:
        found = [Path(folder, name) for folder, _, names in os.walk(self._root) for name in names]
        parts = [
            path
            for path in found
            if path.name.startswith(_PART) and (status := _status(path)) and now - status.st_mtime > older_than_s
        ]
        for path in parts:
            path.unlink(missing_ok=True)
        return len(parts)

    def local_path(self, key: str, *, sha256: str | None = None) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise _not_found(self.uri, key)
        if sha256 is not None and sha256_of(path) != sha256:
            raise _mismatch(self.uri, key)
        return path

    def _cache(self) -> None:
        return None

    def _path(self, key: str) -> Path:
        return self._root / _checked(key)

    @telling_of_full_disks()
    def _put(self, key: str, data: bytes | Path) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{_PART}{uuid.uuid4().hex}")
        try:
            if isinstance(data, Path):
                _link_or_copy(data, part)
            else:
                part.write_bytes(data)
            _sync(part)
            part.replace(path)
            _sync(path.parent)
        finally:
            part.unlink(missing_ok=True)


class _BucketStorage(Storage):
    def __init__(self, uri: str, node_cache: NodeCache) -> None:
        self.uri = uri
        self._node_cache = node_cache
        # Storage itself refuses a key that exists (If-None-Match), should two writers meet.
        self._once = {"mode": "create"} if uri.startswith("s3:") else {"overwrite": False}

    def read(self, key: str) -> bytes:
        with self._answering(key) as (files, path):
            data: bytes = files.cat_file(path)
            return data

    def write(self, key: str, data: bytes | Path) -> bool:
        with self._answering(key) as (files, path):
            if files.exists(path):
                return False
            try:
                if isinstance(data, Path):
                    files.put_file(str(data), path, **self._once)
                else:
                    files.pipe_file(path, data, **self._once)
            except FileExistsError:
                return False
            return True

    def replace(self, key: str, data: bytes) -> None:
        with self._answering(key) as (files, path):
            files.pipe_file(path, data)

    def exists(self, key: str) -> bool:
        with self._answering(key) as (files, path):
            return bool(files.isfile(path))

    def size(self, key: str) -> int:
        with self._answering(key) as (files, path):
            return int(files.info(path)["size"])

    def list_objects(self, prefix: str = "") -> list[StoredObject]:
        with self._answering(prefix or None) as (files, path):
            root = fsspec_files(self.uri)[1]
            return [
                StoredObject(key=name[len(root) + 1 :], size=int(info["size"]), modified=_modified(info))
                for name, info in sorted(files.find(path, detail=True).items())
                if info["type"] == "file" and not name.endswith("/")
            ]

    def delete_prefix(self, prefix: str) -> None:
        with self._answering(prefix) as (files, path):
            if self.uri.startswith("s3:"):
                _delete_on_s3(files, path)
            elif files.exists(path):
                files.rm(path, recursive=True)

    def delete_unfinished(self, *, older_than_s: float, now: float) -> int:
        if not self.uri.startswith("s3:"):
            return 0  # Azure itself forgets blocks that nobody has committed, after a week
        with self._answering(None) as (files, root):
            bucket, _, prefix = root.partition("/")
            old = [
                upload
                for upload in _multipart_uploads(files, bucket, f"{prefix}/" if prefix else "")
                if now - upload["Initiated"].timestamp() > older_than_s
            ]
            for upload in old:
                files.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            return len(old)

    def local_path(self, key: str, *, sha256: str | None = None) -> Path:
        name = f"{self.uri}/{_checked(key)}"
        path = self._node_cache.path(name, lambda target: self._fetch(key, target))
        if sha256 is None or sha256_of(path) == sha256:
            return path
        self._node_cache.drop(name)
        path = self._node_cache.path(name, lambda target: self._fetch(key, target))
        if sha256_of(path) != sha256:
            self._node_cache.drop(name)
            raise _mismatch(self.uri, key)
        return path

    def _cache(self) -> NodeCache:
        return self._node_cache

    def _fetch(self, key: str, target: Path) -> None:
        with self._answering(key) as (files, path):
            files.get_file(path, str(target))

    @contextmanager
    def _answering(self, key: str | None) -> Iterator[tuple[Any, str]]:
        try:
            files, root = fsspec_files(self.uri)
            yield files, root if key is None else f"{root}/{_checked(key)}"
        except FileNotFoundError as error:
            raise _not_found(self.uri, key) from error
        except _faults(self.uri) as error:
            if is_full_disk(error):  # ours, not the storage
                raise StorageFull(DISK_FULL) from error
            if isinstance(error, PermissionError | NoCredentialsError):
                raise StorageRefused(
                    f"storage {self.uri} refused us ({error}); check its address and the keys"
                ) from error
            raise StorageUnavailable(
                f"storage {self.uri} did not answer ({error}); check its address, the keys and the network"
            ) from error


def _faults(uri: str) -> tuple[type[Exception], ...]:
    """What the libraries raise when storage refuses or does not answer."""
    if uri.startswith("s3:"):
        return (OSError, BotoCoreError, ClientError)
    from azure.core.exceptions import AzureError  # an extra, which is here if there is such a storage

    return (OSError, AzureError, RuntimeError)  # the last is how adlfs tells that a deletion failed


def _azure_account(uri: str) -> dict[str, Any]:
    host = urlsplit(uri).hostname or ""
    account = {"account_name": host.partition(".")[0]} if "@" in uri else {}
    # Without a key or connection string in AZURE_STORAGE_*, the machine's own identity signs in.
    return {**account, "anon": False}


def _delete_on_s3(files: Any, path: str) -> None:
    """Delete objects a thousand at a time; s3fs itself would not tell that a deletion was refused."""
    found = set(files.find(path)) | ({path} if files.isfile(path) else set())
    bucket = path.partition("/")[0]
    keys = [{"Key": name.partition("/")[2]} for name in sorted(found)]
    for first in range(0, len(keys), 1000):
        asked = {"Objects": keys[first : first + 1000], "Quiet": True}
        if errors := files.call_s3("delete_objects", Bucket=bucket, Delete=asked).get("Errors"):
            raise PermissionError(f"{errors[0]['Code']} at the deletion of {errors[0]['Key']}, of {len(errors)}")


def _multipart_uploads(files: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Uploads in parts that nobody has completed: S3 keeps their parts, unseen in listings, until they are aborted."""
    after: dict[str, str] = {}
    while True:
        page = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **after)
        yield from page.get("Uploads", [])
        if not page.get("IsTruncated"):
            return
        after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _modified(info: dict[str, Any]) -> float:
    moment = info.get("LastModified") or info.get("last_modified")
    return float(moment.timestamp()) if moment is not None else 0.0


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key) or ".." in key.split("/") or "." in key.split("/"):
        raise ValueError(f"storage key is {key!r}; use letters, digits and ._=- between slashes")
    return key


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # deleted between listing and asking
        return None


def _link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name where that is possible: bytes that are there already are not written again."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_found(uri: str, key: str | None) -> ObjectNotFound:
    return ObjectNotFound(f"nothing is stored under {key!r} in {uri}; check the address")


def _mismatch(uri: str, key: str) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"the stored bytes of {key!r} in {uri} have another sha256 than was recorded; restore the file"
    )
