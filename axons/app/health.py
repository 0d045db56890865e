"""`/healthz`: whether database, storage and Ray answer, each with a sentence."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswer
from typing import Literal

import ray
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from axons.app.platform import Platform
from axons.errors import AxonsError

router = APIRouter(tags=["health"])

PATIENCE_S = 4.0

_LOG = logging.getLogger("axons.health")
_NEVER_WRITTEN = "tmp/health"


class PartHealth(BaseModel):
    """Whether one part answers."""

    is_well: bool
    sentence: str


class Health(BaseModel):
    """The platform is well when all of its parts are."""

    status: Literal["well", "unwell"]
    database: PartHealth
    storage: PartHealth
    ray: PartHealth


class _Watch:
    """Asks one part, from one thread at a time: where nothing answers, no further thread is spent on it."""

    def __init__(self, name: str, ask: Callable[[Platform], str]) -> None:
        self._name = name
        self._ask = ask
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=f"health-{name}")
        self._lock = threading.Lock()
        self._asked: Future[str] | None = None

    def begin(self, platform: Platform) -> Future[str]:
        """The question that is under way, or a new one."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._threads.submit(self._ask, platform)
            return self._asked

    def answer(self, asked: Future[str]) -> PartHealth:
        """What came of a question."""
        try:
            return PartHealth(is_well=True, sentence=asked.result(timeout=PATIENCE_S))
        except NoAnswer:
            return PartHealth(is_well=False, sentence=f"{self._name} did not answer within {PATIENCE_S:g} seconds")
        except AxonsError as error:
            return PartHealth(is_well=False, sentence=str(error))
        except Exception as error:  # the outer edge: whatever a library raises, the part is not well
            _LOG.error("%s is not well", self._name, exc_info=error)
            return PartHealth(is_well=False, sentence=f"{self._name} failed; the log of the server says why")


def _ask_database(platform: Platform) -> str:
    platform.database.check()
    return f"{'SQLite' if platform.database.is_sqlite else 'PostgreSQL'} answers"


def _ask_storage(platform: Platform) -> str:
    platform.storage.exists(_NEVER_WRITTEN)
    kind = platform.storage.uri.partition("://")[0] if "://" in platform.storage.uri else "the storage folder"
    return f"{kind} answers"


def _ask_ray(_platform: Platform) -> str:
    if not ray.is_initialized():
        raise AxonsError("this process is not connected to Ray; start the platform with `axons up`")
    num_alive = sum(node["Alive"] for node in ray.nodes())
    return f"Ray answers: {num_alive} {'node' if num_alive == 1 else 'nodes'}"


_WATCHES = {
    "database": _Watch("the database", _ask_database),
    "storage": _Watch("the storage", _ask_storage),
    "ray": _Watch("Ray", _ask_ray),
}


def check_health(platform: Platform) -> Health:
    """Ask every part at once; answers within `PATIENCE_S` for each."""
    asked = {name: watch.begin(platform) for name, watch in _WATCHES.items()}
    parts = {name: watch.answer(asked[name]) for name, watch in _WATCHES.items()}
    is_well = all(part.is_well for part in parts.values())
    return Health(status="well" if is_well else "unwell", **parts)


@router.get("/healthz", operation_id="get_health")
def get_health(request: Request, response: Response) -> Health:
    """Whether the platform can work; 503 if any of its parts does not answer."""
    health = check_health(request.scope["axons.platform"])
    response.status_code = 200 if health.status == "well" else 503
    return health
