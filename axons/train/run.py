"""A run as a folder: the request goes in; status, metrics, log, pictures, model and evaluation come out."""

import json
import re
import threading
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from pydantic import Field

from axons.data.node_cache import NodeCache
from axons.data.rows import Row
from axons.data.storage import Storage, open_storage
from axons.errors import ObjectNotFound, RunRefused
from axons.train.config import ResolvedConfig, TrainConfig

State = Literal["queued", "preparing", "running", "validating", "done", "failed", "cancelled"]

REQUEST = "run.json"
STATUS = "status.json"
METRICS = "metrics.json"
LOG = "log.txt"
CANCEL = "cancel"
STOP = "stop"
RESOLVED = "resolved.json"
EVALUATION = "evaluation.json"
MODEL = "model"

_MODEL_FOLDER = r"^model(-epoch-\d{5,})?$"
_MAX_LOG_CHARS = 2_000_000

_T = TypeVar("_T", bound=Row)


class RunRequest(Row):
    """run.json: everything a training needs to know.

    Args:
        training_set: address of the frozen set; `training_set_sha256` is the hash its manifest must have.
        gpu_share: of one GPU, for each worker.
        cpu_resources: what each worker asks of Ray where it has no GPU.
        cpus, memory_bytes: of its machine, for each worker; None as usual, and as much as there is.
        metadata: user, project and the like; travels into the model card and the Ray job.
    """

    version: Literal[1] = 1
    run_id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")
    name: str = ""
    training_set: str
    training_set_sha256: str | None = None
    config: TrainConfig = TrainConfig()
    gpu_share: float = Field(default=0.75, gt=0, le=1)
    cpu_resources: dict[str, float] = {"CPU": 1}
    cpus: float | None = Field(default=None, ge=0)
    memory_bytes: int | None = Field(default=None, ge=0)
    metadata: dict[str, str] = {}


class Status(Row):
    """status.json: what is happening, written every two seconds.

    Args:
        attempt: readers ignore what another attempt than the current one wrote.
        progress: 0 to 1, of the budget.
        seconds: of the training loop so far, all attempts together; `seconds_left` is an estimate.
        start_seconds: from the start of the attempt to its first step.
        cpu_share, gpu_share: of the cores and the GPU in use; None where it cannot be measured.
        data_wait_share: of the loop's time spent waiting for crops.
        reason: why it ended, in one sentence; empty while all is well.
        notices: what was decided or changed on the way.
        is_stopped: a person ended it early; the best so far is published, and it can be resumed.
        model: folder of the model that the attempt has made.
    """

    state: State
    attempt: int = 0
    epoch: int = 0
    step: int = 0
    progress: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    start_seconds: float | None = None
    loss: float | None = None
    mean_iou: float | None = None
    best_epoch: int | None = None
    batch: int | None = None
    device: str | None = None
    precision: str | None = None
    num_workers: int = 1
    cpu_share: float | None = None
    memory_bytes: int | None = None
    gpu_share: float | None = None
    gpu_memory_bytes: int | None = None
    data_wait_share: float | None = None
    reason: str = ""
    notices: list[str] = []
    is_stopped: bool = False
    model: str = Field(MODEL, pattern=_MODEL_FOLDER)
    updated_at: str = ""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def is_on_gpu(self) -> bool:
        """Whether it trains, or has trained, on a GPU; `device` is the name of one, or begins with `CPU`."""
        return self.device is not None and not self.device.startswith("CPU")

    @property
    def is_complete(self) -> bool:
        """Whether it was trained to its end: there is nothing to go on with."""
        return self.state == "done" and not self.is_stopped


class EpochMetrics(Row):
    """One epoch; `val_*` is None without validation images, a class without pixels has None.

    Args:
        seconds: of the loop up to the end of this epoch, validation included, all attempts together.
        sample: key of the picture of predictions on the fixed crops.
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    batch: int
    train_loss: float
    val_loss: float | None = None
    val_mean_iou: float | None = None
    val_iou: list[float | None] = []
    crops_per_second: float
    data_wait_share: float
    sample: str | None = None
    at: str


class RunMetrics(Row):
    """metrics.json: every epoch once, in order."""

    attempt: int
    classes: list[str]
    epochs: list[EpochMetrics] = []


class Outcome(Row):
    """How an attempt's training function ended; written once, by its first worker. See `Status`."""

    state: Literal["done", "failed", "cancelled"]
    reason: str = ""
    notices: list[str] = []
    is_stopped: bool = False
    model: str = Field(MODEL, pattern=_MODEL_FOLDER)


class RunFolder:
    """The files of one run at an address."""

    def __init__(self, uri: str, *, cache: NodeCache | None = None) -> None:
        self.uri = uri.rstrip("/")
        self.storage: Storage = open_storage(self.uri, cache=cache)

    def request(self) -> RunRequest:
        """The request.

        Raises:
            RunRefused: there is none, or it cannot be read.
        """
        try:
            return RunRequest.unpacked(self.storage.read(REQUEST), name=f"{self.uri}/{REQUEST}", error=RunRefused)
        except ObjectNotFound as error:
            raise RunRefused(f"no run at {self.uri}: it has no {REQUEST}; check the address") from error

    def status(self) -> Status:
        """The last status; "queued" before the first."""
        return self._row(STATUS, Status) or Status(state="queued")

    def write_status(self, status: Status) -> Status:
        """Replace the status; returns it with the time."""
        stamped = status.model_copy(update={"updated_at": now()})
        self.storage.replace(STATUS, stamped.packed())
        return stamped

    def metrics(self) -> RunMetrics | None:
        """The epochs so far."""
        return self._row(METRICS, RunMetrics)

    def write_metrics(self, metrics: RunMetrics) -> None:
        """Replace the epochs."""
        self.storage.replace(METRICS, metrics.packed())

    def resolved(self) -> ResolvedConfig | None:
        """The configuration settled by the first attempt."""
        return self._row(RESOLVED, ResolvedConfig)

    def evaluation(self) -> dict[str, Any] | None:
        """The evaluation, once there is one."""
        try:
            document: dict[str, Any] = json.loads(self.storage.read(EVALUATION))
            return document
        except ObjectNotFound:
            return None

    def log(self) -> str:
        """The log so far."""
        try:
            return self.storage.read(LOG).decode(errors="replace")
        except ObjectNotFound:
            return ""

    def request_cancel(self) -> None:
        """Ask the run to stop at its next look, within seconds."""
        self.storage.replace(CANCEL, now().encode())

    def clear_cancel(self) -> None:
        """Let a cancelled run be resumed."""
        self.storage.delete_prefix(CANCEL)

    def cancel_requested(self) -> bool:
        """Whether somebody asked."""
        return self.storage.exists(CANCEL)

    def request_stop(self) -> None:
        """Ask the run to end within seconds with a model of its best epoch."""
        self.storage.replace(STOP, now().encode())

    def clear_stop(self) -> None:
        """Let a stopped run be resumed."""
        self.storage.delete_prefix(STOP)

    def stop_requested(self) -> bool:
        """Whether somebody asked to stop and keep the best."""
        return self.storage.exists(STOP)

    def begin_attempt(self) -> int:
        """Claim the next attempt number; any older attempt sees that it is superseded and falls silent."""
        attempt = self.last_attempt() + 1
        while not self.storage.write(_attempt_key(attempt), now().encode()):
            attempt += 1
        return attempt

    def last_attempt(self) -> int:
        """The number of the newest attempt; 0 before the first."""
        numbers = [
            int(found[1]) for key in self._attempt_keys() if (found := re.match(r"attempts/(\d+)/attempt\.json$", key))
        ]
        return max(numbers, default=0)

    def is_superseded(self, attempt: int) -> bool:
        """Whether a newer attempt has begun."""
        return self.storage.exists(_attempt_key(attempt + 1))

    def outcome(self, attempt: int) -> Outcome | None:
        """How the attempt ended, if its training function returned."""
        return self._row(f"attempts/{attempt}/outcome.json", Outcome)

    def write_outcome(self, attempt: int, outcome: Outcome) -> None:
        """Record how the attempt ended, once."""
        self.storage.write(f"attempts/{attempt}/outcome.json", outcome.packed())

    def delete_checkpoints(self) -> None:
        """Delete the checkpoints of all attempts; what says that an attempt was, stays."""
        for attempt in range(1, self.last_attempt() + 1):
            self.storage.delete_prefix(f"attempts/{attempt}/ray")

    def _attempt_keys(self) -> list[str]:
        return [stored.key for stored in self.storage.list_objects("attempts")]

    def _row(self, key: str, kind: type[_T]) -> _T | None:
        try:
            return kind.unpacked(self.storage.read(key), name=f"{self.uri}/{key}", error=RunRefused)
        except ObjectNotFound:
            return None


class RunLog:
    """log.txt, line by line with the time; what earlier attempts wrote stays above."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._text = folder.log()[-_MAX_LOG_CHARS:]
        self._lock = threading.Lock()
        self._is_written = True

    def add(self, line: str) -> None:
        """Append a line; it reaches storage with the next `flush`."""
        with self._lock:
            self._text += f"{now()} {line}\n"
            self._is_written = False

    def flush(self) -> None:
        """Write the log if there is anything new."""
        with self._lock:
            text, was_written, self._is_written = self._text, self._is_written, True
        if not was_written:
            self._folder.storage.replace(LOG, text.encode())


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _attempt_key(attempt: int) -> str:
    return f"attempts/{attempt}/attempt.json"
