"""Schemas from which forms are made."""

from typing import Any

from fastapi import APIRouter

from axons.app.rest.context import ActorOf
from axons.train.config import TrainConfig

router = APIRouter(prefix="/schemas", tags=["schemas"])


@router.get("/train", operation_id="get_train_schema")
def get_train_schema(actor: ActorOf) -> dict[str, Any]:
    """The settings of a training as a JSON schema: the form, this API and the command are made from it."""
    return TrainConfig.model_json_schema()
