"""Keeps the files of a run up to date while its first process trains."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import torch

from axons.errors import StorageUnavailable
from axons.model.devices import autocast_dtype
from axons.train.devices import LoadMeter, device_name
from axons.train.loop import Pulse
from axons.train.run import EpochMetrics, RunFolder, RunLog, RunMetrics, State, Status
from axons.train.tensorboard import EVENTS, event_file

_EVERY_S = 2.0


class Reporter:
    """Status, log and metrics of an attempt; use it in a `with` block, inside which a thread writes every two seconds.

    `must_stop` turns true when somebody asks to cancel or to stop, or when a newer attempt has begun; then
    `is_superseded` is true too, and nothing more is written.
    """

    def __init__(
        self, folder: RunFolder, attempt: int, *, classes: Sequence[str], num_workers: int, started_at: float
    ) -> None:
        self.must_stop = False
        self.is_superseded = False
        self._folder = folder
        self._attempt = attempt
        self._classes = list(classes)
        self._started_at = started_at
        self._log = RunLog(folder)
        self._status = Status(state="preparing", attempt=attempt, num_workers=num_workers)
        self._load: LoadMeter | None = None
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._keep_writing, name="status", daemon=True)

    def __enter__(self) -> "Reporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing = True
        self._wake.set()
        self._thread.join()

    @property
    def notices(self) -> list[str]:
        """What the person was told so far."""
        return self._status.notices

    def log(self, line: str) -> None:
        """Add a line to the log."""
        self._log.add(line)

    def notice(self, text: str) -> None:
        """Tell the person something that was decided on the way."""
        self.log(text)
        self._update(notices=[*self._status.notices, text])

    def begin(self, device: torch.device, *, batch: int) -> None:
        """The device is known and the loop is about to start."""
        dtype = autocast_dtype(device)
        self._load = LoadMeter(device)
        precision = "fp32" if dtype is None else str(dtype).removeprefix("torch.")
        self._update(device=device_name(device), precision=precision, batch=batch)

    def pulse(self, pulse: Pulse) -> None:
        """A few more steps are done."""
        left = pulse.seconds * (1 - pulse.share) / pulse.share if pulse.share else None
        if self._status.start_seconds is None:
            self._update(start_seconds=time.time() - self._started_at)
        self._update(
            state="running",
            step=pulse.step,
            seconds=pulse.seconds,
            progress=pulse.share,
            seconds_left=left,
            loss=pulse.loss,
            data_wait_share=pulse.data_wait_share,
        )

    def epochs(self, metrics: Sequence[EpochMetrics], *, best_epoch: int) -> None:
        """Replace the list of epochs; after a restart it is shorter than before for a moment."""
        if self._may_write():
            rows = RunMetrics(attempt=self._attempt, classes=self._classes, epochs=list(metrics))
            self._folder.write_metrics(rows)
            self._folder.storage.replace(EVENTS, event_file(rows))
        if metrics:
            last = metrics[-1]
            self._update(epoch=last.epoch, step=last.step, mean_iou=last.val_mean_iou, best_epoch=best_epoch or None)

    def state(self, state: State) -> None:
        """What happens now; written at once."""
        self._update(state=state, seconds_left=None)
        self._wake.set()

    def _update(self, **changes: Any) -> None:
        self._status = self._status.model_copy(update=changes)

    def _keep_writing(self) -> None:
        while not self._is_closing:
            self._write()
            self._wake.wait(_EVERY_S)
            self._wake.clear()
        self._write()

    def _write(self) -> None:
        try:
            if not self._may_write():
                return
            if self._folder.cancel_requested() or self._folder.stop_requested():
                self.must_stop = True
            if self._load:
                self._update(**vars(self._load.read()))
            self._folder.write_status(self._status)
            self._log.flush()
        except StorageUnavailable as error:  # training goes on; the next look may find it again
            self._log.add(f"status not written: {error}")

    def _may_write(self) -> bool:
        if not self.is_superseded and self._folder.is_superseded(self._attempt):
            self.is_superseded = self.must_stop = True
        return not self.is_superseded
