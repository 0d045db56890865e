"""After training: prove that the best weights are a usable model, evaluate it, and write it with its card."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from axons.data.shards import ShardReader
from axons.data.tiles import TileGrid
from axons.data.training_set import SPLITS, Split, TrainingSet
from axons.errors import ModelRefused
from axons.model.files import ModelCard, Origin, load_weights, write_model, write_weights
from axons.model.windows import torch_forward
from axons.train.config import ResolvedConfig
from axons.train.devices import device_name
from axons.train.evaluation import Evaluation, Evaluator, SplitEvaluation
from axons.train.loop import TrainingLoop
from axons.train.reporter import Reporter
from axons.train.run import EVALUATION, MODEL, Outcome, RunFolder, RunRequest, now

_SAME_MEAN_IOU = 0.02  # a reloaded model may differ by so much from what was measured while it trained


def publish(
    loop: TrainingLoop,
    folder: RunFolder,
    request: RunRequest,
    training_set: TrainingSet,
    reader: ShardReader,
    resolved: ResolvedConfig,
    *,
    reporter: Reporter,
) -> Outcome:
    """Reload the best weights, check and evaluate them, and write `evaluation.json` and the model.

    The model of a loop that was stopped early has a folder of its own: a resumed run makes another beside it.
    """
    try:
        network = _reloaded(loop, resolved)
        grid = TileGrid(tile=resolved.crop, overlap=resolved.crop // 4)
        evaluator = Evaluator(network, reader, training_set, resolved.normalisation, grid=grid, device=loop.device)
        splits: dict[Split, SplitEvaluation] = {}
        for split in SPLITS:
            if split != "train" and training_set.images_of(split):
                reporter.log(f"evaluating on {split}")
                splits[split] = evaluator.evaluate(split, pictures=folder.storage)
    except (ModelRefused, FloatingPointError) as error:
        return Outcome(state="failed", reason=f"the trained model did not pass validation: {error}")
    evaluation = Evaluation(
        classes=[label_class.name for label_class in training_set.classes],
        window=grid.tile,
        overlap=grid.overlap,
        device=device_name(loop.device),
        splits=splits,
    )
    if reporter.is_superseded:
        return Outcome(state="cancelled", reason="a newer attempt has taken over")
    folder.storage.replace(EVALUATION, evaluation.packed())
    samples, _, _ = loop.validation.samples()
    card = _card(loop, request, training_set, resolved, evaluation, reporter.notices)
    progress = loop.progress
    model = MODEL if progress.is_finished else f"{MODEL}-epoch-{progress.epoch:05d}"
    write_model(network, card, samples, target_uri=f"{folder.uri}/{model}")
    if progress.is_finished:
        return Outcome(state="done", notices=reporter.notices)
    reason = f"stopped at epoch {progress.epoch}, best of epoch {progress.best_epoch}"
    return Outcome(state="done", reason=reason, notices=reporter.notices, is_stopped=True, model=model)


def _reloaded(loop: TrainingLoop, resolved: ResolvedConfig) -> nn.Module:
    """The best weights, read back from a file as a user of the model will read them.

    Raises:
        ModelRefused: the file does not give back the same predictions.
    """
    assert loop.best_weights is not None  # set by the first epoch
    loop.network.load_state_dict(loop.best_weights)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "weights.safetensors")
        write_weights(loop.network, path)
        network = load_weights(resolved.network, path).to(loop.device).to(memory_format=torch.channels_last).eval()
    samples, _, _ = loop.validation.samples()
    if not torch.isfinite(torch_forward(network, loop.device)(samples.to(loop.device))).all():
        raise ModelRefused("its output is not finite; train again with a lower learning rate")
    again = loop.validation.score(network)
    if again and again.mean_iou is not None and abs(again.mean_iou - loop.progress.best_mean_iou) > _SAME_MEAN_IOU:
        raise ModelRefused(
            f"its validation mean IoU is {again.mean_iou:.3f} after reloading and was "
            f"{loop.progress.best_mean_iou:.3f} before; train again"
        )
    return network


def _card(
    loop: TrainingLoop,
    request: RunRequest,
    training_set: TrainingSet,
    resolved: ResolvedConfig,
    evaluation: Evaluation,
    notices: list[str],
) -> ModelCard:
    scores: dict[str, dict[str, Any]] = {
        split: {
            "num_images": scored.num_images,
            "mean_iou": scored.mean_iou,
            "pixel_accuracy": scored.pixel_accuracy,
            "iou": {label_class.name: label_class.iou for label_class in scored.classes},
            "dice": {label_class.name: label_class.dice for label_class in scored.classes},
        }
        for split, scored in evaluation.splits.items()
    }
    best = loop.metrics[loop.progress.best_epoch - 1]
    return ModelCard(
        architecture=resolved.network.architecture,
        encoder=resolved.network.encoder,
        channels=resolved.network.channels,
        classes=training_set.classes,
        normalisation=resolved.normalisation,
        crop=resolved.crop,
        window=evaluation.window,
        overlap=evaluation.overlap,
        scale=training_set.scale,
        pixel_size_um=training_set.pixel_size_um,
        scores=scores,
        origin=Origin(
            run=request.run_id,
            training_set=training_set.name,
            training_set_sha256=training_set.sha256(),
            init_model=resolved.config.init_model,
            trained_at=now(),
            epochs=best.epoch,
            steps=best.step,
            seconds=loop.progress.seconds,
            device=evaluation.device,
            notices=notices,
        ),
        sha256="",
    )
