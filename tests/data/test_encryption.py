"""Server-side encryption: every object written to S3 asks for it."""

from pathlib import Path

import pytest
from pyarrow.fs import FSSpecHandler, PyFileSystem
from pydantic import ValidationError

from axons.app.settings import Settings
from axons.data.encryption import VARIABLE, check_encryption, encryption_arguments
from axons.data.storage import fsspec_files, open_storage
from axons.train.driver import _ray_storage

KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd"


@pytest.fixture(params=["AES256", "aws:kms", f"aws:kms:{KEY}"])
def asked(request, monkeypatch):
    """What this node asks for; the connection of other tests is forgotten, before and after."""
    monkeypatch.setenv(VARIABLE, request.param)
    fsspec_files.cache_clear()
    yield encryption_arguments(request.param)
    fsspec_files.cache_clear()


def encryption_of(uri: str, key: str) -> dict[str, str]:
    """What the server says of an object."""
    files, root = fsspec_files(uri)
    bucket, _, prefix = root.partition("/")
    head = files.call_s3("head_object", Bucket=bucket, Key=f"{prefix}/{key}")
    return {name: head[name] for name in ("ServerSideEncryption", "SSEKMSKeyId") if name in head}


def test_every_written_object_asks_for_it(asked, s3_uri, tmp_path):
    storage = open_storage(s3_uri)
    (tmp_path / "file").write_bytes(b"file")
    storage.write("projects/bytes", b"bytes")
    storage.write("projects/file", tmp_path / "file")
    storage.replace("models/status.json", b"1")
    for key in ("projects/bytes", "projects/file", "models/status.json"):
        assert asked.items() <= encryption_of(s3_uri, key).items()
    assert storage.read("projects/file") == b"file"


def test_so_does_what_ray_train_writes_in_parts(asked, s3_uri):
    asked_of_ray = _ray_storage(f"{s3_uri}/models/run")
    files: PyFileSystem = asked_of_ray["storage_filesystem"]
    assert isinstance(files.handler, FSSpecHandler)
    with files.handler.fs.open(f"{asked_of_ray['storage_path']}/weights", "wb", block_size=5 << 20) as target:
        [target.write(b"w" * (3 << 20)) for _ in range(4)]
    assert asked.items() <= encryption_of(s3_uri, "models/run/weights").items()


@pytest.mark.slow
def test_a_file_that_goes_up_in_parts_asks_for_it(asked, s3_uri, tmp_path: Path):
    with (tmp_path / "large").open("wb") as large:
        large.truncate(105 << 20)
    open_storage(s3_uri).write("training-sets/large", tmp_path / "large")
    assert asked.items() <= encryption_of(s3_uri, "training-sets/large").items()


def test_without_it_nothing_is_asked_for(s3_uri):
    open_storage(s3_uri).write("projects/plain", b"1")
    assert encryption_of(s3_uri, "projects/plain").get("ServerSideEncryption") in (None, "AES256")
    assert "storage_filesystem" not in _ray_storage(s3_uri)


@pytest.mark.parametrize(
    ("asked", "uri", "says"),
    [
        ("AES256", "/data/storage", "is for S3, and the storage is the folder /data/storage; encrypt its disk instead"),
        ("AES256", "abfs://c@a.dfs.core.windows.net", "Azure encrypts everything by itself; leave it out"),
        ("rot13", "s3://bucket/prefix", "is 'rot13'; use AES256, aws:kms or aws:kms:KEY"),
    ],
)
def test_what_would_keep_no_promise_is_refused(asked, uri, says):
    with pytest.raises(ValueError, match=f"{VARIABLE} .*{says}"):
        check_encryption(asked, uri)
    with pytest.raises(ValidationError, match=says):
        Settings(storage_encryption=asked, storage_url=uri)
