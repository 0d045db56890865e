"""Evaluating a model on a split of a training set."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sqlmodel import Session

from axons.app.platform import Platform
from axons.app.tables import Evaluation, Job, Model, TrainingSet
from axons.data.pipelines import stream
from axons.data.shards import ShardReader
from axons.data.storage import open_storage
from axons.data.tiles import TileGrid
from axons.data.training_set import load_training_set
from axons.model.devices import num_cores
from axons.model.files import load_model
from axons.train.driver import cluster_gpus
from axons.train.evaluation import Evaluator


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """Addresses of the model, the set and the pictures of worst tiles."""
    row = session.get_one(Evaluation, job.target_id)
    model, training_set = session.get_one(Model, row.model_id), session.get_one(TrainingSet, row.training_set_id)
    return {
        "model": platform.uri(model.key),
        "training_set": platform.uri(training_set.key),
        "sha256": training_set.sha256,
        "split": job.request["split"],
        "pictures": platform.uri(f"{model.key}/evaluations/{row.id}"),
        "gpu_share": platform.settings.segmenter_gpu_share,
    }


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One task that predicts the split whole."""
    on_gpu = cluster_gpus() > 0 and request["gpu_share"] > 0
    share = request["gpu_share"] if on_gpu else 0
    rows = [json.dumps(request).encode()]
    for answer in stream(rows, _evaluate, num_cpus=0 if on_gpu else 1, num_gpus=share, on_gpu=on_gpu):
        yield {"scores": json.loads(answer)}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """Keep the scores."""
    for row in rows:
        session.get_one(Evaluation, job.target_id).scores = row["scores"]


def finish(session: Session, job: Job) -> str:
    """The main score."""
    scores = session.get_one(Evaluation, job.target_id).scores
    score = scores["mean_iou"]
    said = f"mean IoU {score:.3f}" if score is not None else "no labelled pixels"
    return f"{said} on {scores['num_images']} images"


def _evaluate(row: bytes, *, on_gpu: bool) -> Iterator[bytes]:
    request = json.loads(row)
    device = torch.device("cuda" if on_gpu else "cpu")
    if not on_gpu:
        torch.set_num_threads(num_cores())  # Ray has set it to the task's logical CPUs
    model = load_model(request["model"], device=device)
    training_set = load_training_set(request["training_set"], sha256=request["sha256"])
    reader = ShardReader(open_storage(request["training_set"]), training_set)
    reader.fetch()
    evaluator = Evaluator(
        model.network,
        reader,
        training_set,
        model.card.normalisation,
        grid=TileGrid(tile=model.card.window, overlap=model.card.overlap),
        device=device,
    )
    scores = evaluator.evaluate(request["split"], pictures=open_storage(request["pictures"]))
    yield scores.packed()
