"""Runs over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field
from sqlmodel import Session

from axons.app.jobs.ray_work import submit_line
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.rest.downloads import bytes_answer, file_of, log_download, zip_answer
from axons.app.rest.problems import documented
from axons.app.services import runs
from axons.app.services.runs import RunCreate, RunPublic
from axons.app.services.worst_tiles import WorstTilePublic
from axons.app.tables import Job, Run
from axons.app.texts import Identifier
from axons.data.storage import Storage
from axons.errors import NotFound
from axons.report import render_report
from axons.report_pdf import render_pdf
from axons.train.run import RunFolder

router = APIRouter(prefix="/runs", tags=["runs"])

_TAIL = 200_000


class RunStarted(RunPublic):
    """A run that waits; with `prepare` also its folder, and the line that submits it to Ray."""

    run_uri: str | None = None
    submit: str | None = None


class RunMetrics(BaseModel):
    """Epochs as `axons.train.run.EpochMetrics`."""

    classes: list[str]
    epochs: list[dict[str, Any]]


class RunSamples(BaseModel):
    """Names of pictures: predictions on the same crops after some epochs, and the worst tiles of the evaluation."""

    samples: list[str]


SampleName = Annotated[str, Field(pattern=r"^(samples|evaluation)/[A-Za-z0-9_-]{1,80}\.png$")]


@router.post("", operation_id="create_run", status_code=202, responses=documented(507))
def create_run(platform: PlatformOf, actor: ActorOf, form: RunCreate) -> RunStarted:
    """Start a training, or prepare one for `ray job submit`."""
    run = runs.start_run(platform, actor, form)
    public = _public(platform, run)
    if not form.prepare:
        return RunStarted(**public.model_dump())
    uri = platform.uri(run.key)
    return RunStarted(**public.model_dump(), run_uri=uri, submit=submit_line(f"{run.job_id}-1", uri))


@router.get("", operation_id="list_runs")
def list_runs(
    platform: PlatformOf,
    actor: ActorOf,
    project_id: Identifier | None = None,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[RunPublic]:
    """Runs of a project, or your own, the newest first."""
    items, following = platform.database.read(
        lambda session: runs.list_runs(session, actor, project_id=project_id, cursor=cursor, limit=limit)
    )
    return Page(items=items, next=following)


@router.get("/{run_id}", operation_id="get_run")
def get_run(platform: PlatformOf, actor: ActorOf, run_id: Id) -> RunPublic:
    """One run as it is now."""
    return platform.database.read(lambda session: runs.public_run(session, actor, run_id))


@router.get("/{run_id}/metrics", operation_id="get_run_metrics")
def get_run_metrics(
    platform: PlatformOf, actor: ActorOf, run_id: Id, after: Annotated[int, Query(ge=0, le=2**31)] = 0
) -> RunMetrics:
    """The epochs after an epoch, for a curve that grows."""

    def read(session: Session) -> RunMetrics:
        run, _ = runs.get_run(session, actor, run_id)
        classes = runs.classes_of(session, run)
        return RunMetrics(classes=classes, epochs=runs.epochs_of(session, actor, run_id, after=after))

    return platform.database.read(read)


@router.get("/{run_id}/log", operation_id="get_run_log", response_class=PlainTextResponse)
def get_run_log(platform: PlatformOf, actor: ActorOf, run_id: Id) -> PlainTextResponse:
    """What the training wrote, the newest part of it, after what happened to its job."""
    run, job = _run(platform, actor, run_id)
    log = _folder(platform, run).log()
    return PlainTextResponse(f"{job.log}\n{log[-_TAIL:]}")


@router.get("/{run_id}/samples", operation_id="list_run_samples")
def list_run_samples(platform: PlatformOf, actor: ActorOf, run_id: Id) -> RunSamples:
    """Names of the run's pictures."""
    run, _ = _run(platform, actor, run_id)
    return RunSamples(samples=_pictures(_folder(platform, run).storage))


@router.get(
    "/{run_id}/samples/picture",
    operation_id="get_run_sample",
    response_class=Response,
    responses=file_of("image/png"),
)
def get_run_sample(platform: PlatformOf, actor: ActorOf, run_id: Id, name: Annotated[SampleName, Query()]) -> Response:
    """A picture of the run, PNG."""
    run, _ = _run(platform, actor, run_id)
    return bytes_answer(_folder(platform, run).storage.read(name), "image/png")


@router.get("/{run_id}/worst-tiles", operation_id="list_worst_tiles_of_run")
def list_worst_tiles_of_run(platform: PlatformOf, actor: ActorOf, run_id: Id) -> list[WorstTilePublic]:
    """Where the model errs most on the validation images, as tiles to correct."""
    return platform.database.read(lambda session: runs.worst_tiles(session, actor, run_id))


@router.post("/{run_id}/cancel", operation_id="cancel_run", status_code=202)
def cancel_run(platform: PlatformOf, actor: ActorOf, run_id: Id) -> RunPublic:
    """End a run within seconds without a model; it can be resumed."""
    return _public(platform, platform.database.write(lambda session: runs.cancel_run(session, actor, run_id)))


@router.post("/{run_id}/stop", operation_id="stop_run", status_code=202)
def stop_run(platform: PlatformOf, actor: ActorOf, run_id: Id) -> RunPublic:
    """End a run within seconds with a model of its best epoch; it can be resumed."""
    return _public(platform, platform.database.write(lambda session: runs.stop_run(session, actor, run_id)))


@router.post("/{run_id}/resume", operation_id="resume_run", status_code=202)
def resume_run(platform: PlatformOf, actor: ActorOf, run_id: Id) -> RunPublic:
    """Go on with a run that failed, was cancelled or was stopped."""
    return _public(
        platform,
        platform.database.write(lambda session: runs.resume_run(session, actor, run_id, platform.settings)),
    )


@router.get("/{run_id}/report", operation_id="get_run_report", response_class=HTMLResponse)
def get_run_report(platform: PlatformOf, actor: ActorOf, run_id: Id, download: bool = False) -> Response:
    """The report of a finished run, one HTML page that opens offline."""
    run, _ = _run(platform, actor, run_id)
    page = render_report(platform.uri(run.key)).encode()
    name = f"{run.name}-{run.number}-report.html"
    log_download(platform, actor, "run", run.id, name)
    return bytes_answer(page, "text/html", name=name if download else None)


@router.get(
    "/{run_id}/report.pdf",
    operation_id="get_run_report_pdf",
    response_class=Response,
    responses=file_of("application/pdf") | documented(501),
)
def get_run_report_pdf(platform: PlatformOf, actor: ActorOf, run_id: Id) -> Response:
    """The report of a finished run as PDF."""
    run, _ = _run(platform, actor, run_id)
    pages = render_pdf(platform.uri(run.key))
    name = f"{run.name}-{run.number}-report.pdf"
    log_download(platform, actor, "run", run.id, name)
    return bytes_answer(pages, "application/pdf", name=name)


@router.get(
    "/{run_id}/tensorboard",
    operation_id="download_run_tensorboard",
    response_class=FileResponse,
    responses=file_of("application/zip"),
)
def download_run_tensorboard(platform: PlatformOf, actor: ActorOf, run_id: Id) -> FileResponse:
    """The curves for TensorBoard, as a ZIP."""
    run, _ = _run(platform, actor, run_id)
    storage = _folder(platform, run).storage
    keys = [stored.key for stored in storage.list_objects("tensorboard")]
    if not keys:
        raise NotFound(f"run {run.number} has no curves yet; wait for its first epoch")
    name = f"{run.name}-{run.number}-tensorboard"
    log_download(platform, actor, "run", run.id, name)
    return zip_answer(name, {key: storage.read(key) for key in keys})


@router.delete("/{run_id}", operation_id="delete_run", status_code=204)
def delete_run(platform: PlatformOf, actor: ActorOf, run_id: Id) -> None:
    """Into the trash; the model stays."""
    platform.database.write(lambda session: runs.delete_run(session, actor, platform, run_id))


def _run(platform: Platform, actor: Actor, run_id: str) -> tuple[Run, Job]:
    return platform.database.read(lambda session: runs.get_run(session, actor, run_id))


def _folder(platform: Platform, run: Run) -> RunFolder:
    return RunFolder(platform.uri(run.key))


def _public(platform: Platform, run: Run) -> RunPublic:
    def read(session: Session) -> RunPublic:
        return runs.public_runs(session, [session.get_one(Run, run.id)])[0]

    return platform.database.read(read)


def _pictures(storage: Storage) -> list[str]:
    return [
        stored.key
        for area in ("samples", "evaluation")
        for stored in storage.list_objects(area)
        if stored.key.endswith(".png")
    ]
