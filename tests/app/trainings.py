"""Training sets to train on, and a cluster of threads on which trainings are played in their folders."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from axons.app.jobs.dispatcher import Dispatcher
from axons.app.jobs.freeze import summary_of
from axons.app.jobs.kinds import kind_of
from axons.app.jobs.work import Interrupted, Submission, Work
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.tables import LabelClass, Model, Project, TrainingSet, new_id
from axons.data.storage import sha256_of
from axons.model.files import CARD, WEIGHTS, Origin
from axons.train.run import EVALUATION, EpochMetrics, RunFolder, RunMetrics, Status, now
from tests.drawing import CLASSES, freeze_disks
from tests.serve.models import make_card

WEIGHTS_BYTES = b"weights"

CONFIG = {"crop": 32, "batch": 4, "epochs": 2, "encoder": "resnet18", "device": "cpu"}


def add_project(platform: Platform, owner: Actor, *, classroom_id: str | None = None, **fields: Any) -> Project:
    """A project with the classes of the disks."""
    project = Project(name="Disks", owner_id=owner.user_id, classroom_id=classroom_id, **fields)

    def add(session) -> Project:
        session.add(project)
        session.flush()
        for index, found in enumerate(CLASSES):
            session.add(LabelClass(project_id=project.id, index=index, name=found.name, colour=found.colour))
        return project

    return platform.database.write(add)


def add_training_set(platform: Platform, project: Project, folder: Path, **options: Any) -> TrainingSet:
    """A set of disks that is frozen already."""
    row_id = new_id()
    _, manifest = freeze_disks(folder / row_id, target_uri=platform.uri(f"training-sets/{row_id}"), **options)
    row = TrainingSet(
        id=row_id,
        project_id=project.id,
        number=1,
        name="disks",
        state="ready",
        key=f"training-sets/{row_id}",
        sha256=manifest.sha256(),
        summary=summary_of(manifest),
        created_by=project.owner_id,
    )

    def add(session) -> TrainingSet:
        session.add(row)
        return row

    return platform.database.write(add)


def add_model(
    platform: Platform,
    actor: Actor,
    project: Project,
    key: str,
    *,
    version: int = 1,
    mean_iou: float | None = 0.7,
    **fields: Any,
) -> Model:
    """The row of a model whose files lie at `key`."""
    document = json.loads(platform.storage.read(f"{key}/model.json"))
    row = Model(
        project_id=project.id,
        name="random",
        version=version,
        key=key,
        sha256=document["sha256"],
        card=document,
        mean_iou=mean_iou,
        created_by=actor.user_id,
        **fields,
    )

    def add(session) -> Model:
        session.add(row)
        return row

    return platform.database.write(add)


def epoch(number: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=number,
        step=20 * number,
        seconds=float(number),
        learning_rate=0.001,
        batch=4,
        train_loss=1 / number,
        val_mean_iou=0.5,
        crops_per_second=10,
        data_wait_share=0,
        at=now(),
    )


def write_model(
    folder: RunFolder, *, run_id: str, mean_iou: float = 0.7, weights: bytes = WEIGHTS_BYTES, name: str = "model"
) -> None:
    """A model folder whose bytes are what its card says."""
    card = make_card(
        origin=Origin(run=run_id), sha256=sha256_of(weights), scores={"test": {"mean_iou": mean_iou, "num_images": 1}}
    )
    folder.storage.write(f"{name}/{WEIGHTS}", weights)
    folder.storage.write(f"{name}/{CARD}", card.packed())


def play(
    run_uri: str, *, epochs: int = 2, mean_iou: float = 0.7, pause_s: float = 0.0, dies_when_stopped: bool = False
) -> None:
    """What a training does to its folder, from its beginning to its end; it obeys the flags to cancel and to stop."""
    folder = RunFolder(run_uri)
    request = folder.request()
    attempt = folder.begin_attempt()
    for number in range(1, epochs + 1):
        folder.write_status(
            Status(state="running", attempt=attempt, epoch=number, progress=number / epochs, seconds=number)
        )
        rows = [epoch(n) for n in range(1, number + 1)]
        folder.write_metrics(RunMetrics(attempt=attempt, classes=["a", "b", "c"], epochs=rows))
        time.sleep(pause_s)
        if folder.cancel_requested():
            folder.write_status(Status(state="cancelled", attempt=attempt, epoch=number, reason="cancelled"))
            return
        if folder.stop_requested():
            if dies_when_stopped:
                return
            stopped = {"is_stopped": True, "model": f"model-epoch-{number:05d}", "reason": f"stopped at epoch {number}"}
            write_model(folder, run_id=request.run_id, mean_iou=mean_iou, name=stopped["model"])
            folder.write_status(
                Status(state="done", attempt=attempt, epoch=number, progress=number / epochs, **stopped)
            )
            return
    folder.storage.replace(EVALUATION, json.dumps({"splits": {}}).encode())
    write_model(folder, run_id=request.run_id, mean_iou=mean_iou)
    folder.write_status(Status(state="done", attempt=attempt, epoch=epochs, progress=1.0, seconds=epochs))


class ThreadCluster:
    """Work in threads of this process; each training is played once by `train`, in the order of submission.

    Args:
        places: trainings at a time.
        train: gets the address of a run.
    """

    def __init__(self, *, places: int = 1, train: Callable[[str], None] = play) -> None:
        self.places = places
        self.train = train
        self.order: list[str] = []
        self.states: dict[str, Submission] = {}
        self.stopped: list[str] = []

    def begin(self, kind: str, request: dict[str, Any], *, name: str) -> Work:
        stop = threading.Event()

        def rows() -> Iterator[dict[str, Any]]:
            for row in kind_of(kind).work(json.loads(json.dumps(request))):
                yield row
                if stop.is_set():
                    raise Interrupted("cancelled")

        return Work(rows(), lambda force: stop.set(), name=name)

    def training_places(self) -> int:
        return self.places

    def submit(self, submission_id: str, run_uri: str, metadata: dict[str, str]) -> None:
        assert all(isinstance(value, str) for value in metadata.values())
        if submission_id in self.states:
            return
        self.states[submission_id] = "running"
        self.order.append(metadata["user"])
        threading.Thread(target=self._play, args=(submission_id, run_uri), daemon=True).start()

    def submission(self, submission_id: str) -> Submission:
        return self.states.get(submission_id, "unknown")

    def last_words(self, submission_id: str) -> str:
        return ""

    def stop(self, submission_id: str) -> None:
        self.stopped.append(submission_id)
        self.states[submission_id] = "ended"

    def forget(self) -> None:
        """The whole cluster has died."""
        self.states = {}

    def _play(self, submission_id: str, run_uri: str) -> None:
        with suppress(Exception):  # as where a driver dies; the folder of a test that is over is gone, too
            self.train(run_uri)
        self.states[submission_id] = "ended"


def settle(dispatcher: Dispatcher, is_settled: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """Let the dispatcher work, round after round, until it has come to rest."""
    until = time.monotonic() + timeout_s
    while not is_settled():
        assert time.monotonic() < until, "the jobs do not come to an end"
        dispatcher.step()
        time.sleep(0.01)
