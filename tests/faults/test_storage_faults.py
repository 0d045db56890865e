"""The object store fails in every way while people work (R21): nothing acknowledged is lost, nothing is left over."""

import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select

from axons.app.platform import Platform
from axons.app.services.uploads import expire_uploads
from axons.app.settings import Settings
from axons.app.tables import Image, Job, Model, Prediction
from axons.client import FINAL_STATES, Client
from axons.errors import AxonsError
from tests.app.images import run_job
from tests.conftest import S3_PORT
from tests.faults.annotators import annotating, draw_files, lost, new_project, num_acknowledged, refusals, working
from tests.faults.faulty_s3 import faulty_s3
from tests.faults.on_platform import import_model
from tests.serve.models import make_model
from tests.train.runs import wait_until

FAULTS = 20  # answers 503, and as many cut connections, one in twenty each
DELAYED_S, OUTAGE_S, DONE_AGAIN_S = 20, 60, 120
LASTING = ("projects", "training-sets", "models")
NOT_PLAIN = ("Traceback", "botocore", "Errno", "our side", "object at 0x", "s3://")


class Crowd:
    """People who import, predict and look until the end of the block, and what they were told."""

    def __init__(self, url: str, token: str, project_id: str, model_id: str, folder: Path) -> None:
        self.url, self.token, self.project_id, self.model_id, self.folder = url, token, project_id, model_id, folder
        self.imported: dict[str, str] = {}  # sha256 -> job
        self.predicted: list[str] = []
        self.sentences: list[str] = []
        self.looks: list[int] = []

    def working(self) -> AbstractContextManager[None]:
        people: list[Callable[[Client, int], None]] = [self._import, self._import, self._predict, self._look]
        return working(*(partial(self._go_on, what, number) for number, what in enumerate(people)))

    def _go_on(self, what: Callable[[Client, int], None], number: int, stopping: threading.Event) -> None:
        with Client(self.url, self.token, patience_s=20) as client:
            for turn in itertools.count():
                if stopping.is_set():
                    return
                try:
                    what(client, 1000 * (number + 1) + turn)
                except AxonsError as error:
                    self.sentences.append(str(error))
                stopping.wait(0.5)

    def _import(self, client: Client, seed: int) -> None:
        [file] = draw_files(self.folder, [f"{seed}.png"], seed=seed)
        job = client.import_images(self.project_id, [file])
        self.imported[hashlib.sha256(file.read_bytes()).hexdigest()] = job["id"]

    def _predict(self, client: Client, seed: int) -> None:
        [file] = draw_files(self.folder, [f"predict-{seed}.png"], seed=seed, channels=1)
        found = client.predict(self.model_id, file, project_id=self.project_id)
        self.predicted.append(found["id"])

    def _look(self, client: Client, _seed: int) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.get(f"{self.url}/api/v1/projects/{self.project_id}/tiles", headers=headers, timeout=60)
        self.looks.append(answer.status_code)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_object_store_fails_in_every_way_and_nothing_acknowledged_is_lost(start, s3_uri, tmp_path, record_property):
    with faulty_s3(f"http://127.0.0.1:{S3_PORT}") as s3:
        up, token = start(AXONS_STORAGE_URL=s3_uri, AWS_ENDPOINT_URL_S3=s3.url)
        client = Client(up.url, token)
        project_id, tiles = new_project(client, draw_files(tmp_path / "first", ["a.png"]))
        model = import_model(client, Path(make_model(tmp_path / "model")), project_id)
        crowd = Crowd(up.url, token, project_id, model["id"], tmp_path / "more")
        with annotating(up.url, token, tiles[:4]) as annotators:
            with crowd.working():
                s3.share_503 = 0.05
                wait_until(lambda: s3.counts["503"] >= FAULTS, timeout_s=90, what="answers 503")
                s3.be_well()
                s3.delay_s = 2.0
                time.sleep(DELAYED_S)
                s3.be_well()
                s3.share_cut = 0.05
                wait_until(lambda: s3.counts["cut"] >= FAULTS, timeout_s=90, what="cut connections")
                s3.be_well()
                s3.is_away = True
                time.sleep(OUTAGE_S)
                s3.be_well()
                recovered = time.monotonic()
            states = ended_jobs(client, recovered + DONE_AGAIN_S)
            waited = time.monotonic() - recovered
        up.stop()
    platform = Platform.open(Settings(data=up.data, storage_url=s3_uri, temporary_hours=1e-9))
    told = tidy(platform)
    rows, objects = keys(platform)
    missing = lost(platform.database, annotators)
    shas = {row.sha256 for row in platform.database.read(lambda session: session.exec(select(Image)).all())}
    platform.database.close()
    record_property("requests to the object store", sum(s3.counts.values()))
    record_property("of these 503, cut, away", str([s3.counts[what] for what in ("503", "cut", "away")]))
    record_property("imports acknowledged", len(crowd.imported))
    record_property("predictions answered", len(crowd.predicted))
    record_property("saves acknowledged", num_acknowledged(annotators))
    record_property("people told to come back", len(crowd.sentences))
    record_property("seconds until all is done after the outage", round(waited, 1))
    record_property("cleanup", told)
    assert {job["state"] for job in states} == {"done"}, [job["reason"] for job in states if job["state"] != "done"]
    assert waited <= DONE_AGAIN_S
    assert crowd.imported.keys() <= shas
    assert (rows - objects, objects - rows) == (set(), set())
    assert missing == []
    assert refusals(annotators) == {}
    assert set(crowd.looks) == {200}
    assert [sentence for sentence in crowd.sentences if any(word in sentence for word in NOT_PLAIN)] == []


def ended_jobs(client: Client, until: float) -> list[dict[str, Any]]:
    """All jobs once they have ended, or as they are when the time is over."""
    while True:
        jobs = list(client.pages("jobs"))
        if all(job["state"] in FINAL_STATES for job in jobs) or time.monotonic() > until:
            return jobs
        time.sleep(1)


def tidy(platform: Platform) -> str:
    """What the dispatcher does now and then, as if everything were old; returns what it says."""
    expire_uploads(platform)

    def add(session: Any) -> str:
        first = session.exec(select(Job)).first()
        job = Job(kind="cleanup", user_id=first.user_id)
        session.add(job)
        return job.id

    return run_job(platform, platform.database.write(add))[1]


def keys(platform: Platform) -> tuple[set[str], set[str]]:
    """Keys that rows point to, and those of objects; a model is a folder, of which one file stands for all."""

    def read(session: Any) -> set[str]:
        images = session.exec(select(Image)).all()
        predictions = session.exec(select(Prediction)).all()
        models = session.exec(select(Model)).all()
        found = {key for image in images for key in (image.working_key, image.sheet_key)}
        return found | {row.key for row in (*predictions, *models)}

    rows = platform.database.read(read)
    objects = {stored.key for area in LASTING for stored in platform.storage.list_objects(area)}
    folders = {key for key in rows if key not in objects}
    return rows, {next((f for f in folders if key.startswith(f"{f}/")), key) for key in objects}
