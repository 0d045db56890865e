"""Checkpoints: plain safetensors and JSON, with a list of hashes that tells a whole one from a torn one."""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from axons.data.rows import Row
from axons.data.storage import Storage, sha256_of
from axons.errors import AxonsError, RunRefused
from axons.train.loop import Progress, TrainingLoop
from axons.train.run import EpochMetrics

HASHES = "sha256.json"

_WEIGHTS, _BEST, _OPTIMISER, _STATE = "weights.safetensors", "best.safetensors", "optimiser.safetensors", "state.json"
_IN_STORAGE = re.compile(r"(attempts/(\d+)/ray/epoch-(\d+)[^/]*)/sha256\.json")


class _State(Row):
    epoch: int
    step: int
    seconds: float
    best_epoch: int
    best_mean_iou: float
    is_finished: bool
    scaler: dict[str, float]
    metrics: list[EpochMetrics]


def save_checkpoint(loop: TrainingLoop, folder: Path) -> None:
    """Write all that continues the loop; chance follows from seed and epoch and needs no state of its own.

    The best weights travel along, so that every checkpoint is complete by itself.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in loop.network.state_dict().items()}
    save_file(weights, folder / _WEIGHTS)
    if loop.best_weights is not None and loop.progress.best_epoch != loop.progress.epoch:
        save_file({name: tensor.cpu().contiguous() for name, tensor in loop.best_weights.items()}, folder / _BEST)
    save_file(_flat(loop.optimiser), folder / _OPTIMISER)
    state = _State(**vars(loop.progress), scaler=loop.scaler.state_dict(), metrics=loop.metrics)
    (folder / _STATE).write_bytes(state.packed())
    hashes = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    (folder / HASHES).write_text(json.dumps(hashes))


def restore_checkpoint(loop: TrainingLoop, folder: Path) -> None:
    """Continue from a checkpoint that `newest_checkpoint` has verified."""
    state = _State.unpacked((folder / _STATE).read_bytes(), name=f"checkpoint {folder.name}", error=RunRefused)
    loop.network.load_state_dict(load_file(folder / _WEIGHTS))
    _restore(loop.optimiser, load_file(folder / _OPTIMISER))
    if state.scaler:
        loop.scaler.load_state_dict(state.scaler)
    best = folder / _BEST
    progress = Progress(
        epoch=state.epoch,
        step=state.step,
        seconds=state.seconds,
        best_epoch=state.best_epoch,
        best_mean_iou=state.best_mean_iou,
        is_finished=state.is_finished,
    )
    loop.continue_from(progress, state.metrics, load_file(best if best.exists() else folder / _WEIGHTS))


def newest_checkpoint(run: Storage, folder: Path) -> Path | None:
    """Fetch the newest checkpoint of any attempt that is whole into `folder`; None if there is none.

    One that was torn while it was written, or damaged since, is passed over for the one before it.
    """
    keys = [stored.key for stored in run.list_objects("attempts")]
    found = [match for key in keys if (match := _IN_STORAGE.fullmatch(key))]
    for match in sorted(found, key=lambda match: (int(match[3]), int(match[2])), reverse=True):
        target = folder / match[1].replace("/", "-")
        if _fetch(run.at(match[1]), target):
            return target
        shutil.rmtree(target, ignore_errors=True)
    return None


def _fetch(checkpoint: Storage, target: Path) -> bool:
    target.mkdir()
    try:
        hashes = json.loads(checkpoint.read(HASHES))
        for name, sha256 in hashes.items():
            (target / name).write_bytes(checkpoint.read(name))
            if sha256_of(target / name) != sha256:
                return False
    except (AxonsError, ValueError, AttributeError):
        return False
    return {_WEIGHTS, _OPTIMISER, _STATE} <= hashes.keys()


def _flat(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": tensor.detach().cpu().contiguous()
        for index, values in optimiser.state_dict()["state"].items()
        for name, tensor in values.items()
    }


def _restore(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            # In the parameter's own memory layout: the fused optimiser walks both as flat memory.
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
