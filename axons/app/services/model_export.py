"""Models for other programs: what is asked for, checked before anything is made."""

from importlib.util import find_spec

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from axons.app.policy import Actor
from axons.app.services.access import visible_projects
from axons.app.services.jobs import add_job
from axons.app.services.models import get_model
from axons.app.tables import Job, Project
from axons.app.texts import Name, ShortLine
from axons.data.formats import Licence, ModelFormat
from axons.errors import InvalidRequest, NotInstalled

_LIBRARIES: dict[ModelFormat, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime"),
    "bioimageio": ("onnx", "onnxruntime", "bioimageio"),
}


class ModelExportCreate(BaseModel):
    """What to make of a model: its network as ONNX, or a BioImage.IO package, which needs authors and a licence."""

    model_config = ConfigDict(extra="forbid")

    format: ModelFormat = "onnx"
    licence: Licence | None = Field(None, description="Under which others may use the model, by its SPDX name.")
    authors: list[Name] = Field([], max_length=20)
    description: ShortLine = Field("", description="What the model is for; by default its classes are told.")


class ModelExportRequest(ModelExportCreate):
    """The request of an `export` job of a model, as `Job.request` holds it."""

    model_id: str


def start_model_export(session: Session, actor: Actor, model_id: str, form: ModelExportCreate) -> Job:
    """Put the export of a model into the queue; who sees the model may take it along.

    Raises:
        NotFound: there is none for the actor.
        InvalidRequest: a BioImage.IO package without authors or licence.
        NotInstalled: the libraries for this format are missing.
    """
    model, project = get_model(session, actor, model_id)
    check_publication(form)
    if missing := [name for name in _LIBRARIES[form.format] if find_spec(name) is None]:
        raise NotInstalled(
            f"this server cannot write {form.format}: {', '.join(missing)} is not installed; "
            "ask the administrator to install axons[export]"
        )
    request = ModelExportRequest(**form.model_dump(), model_id=model.id)
    # News of a job name its project, which is nobody's business who only shares the model.
    seen = select(Project).where(visible_projects(actor), col(Project.id) == project.id)
    return add_job(
        session,
        actor,
        "export",
        session.exec(seen).first(),
        request=request.model_dump(mode="json"),
        target_id=model.id,
    )


def check_publication(form: ModelExportCreate) -> None:
    """Refuse a package in which a field would stay empty.

    Raises:
        InvalidRequest: it names the field.
    """
    if form.format != "bioimageio":
        return
    if not form.authors:
        raise InvalidRequest("authors", "a BioImage.IO package names who made the model; give one name or more")
    if form.licence is None:
        raise InvalidRequest("licence", "a BioImage.IO package says how others may use it; choose a licence")
