"""Cleaning up: expired temporary objects and uploads, the end of the trash, and objects and rows without each other."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from sqlmodel import Session, col, select

from axons.app.jobs import queue
from axons.app.platform import Platform
from axons.app.services.purge import purge
from axons.app.tables import Example, HandIn, Image, Job, Model, Prediction, Run, TrainingSet, Upload, User, now
from axons.data.storage import AREAS, Storage, expire_temporary, open_storage

_KEYS: list[Any] = [
    Image.working_key,
    Image.sheet_key,
    Image.original_key,
    TrainingSet.key,
    Run.key,
    Model.key,
    Prediction.key,
    Upload.key,
    HandIn.report_key,
    Example.key,
]
_SWEPT = tuple(area for area in AREAS if area != "tmp")
_MAX_TOLD = 50


def ask_for_cleanup(session: Session, *, every: timedelta) -> None:
    """Put a cleanup into the queue if the last one is so long ago; it is the oldest administrator's job."""
    recent = select(Job.id).where(col(Job.kind) == "cleanup", col(Job.created_at) > now() - every)
    if session.exec(recent).first() is not None:
        return
    administrators = select(User).where(col(User.role) == "administrator").order_by(col(User.created_at))
    user = session.exec(administrators).first()
    if user is not None:
        session.add(Job(kind="cleanup", user_id=user.id))


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """The keys that rows point to go into a file: there may be many."""
    known = sorted({key for column in _KEYS for key in session.exec(select(column)).all() if key})
    platform.storage.replace(f"tmp/{job.id}/known.json", json.dumps(known).encode())
    return {
        "storage": platform.storage.uri,
        "known": f"tmp/{job.id}/known.json",
        "older_than_s": platform.settings.temporary_hours * 3600,
    }


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Delete what has expired and what no row points to; tell which rows point to nothing.

    An object is written before its row: only old ones are judged.
    """
    storage = open_storage(request["storage"])
    known = set(json.loads(storage.read(request["known"])))
    yield {"purge": True}
    yield {"expired": expire_temporary(storage, older_than_s=request["older_than_s"], now=time.time())}
    yield {"progress": 0.3}
    swept, seen = _sweep(storage, known, older_than_s=request["older_than_s"])
    yield {"swept": swept}
    yield {"missing": sorted(key for key in known - seen if key.startswith(_SWEPT))[:_MAX_TOLD]}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """Purge the trash; remember the figures."""
    result = dict(job.result)
    for row in rows:
        if "purge" in row:
            result["purged"] = purge(session)
        else:
            result.update(row)
    job.result = result
    if missing := result.get("missing"):
        job.log += queue.log_line(f"rows point to objects that are not in storage: {', '.join(missing)}")


def finish(session: Session, job: Job) -> str:
    """What went."""
    counts = {name: job.result.get(name, 0) for name in ("expired", "purged", "swept")}
    missing = len(job.result.get("missing", []))
    return (
        f"{counts['expired']} temporary objects expired, {counts['purged']} things left the trash for ever, "
        f"{counts['swept']} objects without a row deleted, {missing} rows without an object"
    )


def _sweep(storage: Storage, known: set[str], *, older_than_s: float) -> tuple[int, set[str]]:
    """Delete old objects that no row points to; returns their number and the keys whose objects were seen."""
    seen: set[str] = set()
    swept = 0
    for area in _SWEPT:
        for stored in storage.list_objects(area):
            owners = known.intersection(_ancestors(stored.key))
            seen |= owners
            if not owners and time.time() - stored.modified > older_than_s:
                storage.delete_prefix(stored.key)
                swept += 1
    return swept, seen


def _ancestors(key: str) -> Iterable[str]:
    """The key and every folder above it."""
    parts = key.split("/")
    return ("/".join(parts[:i]) for i in range(1, len(parts) + 1))
