"""One attempt at a run, from the process that starts it: check, train on the cluster, write how it ended."""

import time
from typing import Any

import ray
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray._private.state import state as cluster_state
from ray.exceptions import RayError
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError

from axons.data.encryption import encryption_of_this_node
from axons.data.storage import fsspec_files
from axons.data.training_set import load_training_set
from axons.errors import AxonsError, ConfigurationRefused, RunFailed
from axons.train.config import ResolvedConfig, resolve
from axons.train.devices import chooses_gpu
from axons.train.memory import KillsForMemory, forget_out_of_memory
from axons.train.pace import cpu_pace
from axons.train.run import RESOLVED, Outcome, RunFolder, RunLog, RunRequest, Status
from axons.train.worker import train_worker

MAX_FAILURES = 10
MAX_CONTROLLERS = 4


def train(run_uri: str) -> Status:
    """Train the run at `run_uri` on the connected Ray cluster, going on from its last checkpoint if it has one.

    A run that is done stays as it is; one that failed or was ended early is taken up again. Returns the final status,
    which is in `status.json` too.

    Raises:
        RunRefused: there is no readable `run.json`.
    """
    folder = RunFolder(run_uri)
    request = folder.request()
    if folder.status().is_complete:
        folder.delete_checkpoints()
        return folder.status()
    started_at = time.time()
    attempt = folder.begin_attempt()
    if folder.status().state == "failed":  # whoever resumes it may have found a larger machine
        forget_out_of_memory(folder.storage)
    folder.write_status(Status(state="preparing", attempt=attempt))
    try:
        outcome = _attempt(folder, request, attempt, started_at)
    except AxonsError as error:
        outcome = Outcome(state="failed", reason=str(error))
    except KeyboardInterrupt:
        outcome = Outcome(state="cancelled", reason="interrupted from outside; it can be resumed")
    return _finish(folder, attempt, outcome)


def prepare(folder: RunFolder, request: RunRequest) -> ResolvedConfig:
    """Settle the configuration of a run for all its attempts; the network is checked where it is built.

    Raises:
        ConfigurationRefused: names the field.
        TrainingSetNotFound, ChecksumMismatch: there is no such training set.
    """
    if resolved := folder.resolved():
        return resolved
    training_set = load_training_set(request.training_set, sha256=request.training_set_sha256)
    on_gpu = chooses_gpu(request.config.device, cluster_gpus=cluster_gpus())
    resolved = resolve(request.config, training_set, on_gpu=on_gpu, cpu_pace=cpu_pace)
    folder.storage.write(RESOLVED, resolved.packed())
    return resolved


def cluster_gpus() -> float:
    """GPUs that the connected cluster can have, machines included that would have to be started first."""
    # Not a public call, but the one Ray Train itself asks before it waits for a machine.
    configured = cluster_state.get_max_resources_from_cluster_config() or {}
    return max(float(ray.cluster_resources().get("GPU", 0)), float(configured.get("GPU", 0)))


def worker_resources(request: RunRequest, *, on_gpu: bool) -> dict[str, float]:
    """What each worker asks of Ray; on a GPU it takes what CPU it needs unasked, for some GPU machines offer none."""
    wanted: dict[str, float] = {"GPU": request.gpu_share} if on_gpu else dict(request.cpu_resources)
    if request.cpus is not None:
        wanted["CPU"] = request.cpus
    if request.memory_bytes is not None:
        wanted["memory"] = request.memory_bytes
    return wanted


def check_fits(preset: str, wanted: dict[str, float]) -> None:
    """Refuse what no kind of machine of the connected cluster has, those included that are off.

    Raises:
        ConfigurationRefused: names the field `preset`.
    """
    machines = _machines()
    if any(all(machine.get(name, 0) >= amount for name, amount in wanted.items()) for machine in machines):
        return
    largest = {name: max((machine.get(name, 0.0) for machine in machines), default=0.0) for name in wanted}
    raise ConfigurationRefused(
        "preset",
        f"{preset!r} asks each machine for {_amounts(wanted)}, and no kind of machine here has that: the most is "
        f"{_amounts(largest)}; choose a smaller one",
    )


def _machines() -> list[dict[str, float]]:
    """The resources of each machine that is up, and of each kind that can be started."""
    configured = cluster_state.get_cluster_config()
    groups = configured.node_group_configs if configured is not None else []
    startable = [dict(group.resources) for group in groups if group.max_count > 0]
    return startable + [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _amounts(resources: dict[str, float]) -> str:
    said = {
        "GPU": lambda amount: f"{amount:g} GPU",
        "CPU": lambda amount: f"{amount:g} CPUs",
        "memory": lambda amount: f"{amount / 2**30:.3g} GiB of memory",
    }
    return ", ".join(said[name](amount) if name in said else f"{amount:g} {name}" for name, amount in resources.items())


def _attempt(folder: RunFolder, request: RunRequest, attempt: int, started_at: float) -> Outcome:
    if folder.cancel_requested():
        return Outcome(state="cancelled", reason="cancelled before it began")
    prepare(folder, request)
    on_gpu = chooses_gpu(request.config.device, cluster_gpus=cluster_gpus())
    if request.config.preset is not None:
        check_fits(request.config.preset, worker_resources(request, on_gpu=on_gpu))
    settings = {"run_uri": folder.uri, "attempt": attempt, "on_gpu": on_gpu, "started_at": started_at}
    try:
        _fit(folder, request, settings, controllers=MAX_CONTROLLERS)
    except (TrainingFailedError, RayError) as error:
        if outcome := folder.outcome(attempt):
            return outcome
        raise RunFailed(f"Ray Train gave up after many restarts, last with: {_last_line(error)}") from error
    outcome = folder.outcome(attempt)
    return outcome or Outcome(state="failed", reason="another attempt has taken over this run; look at its status")


def _fit(folder: RunFolder, request: RunRequest, settings: dict[str, Any], *, controllers: int) -> None:
    """Train to the end of the attempt; a full machine can cost us Ray Train's own process too: then begin another."""
    on_gpu = settings["on_gpu"]
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=settings,
        scaling_config=ScalingConfig(
            num_workers=request.config.num_workers,
            use_gpu=on_gpu,
            resources_per_worker=worker_resources(request, on_gpu=on_gpu),
        ),
        run_config=RunConfig(
            name="ray",
            **_ray_storage(f"{folder.uri}/attempts/{settings['attempt']}"),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[KillsForMemory(folder.uri)],  # type: ignore[list-item]  # typed for the older Ray Train
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        trainer.fit()
    except (ControllerError, RayError):
        if controllers == 1:
            raise
        _fit(folder, request, settings, controllers=controllers - 1)


def _finish(folder: RunFolder, attempt: int, outcome: Outcome) -> Status:
    """The final status and the last line of the log, unless a newer attempt writes there now."""
    before = folder.status()
    is_complete = outcome.state == "done" and not outcome.is_stopped
    notices = outcome.notices or before.notices
    status = before.model_copy(
        update={
            "state": outcome.state,
            "attempt": attempt,
            "reason": outcome.reason,
            "progress": 1.0 if is_complete else before.progress,
            "seconds_left": None,
            "notices": notices,
            "is_stopped": outcome.is_stopped,
            "model": outcome.model,
        }
    )
    if folder.is_superseded(attempt):
        return status
    log = RunLog(folder)
    log.add(f"attempt {attempt} {outcome.state}" + (f": {outcome.reason}" if outcome.reason else ""))
    log.flush()
    written = folder.write_status(status)
    if is_complete:
        folder.delete_checkpoints()
    return written


def _ray_storage(uri: str) -> dict[str, Any]:
    """Where Ray Train keeps its checkpoints: Arrow's own S3, which cannot ask for encryption, and folder, or fsspec."""
    if uri.startswith("abfs") or (uri.startswith("s3:") and encryption_of_this_node()):
        files, path = fsspec_files(uri)
        return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(files))}
    return {"storage_path": uri}


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
