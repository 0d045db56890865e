"""Cleaning up: what has expired, the end of the trash, what is half-written, objects and rows without each other."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlmodel import Session, col, select

from axons.app.jobs import queue
from axons.app.platform import Platform
from axons.app.services import audit
from axons.app.services.kept_objects import archived_models, busy_folders, kept_keys, superseded_runs
from axons.app.services.purge import purge
from axons.app.tables import Job, Run, User, now
from axons.data.rows import Row
from axons.data.storage import AREAS, Storage, StoredObject, expire_temporary, open_storage
from axons.errors import StorageUnavailable
from axons.model.files import ONNX

_LOG = logging.getLogger("axons.cleanup")

_SWEPT = tuple(area for area in AREAS if area != "tmp")
_CHECKPOINT = re.compile(r"(models/[^/]+)/attempts/\d+/ray/")
_MAX_TOLD = 50
_MANY = 100  # orphans; if they are most of the storage, too, the database is more likely the wrong one


class _Kept(Row):
    """What the sweep needs to know of the database, in a file: there may be many keys.

    Args:
        keys: that rows point to, see `kept_objects.kept_keys`.
        busy: see `kept_objects.busy_folders`.
        superseded, archived: see `kept_objects.superseded_runs` and `archived_models`.
    """

    keys: dict[str, str]
    busy: set[str]
    superseded: dict[str, str]
    archived: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a walk through the storage has found.

    Args:
        orphans: keys of old objects that no row points to.
        spare: what can be made again, or is needed by nobody any more, by the thing that it is of.
        missing: what rows point to and is not there.
        num_bytes: of each area.
    """

    num_objects: int
    orphans: list[str]
    spare: dict[tuple[str, str], list[StoredObject]]
    missing: list[str]
    num_bytes: dict[str, int]


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
    """What is needed goes into a file."""
    before = now() - timedelta(days=platform.settings.archive_days)
    kept = _Kept(
        keys=kept_keys(session),
        busy=busy_folders(session),
        superseded=superseded_runs(session, before),
        archived=archived_models(session, before),
    )
    platform.storage.replace(f"tmp/{job.id}/kept.json", kept.packed())
    return {
        "storage": platform.storage.uri,
        "kept": f"tmp/{job.id}/kept.json",
        "now": now().timestamp(),
        "older_than_s": platform.settings.temporary_hours * 3600,
        "spare_before": before.timestamp(),
        "deletes_all_orphans": bool(job.request.get("deletes_all_orphans")),
    }


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Delete what has expired and what no row points to; tell which rows point to nothing.

    An object is written before its row: only old ones are judged.
    """
    storage = open_storage(request["storage"])
    ages: Any = {"older_than_s": request["older_than_s"], "now": request["now"]}
    kept = _Kept.model_validate_json(storage.read(request["kept"]))
    yield {"purge": True}
    yield {"expired": expire_temporary(storage, **ages, busy=kept.busy)}
    yield {"progress": 0.3}
    found = _walk(storage, kept, before=request["now"] - request["older_than_s"], spare_before=request["spare_before"])
    yield {"missing": found.missing[:_MAX_TOLD], "num_missing": len(found.missing), "num_bytes": found.num_bytes}
    is_odd = len(found.orphans) > max(_MANY, found.num_objects / 2)
    if is_odd and not request["deletes_all_orphans"]:
        yield {"swept": 0, "held_back": len(found.orphans)}
    else:
        for key in found.orphans:
            storage.delete_prefix(key)
        yield {"swept": len(found.orphans), "held_back": 0}
    for (kind, object_id), objects in found.spare.items():
        for stored in objects:
            storage.delete_prefix(stored.key)
        yield {"trimmed": kind, "id": object_id, "bytes": sum(stored.size for stored in objects)}
    try:
        yield {"unfinished": storage.delete_unfinished(**ages)}
    except StorageUnavailable as error:  # not every key may list them, and not every server can
        yield {"unfinished": 0, "problem": f"half-written objects stay: {error}"}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """Purge the trash; remember the figures, and tell what an administrator should look at."""
    result = dict(job.result)
    for row in rows:
        if "purge" in row:
            result["purged"] = purge(session)
        elif "trimmed" in row:
            _tell_trimmed(session, row)
            result["trimmed"] = result.get("trimmed", 0) + 1
            result["trimmed_bytes"] = result.get("trimmed_bytes", 0) + row["bytes"]
        else:
            result.update(row)
        for line in _worries(row):
            job.log += queue.log_line(line)
            _LOG.warning("%s", line)
    job.result = result


def finish(session: Session, job: Job) -> str:
    """What went."""
    counts = {name: job.result.get(name, 0) for name in ("expired", "purged", "swept", "unfinished", "num_missing")}
    told = (
        f"{counts['expired']} temporary objects expired, {counts['purged']} things left the trash for ever, "
        f"{counts['swept']} objects without a row and {counts['unfinished']} half-written ones deleted, "
        f"{counts['num_missing']} rows without an object"
    )
    if num_trimmed := job.result.get("trimmed", 0):
        megabytes = job.result["trimmed_bytes"] / 1e6
        told += f", {megabytes:.1f} MB dropped of {num_trimmed} old runs and models of archived projects"
    held_back = job.result.get("held_back", 0)
    return f"{told}; {_held_back(held_back)}" if held_back else told


def _tell_trimmed(session: Session, row: dict[str, Any]) -> None:
    audit.record(session, None, f"{row['trimmed']}.trim", row["trimmed"], row["id"], bytes=row["bytes"])
    run = session.get(Run, row["id"])
    job = session.get(Job, run.job_id) if run else None
    if job is not None:
        job.log += queue.log_line("its checkpoints were deleted, for it ended long ago; resumed, it starts anew")


def _walk(storage: Storage, kept: _Kept, *, before: float, spare_before: float) -> _Found:
    seen: set[str] = set()
    spare: dict[tuple[str, str], list[StoredObject]] = {}
    orphans: list[str] = []
    num_bytes: dict[str, int] = {}
    num_objects = 0
    for area in _SWEPT:
        objects = storage.list_objects(area)
        num_objects += len(objects)
        num_bytes[area] = sum(stored.size for stored in objects)
        for stored in objects:
            owners = kept.keys.keys() & set(_ancestors(stored.key))
            seen |= owners
            if not owners and _is_over(stored, kept, before):
                orphans.append(stored.key)
            elif (of_what := _spare(stored, kept)) and stored.modified < spare_before:
                spare.setdefault(of_what, []).append(stored)
    owed = {key: of_what for key, of_what in kept.keys.items() if of_what and key.startswith(_SWEPT)}
    missing = sorted(f"{of_what}: {key}" for key, of_what in owed.items() if key not in seen)
    return _Found(num_objects=num_objects, orphans=orphans, spare=spare, missing=missing, num_bytes=num_bytes)


def _spare(stored: StoredObject, kept: _Kept) -> tuple[str, str] | None:
    """Checkpoints of a superseded run, and the ONNX file of an archived model, which the next export makes again."""
    if found := _CHECKPOINT.match(stored.key):
        run_id = kept.superseded.get(found[1])
        return ("run", run_id) if run_id else None
    model_id = kept.archived.get(stored.key.removesuffix(f"/{ONNX}"))
    return ("model", model_id) if model_id else None


def _is_over(stored: StoredObject, kept: _Kept, before: float) -> bool:
    """Whether nobody can be at work on an object: a job that starts anew finds its own objects and keeps them."""
    return stored.modified < before and stored.key.split("/")[1] not in kept.busy


def _worries(row: dict[str, Any]) -> Iterator[str]:
    if row.get("missing"):
        yield f"{row['num_missing']} rows point to objects that are not in storage: {', '.join(row['missing'])}"
    if row.get("held_back"):
        yield _held_back(row["held_back"])
    if row.get("problem"):
        yield row["problem"]


def _held_back(num_orphans: int) -> str:
    return (
        f"{num_orphans} objects, most of the storage, have no row and were not deleted: is this the right database? "
        "If it is, `axons admin clean --all-orphans` deletes them"
    )


def _ancestors(key: str) -> Iterable[str]:
    """The key and every folder above it."""
    parts = key.split("/")
    return ("/".join(parts[:i]) for i in range(1, len(parts) + 1))
