"""Exporting a model for other programs: its network as ONNX, or a BioImage.IO package."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from sqlmodel import Session

from axons.app.platform import Platform
from axons.app.services.model_export import ModelExportRequest
from axons.app.tables import Job, Model
from axons.data.storage import Storage, open_storage
from axons.model import files
from axons.model.files import ONNX, load_model

_SUFFIXES = {"onnx": ".onnx", "bioimageio": ".bioimageio.zip"}


def prepare(platform: Platform, session: Session, job: Job) -> dict[str, Any]:
    """Where the model lies, and where its file shall."""
    request = ModelExportRequest.model_validate(job.request)
    row = session.get_one(Model, request.model_id)
    suffix = _SUFFIXES[request.format]
    return {
        "storage": platform.storage.uri,
        "model": platform.uri(row.key),
        "request": request.model_dump(mode="json"),
        "name": row.name,
        "version": row.version,
        "file": f"{row.name}-v{row.version}{suffix}",
        "key": f"tmp/export-{job.id}-{job.attempt}/model{suffix}",
    }


def work(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Convert the network once for all exports, then write what was asked for."""
    # The libraries are an extra, and heavy.
    from axons.model.bioimageio_export import Publication, write_package
    from axons.model.onnx_export import describe_onnx

    asked = ModelExportRequest.model_validate(request["request"])
    with tempfile.TemporaryDirectory() as folder:
        model, network = load_model(request["model"], device=torch.device("cpu")), Path(folder, "weights.onnx")
        _fetch_onnx(open_storage(request["model"]), model, network)
        yield {"progress": 0.8}
        said = {"name": request["name"], "authors": ", ".join(asked.authors), "licence": asked.licence or ""}
        describe_onnx(network, {name: value for name, value in said.items() if value})
        target = network
        if asked.format == "bioimageio":
            assert asked.licence is not None  # the service has checked it
            target = Path(folder, "model.zip")
            publication = Publication(
                name=request["name"],
                version=request["version"],
                authors=asked.authors,
                licence=asked.licence,
                description=asked.description,
            )
            write_package(model, network, publication, target)
        file = {"key": request["key"], "name": request["file"], "bytes": target.stat().st_size}
        open_storage(request["storage"]).write(request["key"], target)
    yield {"file": file}


def commit(session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """Remember where the file is; `jobs/{id}/file` serves it."""
    for row in rows:
        job.result = {**job.result, "file": row["file"]}


def finish(session: Session, job: Job) -> str:
    """Which file is ready."""
    return f"{job.result['file']['name']} is ready"


def _fetch_onnx(storage: Storage, model: files.Model, path: Path) -> None:
    """Copy the model's ONNX file, which is made by the first export and then stays with the model."""
    from axons.model.onnx_export import write_onnx

    if not storage.exists(ONNX):
        write_onnx(model, path)
        storage.write(ONNX, path.read_bytes())
        return
    shutil.copyfile(storage.local_path(ONNX), path)
