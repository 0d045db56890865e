"""Running out of memory is noted in the run folder; the next start of the processes trains with half the batch."""

from typing import Any

from ray.exceptions import OutOfMemoryError
from ray.train import UserCallback

from axons.data.storage import Storage, open_storage

_NOTES = "out-of-memory"


def times_out_of_memory(run: Storage) -> int:
    """How often memory ran out, in all attempts of a run together."""
    return len(run.list_objects(_NOTES))


def note_out_of_memory(run: Storage, *, times_before: int, message: str) -> None:
    """Note that memory ran out once more; of several processes that note the same time one counts."""
    run.write(f"{_NOTES}/{times_before + 1}", message.encode())


def forget_out_of_memory(run: Storage) -> None:
    """Begin with the whole batch again."""
    run.delete_prefix(_NOTES)


class KillsForMemory(UserCallback):
    """Notes when Ray has killed a training process because its machine was full: that process could not say so itself.

    It runs in the process in which Ray Train keeps watch, so it imports nothing heavy.
    """

    def __init__(self, run_uri: str) -> None:
        self._run_uri = run_uri

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train before it starts the processes again."""
        causes = [getattr(error, "health_check_failure", error) for error in worker_exceptions.values()]
        killed = [cause for cause in causes if isinstance(cause, OutOfMemoryError)]
        if killed:
            run = open_storage(self._run_uri)
            note_out_of_memory(run, times_before=times_out_of_memory(run), message=str(killed[0]))
