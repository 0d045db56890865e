"""Images: import, list, look at, change, delete."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import FileResponse
from sqlmodel import Session

from axons.app import pictures
from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.rest.downloads import file_answer, file_of, log_download
from axons.app.rest.pictures import JPEG, PNG, IfNoneMatch, etag_of, picture, picture_of
from axons.app.rest.projects import Search
from axons.app.services import checks, editor, images, imports
from axons.app.services.checks import ProjectChecks
from axons.app.services.images import ImagePublic, ImageUpdate, Split
from axons.app.services.imports import ImportCreate
from axons.app.services.jobs import JobPublic, public_jobs
from axons.app.tables import Image
from axons.data.layers import UNLABELLED
from axons.data.pictures import encode_mask
from axons.errors import NotFound

router = APIRouter(tags=["images"])

MaxSide = Annotated[int, Query(ge=16, le=4096, description="Longer side of the picture, px.")]
PyramidPlace = Annotated[int, Path(ge=0, le=1_000_000, description="Counted in tiles of 256 px, from 0.")]


@router.post("/projects/{project_id}/images", status_code=202, operation_id="import_images")
def import_images(platform: PlatformOf, actor: ActorOf, project_id: Id, form: ImportCreate) -> JobPublic:
    """Import completed uploads, or a source on the server's side, as a job."""
    settings = platform.settings
    return platform.database.write(
        lambda session: public_jobs(
            session, [imports.start_import(session, actor, project_id, form, settings=settings)]
        )[0]
    )


@router.get("/projects/{project_id}/images", operation_id="list_images")
def list_images(
    platform: PlatformOf,
    actor: ActorOf,
    project_id: Id,
    search: Search = "",
    split: Split | None = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[ImagePublic]:
    """Images of a project, by name."""
    items, following = platform.database.read(
        lambda session: images.list_images(
            session, actor, project_id, search=search, split=split, cursor=cursor, limit=limit
        )
    )
    return Page(items=items, next=following)


@router.get("/projects/{project_id}/checks", operation_id="check_images")
def check_images(platform: PlatformOf, actor: ActorOf, project_id: Id) -> ProjectChecks:
    """What stands out among the images: copies, odd sizes, blur, exposure; and how many there are of each size."""
    return platform.database.read(lambda session: checks.check_images(session, actor, project_id))


@router.get("/images/{image_id}", operation_id="get_image")
def get_image(platform: PlatformOf, actor: ActorOf, image_id: Id) -> ImagePublic:
    """One image."""
    return platform.database.read(
        lambda session: images.publics(session, [images.get_image(session, actor, image_id)])[0]
    )


@router.patch("/images/{image_id}", operation_id="update_image")
def update_image(platform: PlatformOf, actor: ActorOf, image_id: Id, form: ImageUpdate) -> ImagePublic:
    """Rename an image, or say its group, split or pixel size, or exclude it."""
    return platform.database.write(
        lambda session: images.publics(session, [images.update_image(session, actor, image_id, form)])[0]
    )


@router.delete("/images/{image_id}", status_code=204, operation_id="delete_image")
def delete_image(platform: PlatformOf, actor: ActorOf, image_id: Id) -> Response:
    """Put an image with its labels into the trash."""
    days = platform.settings.trash_days
    platform.database.write(lambda session: images.delete_image(session, actor, image_id, trash_days=days))
    return Response(status_code=204)


@router.get(
    "/images/{image_id}/view",
    operation_id="view_image",
    response_class=Response,
    responses=picture_of("image/jpeg", "image/png"),
)
def view_image(
    platform: PlatformOf,
    actor: ActorOf,
    image_id: Id,
    max_side: MaxSide = 1024,
    kind: Annotated[Literal["png", "jpeg"], Query(alias="format")] = "jpeg",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The whole image as 8-bit picture, made smaller where it is larger than `max_side`."""
    image = _image(platform, actor, image_id)
    return picture(
        lambda: pictures.small_view(platform.storage, image, max_side, kind),
        etag=etag_of(image.working_key, max_side, kind),
        if_none_match=if_none_match,
        media_type=f"image/{kind}",
    )


@router.get(
    "/images/{image_id}/thumbnail", operation_id="get_image_thumbnail", response_class=Response, responses={**JPEG}
)
def get_thumbnail(platform: PlatformOf, actor: ActorOf, image_id: Id, if_none_match: IfNoneMatch = None) -> Response:
    """The image at most 256 px large."""
    image = _image(platform, actor, image_id)
    return picture(
        lambda: pictures.image_thumbnail(platform.storage, image),
        etag=etag_of(image.sheet_key),
        if_none_match=if_none_match,
        media_type="image/jpeg",
    )


@router.get(
    "/images/{image_id}/pyramid/{level}/{col}/{row}",
    operation_id="get_pyramid_tile",
    response_class=Response,
    responses={**JPEG},
)
def get_pyramid_tile(
    platform: PlatformOf,
    actor: ActorOf,
    image_id: Id,
    level: Annotated[int, Path(ge=0, le=32, description="0 is the image, each further level half as large.")],
    col: PyramidPlace,
    row: PyramidPlace,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A tile of 256 px of the image at a level of detail, for a viewer that zooms."""
    image = _image(platform, actor, image_id)
    return picture(
        lambda: pictures.pyramid_tile(platform.storage, image, level, row, col),
        etag=etag_of(image.working_key, level, col, row),
        if_none_match=if_none_match,
        media_type="image/jpeg",
    )


@router.get("/images/{image_id}/labels", operation_id="get_image_labels", response_class=Response, responses={**PNG})
def get_image_labels(
    platform: PlatformOf,
    actor: ActorOf,
    image_id: Id,
    max_side: MaxSide = 2048,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The labels of the whole image as palette PNG, clear where there are none; of a large image every n-th pixel."""
    labels = platform.database.read(lambda session: editor.image_labels(session, actor, image_id))
    step = -(-max(labels.window.height, labels.window.width) // max_side)
    return picture(
        lambda: encode_mask(labels.plane(step=step), pictures.colours_by_index(labels.classes), clear=UNLABELLED),
        etag=etag_of(labels, step),
        if_none_match=if_none_match,
        media_type="image/png",
    )


@router.get(
    "/images/{image_id}/original",
    operation_id="download_original",
    response_class=FileResponse,
    responses=file_of("application/octet-stream"),
)
def download_original(platform: PlatformOf, actor: ActorOf, image_id: Id) -> FileResponse:
    """The file as it came, with all that its camera has written into it; editors may, where the project keeps it."""
    image = platform.database.read(lambda session: images.get_image(session, actor, image_id, "edit"))
    if image.original_key is None:
        raise NotFound(f"the file of image {image.name!r} was not kept; new projects can choose to keep originals")
    path = platform.storage.local_path(image.original_key, sha256=image.sha256)
    log_download(platform, actor, "image", image.id, image.name)
    return file_answer(path, image.name, "application/octet-stream")


def _image(platform: PlatformOf, actor: ActorOf, image_id: str) -> Image:
    def read(session: Session) -> Image:
        return images.get_image(session, actor, image_id)

    return platform.database.read(read)
