"""Which module does which kind of job."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Protocol

from sqlmodel import Session

from axons.app.platform import Platform
from axons.app.tables import Job

# Loaded when they are needed: the engine behind them is heavy.
_MODULES = {
    "import": "axons.app.jobs.import_images",
    "import annotations": "axons.app.jobs.import_annotations",
    "import project": "axons.app.jobs.import_project",
    "tile": "axons.app.jobs.tile",
    "freeze": "axons.app.jobs.freeze",
    "evaluate": "axons.app.jobs.evaluate",
    "predict": "axons.app.jobs.predict",
    "predict ranking": "axons.app.jobs.rank",
    "export": "axons.app.jobs.export",
    "export set": "axons.app.jobs.export_set",
    "export model": "axons.app.jobs.export_model",
    "export project": "axons.app.jobs.export_project",
    "cleanup": "axons.app.jobs.cleanup",
}


class Kind(Protocol):
    """What a kind of job is made of; see the package."""

    def prepare(self, platform: Platform, session: Session, job: Job) -> dict[str, Any]: ...
    def work(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]: ...
    def commit(self, session: Session, job: Job, rows: Sequence[dict[str, Any]]) -> None: ...
    def finish(self, session: Session, job: Job) -> str: ...


def kind_name(job: Job) -> str:
    """The name under which the module of a job is found."""
    if job.kind == "import" and job.request.get("purpose") in ("annotations", "project"):
        return f"import {job.request['purpose']}"
    if job.kind == "predict" and job.request.get("purpose") == "ranking":
        return "predict ranking"
    if job.kind == "export" and job.request.get("format") == "project":
        return "export project"
    if job.kind == "export" and "model_id" in job.request:
        return "export model"
    if job.kind == "export" and "training_set_id" in job.request:
        return "export set"
    return job.kind


def kind_of(name: str) -> Kind:
    """The module of a kind; see `kind_name`."""
    kind: Any = import_module(_MODULES[name])
    return kind


def load_kinds() -> None:
    """Load every module now, in the background: later it could be inside a transaction, which others wait for."""
    for module in _MODULES.values():
        import_module(module)


def fail(name: str, session: Session, job: Job) -> None:
    """Let a kind say what its failed or cancelled job leaves; most leave nothing."""
    give_up = getattr(kind_of(name), "fail", None)
    if give_up is not None:
        give_up(session, job)
