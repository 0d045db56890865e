"""Evaluations over REST."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field
from sqlmodel import Session

from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.rest.downloads import bytes_answer, file_of
from axons.app.services import evaluations
from axons.app.services.evaluations import EvaluationCreate, EvaluationPublic
from axons.app.services.worst_tiles import WorstTilePublic
from axons.app.texts import Identifier

router = APIRouter(prefix="/evaluations", tags=["evaluations"])

PictureName = Annotated[str, Field(pattern=r"^evaluation/[A-Za-z0-9_-]{1,80}\.png$")]


@router.post("", operation_id="create_evaluation", status_code=202)
def create_evaluation(platform: PlatformOf, actor: ActorOf, form: EvaluationCreate) -> EvaluationPublic:
    """Score a model on the images of a split."""

    def create(session: Session) -> EvaluationPublic:
        return evaluations.public_evaluation(*evaluations.create_evaluation(session, actor, form))

    return platform.database.write(create)


@router.get("", operation_id="list_evaluations")
def list_evaluations(
    platform: PlatformOf,
    actor: ActorOf,
    model_id: Identifier,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[EvaluationPublic]:
    """The evaluations of a model, the newest first."""
    items, following = platform.database.read(
        lambda session: evaluations.list_evaluations(session, actor, model_id=model_id, cursor=cursor, limit=limit)
    )
    return Page(items=items, next=following)


@router.get("/{evaluation_id}", operation_id="get_evaluation")
def get_evaluation(platform: PlatformOf, actor: ActorOf, evaluation_id: Id) -> EvaluationPublic:
    """One evaluation with its scores."""
    return platform.database.read(lambda session: evaluations.get_evaluation(session, actor, evaluation_id))


@router.get("/{evaluation_id}/worst-tiles", operation_id="list_worst_tiles_of_evaluation")
def list_worst_tiles_of_evaluation(platform: PlatformOf, actor: ActorOf, evaluation_id: Id) -> list[WorstTilePublic]:
    """Where the model errs most, as tiles to correct; never of the test."""
    return platform.database.read(lambda session: evaluations.worst_tiles(session, actor, evaluation_id))


@router.get(
    "/{evaluation_id}/picture",
    operation_id="get_evaluation_picture",
    response_class=Response,
    responses=file_of("image/png"),
)
def get_evaluation_picture(
    platform: PlatformOf, actor: ActorOf, evaluation_id: Id, name: Annotated[PictureName, Query()]
) -> Response:
    """A picture of a worst tile, PNG: truth, prediction or difference, as `scores` names them."""
    key = platform.database.read(lambda session: evaluations.pictures_key(session, actor, evaluation_id))
    return bytes_answer(platform.storage.read(f"{key}/{name}"), "image/png")
