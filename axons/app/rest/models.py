"""Models over REST."""

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict
from sqlmodel import Session

from axons.app.platform import Platform
from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.rest.downloads import file_of, log_download, zip_answer
from axons.app.rest.problems import documented
from axons.app.services import models
from axons.app.services.jobs import JobPublic, public_jobs
from axons.app.services.model_export import ModelExportCreate, start_model_export
from axons.app.services.models import ModelImport, ModelPublic, Visibility
from axons.app.tables import Model
from axons.app.texts import Identifier, Name

router = APIRouter(tags=["models"])


class ModelShare(BaseModel):
    """Who may use a model besides its project: nobody, the classroom of the project, everyone."""

    model_config = ConfigDict(extra="forbid")

    visibility: Visibility


@router.get("/models", operation_id="list_models")
def list_models(
    platform: PlatformOf,
    actor: ActorOf,
    project_id: Identifier | None = None,
    name: Name | None = None,
    promoted: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[ModelPublic]:
    """Versions of models, the newest first: your projects' own and those that were shared."""
    items, following = platform.database.read(
        lambda session: models.list_models(
            session,
            actor,
            project_id=project_id,
            name=name,
            is_promoted=promoted,
            cursor=cursor,
            limit=limit,
        )
    )
    return Page(items=items, next=following)


@router.post("/models:import", operation_id="import_model", status_code=201)
def import_model(platform: PlatformOf, actor: ActorOf, form: ModelImport) -> ModelPublic:
    """A model of safetensors weights that were uploaded for it."""
    return _public(platform, models.import_model(platform, actor, form))


@router.get("/models/{model_id}", operation_id="get_model")
def get_model(platform: PlatformOf, actor: ActorOf, model_id: Id) -> ModelPublic:
    """One version with its card."""
    return platform.database.read(lambda session: ModelPublic.of(*models.get_model(session, actor, model_id)))


@router.post("/models/{model_id}/promote", operation_id="promote_model")
def promote_model(platform: PlatformOf, actor: ActorOf, model_id: Id) -> ModelPublic:
    """Serve this version under its name."""
    return _public(platform, platform.database.write(lambda session: models.promote(session, actor, model_id)))


@router.post("/models/{model_id}/rollback", operation_id="roll_back_model")
def roll_back_model(platform: PlatformOf, actor: ActorOf, model_id: Id) -> ModelPublic:
    """Serve the last usable version before this one; the answer is that version."""
    return _public(platform, platform.database.write(lambda session: models.roll_back(session, actor, model_id)))


@router.post("/models/{model_id}/share", operation_id="share_model")
def share_model(platform: PlatformOf, actor: ActorOf, model_id: Id, form: ModelShare) -> ModelPublic:
    """Let others use a model, or no longer."""
    return _public(
        platform, platform.database.write(lambda session: models.share(session, actor, model_id, form.visibility))
    )


@router.get(
    "/models/{model_id}/download",
    operation_id="download_model",
    response_class=FileResponse,
    responses=file_of("application/zip"),
)
def download_model(platform: PlatformOf, actor: ActorOf, model_id: Id) -> FileResponse:
    """The model's folder as a ZIP, for `axons predict --local` and for other tools."""
    model, _ = platform.database.read(lambda session: models.get_model(session, actor, model_id))
    storage = platform.storage.at(model.key)
    files = {name: storage.local_path(name) for name in models.model_files() if storage.exists(name)}
    name = f"{model.name}-v{model.version}"
    log_download(platform, actor, "model", model.id, name)
    return zip_answer(name, files)


@router.post("/models/{model_id}/export", operation_id="export_model", status_code=202, responses=documented(501))
def export_model(platform: PlatformOf, actor: ActorOf, model_id: Id, form: ModelExportCreate) -> JobPublic:
    """Make a file for other programs as a job; `GET /jobs/{job_id}/file` has it for a day."""
    return platform.database.write(
        lambda session: public_jobs(session, [start_model_export(session, actor, model_id, form)])[0]
    )


@router.delete("/models/{model_id}", operation_id="delete_model", status_code=204)
def delete_model(platform: PlatformOf, actor: ActorOf, model_id: Id) -> None:
    """Into the trash."""
    platform.database.write(lambda session: models.delete_model(session, actor, platform, model_id))


def _public(platform: Platform, model: Model) -> ModelPublic:
    def read(session: Session) -> ModelPublic:
        return models.public_models(session, [model])[0]

    return platform.database.read(read)
