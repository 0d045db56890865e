"""Predictions over REST."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel
from sqlmodel import Session

from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.rest.downloads import bytes_answer, file_answer, file_of, log_download, safe_name, zip_answer
from axons.app.rest.problems import documented
from axons.app.rest.waiting import predict_in_turn
from axons.app.services import predictions
from axons.app.services.accept_predictions import Accepted, PredictionAccept, accept_prediction
from axons.app.services.access import get_project
from axons.app.services.jobs import JobPublic
from axons.app.services.predictions import PredictCreate, PredictionPublic, Segment
from axons.app.tables import Image, Model, Prediction
from axons.app.texts import Identifier

router = APIRouter(tags=["predictions"])

_MAX_CSV_ROWS = 10_000
_MAX_ZIP_PREDICTIONS = 100


class Predicted(BaseModel):
    """Predictions, and the job that makes them if they are not done yet."""

    predictions: list[PredictionPublic]
    job: JobPublic | None


def _segment(request: Request) -> Segment:
    """How small images are predicted; another way can be put into the scope."""
    segment: Segment = request.scope.get("axons.segment", predictions.segment_by_serve)
    return segment


SegmentOf = Annotated[Segment, Depends(_segment)]


@router.post(
    "/models/{model_id}/predict",
    operation_id="predict",
    responses={202: {"model": Predicted, "description": "A job predicts them."}, **documented(429, 507)},
)
async def predict(
    request: Request,
    platform: PlatformOf,
    actor: ActorOf,
    segment: SegmentOf,
    response: Response,
    model_id: Id,
    form: PredictCreate,
) -> Predicted:
    """Predict images of a project, or an uploaded one: at once if it is small, else as a job."""

    def predicted() -> Predicted:
        rows, job = predictions.predict(platform, actor, segment, model_id, form)
        model = platform.database.read(lambda session: session.get_one(Model, model_id))
        public = [PredictionPublic.of(row, model) for row in rows]
        return Predicted(predictions=public, job=JobPublic.of(job) if job else None)

    found = await predict_in_turn(request, predicted)
    response.status_code = 200 if found.job is None else 202
    return found


@router.get("/projects/{project_id}/predictions", operation_id="list_predictions")
def list_predictions(
    platform: PlatformOf,
    actor: ActorOf,
    project_id: Id,
    model_id: Identifier | None = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[PredictionPublic]:
    """The predictions of a project, the newest first."""
    items, following = platform.database.read(
        lambda session: predictions.list_predictions(
            session, actor, project_id, model_id=model_id, cursor=cursor, limit=limit
        )
    )
    return Page(items=items, next=following)


@router.get(
    "/projects/{project_id}/predictions.csv",
    operation_id="download_predictions_csv",
    response_class=Response,
    responses=file_of("text/csv"),
)
def download_predictions_csv(platform: PlatformOf, actor: ActorOf, project_id: Id) -> Response:
    """What each class covers in each predicted image, as CSV."""

    def read(session: Session) -> tuple[str, str]:
        project = get_project(session, actor, project_id)
        items, _ = predictions.list_predictions(
            session, actor, project_id, model_id=None, cursor=None, limit=_MAX_CSV_ROWS
        )
        rows = [predictions.get_prediction(session, actor, item.id) for item in items if item.state == "done"]
        return project.name, predictions.predictions_csv(rows)

    name, text = platform.database.read(read)
    log_download(platform, actor, "project", project_id, f"{name}-predictions.csv")
    return bytes_answer(text.encode(), "text/csv; charset=utf-8", name=f"{name}-predictions.csv")


@router.get(
    "/projects/{project_id}/predictions.zip",
    operation_id="download_predictions_zip",
    response_class=FileResponse,
    responses=file_of("application/zip"),
)
def download_predictions_zip(
    platform: PlatformOf,
    actor: ActorOf,
    project_id: Id,
    prediction_id: Annotated[list[Identifier], Query(min_length=1, max_length=_MAX_ZIP_PREDICTIONS)],
) -> FileResponse:
    """Finished predictions of a project: masks, overlays, and one table of areas."""

    def read(session: Session) -> tuple[str, list[tuple[Prediction, Model, Image | None]]]:
        project = get_project(session, actor, project_id)
        pairs = predictions.get_predictions(session, actor, project_id, prediction_id)
        images = [session.get(Image, row.image_id) if row.image_id else None for row, _ in pairs]
        return project.name, [(row, model, image) for (row, model), image in zip(pairs, images, strict=True)]

    project_name, found = platform.database.read(read)
    files: dict[str, Path | bytes] = {}
    for number, (row, model, image) in enumerate(found, 1):
        path, _ = predictions.mask_file(platform, row)
        name = f"{number:03d}-{safe_name(Path(row.name).stem, '')}"
        files[f"{name}.mask{path.suffix}"] = path
        files[f"{name}.overlay.png"] = predictions.overlay_png(platform, row, model, image, opacity=0.45)
    files["areas.csv"] = predictions.predictions_csv([(row, model) for row, model, _ in found]).encode()
    log_download(platform, actor, "project", project_id, f"{project_name}-predictions.zip")
    return zip_answer(f"{project_name}-predictions", files)


@router.get("/predictions/{prediction_id}", operation_id="get_prediction")
def get_prediction(platform: PlatformOf, actor: ActorOf, prediction_id: Id) -> PredictionPublic:
    """One prediction."""
    return platform.database.read(
        lambda session: PredictionPublic.of(*predictions.get_prediction(session, actor, prediction_id))
    )


@router.get(
    "/predictions/{prediction_id}/mask",
    operation_id="download_mask",
    response_class=FileResponse,
    responses=file_of("image/png", "image/tiff"),
)
def download_mask(platform: PlatformOf, actor: ActorOf, prediction_id: Id) -> FileResponse:
    """The mask: class indices as a palette PNG, or a tiled TIFF where the image is large or a GeoTIFF."""
    row, _ = platform.database.read(lambda session: predictions.get_prediction(session, actor, prediction_id))
    path, media_type = predictions.mask_file(platform, row)
    name = f"{row.name}.mask{path.suffix}"
    log_download(platform, actor, "prediction", row.id, name)
    return file_answer(path, name, media_type)


@router.get(
    "/predictions/{prediction_id}/overlay",
    operation_id="get_overlay",
    response_class=Response,
    responses=file_of("image/png"),
)
def get_overlay(
    platform: PlatformOf,
    actor: ActorOf,
    prediction_id: Id,
    opacity: Annotated[float, Query(ge=0, le=1)] = 0.45,
) -> Response:
    """The classes laid over the image, PNG."""

    def read(session: Session) -> tuple[Prediction, Model, Image | None]:
        row, model = predictions.get_prediction(session, actor, prediction_id)
        return row, model, session.get(Image, row.image_id) if row.image_id else None

    row, model, image = platform.database.read(read)
    return bytes_answer(predictions.overlay_png(platform, row, model, image, opacity=opacity), "image/png")


@router.get(
    "/predictions/{prediction_id}/csv",
    operation_id="download_prediction_csv",
    response_class=Response,
    responses=file_of("text/csv"),
)
def download_prediction_csv(platform: PlatformOf, actor: ActorOf, prediction_id: Id) -> Response:
    """What each class covers, as CSV."""
    pair = platform.database.read(lambda session: predictions.get_prediction(session, actor, prediction_id))
    text = predictions.predictions_csv([pair])
    log_download(platform, actor, "prediction", pair[0].id, f"{pair[0].name}.csv")
    return bytes_answer(text.encode(), "text/csv; charset=utf-8", name=f"{pair[0].name}.csv")


@router.post("/predictions/{prediction_id}/accept", operation_id="accept_prediction")
def accept(platform: PlatformOf, actor: ActorOf, prediction_id: Id, form: PredictionAccept) -> Accepted:
    """Make the mask of an image of the project the labels of its tiles, where no person has labelled."""
    return accept_prediction(platform, actor, prediction_id, form)


@router.delete("/predictions/{prediction_id}", operation_id="delete_prediction", status_code=204)
def delete_prediction(platform: PlatformOf, actor: ActorOf, prediction_id: Id) -> None:
    """Into the trash."""
    platform.database.write(lambda session: predictions.delete_prediction(session, actor, platform, prediction_id))
