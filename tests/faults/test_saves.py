"""The application is killed while labels are saved: what was acknowledged is there, the rest is sent again."""

import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from sqlalchemy import text
from sqlmodel import select

from axons.app.tables import Revision
from axons.data.layers import unpack
from tests.app.images import add_images, add_project, document_of, tiles_of
from tests.conftest import free_port, wait_for_port

NUM_CLIENTS = 20


@dataclass
class Editor:
    """Saves one tile again and again as the page does: it repeats a save until it is acknowledged."""

    url: str
    tile_id: str
    height: int
    width: int
    seed: int
    acknowledged: dict[int, int] = field(default_factory=dict)
    num_repeated: int = 0

    def run(self, stopping: threading.Event) -> None:
        rng = np.random.default_rng(self.seed)
        with httpx.Client(timeout=10) as client:
            while not stopping.is_set():
                document = document_of(rng.integers(0, 3, (self.height, self.width), dtype=np.uint8))
                revision = self._save(client, document, stopping)
                if revision is not None:
                    self.acknowledged[revision] = document["crc32"]

    def _save(self, client: httpx.Client, document: dict, stopping: threading.Event) -> int | None:
        base = len(self.acknowledged)
        query = {"save_id": f"editor-{self.seed}-{base}"}
        while True:
            try:
                answer = client.put(self.url, params=query, json=document, headers={"If-Match": f'"{base}"'})
                assert answer.status_code == 200, answer.text
                return answer.json()["revision"]
            except httpx.TransportError:
                self.num_repeated += 1
                if stopping.is_set():
                    return None
                time.sleep(0.25)


def start_server(platform, actor, port):
    arguments = [sys.executable, "-m", "tests.faults.save_server", str(platform.settings.data), str(port)]
    server = subprocess.Popen([*arguments, actor.user_id])
    wait_for_port(port, timeout_s=180)
    return server


@pytest.mark.parametrize("num_kills", [pytest.param(2, id="2 kills"), pytest.param(10, marks=pytest.mark.long)])
def test_no_acknowledged_save_is_lost_when_the_application_is_killed(
    platform,
    ana,
    tmp_path,
    num_kills,
    record_property,
):
    project = add_project(platform, ana)
    names = [f"{n}.png" for n in range(4)]
    tiles = [tile for i in add_images(platform, ana, project, tmp_path, names=names) for tile in tiles_of(platform, i)]
    port, rng = free_port(), random.Random(6)
    server = start_server(platform, ana, port)
    editors = [
        Editor(f"http://127.0.0.1:{port}/v1/tiles/{tile.id}/annotation", tile.id, tile.height, tile.width, n)
        for n, tile in enumerate(tiles[:NUM_CLIENTS])
    ]
    stopping = threading.Event()
    threads = [threading.Thread(target=editor.run, args=(stopping,), daemon=True) for editor in editors]
    for thread in threads:
        thread.start()
    for _ in range(num_kills):
        time.sleep(rng.uniform(1, 4))
        server.kill()
        server.wait()
        server = start_server(platform, ana, port)
    time.sleep(2)
    stopping.set()
    for thread in threads:
        thread.join()
    server.kill()
    server.wait()

    kept = platform.database.read(lambda session: list(session.exec(select(Revision))))
    found = {(row.tile_id, row.number): row for row in kept}
    acknowledged = {(e.tile_id, number): crc for e in editors for number, crc in e.acknowledged.items()}
    lost = [place for place, crc in acknowledged.items() if place not in found or found[place].crc32 != crc]
    torn = [row.id for row in kept if unpack(row.layers) is None]
    check = platform.database.read(
        lambda session: session.connection().execute(text("PRAGMA integrity_check")).scalar()
    )
    record_property("saves acknowledged", len(acknowledged))
    record_property("saves sent again", sum(editor.num_repeated for editor in editors))
    assert (lost, torn, check) == ([], [], "ok")
    assert all(sorted(e.acknowledged) == list(range(1, len(e.acknowledged) + 1)) for e in editors)
    assert len(kept) - len(acknowledged) <= NUM_CLIENTS  # at most one each was saved and not yet acknowledged
    assert len(acknowledged) >= 20 * num_kills
