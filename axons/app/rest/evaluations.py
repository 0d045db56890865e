"""Evaluations over REST."""

from fastapi import APIRouter
from sqlmodel import Session

from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.services import evaluations
from axons.app.services.evaluations import EvaluationCreate, EvaluationPublic
from axons.app.texts import Identifier

router = APIRouter(prefix="/evaluations", tags=["evaluations"])


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
