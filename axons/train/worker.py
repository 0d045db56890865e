"""What each training process of a run does: the loop with its checkpoints, then proof that the result is usable."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from axons.data.priority import give_way
from axons.data.shards import ShardReader
from axons.data.storage import open_storage
from axons.data.training_set import TrainingSet, load_training_set
from axons.errors import AxonsError, RunFailed
from axons.model.devices import use_all_cores
from axons.model.files import load_encoder_weights, load_model, start_from
from axons.model.network import build_network
from axons.train.checkpoints import newest_checkpoint, restore_checkpoint, save_checkpoint
from axons.train.config import ResolvedConfig, check
from axons.train.evaluation import sample_picture
from axons.train.loop import TrainingLoop, Workers, largest
from axons.train.memory import note_out_of_memory, times_out_of_memory
from axons.train.publish import publish
from axons.train.reporter import Reporter
from axons.train.run import Outcome, RunFolder, RunRequest

MAX_HALVINGS = 2
MAX_STARTS_IN_PLACE = 4  # the first, and three restarts without a new checkpoint

_CHECKPOINT_COST = 20  # at most a twentieth of the time goes into checkpoints


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a process knows when it starts."""

    folder: RunFolder
    request: RunRequest
    resolved: ResolvedConfig
    training_set: TrainingSet
    reader: ShardReader
    attempt: int
    workers: Workers
    device: torch.device
    halvings: int


def train_worker(settings: dict[str, Any]) -> None:
    """Train, as one of the processes that Ray Train starts for an attempt.

    Known ends are written as the attempt's outcome and the function returns, so that Ray does not retry them; anything
    else is raised, and Ray starts the processes again from the last checkpoint.
    """
    folder = RunFolder(settings["run_uri"])
    if folder.outcome(settings["attempt"]):
        return
    give_way()
    job = _job(folder, settings["attempt"], on_gpu=settings["on_gpu"])
    is_first = job.workers.rank == 0
    reporter = Reporter(
        folder,
        job.attempt,
        classes=[label_class.name for label_class in job.training_set.classes],
        num_workers=job.workers.world,
        started_at=settings["started_at"],
    )
    with reporter if is_first else nullcontext(), _memory_watched(job):
        try:
            outcome = _train(job, reporter)
        except AxonsError as error:
            outcome = Outcome(state="failed", reason=str(error))
        if is_first and outcome is not None and not reporter.is_superseded:
            folder.write_outcome(job.attempt, outcome)


def _job(folder: RunFolder, attempt: int, *, on_gpu: bool) -> _Job:
    context = ray.train.get_context()
    request, resolved = folder.request(), folder.resolved()
    assert resolved is not None  # the driver has written it
    training_set = load_training_set(request.training_set, sha256=request.training_set_sha256)
    if not on_gpu:
        use_all_cores(context.get_local_world_size())
    return _Job(
        folder=folder,
        request=request,
        resolved=resolved,
        training_set=training_set,
        reader=ShardReader(open_storage(request.training_set), training_set),
        attempt=attempt,
        workers=Workers(rank=context.get_world_rank(), world=context.get_world_size()),
        device=ray.train.torch.get_device() if on_gpu else torch.device("cpu"),
        halvings=times_out_of_memory(folder.storage),
    )


def _train(job: _Job, reporter: Reporter) -> Outcome | None:
    """The loop to its end and, in the first process, what follows it; None where another process or attempt decides."""
    check(job.resolved)
    if job.halvings > MAX_HALVINGS:
        raise RunFailed(
            f"memory ran out even with a batch of {job.resolved.batch >> MAX_HALVINGS} crops of "
            f"{job.resolved.crop} px; choose a smaller crop or encoder, or a machine with more memory"
        )
    job.reader.fetch()
    loop = _loop(job, reporter)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = newest_checkpoint(job.folder.storage, Path(scratch))
        if checkpoint:
            restore_checkpoint(loop, checkpoint)
        else:
            _begin_weights(job, loop, reporter)
    if job.resolved.is_made_smaller:
        reporter.notice(
            f"the minutes are few for this processor: crops of {job.resolved.crop} px, {job.resolved.batch} in a step; "
            "longer trainings take larger ones"
        )
    if job.halvings:
        reporter.notice(f"memory ran out: the batch is {loop.batch} crops instead of {job.resolved.batch}")
    _refuse_to_start_in_place(job, loop)
    reporter.begin(job.device, batch=loop.batch)
    reporter.log(f"attempt {job.attempt} goes on from epoch {loop.progress.epoch} with batch {loop.batch}")
    if job.workers.rank == 0:
        reporter.epochs(loop.metrics, best_epoch=loop.progress.best_epoch)
    saver = _CheckpointSaver(job)
    is_stopped = _was_stopped_before(job, loop)
    while not (is_stopped or loop.progress.is_finished or loop.was_stopped):
        loop.train_epoch()
        if job.workers.rank == 0:
            _tell_epoch(job, loop, reporter)
        saver.save_if_due(loop)
    if reporter.is_superseded or job.workers.rank > 0:
        return None
    if loop.was_stopped and (job.folder.cancel_requested() or not job.folder.stop_requested()):
        return Outcome(
            state="cancelled", reason=f"cancelled in epoch {loop.progress.epoch}; it can be resumed from there"
        )
    reporter.state("validating")
    return publish(
        loop,
        job.folder,
        job.request,
        job.training_set,
        job.reader,
        job.resolved,
        reporter=reporter,
    )


def _loop(job: _Job, reporter: Reporter) -> TrainingLoop:
    return TrainingLoop(
        build_network(job.resolved.network, seed=job.resolved.config.seed),
        job.reader,
        job.training_set,
        job.resolved,
        device=job.device,
        workers=job.workers,
        halvings=job.halvings,
        stop_requested=lambda: reporter.must_stop,
        pulse=reporter.pulse,
    )


def _begin_weights(job: _Job, loop: TrainingLoop, reporter: Reporter) -> None:
    config = job.resolved.config
    if config.init_model:
        for notice in start_from(loop.network, load_model(config.init_model, device=job.device)):
            reporter.notice(notice)
    elif config.encoder_weights:
        load_encoder_weights(loop.network, job.resolved.network.encoder, folder_uri=config.encoder_weights)
    else:
        reporter.notice("all weights begin at random: no earlier model and no pretrained encoder was given")


def _refuse_to_start_in_place(job: _Job, loop: TrainingLoop) -> None:
    """Give up after three restarts that brought no new checkpoint, in all processes alike."""
    starts = f"attempts/{job.attempt}/starts/epoch-{loop.progress.epoch}-halvings-{job.halvings}"
    is_stuck = False
    if job.workers.rank == 0:
        earlier = len(job.folder.storage.list_objects(starts))
        is_stuck = earlier >= MAX_STARTS_IN_PLACE
        job.folder.storage.write(f"{starts}/{earlier}", b"")
    if largest([float(is_stuck)], job.device, job.workers)[0]:
        raise RunFailed(
            f"training died {MAX_STARTS_IN_PLACE} times after epoch {loop.progress.epoch} without getting further; "
            "the log of the Ray job says why; try a smaller batch or crop, and resume"
        )


def _was_stopped_before(job: _Job, loop: TrainingLoop) -> bool:
    """Whether a person wants the best of an earlier process, which died before it was published; all decide alike."""
    is_asked = job.workers.rank == 0 and loop.progress.epoch > 0 and job.folder.stop_requested()
    return bool(largest([float(is_asked)], job.device, job.workers)[0])


def _tell_epoch(job: _Job, loop: TrainingLoop, reporter: Reporter) -> None:
    """Picture, metrics and a line in the log for the epoch that just ended."""
    last = loop.metrics[-1]
    if not reporter.is_superseded:
        colours = [label_class.colour for label_class in job.training_set.classes]
        _, pixels, masks = loop.validation.samples()
        if last.epoch == 1:
            job.folder.storage.replace("samples/image.png", sample_picture(pixels, masks * 0, colours))
            job.folder.storage.replace("samples/truth.png", sample_picture(pixels, masks, colours))
        key = f"samples/epoch-{last.epoch:05d}-attempt-{job.attempt}.png"
        picture = sample_picture(pixels, loop.validation.predict_samples(loop.network), colours)
        job.folder.storage.replace(key, picture)
        loop.metrics[-1] = last.model_copy(update={"sample": key})
    reporter.epochs(loop.metrics, best_epoch=loop.progress.best_epoch)
    score = "" if last.val_mean_iou is None else f", validation mean IoU {last.val_mean_iou:.3f}"
    reporter.log(f"epoch {last.epoch}: loss {last.train_loss:.4f}{score}, {last.crops_per_second:.1f} crops/s")


class _CheckpointSaver:
    """Writes a checkpoint after an epoch unless that would cost too much of the time; all processes decide alike."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._cost_s = 0.0
        self._last = time.monotonic()
        # Unique within the attempt, also when a torn checkpoint of the same epoch lies there.
        self._start = time.time_ns() // 1_000_000

    def save_if_due(self, loop: TrainingLoop) -> None:
        """Save if it is time, and always at the end."""
        job = self._job
        is_due = time.monotonic() - self._last >= _CHECKPOINT_COST * self._cost_s
        is_end = loop.progress.is_finished or loop.was_stopped
        if not largest([float(is_end or is_due) if job.workers.rank == 0 else 0.0], job.device, job.workers)[0]:
            return
        began = time.monotonic()
        checkpoint = None
        if job.workers.rank == 0:
            local = Path(tempfile.mkdtemp(prefix="axons-checkpoint-"))
            save_checkpoint(loop, local)
            checkpoint = ray.train.Checkpoint.from_directory(str(local))
        ray.train.report(
            {"epoch": loop.progress.epoch},
            checkpoint=checkpoint,
            checkpoint_dir_name=f"epoch-{loop.progress.epoch:05d}-{self._start}",
        )
        if checkpoint:
            shutil.rmtree(checkpoint.path, ignore_errors=True)
        self._last = time.monotonic()
        self._cost_s = self._last - began


@contextmanager
def _memory_watched(job: _Job) -> Iterator[None]:
    """Note that memory ran out, and let Ray start the processes again, with a smaller batch."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            note_out_of_memory(job.folder.storage, times_before=job.halvings, message=str(error))
        raise


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
