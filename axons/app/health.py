"""`/healthz`: whether database, storage and Ray answer, each with a sentence."""

from concurrent.futures import Future
from typing import Literal

import ray
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from axons.app.asking import Question
from axons.app.platform import Platform
from axons.app.services.cluster import check_connected
from axons.errors import AxonsError

router = APIRouter(tags=["health"])

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


def _ask_database(platform: Platform) -> str:
    platform.database.check()
    return f"{'SQLite' if platform.database.is_sqlite else 'PostgreSQL'} answers"


def _ask_storage(platform: Platform) -> str:
    platform.storage.exists(_NEVER_WRITTEN)
    kind = platform.storage.uri.partition("://")[0] if "://" in platform.storage.uri else "the storage folder"
    return f"{kind} answers"


def _ask_ray(_platform: Platform) -> str:
    check_connected()
    num_alive = sum(node["Alive"] for node in ray.nodes())
    return f"Ray answers: {num_alive} {'node' if num_alive == 1 else 'nodes'}"


_QUESTIONS: dict[str, Question[[Platform], str]] = {
    "database": Question("the database", _ask_database),
    "storage": Question("the storage", _ask_storage),
    "ray": Question("Ray", _ask_ray),
}


def check_health(platform: Platform) -> Health:
    """Ask every part at once; answers within `asking.PATIENCE_S` for each."""
    asked = {name: question.begin(platform) for name, question in _QUESTIONS.items()}
    parts = {name: _part(question, asked[name]) for name, question in _QUESTIONS.items()}
    is_well = all(part.is_well for part in parts.values())
    return Health(status="well" if is_well else "unwell", **parts)


def _part(question: Question[[Platform], str], asked: Future[str]) -> PartHealth:
    try:
        return PartHealth(is_well=True, sentence=question.answer(asked))
    except AxonsError as error:
        return PartHealth(is_well=False, sentence=str(error))


@router.get("/healthz", operation_id="get_health")
def get_health(request: Request, response: Response) -> Health:
    """Whether the platform can work; 503 if any of its parts does not answer."""
    health = check_health(request.scope["axons.platform"])
    response.status_code = 200 if health.status == "well" else 503
    return health
