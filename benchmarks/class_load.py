"""A class at work for three minutes, over HTTP: 60 students label copies of a task and watch a run.

Each reads a tile's picture and labels and saves them every 5 s with `If-Match`, and asks for the run every 3 s. One of
ten saves, of each student at another time, is sent from two windows at once, of which one must be refused as stale.
Once on SQLite, once on PostgreSQL. No peer. Target: 95 of 100 saves within 300 ms, no answer 5xx, no update lost.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from axons.client import Client
from axons.data.layers import annotation_of, to_json
from axons.data.sample import SAMPLE_CLASSES, draw_micrograph
from benchmarks.measuring import Figure, Result, at_most
from benchmarks.platform_up import REPLICA, percentile, process_of, project_with, running, write_pictures
from tests.app import postgres
from tests.app.installation import Installation, first_sign_in

_SAVE_EVERY_S, _ASK_EVERY_S = 5.0, 3.0
_TWICE = 10  # one in so many saves comes from two windows
_TILE = 256
_TRAINING = {"epochs": 1, "crop": 128, "batch": 4}


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    figures: list[Figure] = []
    notes = [] if postgres.is_installed() else ["PostgreSQL is not installed here: measured on SQLite alone"]
    platforms = {"SQLite": running} | ({"PostgreSQL": _on_postgres} if postgres.is_installed() else {})
    for name, platform in platforms.items():
        with platform() as up:
            school = School(up, scratch / name, num_students=6 if is_small else 60)
            asyncio.run(school.work(20 if is_small else 180))
            memory = process_of(up, REPLICA).memory_full_info().pss  # not before: to look takes time from the class
            figures += school.figures(name)
            notes.append(f"{name}: {school.told()}; the application had {memory / 1e6:.0f} MB of PSS at the end")
    return Result(figures=figures, notes=notes)


@contextmanager
def _on_postgres() -> Iterator[Installation]:
    with (
        postgres.running_postgres(is_durable=True) as server,
        running(AXONS_DATABASE_URL=server.empty_database()) as up,
    ):
        yield up


@dataclass
class _Answers:
    """Seconds and status of every answer, by what was asked; status 0 is no answer."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    async def of(self, what: str, request: Any) -> httpx.Response | None:
        """Wait for an answer, and keep how long it took."""
        began = time.perf_counter()
        try:
            answer = await request
        except httpx.TransportError:
            self.statuses[0] += 1
            return None
        self.seconds[what].append(time.perf_counter() - began)
        self.statuses[answer.status_code] += 1
        return answer


@dataclass
class _Student:
    """One student: what the page does, and what the server has acknowledged."""

    number: int
    http: httpx.AsyncClient
    tiles: list[str]
    run_id: str
    labels: Sequence[bytes]
    answers: _Answers
    acknowledged: dict[tuple[str, int], int] = field(default_factory=dict)
    num_both: int = 0

    async def label(self, until: float) -> None:
        """Tile by tile: look at it, and save it with other labels."""
        began = time.monotonic()
        for i, tile in zip(count(), cycle(self.tiles), strict=False):
            await asyncio.sleep(began + i * _SAVE_EVERY_S - time.monotonic())
            if time.monotonic() > until:
                return
            await self.answers.of("picture", self.http.get(f"tiles/{tile}/image"))
            seen = await self.answers.of("labels", self.http.get(f"tiles/{tile}/annotation"))
            if seen is None or seen.is_error:
                continue
            windows = 2 if (i + self.number) % _TWICE == 0 else 1
            saves = [self._save(tile, seen.headers["etag"], 2 * i + window) for window in range(windows)]
            if sum(await asyncio.gather(*saves)) > 1:
                self.num_both += 1

    async def watch(self, until: float) -> None:
        """Ask how far the run is."""
        while time.monotonic() < until:
            await self.answers.of("run", self.http.get(f"runs/{self.run_id}"))
            await asyncio.sleep(_ASK_EVERY_S)

    async def _save(self, tile: str, etag: str, number: int) -> bool:
        """Whether it was acknowledged."""
        body = self.labels[(self.number + number) % len(self.labels)]
        query = {"save_id": f"{self.number}-{number}"}
        request = self.http.put(f"tiles/{tile}/annotation", params=query, content=body, headers={"If-Match": etag})
        answer = await self.answers.of("save", request)
        if answer is None or answer.status_code != 200:
            return False
        self.acknowledged[tile, answer.json()["revision"]] = json.loads(body)["crc32"]
        return True

    async def num_lost(self) -> int:
        """Acknowledged saves that are not there as they were sent, or that overwrote another unseen."""
        kept: dict[tuple[str, int], int] = {}
        for tile in {tile for tile, _ in self.acknowledged}:
            revisions = (await self.http.get(f"tiles/{tile}/revisions")).raise_for_status().json()
            kept |= {(tile, row["number"]): row["crc32"] for row in revisions}
        return self.num_both + sum(kept.get(place) != crc for place, crc in self.acknowledged.items())


class School:
    """A platform with a class that has been given a task, and a run of the teacher's to watch."""

    def __init__(self, up: Installation, folder: Path, *, num_students: int) -> None:
        self._answers = _Answers()
        self._students: list[_Student] = []
        self._seconds = 0.0
        self._num_lost = 0
        with up.client() as teacher:
            accounts, assignment_id, run_id = prepare_class(teacher, folder, num_students)
        rng = np.random.default_rng(0)
        labels = [draw_labels(rng) for _ in range(16)]
        with ThreadPoolExecutor(4) as threads:
            tokens = list(threads.map(lambda account: first_sign_in(up.url, account), accounts))
        for number, token in enumerate(tokens):
            with Client(up.url, token) as client:
                project_id = client.create(f"assignments/{assignment_id}/start")["project_id"]
                tiles = [tile["id"] for tile in client.pages(f"projects/{project_id}/tiles")]
            http = httpx.AsyncClient(
                base_url=f"{up.url}/api/v1/", headers={"Authorization": f"Bearer {token}"}, timeout=60
            )
            self._students.append(_Student(number, http, tiles, run_id, labels, self._answers))

    async def work(self, seconds: float) -> None:
        """Let everybody work for so long."""
        began = time.monotonic()
        await asyncio.gather(*(self._work(student, began + seconds) for student in self._students))
        self._seconds = time.monotonic() - began
        self._num_lost = sum([await student.num_lost() for student in self._students])
        for student in self._students:
            await student.http.aclose()

    async def _work(self, student: _Student, until: float) -> None:
        # A class does not act in step: the first actions are spread over a period.
        await asyncio.sleep(_SAVE_EVERY_S * student.number / len(self._students))
        await asyncio.gather(student.label(until), student.watch(until))

    def figures(self, name: str) -> list[Figure]:
        """What is compared with the targets."""
        broken = sum(times for status, times in self._answers.statuses.items() if status == 0 or status >= 500)
        saves = self._answers.seconds["save"]
        return [
            at_most(f"{name}: 95 of 100 saves", percentile(saves, 0.95), 300, unit="ms"),
            at_most(f"{name}: answers 5xx or none", broken, 0, unit=""),
            at_most(f"{name}: updates lost", self._num_lost, 0, unit=""),
        ]

    def told(self) -> str:
        """How many answers, and how long each kind took."""
        took = "; ".join(
            f"{what} {percentile(found, 0.5):.0f}, {percentile(found, 0.95):.0f}, {percentile(found, 0.99):.0f} ms"
            for what, found in self._answers.seconds.items()
        )
        total = sum(map(len, self._answers.seconds.values()))
        statuses = ", ".join(f"{times} × {status}" for status, times in sorted(self._answers.statuses.items()))
        return (
            f"{len(self._students)} students, {total / self._seconds:.0f} answers/s ({statuses}); "
            f"50, 95 and 99 of 100: {took}"
        )


def prepare_class(teacher: Client, folder: Path, num_students: int) -> tuple[list[dict[str, Any]], str, str]:
    """Accounts with their first passwords, the task, and a run that the class may see; waits for its training."""
    drawn = [draw_micrograph(np.random.default_rng(seed), size=2 * _TILE) for seed in range(4)]
    files = write_pictures(folder / "images", [found.image for found in drawn])
    masks = write_pictures(folder / "masks", [found.mask for found in drawn])
    project_id = project_with(teacher, files, classes=SAMPLE_CLASSES, tile=_TILE)
    classroom = teacher.create("classrooms", {"name": "7b"})
    names = [{"name": f"student-{number}"} for number in range(num_students)]
    accounts = teacher.create(f"classrooms/{classroom['id']}/students", {"students": names})
    task = {"classroom_id": classroom["id"], "title": "Label the nerve", "template_project_id": project_id}
    assignment_id = teacher.create("assignments", task)["id"]
    teacher.create(f"assignments/{assignment_id}/hand-out")
    # The run is trained on the template's labels, which were not there yet when it was handed out.
    teacher.wait_for(teacher.import_annotations(project_id, masks, kind="png")["id"])
    training_set, job = teacher.freeze(project_id, fractions=[0.5, 0.25, 0.25])
    teacher.wait_for(job["id"])
    run = teacher.start_run(training_set["id"], **_TRAINING)
    teacher.wait_for(run["job_id"])
    for account in accounts:
        teacher.create(f"projects/{project_id}/members", {"name": account["name"], "role": "viewer"})
    return accounts, assignment_id, run["id"]


def draw_labels(rng: np.random.Generator) -> bytes:
    """What an editor sends for a tile of a micrograph."""
    mask = draw_micrograph(rng, size=_TILE).mask
    return json.dumps(to_json(annotation_of(mask))).encode()
