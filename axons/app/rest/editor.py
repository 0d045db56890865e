"""What the annotation page asks beyond the tile itself."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from axons.app import pictures
from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.rest.pictures import PNG, IfNoneMatch, etag_of, picture
from axons.app.services import editor
from axons.app.services.editor import Editor
from axons.data.pictures import encode_mask

router = APIRouter(prefix="/tiles/{tile_id}", tags=["tiles"])


@router.get("/editor", operation_id="open_editor")
def open_editor(platform: PlatformOf, actor: ActorOf, tile_id: Id) -> Editor:
    """All that the annotation page needs to open a tile."""
    return platform.database.read(lambda session: editor.open_editor(session, actor, tile_id))


@router.get("/surroundings", operation_id="get_surroundings", response_class=Response, responses={**PNG})
def get_surroundings(
    platform: PlatformOf,
    actor: ActorOf,
    tile_id: Id,
    margin: Annotated[int, Query(ge=0, le=256, description="On each side, px.")] = 64,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The labels around the tile as palette PNG, the tile's own part unlabelled; for `Axons-Window` see its image."""
    around = platform.database.read(lambda session: editor.surroundings(session, actor, tile_id, margin))
    window = around.window
    return picture(
        lambda: encode_mask(around.plane(), pictures.colours_by_index(around.classes)),
        etag=etag_of(around),
        if_none_match=if_none_match,
        media_type="image/png",
        **{"Axons-Window": f"{window.row0},{window.col0},{window.height},{window.width}"},
    )
