"""Projects, and how far each has come."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func
from sqlmodel import Session, col, select

from axons.app.policy import Actor, require
from axons.app.services import audit, label_classes
from axons.app.services.access import get_project, is_switched_on, project_role, visible_projects
from axons.app.services.paging import page_of
from axons.app.services.trash import throw_away
from axons.app.tables import (
    Classroom,
    Image,
    LabelClass,
    Membership,
    Model,
    Prediction,
    Project,
    Tile,
    Tiling,
    TrainingSet,
    User,
    now,
)
from axons.app.texts import ClassName, LongText, Name
from axons.errors import NotAllowed, NotFound

TileSide = Annotated[int, Field(ge=64, le=2048, description="Side of the annotation tiles, px.")]
Threshold = Annotated[float, Field(ge=0, le=1, description="Mean IoU from which a model is ready.")]


class ProjectCreate(BaseModel):
    """A new project."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: LongText = ""
    instructions: LongText = ""
    tile: TileSide = 256
    threshold: Threshold = 0.6
    classes: list[ClassName] = Field(
        ["background", "object"], min_length=1, max_length=253, description="Names, background first."
    )
    classroom_id: str | None = Field(None, max_length=64, pattern="^[A-Za-z0-9_-]+$")
    keeps_originals: bool | None = Field(None, description="Keep uploaded files as they came; by default the server's.")


class ProjectUpdate(BaseModel):
    """What shall change; fields that are left out stay."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    description: LongText | None = None
    instructions: LongText | None = None
    threshold: Threshold | None = None
    is_archived: bool | None = None


class ClassPublic(BaseModel):
    """A label class; `index` is what pixels hold and never changes."""

    index: int
    name: str
    colour: str
    is_deleted: bool


class Stage(BaseModel):
    """One stage of the pipeline: `text` says what is there, or what is missing."""

    name: Literal["images", "labels", "training-set", "model", "prediction"]
    state: Literal["done", "now", "next"]
    count: int
    text: str


class ProjectPublic(BaseModel):
    """A project as its members see it."""

    id: str
    name: str
    description: str
    instructions: str
    tile: int
    threshold: float
    owner_id: str
    owner_name: str
    classroom_id: str | None
    assignment_id: str | None
    keeps_originals: bool
    role: str
    num_images: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class ProjectDetail(ProjectPublic):
    """A project with its classes and its way through the pipeline."""

    classes: list[ClassPublic]
    stages: list[Stage]
    num_tiles: int
    num_tiles_by_status: dict[str, int]
    stored_bytes: int


def create_project(session: Session, actor: Actor, form: ProjectCreate, *, keeps_originals: bool = False) -> Project:
    """A project with its classes and its first tiling.

    Raises:
        NotAllowed: the role, or an educator of the actor's, does not allow it.
        NotFound: the actor is not in the classroom.
        Conflict: two classes share a name.
    """
    check_may_create(session, actor, form.classroom_id)
    keeps = keeps_originals if form.keeps_originals is None else form.keeps_originals
    fields = form.model_dump(exclude={"classes", "keeps_originals"})
    project = Project(**fields, owner_id=actor.user_id, keeps_originals=keeps)
    session.add(project)
    session.flush()
    label_classes.add_first(session, project, form.classes)
    session.add(Tiling(project_id=project.id, tile=project.tile, created_by=actor.user_id))
    audit.record(session, actor, "project.create", "project", project.id, name=project.name)
    return project


def check_may_create(session: Session, actor: Actor, classroom_id: str | None) -> None:
    """Refuse a new project, in a classroom or outside.

    Raises:
        NotAllowed: the role, or an educator of the actor's, does not allow it.
        NotFound: there is no such classroom, or the actor is not in it.
    """
    require(actor, "project.create")
    if actor.is_administrator:
        if classroom_id is not None and session.get(Classroom, classroom_id) is None:
            raise NotFound(f"there is no classroom {classroom_id!r}; look at the list of classrooms")
        return
    asked = (
        select(Classroom)
        .join(Membership, col(Membership.classroom_id) == Classroom.id)
        .where(col(Membership.user_id) == actor.user_id, col(Classroom.archived_at).is_(None))
    )
    classrooms = {classroom.id: classroom for classroom in session.exec(asked)}
    if classroom_id is not None and classroom_id not in classrooms:
        raise NotFound(f"there is no classroom {classroom_id!r}; look at the list of your classrooms")
    for classroom in classrooms.values():
        if not is_switched_on(session, actor, classroom.id, "may_create_projects"):
            raise NotAllowed(f"students of {classroom.name!r} do not create projects of their own; ask your educator")


def list_projects(
    session: Session,
    actor: Actor,
    *,
    search: str = "",
    is_archived: bool = False,
    cursor: str | None = None,
    limit: int,
) -> tuple[list[Project], str | None]:
    """Projects that the actor sees, by name, and the cursor of the next page."""
    asked = select(Project).where(visible_projects(actor), col(Project.deleted_at).is_(None))
    archived_at = col(Project.archived_at)
    asked = asked.where(archived_at.is_not(None) if is_archived else archived_at.is_(None))
    if search:
        asked = asked.where(func.lower(Project.name).contains(search.lower(), autoescape=True))
    return page_of(session, asked, [col(Project.name), col(Project.id)], cursor=cursor, limit=limit)


def update_project(session: Session, actor: Actor, project_id: str, form: ProjectUpdate) -> Project:
    """Change what people write about a project, or put it into the archive or take it out."""
    project = get_project(session, actor, project_id, "manage")
    changes = form.model_dump(exclude_none=True, exclude={"is_archived"})
    project.sqlmodel_update(changes)
    if form.is_archived is not None and form.is_archived != (project.archived_at is not None):
        project.archived_at = now() if form.is_archived else None
        action = "project.archive" if form.is_archived else "project.unarchive"
        audit.record(session, actor, action, "project", project.id, name=project.name)
    project.updated_at = now()
    session.add(project)
    return project


def delete_project(session: Session, actor: Actor, project_id: str, *, trash_days: float) -> None:
    """Put a project into the trash."""
    throw_away(session, actor, "project", get_project(session, actor, project_id, "manage"), days=trash_days)


def public(session: Session, actor: Actor, project: Project) -> ProjectPublic:
    """A project as the actor sees it."""
    return ProjectPublic(**_public_fields(session, actor, project))


def detail(session: Session, actor: Actor, project: Project) -> ProjectDetail:
    """A project with all that its page shows."""
    by_status = _tiles_by_status(session, project)
    return ProjectDetail(
        **_public_fields(session, actor, project),
        classes=[class_public(row) for row in label_classes.classes_of(session, project.id)],
        stages=_stages(session, project, by_status),
        num_tiles=sum(by_status.values()),
        num_tiles_by_status=by_status,
        stored_bytes=stored_bytes(session, project.id),
    )


def class_public(row: LabelClass) -> ClassPublic:
    """A class as the API shows it."""
    return ClassPublic(index=row.index, name=row.name, colour=row.colour, is_deleted=row.deleted_at is not None)


def stored_bytes(session: Session, project_id: str) -> int:
    """Bytes of the images of a project; copies of a project share theirs, and each counts them."""
    total = select(func.coalesce(func.sum(Image.stored_bytes), 0)).where(col(Image.project_id) == project_id)
    return int(session.exec(total).one())


def _public_fields(session: Session, actor: Actor, project: Project) -> dict[str, Any]:
    owner = session.get_one(User, project.owner_id)
    return {
        **project.model_dump(exclude={"copied_from", "deleted_at"}),
        "owner_name": owner.display_name or owner.name,
        "role": project_role(session, actor, project),
        "num_images": _count(session, Image, project),
    }


def _count(session: Session, table: type[Any], project: Project, *conditions: Any) -> int:
    live = (col(table.project_id) == project.id, col(table.deleted_at).is_(None))
    return int(session.exec(select(func.count()).select_from(table).where(*live, *conditions)).one())


def _tiles_by_status(session: Session, project: Project) -> dict[str, int]:
    asked = (
        select(Tile.status, func.count())
        .join(Tiling, col(Tile.tiling_id) == Tiling.id)
        .join(Image, col(Tile.image_id) == Image.id)
        .where(col(Tile.project_id) == project.id, col(Tiling.is_current), col(Image.deleted_at).is_(None))
        .group_by(col(Tile.status))
    )
    return {"unlabelled": 0, "started": 0, "done": 0, **dict(session.exec(asked).all())}


def _stages(session: Session, project: Project, by_status: dict[str, int]) -> list[Stage]:
    num_labelled = by_status["started"] + by_status["done"]
    found: list[tuple[Literal["images", "labels", "training-set", "model", "prediction"], int, str, str]] = [
        ("images", _count(session, Image, project), "images", "import images"),
        ("labels", num_labelled, f"of {sum(by_status.values())} tiles have labels", "label a few tiles"),
        (
            "training-set",
            _count(session, TrainingSet, project, col(TrainingSet.state) == "ready"),
            "training sets",
            "choose labelled images for a training set",
        ),
        ("model", _count(session, Model, project), "models", "train a model"),
        (
            "prediction",
            _count(session, Prediction, project, col(Prediction.state) == "done"),
            "predictions",
            "apply the model to a new image",
        ),
    ]
    is_reached = True
    stages = []
    for name, count, there, missing in found:
        state: Literal["done", "now", "next"] = "done" if count else "now" if is_reached else "next"
        is_reached = is_reached and bool(count)
        stages.append(Stage(name=name, state=state, count=count, text=f"{count} {there}" if count else missing))
    return stages
