"""The model API of DEEPaaS, version 2: lists, predicts and trains with the clients and scripts written for it."""

import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, File, Form, Header, HTTPException, Query, Request, UploadFile
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlmodel import Session, col, select

from axons import __version__
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.rest.context import ActorOf, Id, PlatformOf
from axons.app.rest.downloads import bytes_answer, zip_answer
from axons.app.rest.predictions import SegmentOf
from axons.app.rest.problems import ANYWHERE, DescribedApi, add_problem_handlers, documented
from axons.app.rest.waiting import predict_in_turn
from axons.app.services import models, runs
from axons.app.services.access import is_switched_on
from axons.app.services.predictions import PredictedFile, Segment, predict_file, seat
from axons.app.services.runs import RunCreate, RunPublic
from axons.app.tables import EpochMetric, Model, Project, Run, User
from axons.app.texts import Identifier
from axons.data.pictures import encode_mask, encode_picture, overlay
from axons.data.training_set import MAX_SCALE, MIN_SCALE
from axons.errors import InvalidRequest, NotFound
from axons.train.config import TrainConfig

router = APIRouter(tags=["models"])

_JSON, _PNG, _ZIP = "application/json", "image/png", "application/zip"
_CANCEL_WAIT_S = 8.0
_STATUS = {"done": "done", "failed": "error", "cancelled": "cancelled"}  # anything else is "running"

ModelName = Annotated[str, Field(min_length=1, max_length=200)]


class Link(BaseModel):
    """Where something is."""

    rel: str
    type: str
    href: str


class Version(BaseModel):
    """This version of the API."""

    version: str
    id: str
    links: list[Link]


class ModelMeta(BaseModel):
    """A model as DEEPaaS describes it; `id` names it in addresses."""

    id: str
    name: str
    description: str
    author: str
    license: str
    version: str
    url: str
    links: list[Link]


class ModelList(BaseModel):
    """All models that may be used."""

    models: list[ModelMeta]


class Prediction(BaseModel):
    """The answer in JSON."""

    status: str
    predictions: dict[str, Any]


class TrainArguments(TrainConfig):
    """The settings of a training as query arguments; `training_set` is an id, by default that of the model's own."""

    training_set: Identifier | None = None


class Training(BaseModel):
    """A training: `status` is running, done, error or cancelled. (DEEPaaS documents done as completed too.)"""

    uuid: str
    date: str
    args: dict[str, Any]
    status: str
    message: str = ""
    progress: float
    metrics: dict[str, Any]


def build_v2() -> FastAPI:
    """The application below `/v2`."""
    app = DescribedApi(title="Axons, DEEPaaS-compatible", version=__version__, docs_url=None, redoc_url=None)
    add_problem_handlers(app)
    app.include_router(router, responses=documented(*ANYWHERE))

    @app.get("/swagger.json", include_in_schema=False)
    def swagger(_actor: ActorOf) -> JSONResponse:
        return JSONResponse(app.openapi())

    return app


def _model(platform: PlatformOf, actor: ActorOf, model_name: ModelName) -> Model:
    """The model that an address names, by name or by id."""
    named = platform.database.read(lambda session: _named(session, actor))
    if model_name in named:
        return named[model_name]
    try:
        return platform.database.read(lambda session: models.get_model(session, actor, model_name)[0])
    except NotFound as error:
        raise NotFound(f"there is no model {model_name!r}; look at /v2/models/") from error


ModelOf = Annotated[Model, Depends(_model)]


@router.get("/", operation_id="v2_get_version")
def get_version(_actor: ActorOf) -> Version:
    """What this is."""
    links = [
        Link(rel="self", type=_JSON, href="/v2/"),
        Link(rel="describedby", type=_JSON, href="/v2/openapi.json"),
    ]
    return Version(version="stable", id="v2", links=links)


@router.get("/models/", operation_id="v2_list_models")
def list_models(platform: PlatformOf, actor: ActorOf) -> ModelList:
    """One entry for each name: its promoted version, else the newest."""

    def read(session: Session) -> ModelList:
        named = _named(session, actor)
        return ModelList(models=[_meta(session, platform, name, model) for name, model in sorted(named.items())])

    return platform.database.read(read)


@router.get("/models/{model_name}/", operation_id="v2_get_model")
def get_model(platform: PlatformOf, model: ModelOf, model_name: ModelName) -> ModelMeta:
    """What is known of a model."""
    return platform.database.read(lambda session: _meta(session, platform, model_name, model))


@router.post(
    "/models/{model_name}/predict/",
    operation_id="v2_predict",
    response_model=Prediction,
    responses={200: {"content": {_PNG: {}, _ZIP: {}}}, **documented(405, 429, 507)},
)
async def predict(
    request: Request,
    platform: PlatformOf,
    actor: ActorOf,
    segment: SegmentOf,
    model: ModelOf,
    data: Annotated[UploadFile | None, File(description="The image.")] = None,
    image: Annotated[UploadFile | None, File(description="The image, under another name.")] = None,
    file: Annotated[UploadFile | None, File(description="The image, under another name.")] = None,
    scale: Annotated[float | None, Form(ge=MIN_SCALE, le=MAX_SCALE, allow_inf_nan=False)] = None,
    scale_in_query: Annotated[
        float | None, Query(alias="scale", ge=MIN_SCALE, le=MAX_SCALE, allow_inf_nan=False)
    ] = None,
    accept: Annotated[str, Header(max_length=300)] = _JSON,
) -> Any:
    """Predict one image: class areas as JSON, the mask as PNG, or everything as ZIP, as `accept` says."""
    given = data or image or file
    wanted = scale if scale is not None else scale_in_query
    return await predict_in_turn(
        request, lambda: _predicted(platform, actor, segment, model, given, scale=wanted, accept=accept)
    )


@router.post("/models/{model_name}/train/", operation_id="v2_train", responses=documented(405, 501, 507))
def train(
    platform: PlatformOf, actor: ActorOf, model: ModelOf, arguments: Annotated[TrainArguments, Query()]
) -> Training:
    """Train the next version of a model."""
    _require(platform, actor, model, "may_train")
    training_set_id = arguments.training_set or _own_training_set(platform, model)
    if training_set_id is None:
        raise HTTPException(501, f"model {model.name!r} was not trained here; name a training_set of the project")
    config = TrainConfig.model_validate(arguments.model_dump(exclude={"training_set"}, exclude_unset=True))
    form = RunCreate(training_set_id=training_set_id, name=model.name, config=config)
    return _training(platform, runs.start_run(platform, actor, form))


@router.get("/models/{model_name}/train/", operation_id="v2_list_trainings")
def list_trainings(platform: PlatformOf, model: ModelOf) -> list[Training]:
    """Trainings of a model's name, running or over, the newest first."""
    statement = (
        select(Run)
        .where(col(Run.project_id) == model.project_id, col(Run.name) == model.name, col(Run.deleted_at).is_(None))
        .order_by(col(Run.created_at).desc())
        .limit(500)
    )
    found = platform.database.read(lambda session: session.exec(statement).all())
    return [_training(platform, run) for run in found]


@router.get("/models/{model_name}/train/{uuid}", operation_id="v2_get_training")
def get_training(platform: PlatformOf, actor: ActorOf, model: ModelOf, uuid: Id) -> Training:
    """One training with its progress and newest metrics."""
    return _training(platform, platform.database.read(lambda session: _run(session, actor, model, uuid)))


@router.delete("/models/{model_name}/train/{uuid}", operation_id="v2_cancel_training")
def cancel_training(platform: PlatformOf, actor: ActorOf, model: ModelOf, uuid: Id) -> Training:
    """Cancel a training, and wait a few seconds for it to stop."""
    platform.database.read(lambda session: _run(session, actor, model, uuid))
    run = platform.database.write(lambda session: runs.cancel_run(session, actor, uuid))
    until = time.monotonic() + _CANCEL_WAIT_S
    answer = _training(platform, run)
    while answer.status == "running" and time.monotonic() < until:
        time.sleep(0.5)
        answer = _training(platform, run)
    return answer


def _run(session: Session, actor: Actor, model: Model, uuid: str) -> Run:
    run, _ = runs.get_run(session, actor, uuid)
    if (run.project_id, run.name) != (model.project_id, model.name):
        raise NotFound(f"there is no training {uuid!r} of {model.name!r}; look at the list of its trainings")
    return run


def _named(session: Session, actor: Actor) -> dict[str, Model]:
    """The model behind each name that the actor sees; names that several projects use carry their project."""
    statement = select(Model, Project).join(Project, col(Model.project_id) == Project.id)
    is_open = (col(Model.deleted_at).is_(None), col(Project.deleted_at).is_(None), models.visible_models(actor))
    best: dict[tuple[str, str], Model] = {}
    for model, _ in session.exec(statement.where(*is_open)).all():
        key = (model.project_id, model.name)
        if key not in best or (model.is_promoted, model.version) > (best[key].is_promoted, best[key].version):
            best[key] = model
    times = Counter(name for _, name in best)
    return {
        (model.id if "/" in name else name if times[name] == 1 else f"{name}@{project_id[:8]}"): model
        for (project_id, name), model in best.items()
    }


def _meta(session: Session, platform: Platform, name: str, model: Model) -> ModelMeta:
    card = model.card
    classes = ", ".join(found["name"] for found in card["classes"])
    author = session.get_one(User, model.created_by)
    score = f" Mean IoU {model.mean_iou:.3f}." if model.mean_iou is not None else ""
    path = f"/v2/models/{quote(name, safe='')}/"
    return ModelMeta(
        id=name,
        name=model.name,
        description=f"Segments {classes} with {card['architecture']} and {card['encoder']}.{score}",
        author=author.display_name or author.name,
        license="not stated",
        version=str(model.version),
        url=f"{platform.settings.public_url.rstrip('/')}{path}",
        links=[Link(rel="self", type=_JSON, href=path)],
    )


def _require(platform: Platform, actor: Actor, model: Model, switch: Any) -> None:
    """What a class has switched off is a method that does not exist there."""

    def read(session: Session) -> bool:
        project = session.get_one(Project, model.project_id)
        return is_switched_on(session, actor, project.classroom_id, switch)

    if not platform.database.read(read):
        raise HTTPException(405, "your class has switched this off; ask your educator", headers={"Allow": "GET"})


def _wanted(accept: str) -> str:
    """The first kind of answer that the client takes and we make."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    for kind in kinds:
        if kind in (_JSON, _PNG, _ZIP):
            return kind
        if kind in ("*/*", "application/*", ""):
            return _JSON
        if kind == "image/*":
            return _PNG
    raise InvalidRequest("accept", f"{accept[:100]!r} cannot be made; ask for {_JSON}, {_PNG} or {_ZIP}")


def _predicted(
    platform: Platform,
    actor: Actor,
    segment: Segment,
    model: Model,
    given: UploadFile | None,
    *,
    scale: float | None,
    accept: str,
) -> Any:
    """The answer in the form that is wanted."""
    _require(platform, actor, model, "may_predict")
    kind = _wanted(accept)
    if given is None:
        raise InvalidRequest("data", "no file is given; send the image as the multipart field 'data'")
    with seat(actor):
        found = _predict(platform, segment, model, given, scale=scale)
    if kind == _JSON:
        return Prediction(status="OK", predictions=_summary(model, found))
    mask = encode_mask(found.segmentation.mask, _colours(model))
    if kind == _PNG:
        return bytes_answer(mask, _PNG)
    painted = encode_picture(overlay(found.view, found.segmentation.mask, _colours(model)))
    summary = json.dumps(_summary(model, found), indent=1).encode()
    return zip_answer(model.name, {"mask.png": mask, "overlay.png": painted, "classes.json": summary})


def _predict(
    platform: Platform, segment: Segment, model: Model, given: UploadFile, *, scale: float | None
) -> PredictedFile:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(given.file.read())
        name = (given.filename or "image")[:255]
        return predict_file(platform, segment, model, path, name=name, scale=scale)


def _summary(model: Model, found: PredictedFile) -> dict[str, Any]:
    total = sum(found.segmentation.class_pixels)
    size = found.pixel_size_um
    height, width = np.shape(found.segmentation.mask)
    return {
        "height": height,
        "width": width,
        "classes": [
            {
                "name": label_class["name"],
                "pixels": pixels,
                "percent": 100 * pixels / total,
                "area_um2": pixels * size**2 if size else None,
            }
            for label_class, pixels in zip(model.card["classes"], found.segmentation.class_pixels, strict=True)
        ],
        "notices": found.segmentation.notices,
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
    }


def _colours(model: Model) -> list[str]:
    return [label_class["colour"] for label_class in model.card["classes"]]


def _own_training_set(platform: Platform, model: Model) -> str | None:
    if model.run_id is None:
        return None
    return platform.database.read(lambda session: session.get_one(Run, model.run_id)).training_set_id


def _training(platform: Platform, run: Run) -> Training:
    def read(session: Session) -> tuple[RunPublic, EpochMetric | None]:
        newest = select(EpochMetric).where(col(EpochMetric.run_id) == run.id).order_by(col(EpochMetric.epoch).desc())
        public = runs.public_runs(session, [session.get_one(Run, run.id)])[0]
        return public, session.exec(newest.limit(1)).first()

    public, epoch = platform.database.read(read)
    status = _STATUS.get(public.state, "running")
    return Training(
        uuid=run.id,
        date=run.created_at.strftime("%Y-%m-%d %H:%M:%S.%f"),
        args={name: value for name, value in run.config.items() if value is not None},
        status=status,
        message=public.reason,
        progress=public.progress,
        metrics=epoch.metrics if epoch else {},
    )
