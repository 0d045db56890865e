"""The disks of a running platform are filled in turn (R23): reads go on, writes are 507, and room is all it needs."""

import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from axons.app.database import Database
from axons.app.tables import Image
from axons.client import Client
from axons.errors import JobFailed, RequestFailed
from tests.app.volumes import fill, free, volume
from tests.faults.annotators import (
    Annotator,
    annotating,
    draw_files,
    lost,
    new_project,
    num_acknowledged,
    refusals,
    seconds_until_all_save,
    working,
)
from tests.train.runs import wait_until

MIB = 1 << 20
SIZES = {"database": 64 * MIB, "temporary": 256 * MIB, "objects": 64 * MIB}
FULL_FOR_S, NORMAL_AGAIN_S = 10, 10

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture
def volumes(tmp_path) -> Iterator[dict[str, Path]]:
    """Three disks of their own; the name of the temporary one is short, for the sockets of Ray lie on it."""
    places = {name: tmp_path / name for name in SIZES} | {"temporary": Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))}
    with ExitStack() as mounted:
        yield {
            name: mounted.enter_context(volume(places[name], num_bytes=num_bytes)) for name, num_bytes in SIZES.items()
        }
    places["temporary"].rmdir()


class Reader:
    """Looks at everything again and again, and remembers the answers that were not 200."""

    def __init__(self, url: str, token: str, paths: list[str]) -> None:
        self.num_answers = 0
        self.failed: list[str] = []
        self._url, self._paths = url, paths
        self._headers = {"Authorization": f"Bearer {token}"}

    def run(self, stopping: threading.Event) -> None:
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=60) as client:
            while not stopping.wait(0.1):
                for path in self._paths:
                    answer = client.get(path)
                    self.num_answers += 1
                    if answer.status_code != 200:
                        self.failed.append(f"{path}: {answer.status_code} {answer.text[:300]}")


def test_three_disks_are_filled_in_turn(volumes, start, tmp_path, record_property):
    up, token = start(
        volumes["database"],
        AXONS_STORAGE_URL=str(volumes["objects"]),
        AXONS_MIN_FREE_BYTES=str(4 * MIB),
        TMPDIR=str(volumes["temporary"]),
    )
    client = Client(up.url, token, patience_s=1)
    project_id, tiles = new_project(client, draw_files(tmp_path / "images", ["a.png", "b.png"]))
    reader = Reader(up.url, token, paths_of(project_id, tiles))
    told: dict[str, str] = {}
    waits: dict[str, float] = {}
    with working(reader.run), annotating(up.url, token, tiles[:4]) as annotators:
        for number, (name, folder) in enumerate(volumes.items()):
            seconds_until_all_save(annotators)
            before = [len(annotator.refused) for annotator in annotators]
            fill(folder)
            told[name] = import_one(client, project_id, tmp_path / "images", 10 * number + 3)
            if name == "database":
                wait_for_a_refusal(annotators, before)
            else:
                time.sleep(FULL_FOR_S)
                assert [len(annotator.refused) for annotator in annotators] == before
            free(folder)
            waits[name] = seconds_until_all_save(annotators)
            assert import_one(client, project_id, tmp_path / "images", 10 * number + 5) == "done"
    file = up.data / "axons.db"
    up.stop()
    database = Database(f"sqlite:///{file}")
    missing, statuses = lost(database, annotators), refusals(annotators)
    images = database.read(lambda session: session.exec(select(Image)).all())
    database.close()
    with closing(sqlite3.connect(file)) as connection:
        check = connection.execute("PRAGMA integrity_check").fetchone()[0]
    record_property("reads answered", reader.num_answers)
    record_property("saves acknowledged", num_acknowledged(annotators))
    record_property("saves answered 507", statuses[507])
    record_property("seconds until all save again", str({name: round(wait, 1) for name, wait in waits.items()}))
    record_property("told to who imports", str(told))
    assert reader.failed == []
    assert set(statuses) == {507}
    assert max(waits.values()) <= NORMAL_AGAIN_S
    assert (missing, check) == ([], "ok")
    keys = [key for row in images for key in (row.working_key, row.sheet_key)]
    assert [key for key in keys if not (volumes["objects"] / key).is_file()] == []
    assert len(images) == 2 + list(told.values()).count("done") + len(volumes)
    assert all("tell the administrator" in told[name] for name in ("database", "objects"))


def wait_for_a_refusal(annotators: list[Annotator], before: list[int]) -> None:
    """The log of SQLite has some room in it that was its own before the disk was full."""
    wait_until(
        lambda: [len(annotator.refused) for annotator in annotators] != before,
        timeout_s=60,
        what="a full disk refuses a save",
    )


def import_one(client: Client, project_id: str, folder: Path, seed: int) -> str:
    """What somebody is told who imports an image; "done" if it worked."""
    try:
        job = client.import_images(project_id, draw_files(folder, [f"{seed}.png"], seed=seed))
        client.wait_for(job["id"], timeout_s=180)
    except (RequestFailed, JobFailed) as error:
        return str(error)
    return "done"


def paths_of(project_id: str, tiles: list[dict]) -> list[str]:
    """What the pages of a class ask for."""
    tile = tiles[-1]["id"]
    return [
        "/api/v1/projects",
        f"/api/v1/projects/{project_id}",
        f"/api/v1/projects/{project_id}/tiles",
        f"/api/v1/projects/{project_id}/images",
        f"/api/v1/tiles/{tile}",
        f"/api/v1/tiles/{tile}/image",
        f"/api/v1/tiles/{tile}/annotation",
        "/api/v1/jobs",
        "/healthz",
    ]
