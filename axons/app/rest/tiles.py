"""Tiles: pictures, labels, revisions, who works on them, what comes next."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel
from sqlmodel import Session

from axons.app import pictures
from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.rest.pictures import JPEG, PNG, IfNoneMatch, etag_of, is_known, picture
from axons.app.rest.problems import documented
from axons.app.services import annotations, tiles, useful_tiles
from axons.app.services.annotations import Labels, RevisionPublic, Saved, Seconds, Source
from axons.app.services.jobs import JobPublic, public_jobs
from axons.app.services.label_classes import classes_of
from axons.app.services.tiles import (
    LeasePublic,
    Next,
    Owner,
    Status,
    TileAssign,
    TileDetail,
    TileFilter,
    TilePublic,
    Wanted,
)
from axons.app.services.useful_tiles import RankCreate
from axons.app.tables import Image, Tile
from axons.app.texts import Identifier
from axons.data.layers import unpack
from axons.data.pictures import encode_mask
from axons.errors import InvalidRequest, RevisionMissing

router = APIRouter(tags=["tiles"])

_JSON_OR_GZIP = {"schema": {"type": "object", "description": "See `axons.data.layers.to_json`."}}
_LAYERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": _JSON_OR_GZIP}, "description": "The layers; ETag is the revision."}
}
_NUMBER = Annotated[int, Path(ge=1, le=2**31 - 1, description="Revisions are counted from 1.")]
_Limit = Annotated[
    float | None,
    Query(
        ge=0,
        le=65535,
        allow_inf_nan=False,
        description="Value of the image shown as black (`low`) and as white (`high`); by default those of the image.",
    ),
]
_OptionalId = Annotated[str | None, Query(max_length=64, pattern="^[A-Za-z0-9_-]+$")]
IfMatch = Annotated[
    str | None, Header(alias="If-Match", max_length=100, description="The revision that the labels began with.")
]


class TilesAssigned(BaseModel):
    """How many tiles have changed their person."""

    num_tiles: int


async def _base(if_match: IfMatch = None) -> int:
    """The revision that a save begins with."""
    if if_match is None or if_match.strip() == "*":
        raise RevisionMissing("a save has to say which revision it began with; send If-Match with the tile's ETag")
    number = if_match.strip().removeprefix("W/").strip('"')
    if not number.isdecimal() or not number.isascii() or len(number) > 10:
        raise InvalidRequest("If-Match", f"{if_match!r} is not a revision; send the ETag of the annotation")
    return int(number)


async def _body(request: Request) -> bytes:
    return await request.body()


def _labels(
    body: Annotated[bytes, Depends(_body)],
    content_encoding: Annotated[str | None, Header(max_length=100)] = None,
) -> Labels:
    if content_encoding not in (None, "", "identity", "gzip"):
        raise InvalidRequest("Content-Encoding", f"{content_encoding!r} cannot be read here; send gzip or plain JSON")
    return annotations.read_labels(body, is_gzipped=content_encoding == "gzip")


LabelsOf = Annotated[Labels, Depends(_labels)]
LABELS_BODY = {"requestBody": {"required": True, "content": {"application/json": _JSON_OR_GZIP}}}


@router.get("/projects/{project_id}/tiles", operation_id="list_tiles")
def list_tiles(
    platform: PlatformOf,
    actor: ActorOf,
    project_id: Id,
    status: Status | None = None,
    class_index: Annotated[int | None, Query(ge=0, le=255, description="Tiles with this value.")] = None,
    image_id: _OptionalId = None,
    tiling_id: _OptionalId = None,
    is_blank: bool | None = None,
    assigned_to: _OptionalId = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[TilePublic]:
    """Tiles of the current tiling, or of an earlier one, image by image and row by row."""
    wanted = TileFilter(
        status=status,
        class_index=class_index,
        image_id=image_id,
        tiling_id=tiling_id,
        is_blank=is_blank,
        assigned_to=assigned_to,
    )

    def answer(session: Session) -> Page[TilePublic]:
        rows, following = tiles.list_tiles(session, actor, project_id, wanted, cursor=cursor, limit=limit)
        return Page(items=[TilePublic.of(tile) for tile in rows], next=following)

    return platform.database.read(answer)


@router.post("/projects/{project_id}/tiles:assign", operation_id="assign_tiles")
def assign_tiles(platform: PlatformOf, actor: ActorOf, project_id: Id, form: TileAssign) -> TilesAssigned:
    """Say who shall label tiles, or all tiles of images; owners may. They come first in that person's queue."""
    return platform.database.write(
        lambda session: TilesAssigned(num_tiles=tiles.assign_tiles(session, actor, project_id, form))
    )


@router.get("/projects/{project_id}/queue/next", operation_id="get_next_tile")
def get_next_tile(
    platform: PlatformOf,
    actor: ActorOf,
    project_id: Id,
    order: Literal["order", "useful"] = "order",
    status: Annotated[Status | None, Query(description="By default all that are not done.")] = None,
    owner: Annotated[Owner, Query(description="`mine`: given to you, or labelled by you.")] = "anybody",
    after: _OptionalId = None,
) -> Next:
    """The tile to label next, and why: in order, or the one whose labels would teach a model most."""
    choose = tiles.next_tile if order == "order" else useful_tiles.next_useful
    wanted = Wanted(status=status, owner=owner)
    return platform.database.read(lambda session: choose(session, actor, project_id, wanted, after=after))


@router.post("/projects/{project_id}/tiles:rank", status_code=202, operation_id="rank_tiles")
def rank_tiles(platform: PlatformOf, actor: ActorOf, project_id: Id, form: RankCreate) -> JobPublic:
    """Let a model look at the tiles, as a job, to tell which are useful to label next; never at test images."""
    return platform.database.write(
        lambda session: public_jobs(session, [useful_tiles.start_ranking(session, actor, project_id, form)])[0]
    )


@router.get("/tiles/{tile_id}", operation_id="get_tile")
def get_tile(platform: PlatformOf, actor: ActorOf, tile_id: Id) -> TileDetail:
    """One tile."""
    return platform.database.read(
        lambda session: tiles.detail(session, actor, *tiles.get_tile(session, actor, tile_id))
    )


@router.get("/tiles/{tile_id}/image", operation_id="get_tile_image", response_class=Response, responses={**PNG})
def get_tile_image(
    platform: PlatformOf,
    actor: ActorOf,
    tile_id: Id,
    margin: Annotated[int, Query(ge=0, le=256, description="Surroundings on each side, px.")] = 0,
    low: _Limit = None,
    high: _Limit = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The tile's pixels as 8-bit PNG; header `Axons-Window` says row0, col0, height, width of what is shown."""
    tile, image = _tile(platform, actor, tile_id)
    window = pictures.tile_window(image, tile, margin)
    limits = pictures.chosen_limits(image, low, high)
    return picture(
        lambda: pictures.view_png(platform.storage, image, window, limits),
        etag=etag_of(image.working_key, window, limits),
        if_none_match=if_none_match,
        media_type="image/png",
        **{"Axons-Window": f"{window.row0},{window.col0},{window.height},{window.width}"},
    )


@router.get(
    "/tiles/{tile_id}/thumbnail", operation_id="get_tile_thumbnail", response_class=Response, responses={**JPEG}
)
def get_tile_thumbnail(
    platform: PlatformOf, actor: ActorOf, tile_id: Id, if_none_match: IfNoneMatch = None
) -> Response:
    """The tile at most 96 px large."""
    tile, image = _tile(platform, actor, tile_id)
    return picture(
        lambda: pictures.tile_thumbnail(platform.storage, image, tile),
        etag=etag_of(image.sheet_key, tile.id),
        if_none_match=if_none_match,
        media_type="image/jpeg",
    )


@router.get("/tiles/{tile_id}/mask", operation_id="get_tile_mask", response_class=Response, responses={**PNG})
def get_tile_mask(
    platform: PlatformOf,
    actor: ActorOf,
    tile_id: Id,
    revision: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="By default the newest.")] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The labels as palette PNG: pixels are class indices, 254 is ignored on purpose, 255 unlabelled."""

    def read(session: Session) -> tuple[bytes, list[tuple[int, str]]]:
        tile, layers = annotations.current_layers(session, actor, tile_id)
        if revision is not None:
            layers = annotations.get_revision(session, actor, tile_id, revision).layers
        return layers, [(row.index, row.colour) for row in classes_of(session, tile.project_id)]

    layers, classes = platform.database.read(read)
    return picture(
        lambda: encode_mask(unpack(layers).plane(), pictures.colours_by_index(classes)),
        etag=etag_of(layers, classes),
        if_none_match=if_none_match,
        media_type="image/png",
    )


@router.get(
    "/tiles/{tile_id}/annotation", operation_id="get_annotation", response_class=Response, responses={**_LAYERS}
)
def get_annotation(
    request: Request, platform: PlatformOf, actor: ActorOf, tile_id: Id, if_none_match: IfNoneMatch = None
) -> Response:
    """The newest labels as layers; the ETag is their revision, 0 before the first save."""
    tile, layers = platform.database.read(lambda session: annotations.current_layers(session, actor, tile_id))
    return _layers(request, layers, revision=tile.revision, if_none_match=if_none_match)


@router.put(
    "/tiles/{tile_id}/annotation",
    operation_id="save_annotation",
    responses=documented(412, 423, 428),
    openapi_extra=LABELS_BODY,
)
def save_annotation(
    platform: PlatformOf,
    actor: ActorOf,
    tile_id: Id,
    response: Response,
    base: Annotated[int, Depends(_base)],
    labels: LabelsOf,
    save_id: Annotated[Identifier, Query(description="Made by you for this save; sent again it changes nothing.")],
    seconds: Annotated[Seconds, Query(description="Of active labelling.")] = 0.0,
    source: Source = "manual",
) -> Saved:
    """Save labels (JSON, also gzipped); answered once they are on disk, 412 if somebody has saved in between."""
    saved = annotations.save(
        platform, actor, tile_id, labels, base=base, save_id=save_id, seconds=seconds, source=source
    )
    response.headers["ETag"] = f'"{saved.revision}"'
    return saved


@router.get("/tiles/{tile_id}/revisions", operation_id="list_revisions")
def list_revisions(platform: PlatformOf, actor: ActorOf, tile_id: Id) -> list[RevisionPublic]:
    """All that was ever saved for a tile, the newest first."""
    return platform.database.read(lambda session: annotations.list_revisions(session, actor, tile_id))


@router.get(
    "/tiles/{tile_id}/revisions/{number}", operation_id="get_revision", response_class=Response, responses={**_LAYERS}
)
def get_revision(request: Request, platform: PlatformOf, actor: ActorOf, tile_id: Id, number: _NUMBER) -> Response:
    """The layers of one revision."""
    found = platform.database.read(lambda session: annotations.get_revision(session, actor, tile_id, number))
    return _layers(request, found.layers, revision=number)


@router.post(
    "/tiles/{tile_id}/revisions/{number}/restore", operation_id="restore_revision", responses=documented(412, 423, 428)
)
def restore_revision(
    platform: PlatformOf,
    actor: ActorOf,
    tile_id: Id,
    number: _NUMBER,
    response: Response,
    base: Annotated[int, Depends(_base)],
    save_id: Annotated[Identifier, Query(description="Made by you for this restore.")],
) -> Saved:
    """Make an earlier revision the newest once more; nothing is lost."""
    saved = annotations.restore(platform, actor, tile_id, number, base=base, save_id=save_id)
    response.headers["ETag"] = f'"{saved.revision}"'
    return saved


@router.post("/tiles/{tile_id}/lease", operation_id="take_lease")
def take_lease(
    platform: PlatformOf,
    actor: ActorOf,
    tile_id: Id,
    takes_over: Annotated[bool, Query(description="Even if somebody else has it open.")] = False,
) -> LeasePublic:
    """Say that you have the tile open, for 90 s; ask again before they are over."""
    return platform.database.write(lambda session: tiles.take_lease(session, actor, tile_id, takes_over=takes_over))


@router.delete("/tiles/{tile_id}/lease", status_code=204, operation_id="release_lease")
def release_lease(platform: PlatformOf, actor: ActorOf, tile_id: Id) -> Response:
    """Say that you have closed the tile."""
    platform.database.write(lambda session: tiles.release_lease(session, actor, tile_id))
    return Response(status_code=204)


@router.post("/tiles/{tile_id}/done", operation_id="mark_tile_done")
def mark_done(platform: PlatformOf, actor: ActorOf, tile_id: Id) -> TilePublic:
    """Say that the tile needs no more labels."""
    return platform.database.write(lambda session: TilePublic.of(tiles.mark_done(session, actor, tile_id)))


@router.delete("/tiles/{tile_id}/done", operation_id="reopen_tile")
def reopen(platform: PlatformOf, actor: ActorOf, tile_id: Id) -> TilePublic:
    """Label a tile further that was done."""
    return platform.database.write(lambda session: TilePublic.of(tiles.reopen(session, actor, tile_id)))


def _tile(platform: PlatformOf, actor: ActorOf, tile_id: str) -> tuple[Tile, Image]:
    def read(session: Session) -> tuple[Tile, Image]:
        return tiles.get_tile(session, actor, tile_id)

    return platform.database.read(read)


def _layers(request: Request, packed: bytes, *, revision: int, if_none_match: str | None = None) -> Response:
    """Layers as they are stored, gzipped, if the client can read that."""
    headers = {"ETag": f'"{revision}"', "Vary": "Accept-Encoding"}
    if is_known(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type="application/json", headers={**headers, "Content-Encoding": "gzip"})
    return Response(annotations.unzip_layers(packed), media_type="application/json", headers=headers)
