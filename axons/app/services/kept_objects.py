"""What in storage is needed: the keys that rows point to, and the folders that unfinished work uses."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import true
from sqlmodel import Session, col, select

from axons.app.tables import (
    FINAL_STATES,
    Example,
    HandIn,
    Image,
    Job,
    Model,
    Prediction,
    Project,
    Run,
    TrainingSet,
    Upload,
)

# Kind of thing, its key, its id, and whether its objects must be there by now: what is still being made owes none.
_COLUMNS: Sequence[tuple[str, Any, Any, Any]] = (
    ("image", Image.working_key, Image.id, true()),
    ("thumbnails of image", Image.sheet_key, Image.id, true()),
    ("original of image", Image.original_key, Image.id, true()),
    ("training set", TrainingSet.key, TrainingSet.id, col(TrainingSet.state) == "ready"),
    ("run", Run.key, Run.id, Run.status),
    ("model", Model.key, Model.id, true()),
    ("prediction", Prediction.key, Prediction.id, col(Prediction.state) == "done"),
    ("report of hand-in", HandIn.report_key, HandIn.id, true()),
    ("example", Example.key, Example.id, true()),
)


def kept_keys(session: Session) -> dict[str, str]:
    """Every key that a row points to, trash included, with what it is of; "" if nothing need lie there yet.

    A key may be that of a folder.
    """
    kept: dict[str, str] = {}
    for kind, key_column, id_column, is_owed in _COLUMNS:
        for key, object_id, owed in session.exec(select(key_column, id_column, is_owed)).all():
            if key:
                kept[key] = f"{kind} {object_id}" if owed else kept.get(key, "")
    return kept


def busy_folders(session: Session) -> set[str]:
    """Names of the folders below the areas that waiting and running jobs, and uploads, write and read."""
    busy = {key.split("/")[1] for key in session.exec(select(Upload.key)).all()}
    for job in session.exec(select(Job).where(col(Job.state).not_in(FINAL_STATES))).all():
        named = (job.id, job.project_id, job.target_id, job.request.get("project_id"))
        busy |= {folder for folder in named if isinstance(folder, str)} | {f"export-{job.id}-{job.attempt}"}
    return busy


def superseded_runs(session: Session, before: datetime) -> dict[str, str]:
    """Keys and ids of the runs that ended, or whose projects were archived, before a moment: nobody resumes them."""
    ended = col(Job.state).in_(FINAL_STATES) & (col(Job.finished_at) < before)
    is_archived = col(Job.state).in_(FINAL_STATES) & (col(Project.archived_at) < before)
    statement = (
        select(Run.key, Run.id).join(Job, col(Job.id) == Run.job_id).join(Project, col(Project.id) == Run.project_id)
    )
    return dict(session.exec(statement.where(ended | is_archived)).all())


def archived_models(session: Session, before: datetime) -> dict[str, str]:
    """Keys and ids of the models of projects that were archived before a moment."""
    statement = select(Model.key, Model.id).join(Project, col(Project.id) == Model.project_id)
    return dict(session.exec(statement.where(col(Project.archived_at) < before)).all())
