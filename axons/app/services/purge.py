"""What has lain in the trash for its time goes for ever; its objects follow when the sweeper finds no row for them."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import Session, SQLModel, col, delete, func, select, update

from axons.app.tables import (
    Assignment,
    EpochMetric,
    Evaluation,
    Example,
    HandIn,
    HeldOutImage,
    Image,
    Invitation,
    Job,
    LabelClass,
    Model,
    Prediction,
    Project,
    ProjectMember,
    Revision,
    Run,
    Tile,
    TileScore,
    Tiling,
    TrainingSet,
    Trash,
    Upload,
)


def purge(session: Session) -> int:
    """Delete the rows of whatever may go; returns how many things.

    What something else still needs stays: a project or run that was handed in, a training set with runs.
    """
    due = session.exec(select(Trash).where(col(Trash.purge_after) <= func.now())).all()
    purged = 0
    for trash in sorted(due, key=lambda row: _ORDER.index(row.kind)):
        if _PURGES[trash.kind](session, trash.object_id):
            session.delete(trash)
            session.flush()
            purged += 1
    return purged


def _purge_prediction(session: Session, object_id: str) -> bool:
    _delete(session, Prediction, col(Prediction.id) == object_id)
    return True


def _purge_image(session: Session, object_id: str) -> bool:
    _delete(session, Prediction, col(Prediction.image_id) == object_id)
    tiles = select(Tile.id).where(col(Tile.image_id) == object_id)
    _delete(session, TileScore, col(TileScore.tile_id).in_(tiles))
    _delete(session, Revision, col(Revision.tile_id).in_(tiles))
    _delete(session, Tile, col(Tile.image_id) == object_id)
    _delete(session, Image, col(Image.id) == object_id)
    return True


def _purge_model(session: Session, object_id: str) -> bool:
    _delete(session, Prediction, col(Prediction.model_id) == object_id)
    _delete(session, Evaluation, col(Evaluation.model_id) == object_id)
    _delete(session, TileScore, col(TileScore.model_id) == object_id)
    _delete(session, Model, col(Model.id) == object_id)
    return True


def _purge_run(session: Session, object_id: str) -> bool:
    if _exists(session, HandIn, col(HandIn.run_id) == object_id):
        return False
    session.exec(update(Model).where(col(Model.run_id) == object_id).values(run_id=None))
    _delete(session, EpochMetric, col(EpochMetric.run_id) == object_id)
    _delete(session, Run, col(Run.id) == object_id)
    return True


def _purge_training_set(session: Session, object_id: str) -> bool:
    is_needed = (
        _exists(session, Run, col(Run.training_set_id) == object_id),
        _exists(session, Evaluation, col(Evaluation.training_set_id) == object_id),
        _exists(session, HandIn, col(HandIn.training_set_id) == object_id),
    )
    if any(is_needed):
        return False
    _delete(session, HeldOutImage, col(HeldOutImage.training_set_id) == object_id)
    _delete(session, TrainingSet, col(TrainingSet.id) == object_id)
    return True


def _purge_project(session: Session, object_id: str) -> bool:
    if _exists(session, HandIn, col(HandIn.project_id) == object_id):
        return False

    def ids(table: Any) -> Any:
        return select(table.id).where(table.project_id == object_id)

    _delete(session, Prediction, col(Prediction.project_id) == object_id)
    # Somebody else's evaluation or prediction may be of a model that was shared from here.
    _delete(session, Prediction, col(Prediction.model_id).in_(ids(Model)))
    _delete(session, Prediction, col(Prediction.image_id).in_(ids(Image)))
    # So may be the ranking of tiles elsewhere.
    _delete(session, TileScore, (col(TileScore.project_id) == object_id) | col(TileScore.model_id).in_(ids(Model)))
    of_set = col(Evaluation.training_set_id).in_(ids(TrainingSet))
    _delete(session, Evaluation, col(Evaluation.model_id).in_(ids(Model)) | of_set)
    _delete(session, Model, col(Model.project_id) == object_id)
    _delete(session, EpochMetric, col(EpochMetric.run_id).in_(ids(Run)))
    _delete(session, Run, col(Run.project_id) == object_id)
    _delete(session, Revision, col(Revision.tile_id).in_(ids(Tile)))
    _delete(session, HeldOutImage, col(HeldOutImage.training_set_id).in_(ids(TrainingSet)))
    for table in (TrainingSet, Tile, Tiling, Image, LabelClass, Example, ProjectMember, Invitation, Upload):
        columns: Any = table
        _delete(session, table, columns.project_id == object_id)
    session.exec(update(Job).where(col(Job.project_id) == object_id).values(project_id=None))
    is_template = col(Assignment.template_project_id) == object_id
    session.exec(update(Assignment).where(is_template).values(template_project_id=None))
    _delete(session, Trash, (col(Trash.project_id) == object_id) & (col(Trash.object_id) != object_id))
    _delete(session, Project, col(Project.id) == object_id)
    return True


_PURGES: dict[str, Callable[[Session, str], bool]] = {
    "prediction": _purge_prediction,
    "model": _purge_model,
    "run": _purge_run,
    "training_set": _purge_training_set,
    "image": _purge_image,
    "project": _purge_project,
}
_ORDER = list(_PURGES)


def _delete(session: Session, table: type[SQLModel], condition: ColumnElement[bool]) -> None:
    session.exec(delete(table).where(condition))


def _exists(session: Session, table: Any, condition: ColumnElement[bool]) -> bool:
    return session.exec(select(table).where(condition).limit(1)).first() is not None
