"""What the annotation page asks beyond the tile itself."""

import gzip
import json
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from axons.app import pictures
from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.rest.pictures import PNG, IfNoneMatch, etag_of, picture
from axons.app.rest.predictions import SegmentOf
from axons.app.rest.problems import documented
from axons.app.rest.tiles import LABELS_BODY, LabelsOf
from axons.app.services import assist, editor, pre_labels
from axons.app.services.assist import Forest
from axons.app.services.editor import Editor
from axons.app.services.pre_labels import PreLabelCreate, Suggestion
from axons.app.services.tiles import TilePublic
from axons.data.layers import UNLABELLED
from axons.data.pictures import encode_mask

router = APIRouter(prefix="/tiles/{tile_id}", tags=["tiles"])

_PLANES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Row by row H x W bytes of values as in labels, then H x W bytes of confidence (255: certain). "
        "`Axons-Height`, `Axons-Width`; `Axons-Source` for layers of them; `Axons-Notices`, JSON in percent-encoding.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    **documented(429),
}


def _forest(request: Request) -> Forest:
    """Where forests grow; another way can be put into the scope."""
    forest: Forest = request.scope.get("axons.forest", assist.forest_by_ray)
    return forest


ForestOf = Annotated[Forest, Depends(_forest)]


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
        lambda: encode_mask(around.plane(), pictures.colours_by_index(around.classes), clear=UNLABELLED),
        etag=etag_of(around),
        if_none_match=if_none_match,
        media_type="image/png",
        **{"Axons-Window": f"{window.row0},{window.col0},{window.height},{window.width}"},
    )


@router.get("/numbered/{number}", operation_id="get_tile_numbered")
def get_tile_numbered(
    platform: PlatformOf, actor: ActorOf, tile_id: Id, number: Annotated[int, Path(ge=1, le=2**31 - 1)]
) -> TilePublic:
    """The tile with this number in the same tiling; numbers as in the editor."""
    return platform.database.read(lambda session: TilePublic.of(editor.tile_numbered(session, actor, tile_id, number)))


@router.post("/pre-label", operation_id="pre_label_tile", response_class=Response, responses={**_PLANES})
def pre_label_tile(
    request: Request, platform: PlatformOf, actor: ActorOf, segment: SegmentOf, tile_id: Id, form: PreLabelCreate
) -> Response:
    """What a model makes of a tile; never of one whose image is for the test."""
    return _planes(request, pre_labels.pre_label(platform, actor, segment, tile_id, form.model_id))


@router.post(
    "/assist/forest",
    operation_id="fill_by_forest",
    response_class=Response,
    responses={**_PLANES},
    openapi_extra=LABELS_BODY,
)
def fill_by_forest(
    request: Request,
    platform: PlatformOf,
    actor: ActorOf,
    forest: ForestOf,
    tile_id: Id,
    labels: LabelsOf,
    uses_other_tiles: Annotated[bool, Query(description="Learn from the project's other labels too.")] = True,
) -> Response:
    """What a random forest makes of a tile that has a few strokes, sent as in a save."""
    return _planes(
        request,
        assist.suggest_by_forest(platform, actor, forest, tile_id, labels, uses_other_tiles=uses_other_tiles),
    )


def _planes(request: Request, found: Suggestion) -> Response:
    height, width = found.values.shape
    headers = {
        "Axons-Height": str(height),
        "Axons-Width": str(width),
        "Axons-Source": found.source,
        "Axons-Notices": quote(json.dumps(found.notices)),
        "Vary": "Accept-Encoding",
    }
    body = found.values.tobytes() + found.confidence.tobytes()
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = gzip.compress(body, compresslevel=1), "gzip"
    return Response(body, media_type="application/octet-stream", headers=headers)
