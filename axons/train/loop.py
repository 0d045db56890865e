"""The training loop of one process, without Ray: steps, validation, checkpoints."""

import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from axons.data.shards import ShardReader
from axons.data.training_set import TrainingSet
from axons.errors import RunFailed
from axons.model.devices import autocast_dtype
from axons.train.augment import random_crops, source_side
from axons.train.config import ResolvedConfig
from axons.train.crops import Batch, CropSampler, prefetched
from axons.train.losses import loss_of
from axons.train.run import EpochMetrics, now
from axons.train.validation import Validation, ValidationScores

WARM_UP_STEPS = 10
POWER = 0.9
GRADIENT_CLIP = 12.0

_AGREE_EVERY = 5  # steps between two looks at the clock, at the others, and at the loss


@dataclass(frozen=True, kw_only=True)
class Workers:
    """This process among those that share a run."""

    rank: int = 0
    world: int = 1


@dataclass
class Progress:
    """How far the loop is; what a checkpoint restores."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_mean_iou: float = -1.0
    is_finished: bool = False


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """What the loop tells while it runs, every few steps."""

    step: int
    seconds: float
    share: float
    loss: float
    data_wait_share: float


class TrainingLoop:
    """One process's loop over epochs; all processes of a run call the same methods in the same order.

    Args:
        stop_requested: asked every few steps; True ends the epoch early.
        pulse: called every few steps with what is going on.
        halvings: how often the batch was halved because memory ran out.
    """

    def __init__(
        self,
        network: nn.Module,
        reader: ShardReader,
        training_set: TrainingSet,
        resolved: ResolvedConfig,
        *,
        device: torch.device,
        workers: Workers = Workers(),
        halvings: int = 0,
        stop_requested: Callable[[], bool] = lambda: False,
        pulse: Callable[[Pulse], None] = lambda pulse: None,
    ) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.progress = Progress()
        self.metrics: list[EpochMetrics] = []
        self.best_weights: dict[str, torch.Tensor] | None = None
        self.batch = max(workers.world, resolved.batch >> halvings)
        self._model = _shared(self.network, device, workers)
        self._resolved = resolved
        self.device = device
        self._workers = workers
        self._stop_requested = stop_requested
        self._pulse = pulse
        self._was_stopped = False
        self._share = 0.0
        self._dtype = autocast_dtype(device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=resolved.learning_rate, weight_decay=resolved.config.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._dtype is torch.float16)
        self._sampler = CropSampler(
            reader,
            training_set,
            resolved.normalisation,
            side=source_side(resolved.crop, resolved.config),
            rare_share=resolved.config.rare_share,
        )
        self.validation = Validation(reader, training_set, resolved, device=device)

    @property
    def was_stopped(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._was_stopped

    def continue_from(
        self, progress: Progress, metrics: Sequence[EpochMetrics], best_weights: dict[str, torch.Tensor]
    ) -> None:
        """Take up where a checkpoint ends; network and optimiser are restored already."""
        self.progress = progress
        self.metrics = list(metrics)
        self.best_weights = best_weights
        self._share = self._share_of_budget(progress.seconds)

    def train_epoch(self) -> EpochMetrics:
        """Train one epoch and validate; ends early when the budget is used up or somebody asks.

        Raises:
            RunFailed: the loss is no longer a number.
        """
        began, first_step = time.monotonic(), self.progress.step
        loss, waited = self._steps(began)
        trained = time.monotonic()
        scores = self.validation.score(self.network) if self._workers.rank == 0 else None
        self._end_epoch(time.monotonic() - began, scores)
        metrics = EpochMetrics(
            epoch=self.progress.epoch,
            step=self.progress.step,
            seconds=self.progress.seconds,
            learning_rate=self._learning_rate(),
            batch=self.batch,
            train_loss=loss,
            val_loss=scores.loss if scores else None,
            val_mean_iou=scores.mean_iou if scores else None,
            val_iou=scores.iou if scores else [],
            crops_per_second=(self.progress.step - first_step) * self.batch / max(trained - began, 1e-9),
            data_wait_share=waited / max(trained - began, 1e-9),
            at=now(),
        )
        self.metrics.append(metrics)
        return metrics

    def _steps(self, began: float) -> tuple[float, float]:
        """Optimiser steps of one epoch: their mean loss, and the seconds spent waiting for crops."""
        seed = [self._resolved.config.seed, self._workers.rank, self.progress.epoch]
        draws = torch.Generator().manual_seed(_one_seed(seed))
        torch.manual_seed(_one_seed([*seed, 1]))  # dropout in some networks has no other source of chance
        self.network.train()
        losses: list[torch.Tensor] = []
        waited, steps = 0.0, self._resolved.steps_per_epoch
        batches = prefetched(self._sampler, self.batch // self._workers.world, steps, rng=np.random.default_rng(seed))
        for i in range(steps):
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            losses.append(self._step(batch, draws))
            self.progress.step += 1
            if i % _AGREE_EVERY == 0 or i == steps - 1:
                self._agree_on_progress(time.monotonic() - began, losses[-1], waited)
                if self._was_stopped or self._share >= 1:
                    break
        batches.close()
        return float(torch.stack(losses).mean()), waited

    def _step(self, batch: Batch, draws: torch.Generator) -> torch.Tensor:
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        images, targets = self._to_device(batch, draws)
        with torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not None):
            logits = self._model(images)
        loss = loss_of(logits.float(), targets, self._resolved.config.loss)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_CLIP)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss.detach()

    def _to_device(self, batch: Batch, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        white = float(np.iinfo(batch.images.dtype).max)
        images = torch.from_numpy(batch.images).to(self.device).float().permute(0, 3, 1, 2) / white
        masks = torch.from_numpy(batch.masks).to(self.device)
        images, targets = random_crops(images, masks, crop=self._resolved.crop, config=self._resolved.config, rng=draws)
        mean, std = (torch.from_numpy(values).to(self.device)[:, :, None, None] for values in (batch.means, batch.stds))
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last), targets

    def _learning_rate(self) -> float:
        """Warm up, then fall to 0 at the end of the budget."""
        warm_up = min(1.0, (self.progress.step + 1) / WARM_UP_STEPS)
        return self._resolved.learning_rate * (1 - self._share) ** POWER * warm_up

    def _share_of_budget(self, seconds: float) -> float:
        """The part of the budget that is used up, 0 to 1; the minutes pay for the last validation too."""
        if self._resolved.minutes is not None:
            available = max(60 * self._resolved.minutes - self.validation.seconds, 1e-9)
            return min(1.0, seconds / available)
        assert self._resolved.epochs is not None
        return min(1.0, self.progress.step / (self._resolved.epochs * self._resolved.steps_per_epoch))

    def _agree_on_progress(self, elapsed: float, last_loss: torch.Tensor, waited: float) -> None:
        """Settle with the other processes how far we are, whether to stop, and that the loss is a number."""
        seconds, loss = self.progress.seconds + elapsed, float(last_loss)
        # The first process has the clock.
        share = self._share_of_budget(seconds) if self._workers.rank == 0 else 0.0
        self._share, stop, is_broken = self._largest(share, self._stop_requested(), not math.isfinite(loss))
        if is_broken:
            raise RunFailed(
                f"the loss is no longer a number after step {self.progress.step} (epoch {self.progress.epoch + 1}); "
                f"choose a learning rate below {self._resolved.learning_rate:.2g}"
            )
        self._was_stopped = bool(stop)
        waiting = waited / max(elapsed, 1e-9)
        self._pulse(
            Pulse(step=self.progress.step, seconds=seconds, share=self._share, loss=loss, data_wait_share=waiting)
        )

    def _end_epoch(self, elapsed: float, scores: ValidationScores | None) -> None:
        """Settle with the other processes how the epoch went; without validation the last weights are the best."""
        mean_iou = scores.mean_iou if scores and scores.mean_iou is not None else None
        has_improved = mean_iou is None or mean_iou > self.progress.best_mean_iou
        best = max(self.progress.best_mean_iou, mean_iou if mean_iou is not None else -1.0)
        share = self._share_of_budget(self.progress.seconds + elapsed)
        mine = (elapsed, has_improved, best, share) if self._workers.rank == 0 else (0.0, False, -1.0, 0.0)
        elapsed, improved, self.progress.best_mean_iou, self._share = self._largest(*mine)
        self.progress.epoch += 1
        self.progress.seconds += elapsed
        if improved:
            self.progress.best_epoch = self.progress.epoch
            self.best_weights = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        patience = self._resolved.config.patience
        is_stuck = bool(patience) and self.progress.epoch - self.progress.best_epoch >= patience
        self.progress.is_finished = is_stuck or self._share >= 1

    def _largest(self, *values: float) -> list[float]:
        return largest(values, self.device, self._workers)


def largest(values: Sequence[float], device: torch.device, workers: Workers) -> list[float]:
    """The largest of each value over all processes; every process must ask."""
    if workers.world == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
    return tensor.tolist()


def _shared(network: nn.Module, device: torch.device, workers: Workers) -> nn.Module:
    if workers.world == 1:
        return network
    if device.type == "cuda":  # on a CPU there is no SyncBatchNorm: each process keeps the statistics of its own crops
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


def _one_seed(numbers: list[int]) -> int:
    return zlib.crc32(np.array(numbers, np.int64).tobytes())
