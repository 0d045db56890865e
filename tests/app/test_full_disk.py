"""Disks are full: who reads goes on reading, who writes is told in a plain sentence (R23)."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from axons.app.platform import Platform
from axons.app.services.uploads import check_free_space
from axons.app.settings import Settings
from axons.data.decoding import Decoder
from axons.data.full_disk import SENTENCE
from axons.data.storage import open_storage
from axons.errors import StorageFull
from tests.app.conftest import As, add_user
from tests.app.images import add_project, png
from tests.app.uploads import begin, send_part
from tests.app.volumes import fill, free, volume
from tests.drawing import draw_disks


@pytest.fixture
def small(tmp_path):
    with volume(tmp_path / "small", num_bytes=3 << 20) as folder:
        yield folder


@pytest.fixture
def opened():
    """Opens platforms, and closes them before their disk goes."""
    platforms = []

    def open_(settings):
        platforms.append(Platform.open(settings))
        return platforms[-1]

    yield open_
    for platform in platforms:
        platform.database.close()


def test_when_the_disk_of_the_database_is_full_reads_go_on_and_writes_are_507(small, opened, empty_sqlite):
    shutil.copy(empty_sqlite, small / "axons.db")
    platform = opened(Settings(data=small))
    client = As(platform, add_user(platform, "ana"))
    client.post("/v1/projects", json={"name": "before"})
    fill(small)
    refused = client.post("/v1/projects", json={"name": "meanwhile", "instructions": "x" * 9000})
    read = client.get("/v1/projects")
    free(small)
    made = client.post("/v1/projects", json={"name": "after"})
    names = {project["name"] for project in client.get("/v1/projects").json()["items"]}
    with closing(sqlite3.connect(small / "axons.db")) as connection:
        check = connection.execute("PRAGMA integrity_check").fetchone()[0]
    assert (refused.status_code, refused.json()["detail"]) == (507, SENTENCE)
    assert (read.status_code, len(read.json()["items"])) == (200, 1)
    assert made.status_code == 201
    assert names == {"before", "after"}
    assert check == "ok"


def test_when_the_disk_of_the_storage_is_full_a_part_is_507_and_can_be_sent_again(platform, ana, small, opened):
    elsewhere = opened(platform.settings.model_copy(update={"storage_url": str(small), "min_free_bytes": 0}))
    client, data = As(elsewhere, ana), b"x" * 300_000
    upload = begin(client, data, project_id=add_project(elsewhere, ana).id)
    fill(small)
    refused = send_part(client, upload, data, 0)
    free(small)
    assert refused.status_code == 507
    assert refused.json()["detail"].endswith("tell the administrator")
    assert [path.name for path in small.rglob("*") if path.is_file()] == []
    assert send_part(client, upload, data, 0).status_code == 200


def test_room_is_asked_of_the_disk_of_the_storage_too(platform, small):
    settings = platform.settings.model_copy(update={"storage_url": str(small), "min_free_bytes": 1 << 20})
    check_free_space(settings, 1 << 20)
    with pytest.raises(StorageFull, match="too little for 4 MB more"):
        check_free_space(settings, 4 << 20)


def test_an_object_that_does_not_fit_is_not_there_at_all(small):
    storage = open_storage(small)
    with pytest.raises(StorageFull, match="a disk of the server is full"):
        storage.write("models/m", b"x" * (4 << 20))
    assert list(small.rglob("*.part*")) == []
    assert storage.list_objects() == []


def test_an_image_is_not_blamed_for_a_full_disk(small, tmp_path):
    (tmp_path / "a.png").write_bytes(png(draw_disks(100, 150, seed=1).image))
    fill(small)
    with Decoder() as decoder, pytest.raises(StorageFull, match="a disk of the server is full"):
        decoder.normalise(tmp_path / "a.png", small / "working.tif", name="a.png")
