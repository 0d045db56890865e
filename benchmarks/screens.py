"""The screens in a real Chromium on `axons up`: how soon one can press something, also with 40 tabs and 30 users.

Peer: a page of plain Gradio that lists the same projects, by the same Chromium on the same machine.
Targets: the main button of the first page answers 3 s after the server is ready, and each screen is there within 3 s
with an empty cache; 40 open tabs make `/healthz` no more than 50 ms slower at 95 of 100 questions; while 30 users press
a button each second, 95 of 100 answers come within 1 s, and so it is for who presses one in a browser beside them.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Browser, BrowserContext, Page, StorageState

from axons.app.screens.pages import SCREENS
from axons.client import Client
from benchmarks.class_load import draw_labels, prepare_class
from benchmarks.measuring import Figure, Result, at_most
from benchmarks.platform_up import percentile, running
from benchmarks.users import Users
from tests.app.installation import Installation, first_sign_in
from tests.browser.chromium import find_chromium, running_chromium
from tests.conftest import free_port

_TIMEOUT_MS = 60_000
# Plain Gradio asks for fonts of others; nobody waits for them. A route of Playwright would switch the cache off.
_NOBODY_ELSE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
_EVERY_S = 0.05
_SLOWER_MS = 50
_QUIET_S = 10  # until tabs that have just been opened have drawn all


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    if find_chromium() is None:
        return Result(figures=[], notes=["there is no Chromium here; not measured"])
    with running_chromium(_NOBODY_ELSE) as browser, running() as up:
        screens = _Screens(browser, up, scratch, is_small=is_small)
        figures = [*screens.first(), *screens.each(), *screens.tabs(), *screens.pressed()]
        return Result(figures=figures, notes=screens.notes)


class _Screens:
    """One platform, looked at by one Chromium."""

    def __init__(self, browser: Browser, up: Installation, scratch: Path, *, is_small: bool) -> None:
        self.notes: list[str] = []
        self._browser, self._up, self._scratch = browser, up, scratch
        self._rounds, self._num_tabs = (1, 4) if is_small else (3, 40)
        self._paths = ["/", *SCREENS][: 3 if is_small else None]
        self._num_users, self._seconds = (3, 5.0) if is_small else (30, 45.0)
        self._num_questions = 20 if is_small else 200  # of /healthz
        self._signed_in: StorageState | None = None
        self._tokens: list[str] = []
        self._projects: list[str] = []  # of the users
        self._query = ""  # the project that the browser looks at

    def first(self) -> list[Figure]:
        """The first page that anybody asks for, by the code of the start."""
        assert self._up.told is not None
        with self._context() as context:
            code = {"code": self._up.told["code"]}
            _posted(context, f"{self._up.url}/api/v1/auth/code", code)
            page = context.new_page()
            began = time.perf_counter()
            _open(page, self._up.url)
            page.get_by_role("button", name="New project").click()
            page.get_by_role("button", name="Create the project").wait_for(timeout=_TIMEOUT_MS)
            seconds = time.perf_counter() - began
            token = _posted(context, f"{self._up.url}/api/v1/auth/tokens", {"name": "benchmark"})["token"]
            self._signed_in = context.storage_state()
        self._prepare(token)
        return [at_most("server ready to main button that answers", seconds, 3, unit="s")]

    def _prepare(self, token: str) -> None:
        """A class in which everybody has started the task and labelled one tile of each image."""
        labels = draw_labels(np.random.default_rng(0))
        with Client(self._up.url, token) as teacher:
            accounts, assignment_id, run_id = prepare_class(teacher, self._scratch / "class", self._num_users)
            self._query = f"?project={teacher.get(f'runs/{run_id}')['project_id']}"
        self._tokens = [first_sign_in(self._up.url, account) for account in accounts]
        for student in self._tokens:
            with Client(self._up.url, student) as client:
                project_id = client.create(f"assignments/{assignment_id}/start")["project_id"]
                tiles = {tile["image_id"]: tile["id"] for tile in client.pages(f"projects/{project_id}/tiles")}
            self._projects.append(project_id)
            headers = {"Authorization": f"Bearer {student}", "If-Match": '"0"'}
            with httpx.Client(base_url=f"{self._up.url}/api/v1/", headers=headers, timeout=60) as http:
                for tile in tiles.values():
                    http.put(f"tiles/{tile}/annotation", params={"save_id": tile}, content=labels).raise_for_status()

    def each(self) -> list[Figure]:
        """Every screen with an empty cache, then again with what the browser has kept; and the peer in turns."""
        addresses = {path: f"{self._up.url}{path}{self._query}" for path in self._paths}
        fresh: dict[str, list[float]] = {path: [] for path in addresses}
        again: dict[str, list[float]] = {path: [] for path in addresses}
        theirs: list[float] = []
        with self._peer() as peer:
            for _ in range(self._rounds):
                for path, address in addresses.items():
                    with self._context() as context:
                        page = context.new_page()
                        fresh[path].append(_open(page, address))
                        again[path].append(_open(page, address))
                with self._context() as context:
                    theirs.append(_open_peer(context.new_page(), peer))
        medians = {path: statistics.median(found) for path, found in fresh.items()}
        slowest = max(medians, key=lambda path: medians[path])
        told = ", ".join(f"{path} {medians[path]:.2f} and {statistics.median(again[path]):.2f}" for path in addresses)
        self.notes.append(f"seconds with an empty cache and the second time: {told}; {self._rounds} rounds")
        peers = statistics.median(theirs)
        return [
            at_most("my projects, empty cache", medians["/"], 3, unit="s", peer=peers),
            at_most(f"slowest screen, {slowest}, empty cache", medians[slowest], 3, unit="s", peer=peers),
        ]

    def tabs(self) -> list[Figure]:
        """`/healthz` before many tabs are open, and while they are."""
        alone = _ask_health(self._up.url, self._num_questions)
        with self._context() as context:
            for number in range(self._num_tabs):
                path = self._paths[number % len(self._paths)]
                _open(context.new_page(), f"{self._up.url}{path}{self._query}")
            time.sleep(_QUIET_S)
            beside = _ask_health(self._up.url, self._num_questions)
        told = [f"{percentile(found, 0.5):.0f} and {percentile(found, 0.95):.0f} ms" for found in (alone, beside)]
        self.notes.append(
            f"50 and 95 of 100 of {self._num_questions} /healthz: {told[0]} alone, {told[1]} with the tabs"
        )
        slower = percentile(beside, 0.95) - percentile(alone, 0.95)
        return [at_most(f"/healthz with {self._num_tabs} tabs open, 95 of 100", slower, _SLOWER_MS, unit="ms more")]

    def pressed(self) -> list[Figure]:
        """Buttons in a browser, while users who are no browser press theirs."""
        users = Users(self._up.url, self._tokens, self._projects)
        with self._context() as context:
            page = context.new_page()
            _open(page, f"{self._up.url}/images{self._query}")
            with users.at_work():
                seen = _press(page, self._seconds)
        self.notes.append(users.told())
        self.notes.append(
            f"in the browser beside them: {len(seen)} presses of Exclude and Use again until all is drawn anew, "
            f"50 of 100 in {percentile(seen, 0.5):.0f} ms"
        )
        what = f"{self._num_users} users at once"
        return [
            at_most(f"95 of 100 answers to a button, {what}", percentile(users.seconds, 0.95) / 1000, 1, unit="s"),
            at_most(f"95 of 100 in a browser, {what}", percentile(seen, 0.95) / 1000, 1, unit="s"),
            at_most(f"answers that are errors, {what}", users.num_broken, 0, unit=""),
        ]

    @contextmanager
    def _context(self) -> Iterator[BrowserContext]:
        """Signed in as the administrator, as soon as somebody was; with an empty cache."""
        context = self._browser.new_context(viewport={"width": 1440, "height": 900}, storage_state=self._signed_in)
        try:
            yield context
        finally:
            context.close()

    @contextmanager
    def _peer(self) -> Iterator[str]:
        """The address of plain Gradio."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.gradio_peer", str(port), *self._projects])
        try:
            while not _answers(url):
                assert process.poll() is None, "Gradio has ended"
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def _posted(context: BrowserContext, url: str, form: dict[str, Any]) -> Any:
    origin = "/".join(url.split("/")[:3])
    answer = context.request.post(url, data=form, headers={"origin": origin})
    assert answer.ok, answer.text()
    return answer.json()


def _open(page: Page, address: str) -> float:
    """Seconds until a screen is there with all that it asks for first."""
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator("axons-screen[data-ready]").wait_for(timeout=_TIMEOUT_MS)
    return time.perf_counter() - began


def _open_peer(page: Page, address: str) -> float:
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.get_by_role("button", name="New project").wait_for(timeout=_TIMEOUT_MS)
    return time.perf_counter() - began


def _press(page: Page, seconds: float) -> list[float]:
    """The seconds of each press, until the page shows what has become of it."""
    found = []
    until = time.monotonic() + seconds
    names = ("Exclude", "Use again")
    while time.monotonic() < until:
        for name, following in (names, names[::-1]):
            row = page.locator("table.images tbody tr").first
            began = time.perf_counter()
            row.get_by_role("button", name=name, exact=True).click()
            row.get_by_role("button", name=following, exact=True).wait_for(timeout=_TIMEOUT_MS)
            found.append(time.perf_counter() - began)
            page.wait_for_timeout(300)
    return found


def _ask_health(url: str, times: int) -> Sequence[float]:
    seconds = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(times):
            began = time.perf_counter()
            client.get("/healthz").raise_for_status()
            seconds.append(time.perf_counter() - began)
            time.sleep(_EVERY_S)
    return seconds


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
