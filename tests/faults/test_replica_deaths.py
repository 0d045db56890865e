"""Replicas of Ray Serve are killed with SIGKILL under load; who asks is answered, who labels loses nothing (R19)."""

import asyncio
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.app.browser import PASSWORD
from tests.app.images import png
from tests.app.installation import Installation
from tests.browser.annotating import Annotator
from tests.browser.conftest import Pages, chromium  # noqa: F401 (a fixture)
from tests.drawing import draw_disks
from tests.faults.on_platform import add_person, replica, share_model
from tests.serve.models import make_model
from tests.train.runs import kill

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

PARTS, KILLS = 4, 5  # in parts, so that each is over within minutes
PER_SECOND, PEOPLE = 10, 30  # fewer a second where the machine cannot serve that many
TRIAL_S, TRIAL_CLIENTS, SHARE_OF_TRIAL = 10, 4, 0.5
READY_S, PATIENCE_S = 30.0, 60.0
SUCCESS = 0.995
UI_KILLS = 3


# --- predictions ---


@pytest.fixture(scope="module")
def tokens(up, administrator) -> list[str]:
    """Of a class that predicts: each person has few places at a time."""
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda number: add_person(up.url, administrator, f"client-{number}"), range(PEOPLE)))


@pytest.fixture(scope="module")
def model(up, administrator, tmp_path_factory) -> str:
    """A small model that everybody may use, by its name."""
    return share_model(administrator, Path(make_model(tmp_path_factory.mktemp("model"))), "disks")


@dataclass
class Load:
    """Sends predictions at a steady rate, whatever becomes of those before; each is tried once more at most.

    Attributes:
        answered: when a request was sent whose first try succeeded.
        lost: what became of the second try, where that failed too.
        looks: seconds that a look at one's own account took meanwhile.
    """

    url: str
    model: str
    tokens: list[str]
    per_second: float = PER_SECOND
    answered: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    num_sent: int = 0
    num_repeated: int = 0
    is_over: bool = False

    async def run(self) -> None:
        picture = png(draw_disks(96, 96).image)
        async with self._http() as http:
            asked: list[asyncio.Task[None]] = [asyncio.create_task(self._look(http))]
            began = time.monotonic()
            while not self.is_over:
                asked.append(asyncio.create_task(self._ask(http, picture, self.tokens[self.num_sent % PEOPLE])))
                self.num_sent += 1
                await asyncio.sleep(max(0.0, began + self.num_sent / self.per_second - time.monotonic()))
            await asyncio.gather(*asked)

    async def try_out(self) -> float:
        """Predictions a second that a few clients get who ask without a pause."""
        picture = png(draw_disks(96, 96).image)
        async with self._http() as http:

            async def ask_on(token: str, until: float) -> int:
                count = 0
                while time.monotonic() < until:
                    problem, _ = await self._try(http, picture, token)
                    assert not problem, problem
                    count += 1
                return count

            await ask_on(self.tokens[0], time.monotonic() + 0.1)  # loads the model
            until = time.monotonic() + TRIAL_S
            counts = await asyncio.gather(*(ask_on(token, until) for token in self.tokens[:TRIAL_CLIENTS]))
        return sum(counts) / TRIAL_S

    def _http(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        return httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S, limits=limits)

    async def _ask(self, http: httpx.AsyncClient, picture: bytes, token: str) -> None:
        sent = time.monotonic()
        problem, wait_s = await self._try(http, picture, token)
        if not problem:
            self.answered.append(sent)
            return
        self.num_repeated += 1
        await asyncio.sleep(wait_s * random.uniform(1, 1.5))
        problem, _ = await self._try(http, picture, token)
        if problem:
            self.lost.append(problem)

    async def _try(self, http: httpx.AsyncClient, picture: bytes, token: str) -> tuple[str, float]:
        """Why there is no mask, or nothing, and after how many seconds one may ask again."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "image/png"}
        files = {"data": ("disks.png", picture, "image/png")}
        try:
            answer = await http.post(f"/v2/models/{self.model}/predict/", headers=headers, files=files)
        except httpx.TransportError as error:
            return repr(error), 1.0
        problem = "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"
        return problem, float(answer.headers.get("retry-after", 1))

    async def _look(self, http: httpx.AsyncClient) -> None:
        headers = {"Authorization": f"Bearer {self.tokens[0]}"}
        while not self.is_over:
            began = time.monotonic()
            answer = await http.get("/api/v1/auth/me", headers=headers)
            assert answer.status_code == 200, answer.text
            self.looks.append(time.monotonic() - began)
            await asyncio.sleep(0.5)


async def kill_under(load: Load, up: Installation, rng: random.Random) -> list[float]:
    """Kill the segmenter's replica again and again; returns after how many seconds a request was answered at once."""
    working = asyncio.create_task(load.run())
    ready: list[float] = []
    try:
        for _ in range(KILLS):
            began = time.monotonic()
            await _answered_since(load, began)
            await asyncio.sleep(rng.uniform(1.0, 3.0))
            kill(await asyncio.to_thread(replica, up, "segmenter"))
            killed = time.monotonic()
            ready.append(await _answered_since(load, killed + 0.3) - killed)  # what was on its way may still come
    finally:
        load.is_over = True
    await working
    return ready


async def _answered_since(load: Load, moment: float) -> float:
    """When the first answer came to a request that was sent after this moment."""
    until = time.monotonic() + PATIENCE_S
    while not (load.answered and max(load.answered) > moment):
        assert time.monotonic() < until, f"no prediction within {PATIENCE_S} s; the last failures: {load.lost[-3:]}"
        await asyncio.sleep(0.05)
    return time.monotonic()


@pytest.mark.parametrize("part", range(PARTS))
def test_predictions_go_on_while_their_replica_is_killed(up, tokens, model, part, record_property):
    load = Load(up.url, model, tokens)
    served = asyncio.run(load.try_out())
    load.per_second = min(PER_SECOND, SHARE_OF_TRIAL * served)
    ready = asyncio.run(kill_under(load, up, random.Random(part)))
    success = 1 - len(load.lost) / load.num_sent
    record_property("kills", KILLS)
    record_property("sent each second", f"{load.per_second:.1f}, {served:.1f} would be possible")
    record_property("predictions", load.num_sent)
    record_property("sent twice", load.num_repeated)
    record_property("lost", len(load.lost))
    record_property("ready again after", f"at most {max(ready):.1f} s, mostly {np.median(ready):.1f} s")
    record_property("other requests meanwhile", f"at most {max(load.looks):.2f} s")
    assert success >= SUCCESS, load.lost
    assert max(ready) <= READY_S
    assert max(load.looks) <= 5


# --- the screens ---


@pytest.fixture(scope="module")
def tile_id(up, administrator, tmp_path_factory) -> str:
    """The one tile of an image, which Ana may label."""
    file = tmp_path_factory.mktemp("images") / "nerve.png"
    file.write_bytes(png(draw_disks(128, 128, channels=3).image))
    project_id = administrator.create_project("Nerve", ["background", "axon"], tile=128)["id"]
    administrator.wait_for(administrator.import_images(project_id, [file])["id"])
    add_person(up.url, administrator, "ana")
    administrator.create(f"projects/{project_id}/members", {"name": "ana", "role": "editor"})
    [tile] = administrator.pages(f"projects/{project_id}/tiles")
    return str(tile["id"])


@pytest.fixture
def page(chromium, up, tile_id) -> Iterator[Page]:  # noqa: F811
    """A page of Ana's; that requests fail meanwhile is no mistake of it."""

    def sign_in(context: BrowserContext, name: str) -> None:
        form = {"name": name, "password": PASSWORD}
        answer = context.request.post(f"{up.url}/api/v1/auth/login", data=form, headers={"origin": up.url})
        assert answer.ok, answer.text()

    pages = Pages(chromium, up.url, sign_in)
    yield pages("ana", allowed=["Failed to load resource"])
    pages.close()
    assert pages.foreign == []
    assert pages.errors == []


def test_while_the_replica_of_the_screens_is_killed_nobody_loses_a_stroke_or_the_tile(
    up, administrator, tile_id, page, record_property
):
    seconds = []
    annotator = Annotator.open_in_frame(page, tile_id)
    for number in range(UI_KILLS):
        row = 20 + 30 * number
        annotator.drag((row, 20), (row, 40))
        kill(replica(up, "axons"))
        killed = time.monotonic()
        for col in (60, 80, 100):
            annotator.drag((row, col), (row + 10, col))
        drawn = annotator.saved()
        saved = time.monotonic() - killed
        page.reload()
        annotator = Annotator.in_frame(page)
        seconds.append((saved, time.monotonic() - killed))
        shown, kept = annotator.state(), administrator.get(f"tiles/{tile_id}/annotation")
        assert (shown["tile"], shown["crc32"]) == (tile_id, drawn["crc32"])
        assert kept["crc32"] == drawn["crc32"]
        expect(page.get_by_role("dialog")).to_have_count(0)
    assert int(drawn["counts"]["1"]) > 0
    record_property("kills of the screens", UI_KILLS)
    record_property("all strokes saved after", f"at most {max(saved for saved, _ in seconds):.1f} s")
    record_property("page usable after", f"at most {max(usable for _, usable in seconds):.1f} s")
    assert max(usable for _, usable in seconds) <= READY_S
