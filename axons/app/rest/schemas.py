"""Schemas from which forms are made."""

from typing import Any

from fastapi import APIRouter

from axons.app.rest.context import ActorOf, PlatformOf
from axons.app.services.presets import train_schema

router = APIRouter(prefix="/schemas", tags=["schemas"])


@router.get("/train", operation_id="get_train_schema")
def get_train_schema(platform: PlatformOf, actor: ActorOf) -> dict[str, Any]:
    """The settings of a training as a JSON schema: the form, this API and the command are made from it."""
    return train_schema(platform.settings)
