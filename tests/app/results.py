"""Finished runs without a training: everything a run leaves, scored for a network that paints 6 px too far right."""

import numpy as np
import torch
from sqlmodel import Session, col, select
from torch import nn

from axons.app.jobs.dispatcher import Dispatcher
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services.evaluations import EvaluationCreate, create_evaluation
from axons.app.services.jobs import end_job
from axons.app.services.runs import RunCreate, create_run
from axons.app.tables import Evaluation, Job, Model, Run, TrainingSet
from axons.data.layers import IGNORE_INDEX
from axons.data.shards import ShardReader
from axons.data.storage import Storage, open_storage, sha256_of
from axons.data.tiles import TileGrid
from axons.data.training_set import Split, load_training_set
from axons.model.files import CARD, WEIGHTS, Origin
from axons.train.config import TrainConfig, resolve
from axons.train.evaluation import Evaluation as Scores
from axons.train.evaluation import Evaluator, SplitEvaluation
from axons.train.run import EVALUATION, RESOLVED, RunFolder, RunMetrics, Status
from tests.app.trainings import WEIGHTS_BYTES, ThreadCluster, epoch, settle
from tests.serve.models import make_card

_CONFIG = {"crop": 32, "batch": 2, "epochs": 2, "device": "cpu"}


class _Shifted(Evaluator):
    def _predict(self, record, image, truth, counter):
        mask = np.roll(np.where(truth == IGNORE_INDEX, 0, truth), 6, axis=1).astype(np.uint8)
        counter.add(4 * torch.nn.functional.one_hot(torch.from_numpy(mask).long(), 3).permute(2, 0, 1).float(), truth)
        return mask


def score(training_set_uri: str, split: Split, pictures: Storage) -> SplitEvaluation:
    """The scores of a split, with pictures of its worst tiles."""
    manifest = load_training_set(training_set_uri)
    config = resolve(TrainConfig.model_validate(_CONFIG), manifest, on_gpu=False)
    reader = ShardReader(open_storage(training_set_uri), manifest)
    evaluator = _Shifted(
        nn.Identity(), reader, manifest, config.normalisation, grid=TileGrid(tile=32), device=torch.device("cpu")
    )
    return evaluator.evaluate(split, pictures=pictures)


def finish_here(run_uri: str) -> None:
    """What a training leaves in its folder."""
    folder = RunFolder(run_uri)
    request, attempt = folder.request(), folder.begin_attempt()
    manifest = load_training_set(request.training_set)
    folder.storage.write(RESOLVED, resolve(request.config, manifest, on_gpu=False).packed())
    splits: dict[Split, SplitEvaluation] = {
        "val": score(request.training_set, "val", folder.storage),
        "test": score(request.training_set, "test", folder.storage),
    }
    classes = [label_class.name for label_class in manifest.classes]
    evaluation = Scores(classes=classes, window=32, overlap=8, device="CPU", splits=splits)
    folder.storage.replace(EVALUATION, evaluation.packed())
    epochs = [epoch(1), epoch(2)]
    folder.write_metrics(RunMetrics(attempt=attempt, classes=classes, epochs=epochs))
    card = make_card(
        origin=Origin(
            run=request.run_id,
            training_set=manifest.name,
            training_set_sha256=manifest.sha256(),
            trained_at="2026-01-01T00:00:00Z",
            epochs=2,
            steps=40,
            seconds=2.0,
            device="CPU",
        ),
        sha256=sha256_of(WEIGHTS_BYTES),
        scores={split: scores.model_dump(include={"mean_iou", "num_images"}) for split, scores in splits.items()},
    )
    folder.storage.write(f"model/{WEIGHTS}", WEIGHTS_BYTES)
    folder.storage.write(f"model/{CARD}", card.packed())
    folder.write_status(Status(state="done", attempt=attempt, epoch=2, best_epoch=2, seconds=2.0, device="CPU"))


def add_result(platform: Platform, actor: Actor, training_set: TrainingSet, **config: object) -> Run:
    """A finished run of a set that is frozen already, with its model."""
    form = RunCreate(training_set_id=training_set.id, config=TrainConfig.model_validate({**_CONFIG, **config}))
    run = platform.database.write(lambda session: create_run(session, actor, form, platform.settings))

    def job() -> Job:
        return platform.database.read(lambda session: session.get_one(Job, run.job_id))

    settle(Dispatcher(platform, ThreadCluster(train=finish_here)), lambda: job().finished_at is not None)
    assert job().state == "done", job().reason
    return platform.database.read(lambda session: session.get_one(Run, run.id))


def add_evaluation(platform: Platform, actor: Actor, run: Run, split: Split) -> str:
    """An evaluation of the run's model on its own set; gives its id."""

    def begin(session: Session) -> tuple[Evaluation, Job, str, str]:
        model = session.exec(select(Model).where(col(Model.run_id) == run.id)).one()
        form = EvaluationCreate(model_id=model.id, training_set_id=run.training_set_id, split=split)
        row, job = create_evaluation(session, actor, form)
        return row, job, model.key, session.get_one(TrainingSet, run.training_set_id).key

    row, job, model_key, set_key = platform.database.write(begin)
    scores = score(platform.uri(set_key), split, platform.storage.at(f"{model_key}/evaluations/{row.id}"))

    def finish(session: Session) -> None:
        session.get_one(Evaluation, row.id).scores = scores.model_dump(mode="json")
        end_job(session, session.get_one(Job, job.id), "done", "")

    platform.database.write(finish)
    return row.id
