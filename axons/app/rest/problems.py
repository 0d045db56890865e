"""Errors as answers: one JSON shape (RFC 9457) for all of REST."""

import logging
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from axons import errors
from axons.app import metrics
from axons.data.full_disk import SENTENCE as DISK_FULL
from axons.data.full_disk import is_full_disk
from axons.errors import AxonsError, StorageFull, StorageRefused, StorageUnavailable

_LOG = logging.getLogger("axons.rest")

# The first kind that fits; an AxonsError not named here is something the person can correct.
_STATUS: list[tuple[type[AxonsError], int]] = [
    (errors.SignInRequired, 401),
    (errors.SignInRefused, 401),
    (errors.NotAllowed, 403),
    (errors.NotFound, 404),
    (errors.ObjectNotFound, 404),
    (errors.TrainingSetNotFound, 404),
    (errors.Conflict, 409),
    (errors.LimitReached, 409),
    (errors.StaleRevision, 412),
    (errors.TooLarge, 413),
    (errors.TileLocked, 423),
    (errors.RevisionMissing, 428),
    (errors.SegmenterBusy, 429),
    (errors.NotInstalled, 501),
    (errors.StorageFull, 507),
    (errors.DatabaseBusy, 503),
    (errors.StorageUnavailable, 503),
    (errors.ServerUnavailable, 503),
    (AxonsError, 422),
]
_RETRY_AFTER_S = 5
_STORAGE_IS_AWAY = "the storage does not answer at the moment, so nothing was changed; try again in a minute"

ANYWHERE = (400, 401, 403, 404, 409, 413, 422, 503)  # what any route may answer

_MEANING = {
    400: "The request cannot be read.",
    401: "Nobody is signed in, or name or password are wrong.",
    403: "You may see it and not do this.",
    404: "It does not exist, or is not for you to see.",
    405: "Your class has switched this off.",
    409: "It is not possible at the moment, or a limit is reached.",
    412: "Somebody has saved since the revision that you began with.",
    413: "It is too large.",
    422: "A field has a value that cannot be; `field` names it.",
    423: "The tile is done; reopen it first.",
    428: "Send `If-Match`.",
    429: "Too many at the moment; `Retry-After` says when to ask again.",
    501: "There is nothing that this could be done with.",
    503: "A part of the server does not answer; `Retry-After` says when to ask again.",
    507: "The storage is full.",
}


class Problem(BaseModel):
    """An error, as every route answers it."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="`axons:` and the kind of problem.")
    title: str = Field(description="The kind of problem.")
    status: int
    detail: str = Field(description="A sentence for the person: what is wrong, the value, what to do.")
    field: str = Field("", description="What to correct, where it is one field.")


class DescribedApi(FastAPI):
    """A FastAPI application whose description holds the shape of our errors, to which `documented` refers."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document = super().openapi()
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return document


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of answers that are problems, for `responses` of routes."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _MEANING[status], "content": content} for status in statuses}


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error as problem+json, ours with its own sentence, others without their inside."""
    app.add_exception_handler(AxonsError, _answer_axons_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _answer_validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _answer_http_error)  # type: ignore[arg-type]
    app.add_exception_handler(OSError, _answer_os_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _answer_surprise)


def problem(status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """One answer: `type` names the kind of problem, `detail` is the sentence for the person."""
    content = {"type": f"axons:{code}", "title": code, "status": status, "detail": detail, **more}
    return JSONResponse(content, status, headers=headers, media_type="application/problem+json")


def problem_of(error: AxonsError) -> JSONResponse:
    """The answer to an error of ours."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    more = {name: getattr(error, name) for name in ("field", "current") if hasattr(error, name)}
    headers: dict[str, str] = {}
    if status in (429, 503) or getattr(error, "retry_after_s", None):
        headers["Retry-After"] = str(getattr(error, "retry_after_s", None) or _RETRY_AFTER_S)
        status = 429 if isinstance(error, errors.SignInRefused) else status
    return problem(status, _code(error), str(error), headers=headers, **more)


def _code(error: AxonsError) -> str:
    name = type(error).__name__
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


async def _answer_axons_error(_request: Request, error: AxonsError) -> JSONResponse:
    if isinstance(error, errors.SignInRefused):
        metrics.count_sign_in_failure()
    if isinstance(error, StorageUnavailable) and not isinstance(error, StorageRefused):
        _LOG.warning("%s", error)  # where it is and what it said is for the administrator
        return problem_of(StorageUnavailable(_STORAGE_IS_AWAY))
    return problem_of(error)


async def _answer_validation_error(_request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    return problem(422, "invalid-request", f"{field or 'the request'}: {first['msg']}", field=field)


async def _answer_http_error(_request: Request, error: HTTPException) -> JSONResponse:
    return problem(error.status_code, f"http-{error.status_code}", str(error.detail), headers=dict(error.headers or {}))


async def _answer_os_error(_request: Request, error: OSError) -> JSONResponse:
    if not is_full_disk(error):
        raise error
    return problem_of(StorageFull(DISK_FULL))


async def _answer_surprise(request: Request, error: Exception) -> JSONResponse:
    number = uuid4().hex[:8]
    _LOG.error("request %s %s failed (%s)", request.method, request.url.path, number, exc_info=error)
    return problem(
        500,
        "internal-error",
        f"something went wrong on our side; tell the administrator the number {number}",
        number=number,
    )
