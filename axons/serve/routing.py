"""Which `segmenter` answers an image: the one on a GPU while it runs, else the one on a CPU, which always does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from axons.errors import SegmenterBusy
from axons.model.normalisation import Statistics
from axons.serve.predictor import Segmentation
from axons.serve.segmenter import APPLICATION, GPU_APPLICATION, ask_segmenter

_LOOK_EVERY_S = 1.0
_MANY = 4  # images at once, which the CPU answers beside each other: whoever comes after them waits
_WAIT_FOR_GPU_S = 900.0


class SegmenterRouter:
    """Sends images to the applications of the connected cluster; one for all threads of a process.

    A GPU machine costs money and comes after minutes. So single images do not ask for one: only where more come at once
    than the CPU answers beside each other, one is wanted, and as long as images come it stays.
    """

    def __init__(self) -> None:
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._at_cpu = 0
        self._looked_at = -_LOOK_EVERY_S
        self._gpu_replicas: int | None = None  # None: there is no such application
        self._waking: Any = None
        self._waking_since = 0.0

    def segment(
        self,
        image: np.ndarray,
        *,
        model_uri: str,
        scale: float | None = None,
        of_whole: Statistics | None = None,
        timeout_s: float | None = None,
    ) -> Segmentation:
        """See `ask_segmenter`, whose errors these are."""
        asked: dict[str, Any] = {"model_uri": model_uri, "scale": scale, "of_whole": of_whole}
        if self.gpu_replicas():
            try:
                return ask_segmenter(serve.get_app_handle(GPU_APPLICATION), image, **asked)(timeout_s)
            except SegmenterBusy:
                self._looked_at = -_LOOK_EVERY_S  # its machine may be gone
                raise
        with self._counted() as at_cpu:
            if at_cpu > _MANY and self._gpu_replicas is not None:
                self._wake(model_uri)
            return ask_segmenter(serve.get_app_handle(APPLICATION), image, **asked)(timeout_s)

    def gpu_replicas(self) -> int | None:
        """How many have run on a GPU a second ago; None where none ever can."""
        if time.monotonic() - self._looked_at > _LOOK_EVERY_S and self._looking.acquire(blocking=False):
            try:  # one thread looks; where Serve's controller does not answer, it alone waits
                self._gpu_replicas = _running_on_gpu()
                self._looked_at = time.monotonic()
            finally:
                self._looking.release()
        return self._gpu_replicas

    @contextmanager
    def _counted(self) -> Iterator[int]:
        with self._lock:
            self._at_cpu += 1
            at_cpu = self._at_cpu
        try:
            yield at_cpu
        finally:
            with self._lock:
                self._at_cpu -= 1

    def _wake(self, model_uri: str) -> None:
        """Ask for a GPU by one call that waits for it; if none comes, the wish ends."""
        with self._lock:
            if self._waking is not None:
                if not _is_over(self._waking) and time.monotonic() - self._waking_since < _WAIT_FOR_GPU_S:
                    return
                self._waking.cancel()
            handle: Any = serve.get_app_handle(GPU_APPLICATION)
            self._waking = handle.options(multiplexed_model_id=model_uri).warm_up.remote()
            self._waking_since = time.monotonic()


def _running_on_gpu() -> int | None:
    try:
        application = serve.status().applications.get(GPU_APPLICATION)
    except (RayError, RayServeException):  # Serve's controller starts again; the CPU answers meanwhile
        return 0
    if application is None:
        return None
    states = [found.replica_states for found in application.deployments.values()]
    return sum(count for counts in states for state, count in counts.items() if state == "RUNNING")


def _is_over(response: Any) -> bool:
    try:
        response.result(timeout_s=0)
    except TimeoutError:
        return False
    except (RayError, RayServeException):
        return True
    return True
