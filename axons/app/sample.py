"""The sample project of the first start, made through the services like anybody's, so that there is a model to try."""

import logging
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlmodel import Session, SQLModel, col, select

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services import annotation_files, audit, imports, models, projects, runs, samples, training_sets, uploads
from axons.app.services.annotation_files import AnnotationImportCreate
from axons.app.services.imports import ImportCreate
from axons.app.services.projects import ProjectCreate
from axons.app.services.runs import RunCreate
from axons.app.services.training_sets import TrainingSetCreate
from axons.app.services.uploads import Purpose, UploadCreate
from axons.app.tables import FINAL_STATES, Job, Model, Project, Run, TrainingSet, User
from axons.data.sample import SAMPLE_CLASSES, write_sample
from axons.errors import AxonsError, JobFailed
from axons.train.config import TrainConfig

NAME = "Sample: nerve fibres"
MINUTES = 1.0

_LOOK_EVERY_S = 1.0
_LOG = logging.getLogger("axons.sample")

_T = TypeVar("_T", bound=SQLModel)


def start_sample(platform: Platform) -> threading.Thread:
    """Install the sample in a thread; what goes wrong is in the log, and the next start takes it up again."""

    def install() -> None:
        try:
            install_sample(platform)
        except AxonsError as error:
            _LOG.error("the sample project is not complete: %s", error)
        except Exception:  # the outer edge of the thread
            _LOG.exception("the sample project is not complete")

    thread = threading.Thread(target=install, name="sample", daemon=True)
    thread.start()
    return thread


def install_sample(platform: Platform) -> None:
    """Make the project, its training set and its model, going on where an earlier start was interrupted.

    Somebody who has deleted the project does not get it again.

    Raises:
        JobFailed: one of its jobs failed; whoever owns the project sees why.
    """
    actor, project = platform.database.write(_project)
    if project is None or _last(platform, Model, project.id) is not None:
        return
    jobs = {job.kind + str(job.request.get("purpose", "")): job.id for job in _jobs(platform, project.id)}
    if "importannotations" not in jobs:
        with tempfile.TemporaryDirectory() as folder:
            images, masks = _draw(Path(folder))
            _wait(platform, jobs.get("importimages") or _import(platform, actor, project, images, "images"))
            jobs["importannotations"] = _import(platform, actor, project, masks, "annotations")
    _wait(platform, jobs["importannotations"])
    training_set = _last(platform, TrainingSet, project.id) or _freeze(platform, actor, project)
    _wait(platform, platform.database.read(lambda s: training_sets.job_ids(s, [training_set])[training_set.id]))
    run = _last(platform, Run, project.id) or _train(platform, actor, training_set)
    assert run.job_id is not None
    _wait(platform, run.job_id)
    _share(platform, actor, project)


def _project(session: Session) -> tuple[Actor, Project | None]:
    """The first administrator, and the project; None where it was deleted."""
    administrators = select(User).where(col(User.role) == "administrator").order_by(col(User.created_at))
    actor = Actor.of(session.exec(administrators).first() or _nobody())
    made = samples.find_sample(session)
    if made is not None:
        project = session.get(Project, made)
        return actor, None if project is None or project.deleted_at is not None else project
    form = ProjectCreate(
        name=NAME,
        description="Eight micrographs of a nerve, drawn in code, with their exact labels: look around and try things.",
        classes=list(SAMPLE_CLASSES),
    )
    project = projects.create_project(session, actor, form)
    audit.record(session, actor, samples.INSTALLED, "project", project.id)
    return actor, project


def _nobody() -> User:
    raise AxonsError("there is no administrator to own the sample project; start with `axons up`")


def _draw(folder: Path) -> tuple[Path, Path]:
    """A ZIP of the images and one of the masks."""
    write_sample(folder)
    packed = []
    for name in ("images", "masks"):
        target = folder / f"{name}.zip"
        with zipfile.ZipFile(target, "w") as archive:
            for path in sorted((folder / name).iterdir()):
                archive.write(path, path.name)
        packed.append(target)
    return packed[0], packed[1]


def _import(platform: Platform, actor: Actor, project: Project, file: Path, purpose: Purpose) -> str:
    form = UploadCreate(name=file.name, num_bytes=file.stat().st_size, purpose=purpose, project_id=project.id)
    upload = uploads.create_upload(platform, actor, form)
    content = file.read_bytes()
    for number in range(uploads.num_parts(upload)):
        part = file.with_suffix(f".{number}")
        part.write_bytes(content[number * upload.part_bytes : (number + 1) * upload.part_bytes])
        uploads.add_part(platform, actor, upload.id, number, part)
    uploads.complete_upload(platform, actor, upload.id)

    def start(session: Session) -> str:
        if purpose == "images":
            chosen = ImportCreate(uploads=[upload.id])
            return imports.start_import(session, actor, project.id, chosen, settings=platform.settings).id
        labels = AnnotationImportCreate(uploads=[upload.id])
        return annotation_files.start_annotation_import(session, actor, project.id, labels).id

    return platform.database.write(start)


def _freeze(platform: Platform, actor: Actor, project: Project) -> TrainingSet:
    form = TrainingSetCreate(name="sample")
    return platform.database.write(lambda s: training_sets.create_training_set(s, actor, project.id, form))


def _train(platform: Platform, actor: Actor, training_set: TrainingSet) -> Run:
    form = RunCreate(training_set_id=training_set.id, name="nerve", config=TrainConfig(minutes=MINUTES))
    return runs.start_run(platform, actor, form)


def _share(platform: Platform, actor: Actor, project: Project) -> None:
    """Everybody may try the model."""
    model = _last(platform, Model, project.id)
    if model is not None:
        platform.database.write(lambda s: models.share(s, actor, model.id, "everyone"))


def _wait(platform: Platform, job_id: str) -> None:
    find: Callable[[Session], Job] = lambda session: session.get_one(Job, job_id)  # noqa: E731
    while (job := platform.database.read(find)).state not in FINAL_STATES:
        time.sleep(_LOOK_EVERY_S)
    if job.state != "done":
        raise JobFailed(f"{job.kind} {job.state}: {job.reason}")


def _jobs(platform: Platform, project_id: str) -> list[Job]:
    asked = select(Job).where(col(Job.project_id) == project_id)
    return platform.database.read(lambda session: list(session.exec(asked).all()))


def _last(platform: Platform, table: type[_T], project_id: str) -> _T | None:
    """The newest row of the project in a table."""
    columns = table.__table__.columns  # type: ignore[attr-defined]  # every table of ours has them
    asked = select(table).where(columns.project_id == project_id).order_by(columns.created_at.desc())
    return platform.database.read(lambda session: session.exec(asked).first())
