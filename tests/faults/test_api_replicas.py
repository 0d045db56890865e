"""Two processes that answer REST on one PostgreSQL: what one of them knows, the other does too."""

import threading
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from sqlmodel import select

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.settings import Settings
from axons.app.tables import Revision, User
from tests.app.browser import PASSWORD, give_password
from tests.app.conftest import add_user
from tests.app.images import add_images, add_project, document_of, tiles_of

pytestmark = pytest.mark.long

NUM_EDITORS, NUM_ROUNDS = 8, 10
MISSES = 10  # then the delays begin


@dataclass
class Editor:
    """Saves one tile that others save too: a save that came too late is made again on what is there now."""

    url: str
    token: str
    shape: tuple[int, int]
    seed: int
    acknowledged: dict[int, int] = field(default_factory=dict)
    num_late: int = 0

    def run(self) -> None:
        rng = np.random.default_rng(self.seed)
        for number in range(NUM_ROUNDS):
            document = document_of(rng.integers(0, 3, self.shape, dtype=np.uint8))
            self._save(document, f"editor-{self.seed}-{number}")

    def _save(self, document: dict, save_id: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        while True:
            base = httpx.get(self.url, headers=headers).headers["ETag"]  # each on a connection of its own
            answer = httpx.put(
                self.url, params={"save_id": save_id}, json=document, headers={**headers, "If-Match": base}
            )
            if answer.status_code == 200:
                self.acknowledged[answer.json()["revision"]] = document["crc32"]
                return
            assert answer.status_code == 412, answer.text
            self.num_late += 1


@pytest.fixture
def up(start, postgres):
    """A platform whose REST two processes answer, its database, and the administrator's token."""
    address = postgres.empty_database()
    up, token = start(AXONS_DATABASE_URL=address, AXONS_API_REPLICAS="2")
    platform = Platform.open(Settings(data=up.data, database_url=address))
    yield up, platform, token
    platform.database.close()


def answering(up):
    """How many of its processes answer REST: each has asked the database something."""
    processes = [one for one in up.processes() if "ServeReplica:axons-api" in " ".join(one.cmdline())]
    port = int(up.settings["AXONS_DATABASE_URL"].rpartition(":")[2].partition("/")[0])
    return sum(any(c.raddr and c.raddr.port == port for c in one.net_connections("tcp")) for one in processes)


def test_two_processes_answer_and_neither_saves_nor_sessions_nor_misses_are_lost_between_them(
    up, tmp_path, record_property
):
    up, platform, token = up
    admin = platform.database.read(lambda session: Actor.of(session.exec(select(User)).first()))
    project = add_project(platform, admin)
    (image,) = add_images(platform, admin, project, tmp_path)
    tile = tiles_of(platform, image)[0]

    url = f"{up.url}/api/v1/tiles/{tile.id}/annotation"
    editors = [Editor(url, token, (tile.height, tile.width), seed) for seed in range(NUM_EDITORS)]
    threads = [threading.Thread(target=editor.run) for editor in editors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = platform.database.read(lambda session: {row.number: row.crc32 for row in session.exec(select(Revision))})
    acknowledged = {number: crc for editor in editors for number, crc in editor.acknowledged.items()}
    assert kept == acknowledged
    assert sorted(kept) == list(range(1, NUM_EDITORS * NUM_ROUNDS + 1))
    record_property("saves acknowledged", len(acknowledged))
    record_property("saves that came too late", sum(editor.num_late for editor in editors))

    ana = add_user(platform, "ana")
    give_password(platform, ana)
    cookie = sign_in(up, "ana", PASSWORD).cookies
    assert {ask_me(up, cookie) for _ in range(20)} == {200}
    httpx.post(f"{up.url}/api/v1/auth/logout", cookies=cookie, headers={"origin": up.url}).raise_for_status()
    assert {ask_me(up, cookie) for _ in range(20)} == {401}

    assert {sign_in(up, "ana", "not the password").status_code for _ in range(MISSES)} == {401}
    tried = platform.database.read(lambda session: session.get_one(User, ana.user_id))
    assert tried.failed_logins == MISSES
    assert tried.blocked_until is not None
    assert answering(up) == 2


def sign_in(up, name, password):
    return httpx.post(f"{up.url}/api/v1/auth/login", json={"name": name, "password": password}, timeout=30)


def ask_me(up, cookie):
    return httpx.get(f"{up.url}/api/v1/auth/me", cookies=cookie).status_code
