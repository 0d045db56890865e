"""Projects and their classes."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from sqlmodel import Session

from axons.app.rest.context import PAGE, ActorOf, Cursor, Id, Limit, Page, PlatformOf
from axons.app.services import class_schemas, label_classes, projects, samples, travel
from axons.app.services.access import get_project
from axons.app.services.class_schemas import SchemaImport
from axons.app.services.jobs import JobPublic, public_jobs
from axons.app.services.label_classes import ClassCreate, ClassUpdate
from axons.app.services.limits import TrainingLimits, training_limits
from axons.app.services.projects import ClassPublic, ProjectCreate, ProjectDetail, ProjectPublic, ProjectUpdate
from axons.app.services.samples import SamplePublic
from axons.app.services.travel import ProjectImport

router = APIRouter(prefix="/projects", tags=["projects"])

Search = Annotated[str, Query(max_length=120, pattern="^[^\\x00-\\x1f]*$", description="Part of the name.")]
ClassIndex = Annotated[int, Path(ge=0, le=252)]


@router.post("", status_code=201, operation_id="create_project")
def create_project(platform: PlatformOf, actor: ActorOf, form: ProjectCreate) -> ProjectDetail:
    """Create a project with its classes, background first."""

    def create(session: Session) -> ProjectDetail:
        project = projects.create_project(session, actor, form, keeps_originals=platform.settings.keep_originals)
        session.flush()
        return projects.detail(session, actor, project)

    return platform.database.write(create)


@router.get("", operation_id="list_projects")
def list_projects(
    platform: PlatformOf,
    actor: ActorOf,
    search: Search = "",
    is_archived: bool = False,
    cursor: Cursor = None,
    limit: Limit = PAGE,
) -> Page[ProjectPublic]:
    """Projects that you see, by name."""

    def answer(session: Session) -> Page[ProjectPublic]:
        rows, following = projects.list_projects(
            session, actor, search=search, is_archived=is_archived, cursor=cursor, limit=limit
        )
        return Page(items=[projects.public(session, actor, project) for project in rows], next=following)

    return platform.database.read(answer)


@router.post(":import", status_code=202, operation_id="import_project")
def import_project(platform: PlatformOf, actor: ActorOf, form: ProjectImport) -> JobPublic:
    """Unpack a project that was exported elsewhere, as a job; it is yours, and its training sets keep their hashes."""
    return platform.database.write(
        lambda session: public_jobs(session, [travel.start_project_import(session, actor, platform, form)])[0]
    )


@router.get(":sample", operation_id="get_sample")
def show_sample(platform: PlatformOf, actor: ActorOf) -> SamplePublic:
    """Whether there is a sample project to try, and your own copy of it."""
    return platform.database.read(lambda session: samples.show_sample(session, actor))


@router.post(":sample", operation_id="open_sample")
def open_sample(platform: PlatformOf, actor: ActorOf) -> ProjectDetail:
    """Your own sample project with images and labels; it is made if you have none."""
    return platform.database.write(lambda session: projects.detail(session, actor, samples.open_sample(session, actor)))


@router.get("/{project_id}/training-limits", operation_id="get_training_limits")
def show_training_limits(platform: PlatformOf, actor: ActorOf, project_id: Id) -> TrainingLimits:
    """What you may train in a project, and how much of it you have used."""
    return platform.database.read(lambda session: training_limits(session, actor, project_id, platform.settings))


@router.get("/{project_id}", operation_id="get_project")
def show_project(platform: PlatformOf, actor: ActorOf, project_id: Id) -> ProjectDetail:
    """A project, its classes, and how far it has come."""
    return platform.database.read(
        lambda session: projects.detail(session, actor, get_project(session, actor, project_id))
    )


@router.patch("/{project_id}", operation_id="update_project")
def update_project(platform: PlatformOf, actor: ActorOf, project_id: Id, form: ProjectUpdate) -> ProjectDetail:
    """Rename a project, describe it, or put it into the archive; its owner may."""
    return platform.database.write(
        lambda session: projects.detail(session, actor, projects.update_project(session, actor, project_id, form))
    )


@router.delete("/{project_id}", status_code=204, operation_id="delete_project")
def delete_project(platform: PlatformOf, actor: ActorOf, project_id: Id) -> Response:
    """Put a project into the trash, from where it can be restored for some days; its owner may."""
    days = platform.settings.trash_days
    platform.database.write(lambda session: projects.delete_project(session, actor, project_id, trash_days=days))
    return Response(status_code=204)


@router.get("/{project_id}/classes", operation_id="list_classes")
def list_classes(platform: PlatformOf, actor: ActorOf, project_id: Id) -> list[ClassPublic]:
    """The classes by index, with those that were deleted."""

    def answer(session: Session) -> list[ClassPublic]:
        project = get_project(session, actor, project_id)
        return [projects.class_public(row) for row in label_classes.classes_of(session, project.id)]

    return platform.database.read(answer)


@router.post("/{project_id}/classes", status_code=201, operation_id="create_class")
def create_class(platform: PlatformOf, actor: ActorOf, project_id: Id, form: ClassCreate) -> ClassPublic:
    """Add a class; it gets the next index."""
    return platform.database.write(
        lambda session: projects.class_public(label_classes.add_class(session, actor, project_id, form))
    )


@router.post("/{project_id}/classes:import", status_code=201, operation_id="import_classes")
def import_classes(platform: PlatformOf, actor: ActorOf, project_id: Id, form: SchemaImport) -> list[ClassPublic]:
    """Add the classes of a Django Labeller schema that the project lacks; gives those."""

    def answer(session: Session) -> list[ClassPublic]:
        project = get_project(session, actor, project_id, "edit")
        added = class_schemas.add_schema(session, actor, project.id, form)
        return [projects.class_public(row) for row in added]

    return platform.database.write(answer)


@router.patch("/{project_id}/classes/{index}", operation_id="update_class")
def update_class(
    platform: PlatformOf, actor: ActorOf, project_id: Id, index: ClassIndex, form: ClassUpdate
) -> ClassPublic:
    """Rename or recolour a class."""
    return platform.database.write(
        lambda session: projects.class_public(label_classes.update_class(session, actor, project_id, index, form))
    )


@router.delete("/{project_id}/classes/{index}", status_code=204, operation_id="delete_class")
def delete_class(platform: PlatformOf, actor: ActorOf, project_id: Id, index: ClassIndex) -> Response:
    """Offer a class no longer; 409 while tiles have pixels of it."""
    platform.database.write(lambda session: label_classes.delete_class(session, actor, project_id, index))
    return Response(status_code=204)
