"""Work in progress, as the dispatcher sees it; where it runs is the cluster's affair."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

Row = dict[str, Any]
# "unknown": the cluster has never heard of it, or has lost it with everything else.
Submission = Literal["waiting", "running", "ended", "unknown"]


class Cluster(Protocol):
    """The place where jobs run.

    Every method may raise `ServerUnavailable`: then nothing is known, and the dispatcher asks again later.
    """

    def begin(self, kind: str, request: Row, *, name: str) -> "Work":
        """Start the `work` of a kind; see `kinds`."""

    def training_places(self) -> int:
        """Trainings that can run at a time."""

    def submit(self, submission_id: str, run_uri: str, metadata: dict[str, str]) -> None:
        """Start the training of a run folder, once for each submission id however often this is called."""

    def submission(self, submission_id: str) -> Submission:
        """What is known of a training that was submitted."""

    def last_words(self, submission_id: str) -> str:
        """What the cluster says about a training that ended, in one line."""

    def stop(self, submission_id: str) -> None:
        """Interrupt a training; nothing happens if it is over."""


class Interrupted(Exception):
    """The process that did the work is gone; the work itself may be fine."""


class Work:
    """Rows as they come from a generator that runs elsewhere; a thread of ours waits for them.

    Args:
        rows: yields rows; raises `Interrupted`, or what went wrong.
        interrupt: makes `rows` end soon; with True, by force.
    """

    def __init__(self, rows: Iterator[Row], interrupt: Callable[[bool], None], *, name: str) -> None:
        self.error: BaseException | None = None
        self._rows = rows
        self._interrupt = interrupt
        self._come: deque[Row] = deque()
        self._thread = threading.Thread(target=self._collect, name=name, daemon=True)
        self._thread.start()

    def take(self, most: int) -> list[Row]:
        """Up to so many of the rows that have come, in order; each is given once."""
        return [self._come.popleft() for _ in range(min(most, len(self._come)))]

    @property
    def is_over(self) -> bool:
        """Whether no further row will come; those that came may still wait to be taken."""
        return not self._thread.is_alive()

    @property
    def is_empty(self) -> bool:
        """Whether every row has been taken."""
        return not self._come

    def cancel(self, *, force: bool = False) -> None:
        """Interrupt the work."""
        self._interrupt(force)

    def _collect(self) -> None:
        try:
            for row in self._rows:
                self._come.append(row)
        except BaseException as error:  # the edge of a thread: whoever looks at the work gets the error
            self.error = error
