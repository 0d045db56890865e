"""The same behaviour on a folder, on a real S3 server, and on a real server of Azure's Blob API."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from axons.data.node_cache import NodeCache
from axons.data.storage import Storage, expire_temporary, new_key, open_storage, sha256_of
from axons.errors import ChecksumMismatch, ObjectNotFound, StorageUnavailable
from tests.conftest import S3_PORT, free_port
from tests.data.azurite import azure_uri, azurite  # noqa: F401 (fixtures)


@pytest.fixture(params=["folder", "s3", pytest.param("azure", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    kind = request.param
    uri = str(tmp_path / "store") if kind == "folder" else request.getfixturevalue(f"{kind}_uri")
    return open_storage(uri, cache=NodeCache(tmp_path / "cache", limit_bytes=10**9))


def test_what_was_written_is_read_back(storage):
    assert storage.write("projects/a/image.tif", b"pixels")
    assert storage.read("projects/a/image.tif") == b"pixels"
    assert storage.exists("projects/a/image.tif")


def test_a_file_is_written_like_bytes(storage, tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 3_000_000)
    storage.write("tmp/big", tmp_path / "big")
    assert storage.read("tmp/big") == b"x" * 3_000_000


def test_a_second_write_leaves_the_object_alone(storage):
    assert storage.write("models/m", b"first")
    assert not storage.write("models/m", b"second")
    assert storage.read("models/m") == b"first"


def test_of_many_writers_of_one_key_one_wins(storage):
    if "://" not in storage.uri:
        pytest.skip("in a folder all writers of a key hold the same bytes, and both may win")
    together, won = threading.Barrier(8), []

    def write(number: int) -> None:
        together.wait()
        won.append((storage.write("models/run/attempts/1/attempt.json", b"%d" % number), number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    [winner] = [number for is_first, number in won if is_first]
    assert (len(won), storage.read("models/run/attempts/1/attempt.json")) == (8, b"%d" % winner)


def test_replace_gives_the_new_bytes(storage):
    storage.replace("models/status.json", b"1")
    storage.replace("models/status.json", b"22")
    assert storage.read("models/status.json") == b"22"


def test_listing_gives_keys_and_sizes_below_a_prefix(storage):
    storage.write("projects/a/1", b"1")
    storage.write("projects/a/b/2", b"22")
    storage.write("projects/ab/3", b"333")
    found = storage.list_objects("projects/a")
    assert [(stored.key, stored.size) for stored in found] == [("projects/a/1", 1), ("projects/a/b/2", 2)]
    assert abs(found[0].modified - time.time()) < 60


def test_listing_what_is_not_there_is_empty(storage):
    assert storage.list_objects("projects/none") == []
    assert storage.list_objects() == []


def test_deleting_a_prefix_leaves_its_neighbours(storage):
    storage.write("tmp/a/1", b"1")
    storage.write("tmp/ab", b"2")
    storage.delete_prefix("tmp/a")
    storage.delete_prefix("tmp/a")
    assert [stored.key for stored in storage.list_objects()] == ["tmp/ab"]


def test_a_missing_object_is_named(storage):
    with pytest.raises(ObjectNotFound, match="nothing is stored under 'models/none'"):
        storage.read("models/none")
    with pytest.raises(ObjectNotFound):
        storage.local_path("models/none")


@pytest.mark.parametrize("key", ["../up", "a/../../up", "/etc/passwd", "a//b", "a b", "a\\b", "", "ä", "a/."])
def test_a_key_that_is_not_ours_is_refused(storage, key):
    with pytest.raises(ValueError, match="storage key is"):
        storage.write(key, b"")


def test_a_local_path_ends_as_the_object_does(storage):
    storage.write("predictions/p/mask.png", b"pixels")
    assert storage.local_path("predictions/p/mask.png").suffix == ".png"


def test_a_local_path_holds_the_bytes_and_checks_them(storage):
    storage.write("models/m", b"weights")
    assert storage.local_path("models/m", sha256=sha256_of(b"weights")).read_bytes() == b"weights"
    with pytest.raises(ChecksumMismatch, match="'models/m'.*another sha256"):
        storage.local_path("models/m", sha256=sha256_of(b"other"))


def test_a_view_from_a_prefix_sees_the_same_objects(storage):
    storage.write("models/run/model.json", b"{}")
    assert storage.at("models/run").read("model.json") == b"{}"
    assert storage.at("models/run").list_objects()[0].key == "model.json"


def test_temporary_objects_expire_and_others_stay(storage):
    storage.write(f"{new_key('tmp')}/a", b"1")
    storage.write("projects/a", b"1")
    assert expire_temporary(storage, older_than_s=3600, now=time.time()) == 0
    assert expire_temporary(storage, older_than_s=3600, now=time.time() + 7200) == 1
    assert [stored.key for stored in storage.list_objects()] == ["projects/a"]


def test_an_area_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="area is 'temp'; choose one of projects"):
        new_key("temp")


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match="storage address is 'ftp://x'"):
        open_storage("ftp://x")


def test_a_reader_never_sees_half_a_replacement(tmp_path):
    storage = open_storage(tmp_path)
    storage.replace("status.json", b"0" * 100_000)
    seen = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(storage.read("status.json"))

    reader = threading.Thread(target=read)
    reader.start()
    for digit in b"123456789":
        storage.replace("status.json", bytes([digit]) * 100_000)
    stop.set()
    reader.join()
    assert all(len(data) == 100_000 and len(set(data)) == 1 for data in seen)


def test_a_failed_write_leaves_nothing(tmp_path):
    storage = open_storage(tmp_path / "store")
    with pytest.raises(FileNotFoundError):
        storage.write("tmp/a", tmp_path / "missing")
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_a_second_load_makes_no_request(s3_uri, s3_log, tmp_path):
    storage = open_storage(s3_uri, cache=NodeCache(tmp_path / "cache", limit_bytes=10**9))
    storage.write("models/m", b"weights" * 1000)
    first = storage.local_path("models/m")
    requests_before = s3_log.read_text().count("HTTP/1.1")
    assert storage.local_path("models/m") == first
    time.sleep(0.2)
    assert s3_log.read_text().count("HTTP/1.1") == requests_before


def test_a_damaged_cached_copy_is_fetched_again(s3_uri, tmp_path):
    storage = open_storage(s3_uri, cache=NodeCache(tmp_path / "cache", limit_bytes=10**9))
    storage.write("models/m", b"weights")
    storage.local_path("models/m").write_bytes(b"weighty")
    assert storage.local_path("models/m", sha256=sha256_of(b"weights")).read_bytes() == b"weights"


def test_the_cache_drops_the_least_recently_used(tmp_path):
    cache = NodeCache(tmp_path, limit_bytes=250)
    fetched = []

    def get(name: str) -> Path:
        def fetch(target: Path) -> None:
            fetched.append(name)
            target.write_bytes(b"x" * 100)

        time.sleep(0.02)
        return cache.path(name, fetch)

    for name in ["a", "b", "a", "c", "a", "b"]:
        get(name)
    assert fetched == ["a", "b", "c", "b"]


def test_one_of_many_threads_fetches(tmp_path):
    cache = NodeCache(tmp_path, limit_bytes=10**6)
    fetched = []

    def fetch(target: Path) -> None:
        time.sleep(0.1)
        fetched.append(1)
        target.write_bytes(b"x")

    threads = [threading.Thread(target=cache.path, args=("a", fetch)) for _ in range(5)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert fetched == [1]


def test_a_failed_fetch_leaves_no_file(tmp_path):
    cache = NodeCache(tmp_path, limit_bytes=10**6)

    def fetch(target: Path) -> None:
        target.write_bytes(b"half")
        raise ObjectNotFound("gone")

    with pytest.raises(ObjectNotFound):
        cache.path("a", fetch)
    assert list(tmp_path.glob("*.data*")) == []


@pytest.mark.slow
def test_a_refusal_of_azure_is_told_in_one_sentence(azure_uri):  # noqa: F811 (the fixture)
    gone = open_storage(azure_uri.replace("axons-", "none-"))
    with pytest.raises(StorageUnavailable, match="(?s)storage abfs://none-.*ContainerNotFound"):
        gone.replace("models/m", b"1")


class _Faulty:
    """Passes bytes on to the S3 server, but answers 503 and hangs up on the first requests."""

    def __init__(self) -> None:
        self.faults_left = 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._door.accept()
            server = socket.create_connection(("127.0.0.1", S3_PORT))
            threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if asks and self.faults_left > 0:
                    self.faults_left -= 1
                    source.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _storage_behind(port: int, uri: str, monkeypatch: pytest.MonkeyPatch) -> Storage:
    # The endpoint is read when the connection is made: forget the connection of other tests, before and after.
    from axons.data import storage as module

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(
        module, "_S3_CLIENT", {**module._S3_CLIENT, "connect_timeout": 1, "user_agent_extra": str(port)}
    )
    module.fsspec_files.cache_clear()
    return open_storage(uri)


@pytest.fixture
def _fresh_connections():
    from axons.data.storage import fsspec_files

    yield
    fsspec_files.cache_clear()


@pytest.mark.usefixtures("_fresh_connections")
def test_passing_faults_of_storage_are_ridden_out(s3_uri, monkeypatch):
    proxy = _Faulty()
    storage = _storage_behind(proxy.port, s3_uri, monkeypatch)
    storage.replace("a", b"1")
    proxy.faults_left = 2
    assert storage.read("a") == b"1"
    proxy.faults_left = 2
    storage.replace("a", b"2")
    assert proxy.faults_left == 0
    assert storage.read("a") == b"2"


@pytest.mark.usefixtures("_fresh_connections")
def test_storage_that_is_gone_is_told_in_one_sentence(s3_uri, monkeypatch):
    storage = _storage_behind(free_port(), s3_uri, monkeypatch)
    with pytest.raises(StorageUnavailable, match=r"storage s3://.* did not answer .*; check its address"):
        storage.read("a")
