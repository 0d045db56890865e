"""Questions to what may not answer: a database, a storage, Ray."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswer
from typing import Generic, ParamSpec, TypeVar

from axons.errors import AxonsError, ServerUnavailable

_P = ParamSpec("_P")
_T = TypeVar("_T")

PATIENCE_S = 4.0

_LOG = logging.getLogger("axons.asking")


class Question(Generic[_P, _T]):
    """Asks one thing, from one thread at a time: where nothing answers, no further thread is spent on it.

    Args:
        name: of what is asked, as a sentence begins with it.
    """

    def __init__(self, name: str, ask: Callable[_P, _T]) -> None:
        self._name = name
        self._ask = ask
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=f"asking {name}")
        self._lock = threading.Lock()
        self._asked: Future[_T] | None = None

    def begin(self, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """The question that is under way, or a new one."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._threads.submit(self._ask, *args, **kwargs)
            return self._asked

    def answer(self, asked: Future[_T]) -> _T:
        """What came of a question.

        Raises:
            ServerUnavailable: no answer within `PATIENCE_S`, or none that can be understood.
            AxonsError: what the one that was asked says itself.
        """
        try:
            return asked.result(timeout=PATIENCE_S)
        except NoAnswer as error:
            raise ServerUnavailable(f"{self._name} did not answer within {PATIENCE_S:g} seconds") from error
        except AxonsError:
            raise
        except Exception as error:  # the outer edge: whatever a library raises, nothing is known
            _LOG.error("%s is not well", self._name, exc_info=error)
            raise ServerUnavailable(f"{self._name} failed; the log of the server says why") from error
