"""Exporting a training set: its manifest and shards as one ZIP, on which `axons.train` trains anywhere."""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlmodel import Session

from axons.app.platform import Platform
from axons.app.tables import Job, TrainingSet
from axons.data.storage import open_storage
from axons.data.training_set import MANIFEST, load_training_set


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """Where the set lies, and where its ZIP shall."""
    row = session.get_one(TrainingSet, job.request["training_set_id"])
    return {
        "storage": platform.storage.uri,
        "training_set": platform.uri(row.key),
        "sha256": row.sha256,
        "name": f"{row.name}.zip",
        "key": f"tmp/export-{job.id}-{job.attempt}/training-set.zip",
    }


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Pack the shards as they are: they would not get smaller."""
    training_set = load_training_set(request["training_set"], sha256=request["sha256"])
    source = open_storage(request["training_set"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "training-set.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(MANIFEST, source.read(MANIFEST), compress_type=zipfile.ZIP_DEFLATED)
            for number, shard in enumerate(training_set.shards, start=1):
                archive.write(source.local_path(shard.key, sha256=shard.sha256), shard.key)
                yield {"progress": 0.9 * number / len(training_set.shards)}
        open_storage(request["storage"]).write(request["key"], path)
        file = {"key": request["key"], "name": request["name"], "bytes": path.stat().st_size}
    yield {"file": file, "images": len(training_set.images)}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """Remember where the file is; `jobs/{id}/file` serves it."""
    for row in rows:
        job.result = {**job.result, "file": row["file"], "num_images": row["images"]}


def finish(session: Session, job: Job) -> str:
    """What is in it."""
    return f"training set of {job.result['num_images']} images exported"
