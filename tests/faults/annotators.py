"""People who save labels over HTTP, one revision after another, and remember what was acknowledged."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sqlmodel import select

from axons.app.database import Database
from axons.app.tables import Revision
from axons.client import Client
from axons.data.layers import unpack
from tests.app.images import document_of, png
from tests.drawing import draw_disks

CLASSES = ["bg", "ring", "core"]
_AGAIN_S = 0.2


@dataclass(kw_only=True)
class Annotator:
    """Saves one tile again and again as the page does: the same save until it is acknowledged.

    Args:
        acknowledged: checksum of the labels by revision.
        refused: every other answer.
    """

    url: str
    token: str
    tile: dict[str, Any]
    acknowledged: dict[int, int] = field(default_factory=dict)
    refused: list[httpx.Response] = field(default_factory=list)
    num_unanswered: int = 0

    def run(self, stopping: threading.Event) -> None:
        rng = np.random.default_rng(self.tile["row0"] + self.tile["col0"])
        with httpx.Client(timeout=60, headers={"Authorization": f"Bearer {self.token}"}) as client:
            while not stopping.is_set():
                plane = rng.integers(0, 3, (self.tile["height"], self.tile["width"]), dtype=np.uint8)
                self._save(client, document_of(plane), stopping)

    def _save(self, client: httpx.Client, document: dict[str, Any], stopping: threading.Event) -> None:
        base = len(self.acknowledged)
        address = f"{self.url}/api/v1/tiles/{self.tile['id']}/annotation"
        about: dict[str, Any] = {"params": {"save_id": f"save-{base}"}, "headers": {"If-Match": f'"{base}"'}}
        while not stopping.is_set():
            try:
                answer = client.put(address, json=document, **about)
            except httpx.TransportError:
                self.num_unanswered += 1
            else:
                if answer.status_code == 200:
                    self.acknowledged[answer.json()["revision"]] = document["crc32"]
                    return
                self.refused.append(answer)
            stopping.wait(_AGAIN_S)


@contextmanager
def annotating(url: str, token: str, tiles: Sequence[dict[str, Any]]) -> Iterator[list[Annotator]]:
    """One person on each tile, until the end of the block."""
    annotators = [Annotator(url=url, token=token, tile=tile) for tile in tiles]
    with working(*(annotator.run for annotator in annotators)):
        yield annotators


@contextmanager
def working(*people: Callable[[threading.Event], None]) -> Iterator[None]:
    """Each in a thread, until the end of the block, which the event tells them."""
    stopping = threading.Event()
    threads = [threading.Thread(target=person, args=(stopping,)) for person in people]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def seconds_until_all_save(annotators: Sequence[Annotator], *, patience_s: float = 90) -> float:
    """Wait until every one of them has had one more save acknowledged."""
    began, before = time.monotonic(), [len(annotator.acknowledged) for annotator in annotators]
    while any(len(each.acknowledged) <= count for each, count in zip(annotators, before, strict=True)):
        assert time.monotonic() - began < patience_s, "nothing is saved any more"
        time.sleep(0.05)
    return time.monotonic() - began


def num_acknowledged(annotators: Sequence[Annotator]) -> int:
    return sum(len(annotator.acknowledged) for annotator in annotators)


def refusals(annotators: Sequence[Annotator]) -> Counter[int]:
    """How often each other status was answered; each answer is a sentence, and says when to come back."""
    answers = [answer for annotator in annotators for answer in annotator.refused]
    for answer in answers:
        sentence = answer.json()["detail"]
        assert sentence and "Traceback" not in sentence and "File " not in sentence, sentence
        assert answer.status_code == 507 or int(answer.headers["Retry-After"]) > 0
    return Counter(answer.status_code for answer in answers)


def lost(database: Database, annotators: Sequence[Annotator]) -> list[tuple[str, int]]:
    """Acknowledged saves that the database does not have as they were, and torn ones."""
    kept = database.read(lambda session: list(session.exec(select(Revision))))
    found = {(row.tile_id, row.number): row for row in kept}
    missing = [
        (annotator.tile["id"], number)
        for annotator in annotators
        for number, crc in annotator.acknowledged.items()
        if (annotator.tile["id"], number) not in found or found[annotator.tile["id"], number].crc32 != crc
    ]
    return missing + [(row.tile_id, row.number) for row in kept if unpack(row.layers) is None]


def draw_files(folder: Path, names: Sequence[str], *, seed: int = 0, channels: int = 3) -> list[Path]:
    """Drawn images of 100 x 150 px, all different; the models of the tests take those of one channel."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=seed):
        (folder / name).write_bytes(png(draw_disks(100, 150, seed=number, channels=channels).image))
    return [folder / name for name in names]


def new_project(client: Client, files: Sequence[Path], *, name: str = "nerve") -> tuple[str, list[dict[str, Any]]]:
    """A project with imported images; returns its id and its tiles of at most 64 px."""
    project = client.create_project(name, CLASSES, tile=64)
    client.wait_for(client.import_images(project["id"], files)["id"])
    return project["id"], list(client.pages(f"projects/{project['id']}/tiles"))
