"""Predictions: small images at once, large ones or many as a job; results are checked, stored, listed."""

import csv
import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Annotated, Any, Protocol

import numpy as np
import PIL.Image
import pyvips
import ray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray.exceptions import RayActorError, RaySystemError
from ray.serve.exceptions import RayServeException
from sqlmodel import Session, col, select

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services.access import get_project, is_switched_on, limit_of, visible_projects
from axons.app.services.jobs import add_job
from axons.app.services.models import get_model
from axons.app.services.paging import page_of
from axons.app.services.trash import throw_away
from axons.app.services.uploads import check_free_space, get_upload, release_uploads, use_uploads
from axons.app.tables import Image, Job, Model, Prediction, Project, Upload
from axons.app.texts import Identifier
from axons.data.decoding import Decoder
from axons.data.geotiff import GEO_MASK, add_geotiff
from axons.data.images import ContrastLimits, WorkingImage
from axons.data.measuring import measure
from axons.data.pictures import encode_mask, encode_picture, overlay
from axons.data.storage import local_file, new_key
from axons.data.tiles import TileGrid
from axons.data.training_set import MAX_SCALE, MIN_SCALE
from axons.errors import Conflict, InvalidRequest, NotAllowed, NotFound, PredictionRefused, SegmenterBusy, TooLarge
from axons.model.normalisation import Statistics
from axons.serve.predictor import MAX_PIXELS_AT_ONCE, Segmentation
from axons.serve.routing import SegmenterRouter
from axons.serve.segmenter import RETRY_AFTER_S

MASK_PNG, MASK_TIFF, WORKING = "mask.png", "mask.tif", "image.tif"

_MAX_IMAGES = 500
MAX_BYTES_AT_ONCE = 64 << 20
_OVERLAY_SIDE = 4096
_TIMEOUT_S = 60.0
_AT_ONCE_EACH = 3  # as on AI4EOSC
_SEATS: Counter[str] = Counter()
_SEATS_LOCK = Lock()
_DECODING = BoundedSemaphore(_AT_ONCE_EACH + 1)  # files at a time: nobody keeps all the places with slow ones
_IDLE_DECODERS: list[Decoder] = []
_ROUTER = SegmenterRouter()


class Segment(Protocol):
    """How an image is predicted; `of_whole` as in `axons.serve.predictor.segment`."""

    def __call__(
        self, image: np.ndarray, model_uri: str, scale: float | None, of_whole: Statistics | None = None
    ) -> Segmentation: ...


class PredictCreate(BaseModel):
    """Images of a project, or one that was uploaded for a prediction.

    Args:
        scale: at which the network sees the images; by default as in training.
    """

    model_config = ConfigDict(extra="forbid")

    image_ids: Annotated[list[Identifier], Field(max_length=_MAX_IMAGES)] = []
    upload_id: Identifier | None = None
    scale: float | None = Field(default=None, ge=MIN_SCALE, le=MAX_SCALE, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> "PredictCreate":
        if bool(self.image_ids) == (self.upload_id is not None):
            raise ValueError("give either image_ids or upload_id")
        return self


class ClassArea(BaseModel):
    """What a class covers; µm² where the pixel size is known."""

    name: str
    colour: str
    pixels: int
    percent: float
    area_um2: float | None


class PredictionPublic(BaseModel):
    """A prediction; `classes` once it is done."""

    id: str
    project_id: str
    model_id: str
    image_id: str | None
    name: str
    state: str
    reason: str
    height: int
    width: int
    scale: float | None
    pixel_size_um: float | None
    classes: list[ClassArea]
    notices: list[str]
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, row: Prediction, model: Model) -> "PredictionPublic":
        """The public part of a row."""
        return cls(**row.model_dump(include=set(cls.model_fields)), classes=class_areas(row, model))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request for a prediction means, in rows."""

    model: Model
    project: Project
    images: list[Image]
    upload: Upload | None
    max_pixels: int


def predict(
    platform: Platform, actor: Actor, segment: Segment, model_id: str, form: PredictCreate
) -> tuple[list[Prediction], Job | None]:
    """Predict at once if that is quick, else put a job into the queue.

    Raises:
        ImageRefused: the uploaded file is not a usable image.
        PredictionRefused, SegmenterBusy: see `segment`.
        NotAllowed: the educators of the classroom do not let their students predict at the moment.
    """
    asked = platform.database.read(lambda session: _asked(session, actor, platform, model_id, form))
    check_free_space(platform.settings, 0)
    if asked.upload is not None and asked.upload.num_bytes <= MAX_BYTES_AT_ONCE:
        key = new_key("projects")
        drafted = _draft_of_upload(platform, actor, asked, form, key)
        if drafted is not None:
            prediction, geo = drafted
            with seat(actor):
                _predict_at_once(platform, asked.model, segment, prediction, f"{key}/{WORKING}")
            _add_geotiff(platform, asked.model, prediction, geo)
            return [_add(platform, actor, asked, prediction)], None
    elif len(asked.images) == 1:
        image = asked.images[0]
        prediction = _draft(actor, asked, form, image=image, name=image.name, key=new_key("projects"))
        if not is_small(image, prediction.scale or 1.0, asked.max_pixels):
            return platform.database.write(lambda session: _queue(session, actor, asked, form))
        with seat(actor):
            _predict_at_once(platform, asked.model, segment, prediction, image.working_key)
        _add_geotiff(platform, asked.model, prediction, image.geo)
        return [_add(platform, actor, asked, prediction)], None
    return platform.database.write(lambda session: _queue(session, actor, asked, form))


@contextmanager
def seat(actor: Actor) -> Iterator[None]:
    """One of the few places that a person has in the queue for answers at once, so that the others find room.

    Raises:
        SegmenterBusy: all of them are taken.
    """
    with _SEATS_LOCK:
        if _SEATS[actor.user_id] >= _AT_ONCE_EACH:
            raise SegmenterBusy(
                f"{_AT_ONCE_EACH} predictions of yours are at work; try again in {RETRY_AFTER_S} seconds, "
                "or give many images at once as a job",
                RETRY_AFTER_S,
            )
        _SEATS[actor.user_id] += 1
    try:
        yield
    finally:
        with _SEATS_LOCK:
            _SEATS[actor.user_id] -= 1


@dataclass(frozen=True, kw_only=True)
class PredictedFile:
    """What a model makes of a file that is not kept: its segmentation and the 8-bit view of its pixels."""

    segmentation: Segmentation
    view: np.ndarray
    pixel_size_um: float | None


def predict_file(
    platform: Platform, segment: Segment, model: Model, path: Path, *, name: str, scale: float | None
) -> PredictedFile:
    """Predict a file that came with a request; nothing is stored.

    Raises:
        ImageRefused: it is not a usable image.
        TooLarge: only a job can predict it.
    """
    with tempfile.TemporaryDirectory() as folder:
        working = Path(folder, WORKING)
        with borrowed_decoder() as decoder:
            facts = decoder.normalise(path, working, name=name)
        image = WorkingImage(working)
        used, notices = scale_for(model, scale, facts.pixel_size_um)
        if not is_small(image, used, platform.settings.max_prediction_pixels):
            size = f"{image.height * image.width / 1e6:.0f} Mpx"
            raise TooLarge(
                f"{name!r} has {size}, too many to be answered at once; upload it and start a prediction job"
            )
        pixels = image.read_all()
        limits = measure(image, TileGrid(tile=1024)).contrast_limits
    found = segment(pixels, platform.uri(model.key), used)
    told = [*facts.notices, *notices, *found.notices]
    return PredictedFile(
        segmentation=replace(found, notices=told), view=limits.view(pixels), pixel_size_um=facts.pixel_size_um
    )


def check_may_predict(session: Session, actor: Actor, project: Project) -> None:
    """Refuse predictions where the educators of the classroom do not want them at the moment.

    Raises:
        NotAllowed: they do not.
    """
    if not is_switched_on(session, actor, project.classroom_id, "may_predict"):
        raise NotAllowed("your class does not predict at the moment; ask your educator to allow it")


def is_small(image: Image | WorkingImage, scale: float, max_pixels: int) -> bool:
    """Whether an image is answered at once, also at the scale at which the network sees it."""
    return image.height * image.width * max(1.0, scale) ** 2 <= min(max_pixels, MAX_PIXELS_AT_ONCE)


def scale_for(model: Model, wanted: float | None, pixel_size_um: float | None) -> tuple[float, list[str]]:
    """The scale at which the network sees an image, and what to say about it.

    What a person wants comes first; then the one that brings the image to the pixel size of the model's training, where
    both are known; then that of the training.
    """
    expected = model.card.get("pixel_size_um")
    if wanted is not None:
        return wanted, []
    if expected is None:
        return float(model.card["scale"]), []
    if pixel_size_um is None:
        told = f"the model was trained at {expected:g} µm per px and the image does not state its pixel size"
        return float(model.card["scale"]), [f"{told}; choose a scale if its own is another"]
    scale = min(MAX_SCALE, max(MIN_SCALE, pixel_size_um / expected))
    sizes = f"{pixel_size_um:g} µm per px where the model expects {expected:g}"
    return scale, [f"the image has {sizes}: it was predicted at scale {scale:.3g}"]


def get_prediction(session: Session, actor: Actor, prediction_id: str) -> tuple[Prediction, Model]:
    """A prediction in a project that the actor sees, with its model.

    Raises:
        NotFound: there is none for the actor.
    """
    row = session.get(Prediction, prediction_id)
    visible = select(Project.id).where(visible_projects(actor), col(Project.deleted_at).is_(None))
    if (
        row is None
        or row.deleted_at is not None
        or session.exec(visible.where(col(Project.id) == row.project_id)).first() is None
    ):
        raise NotFound(f"there is no prediction {prediction_id!r}; look at the list of the project's predictions")
    return row, session.get_one(Model, row.model_id)


def get_predictions(
    session: Session, actor: Actor, project_id: str, prediction_ids: Sequence[str]
) -> list[tuple[Prediction, Model]]:
    """Predictions of one project, each once.

    Raises:
        NotFound: one of them is not of the project.
    """
    found = [get_prediction(session, actor, prediction_id) for prediction_id in dict.fromkeys(prediction_ids)]
    for row, _ in found:
        if row.project_id != project_id:
            raise NotFound(f"there is no prediction {row.id!r} in the project; look at the list of its predictions")
    return found


def list_predictions(
    session: Session, actor: Actor, project_id: str, *, model_id: str | None, cursor: str | None, limit: int
) -> tuple[list[PredictionPublic], str | None]:
    """The predictions of a project, the newest first."""
    get_project(session, actor, project_id)
    statement = select(Prediction).where(col(Prediction.project_id) == project_id, col(Prediction.deleted_at).is_(None))
    if model_id is not None:
        statement = statement.where(col(Prediction.model_id) == model_id)
    keys = [col(Prediction.created_at), col(Prediction.id)]
    rows, following = page_of(session, statement, keys, cursor=cursor, limit=limit, newest_first=True)
    return [PredictionPublic.of(row, session.get_one(Model, row.model_id)) for row in rows], following


def delete_prediction(session: Session, actor: Actor, platform: Platform, prediction_id: str) -> None:
    """Into the trash.

    Raises:
        Conflict: its job is not over.
    """
    row, _ = get_prediction(session, actor, prediction_id)
    get_project(session, actor, row.project_id, "edit")
    if row.state not in ("done", "failed"):
        raise Conflict(f"the prediction of {row.name!r} is {row.state}; cancel its job first")
    throw_away(session, actor, "prediction", row, days=platform.settings.trash_days)


def class_areas(row: Prediction, model: Model) -> list[ClassArea]:
    """What each class covers; the percentages sum to 100."""
    total = sum(row.class_pixels)
    if not total:
        return []
    size = row.pixel_size_um
    return [
        ClassArea(
            name=found["name"],
            colour=found["colour"],
            pixels=pixels,
            percent=100 * pixels / total,
            area_um2=pixels * size**2 if size else None,
        )
        for found, pixels in zip(model.card["classes"], row.class_pixels, strict=True)
    ]


def predictions_csv(rows: Sequence[tuple[Prediction, Model]]) -> str:
    """One line for each image and class, in a form that no spreadsheet takes for a formula."""
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(["image", "model", "version", "class", "pixels", "percent", "area_um2"])
    for row, model in rows:
        for area in class_areas(row, model):
            um2 = "" if area.area_um2 is None else f"{area.area_um2:.6g}"
            texts = [_cell(row.name), _cell(model.name), model.version, _cell(area.name)]
            writer.writerow([*texts, area.pixels, f"{area.percent:.4f}", um2])
    return target.getvalue()


def mask_file(platform: Platform, row: Prediction) -> tuple[Path, str]:
    """The mask of a finished prediction and its media type: palette PNG, or a tiled TIFF of a large image.

    What was predicted from a GeoTIFF is one again.

    Raises:
        Conflict: it is not done.
    """
    path = pixels_file(platform, row)
    storage = platform.storage.at(row.key)
    if storage.exists(GEO_MASK):
        path = storage.local_path(GEO_MASK)
    return path, "image/png" if path.suffix == ".png" else "image/tiff"


def pixels_file(platform: Platform, row: Prediction) -> Path:
    """Where the class indices of a finished prediction lie, for `axons.data.mask_files.MaskFile`.

    Raises:
        Conflict: it is not done.
    """
    if row.state != "done":
        raise Conflict(f"the prediction of {row.name!r} is {row.state}; wait until it is done")
    storage = platform.storage.at(row.key)
    return storage.local_path(MASK_PNG if storage.exists(MASK_PNG) else MASK_TIFF)


def overlay_png(platform: Platform, row: Prediction, model: Model, image: Image | None, *, opacity: float) -> bytes:
    """The classes laid over the image, its longer side at most 4096 px."""
    path = pixels_file(platform, row)
    factor = min(1.0, _OVERLAY_SIDE / max(row.height, row.width))
    height, width = max(1, round(row.height * factor)), max(1, round(row.width * factor))
    working = platform.uri(image.working_key) if image else platform.uri(f"{row.key}/{WORKING}")
    source = WorkingImage(local_file(working))
    if image is not None:
        limits = ContrastLimits(image.contrast_low, image.contrast_high)
    else:
        limits = measure(source, TileGrid(tile=1024)).contrast_limits
    pixels = source.read_all() if factor == 1.0 else source.shrunk(height, width)
    values = _indices(path, height, width)
    colours = [found["colour"] for found in model.card["classes"]]
    return encode_picture(overlay(limits.view(pixels), values, colours, opacity=opacity))


def _indices(path: Path, height: int, width: int) -> np.ndarray:
    """(H, W) class indices of a mask file at this size; libvips would turn a palette PNG into colours."""
    if path.suffix == ".png":
        with PIL.Image.open(path) as picture:
            return np.asarray(picture.resize((width, height), PIL.Image.Resampling.NEAREST))
    mask = pyvips.Image.new_from_file(str(path), access="sequential", revalidate=True)
    mask = mask.resize(width / mask.width, vscale=height / mask.height, kernel="nearest")
    return np.asarray(mask.numpy()).reshape(height, width)


def segment_by_serve(
    image: np.ndarray, model_uri: str, scale: float | None, of_whole: Statistics | None = None
) -> Segmentation:
    """Through the applications that predict.

    Raises:
        SegmenterBusy: it is full, not there yet, or too slow.
    """
    if not ray.is_initialized():  # Ray Serve would start a cluster of its own on this machine, without a word
        raise _not_ready()
    try:
        return _ROUTER.segment(image, model_uri=model_uri, scale=scale, of_whole=of_whole, timeout_s=_TIMEOUT_S)
    except (RayServeException, RayActorError, RaySystemError, TimeoutError, ConnectionError) as error:
        raise _not_ready() from error


def _not_ready() -> SegmenterBusy:
    return SegmenterBusy(
        f"predictions are not ready or too slow at the moment; try again in {RETRY_AFTER_S} seconds", RETRY_AFTER_S
    )


def _asked(session: Session, actor: Actor, platform: Platform, model_id: str, form: PredictCreate) -> Asked:
    model, of_model = get_model(session, actor, model_id)
    upload = get_upload(session, actor, form.upload_id) if form.upload_id else None
    images = _images(session, actor, form)
    project_id = images[0].project_id if images else (upload.project_id if upload else None) or of_model.id
    project = get_project(session, actor, project_id, "edit")
    check_may_predict(session, actor, project)
    if upload is not None and (upload.purpose, upload.state) != ("prediction", "complete"):
        raise Conflict(f"upload {upload.id!r} is {upload.state}, for {upload.purpose}; complete one for prediction")
    pixels = limit_of(session, project, "max_prediction_pixels", platform.settings.max_prediction_pixels)
    return Asked(model=model, project=project, images=images, upload=upload, max_pixels=int(pixels))


def _images(session: Session, actor: Actor, form: PredictCreate) -> list[Image]:
    images = []
    for image_id in dict.fromkeys(form.image_ids):
        image = session.get(Image, image_id)
        if image is None or image.deleted_at is not None:
            raise NotFound(f"there is no image {image_id!r}; look at the list of the project's images")
        get_project(session, actor, image.project_id)
        images.append(image)
    if len({image.project_id for image in images}) > 1:
        raise InvalidRequest("image_ids", "the images are of several projects; predict one project at a time")
    return images


def _draft(
    actor: Actor, asked: Asked, form: PredictCreate, *, name: str, key: str, image: Image | None = None
) -> Prediction:
    scale, notices = scale_for(asked.model, form.scale, image.pixel_size_um if image else None)
    return Prediction(
        project_id=asked.project.id,
        model_id=asked.model.id,
        image_id=image.id if image else None,
        name=name,
        key=key,
        height=image.height if image else 0,
        width=image.width if image else 0,
        scale=scale,
        notices=notices,
        pixel_size_um=image.pixel_size_um if image else None,
        created_by=actor.user_id,
    )


def _draft_of_upload(
    platform: Platform, actor: Actor, asked: Asked, form: PredictCreate, key: str
) -> tuple[Prediction, dict[str, Any] | None] | None:
    """The uploaded file as a working image in storage, and its geo-reference; None if it is too large for an answer."""
    assert asked.upload is not None
    source = platform.storage.local_path(asked.upload.key)
    with tempfile.TemporaryDirectory() as folder:
        working = Path(folder, WORKING)
        with borrowed_decoder() as decoder:
            facts = decoder.normalise(source, working, name=asked.upload.name)
        scale, notices = scale_for(asked.model, form.scale, facts.pixel_size_um)
        if not is_small(WorkingImage(working), scale, asked.max_pixels):
            return None
        platform.storage.write(f"{key}/{WORKING}", working)
    draft = _draft(actor, asked, form, name=asked.upload.name, key=key)
    draft.height, draft.width, draft.pixel_size_um = facts.height, facts.width, facts.pixel_size_um
    draft.scale, draft.notices = scale, [*facts.notices, *notices]
    return draft, facts.geo


def _predict_at_once(platform: Platform, model: Model, segment: Segment, draft: Prediction, working_key: str) -> None:
    """Fill a prediction and store its mask, before its row is there.

    Raises:
        PredictionRefused: the result is not of the image's size, or not whole.
    """
    pixels = WorkingImage(local_file(platform.uri(working_key))).read_all()
    found = segment(pixels, platform.uri(model.key), draft.scale)
    if found.mask.shape != (draft.height, draft.width) or sum(found.class_pixels) != found.mask.size:
        raise PredictionRefused(
            f"the prediction of {draft.name!r} is {found.mask.shape} for an image of {(draft.height, draft.width)}; "
            "this is a fault of the platform, report it"
        )
    colours = [found_class["colour"] for found_class in model.card["classes"]]
    platform.storage.write(f"{draft.key}/{MASK_PNG}", encode_mask(found.mask, colours))
    draft.class_pixels = found.class_pixels
    draft.notices = [*draft.notices, *found.notices]
    draft.state = "done"


def _add_geotiff(platform: Platform, model: Model, draft: Prediction, geo: dict[str, Any] | None) -> None:
    if geo:
        classes = [(found["name"], found["colour"]) for found in model.card["classes"]]
        draft.notices = [*draft.notices, *add_geotiff(platform.uri(draft.key), MASK_PNG, geo, classes)]


def _add(platform: Platform, actor: Actor, asked: Asked, draft: Prediction) -> Prediction:
    fields: dict[str, Any] = draft.model_dump()

    def write(session: Session) -> Prediction:
        get_project(session, actor, asked.project.id, "edit")
        row = Prediction(**fields)
        session.add(row)
        if asked.upload is not None:
            release_uploads(session, [asked.upload.id])
        return row

    return platform.database.write(write)


def _queue(session: Session, actor: Actor, asked: Asked, form: PredictCreate) -> tuple[list[Prediction], Job | None]:
    project = get_project(session, actor, asked.project.id, "edit")
    if asked.upload is not None:
        use_uploads(session, actor, [asked.upload.id], project, "prediction")
        rows = [_draft(actor, asked, form, name=asked.upload.name, key=new_key("projects"))]
    else:
        rows = [
            _draft(actor, asked, form, image=image, name=image.name, key=new_key("projects")) for image in asked.images
        ]
    session.add_all(rows)
    session.flush()
    request = {
        "prediction_ids": [row.id for row in rows],
        "upload_id": asked.upload.id if asked.upload else None,
        "upload_key": asked.upload.key if asked.upload else None,
    }
    return rows, add_job(session, actor, "predict", project, request=request, target_id=rows[0].id)


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@contextmanager
def borrowed_decoder() -> Iterator[Decoder]:
    """A confined child for this thread alone: each decodes one file at a time."""
    with _DECODING:
        try:
            decoder = _IDLE_DECODERS.pop()
        except IndexError:
            decoder = Decoder()
        try:
            yield decoder
        finally:
            _IDLE_DECODERS.append(decoder)
