"""Models: versions, verdict, promotion, sharing, import."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import Session, col, func, select, update

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services import audit
from axons.app.services.access import get_project, is_switched_on, teaches, visible_projects
from axons.app.services.classrooms import get_classroom
from axons.app.services.paging import page_of
from axons.app.services.trash import throw_away
from axons.app.services.turns import take_turns
from axons.app.services.uploads import get_upload, release_uploads
from axons.app.tables import Membership, Model, Project, Upload
from axons.app.texts import Identifier, Name
from axons.data.storage import new_key, sha256_of
from axons.data.training_set import LabelClass
from axons.errors import Conflict, InvalidRequest, ModelRefused, NotAllowed, NotFound
from axons.model.files import CARD, CROPS, WEIGHTS, ModelCard, import_weights, load_weights
from axons.model.network import STRIDE, Architecture, NetworkSpec
from axons.model.normalisation import Normalisation

_Finite = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

Visibility = Literal["private", "classroom", "everyone"]


class ModelPublic(BaseModel):
    """A version of a model.

    Args:
        verdict: against the threshold of its project.
    """

    id: str
    project_id: str
    run_id: str | None
    name: str
    version: int
    sha256: str
    card: dict[str, Any]
    mean_iou: float | None
    threshold: float
    verdict: Literal["ready", "needs improvement"]
    visibility: Visibility
    is_promoted: bool
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, model: Model, project: Project) -> "ModelPublic":
        """The public part of a row."""
        fields = model.model_dump(include=set(cls.model_fields))
        verdict = "ready" if is_ready(model, project) else "needs improvement"
        return cls(**fields, threshold=project.threshold, verdict=verdict)


class ModelImport(BaseModel):
    """Weights that somebody brings: a safetensors file that was uploaded for a model.

    Give either the card that came with it (`model.json`), or everything that a card would say.
    """

    model_config = ConfigDict(extra="forbid")

    upload_id: Identifier
    project_id: Identifier
    name: Name
    card: dict[str, Any] | None = None
    architecture: Architecture | None = None
    encoder: str | None = Field(default=None, max_length=60)
    channels: Literal[1, 3] = 1
    classes: list[LabelClass] = Field(default=[], max_length=253)
    mean: list[_Finite] = Field(default=[], max_length=3)
    std: list[_Finite] = Field(default=[], max_length=3)
    crop: int = Field(default=256, ge=STRIDE, le=2048, multiple_of=STRIDE)

    @model_validator(mode="after")
    def _check(self) -> "ModelImport":
        if self.card is None and (self.architecture is None or self.encoder is None or len(self.classes) < 2):
            raise ValueError("neither a card nor architecture, encoder and two or more classes are given; give one")
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, self.channels):
            raise ValueError(f"mean and std need one value for each of {self.channels} channels, or none at all")
        return self


def is_ready(model: Model, project: Project) -> bool:
    """Whether the model reaches the threshold of its project."""
    return model.mean_iou is not None and model.mean_iou >= project.threshold


def visible_models(actor: Actor) -> ColumnElement[bool]:
    """The condition on `Model` rows, joined with their `Project`, that the actor may see."""
    classmate = select(Membership.classroom_id).where(col(Membership.user_id) == actor.user_id)
    return or_(
        visible_projects(actor),
        col(Model.visibility) == "everyone",
        and_(col(Model.visibility) == "classroom", col(Project.classroom_id).in_(classmate)),
    )


def get_model(session: Session, actor: Actor, model_id: str) -> tuple[Model, Project]:
    """A model the actor sees, with its project.

    Raises:
        NotFound: there is none for the actor.
    """
    found = session.exec(_models(actor).where(col(Model.id) == model_id)).first()
    if found is None:
        raise NotFound(f"there is no model {model_id!r}; look at the list of models")
    return found


def list_models(
    session: Session,
    actor: Actor,
    *,
    project_id: str | None,
    name: str | None,
    is_promoted: bool | None,
    cursor: str | None,
    limit: int,
) -> tuple[list[ModelPublic], str | None]:
    """Models the actor sees, the newest first: all, or those of a project or name."""
    statement: Any = select(Model).join(Project, col(Model.project_id) == Project.id).where(*_open(actor))
    if project_id is not None:
        statement = statement.where(col(Model.project_id) == project_id)
    if name is not None:
        statement = statement.where(col(Model.name) == name)
    if is_promoted is not None:
        statement = statement.where(col(Model.is_promoted).is_(is_promoted))
    keys = [col(Model.created_at), col(Model.id)]
    models, following = page_of(session, statement, keys, cursor=cursor, limit=limit, newest_first=True)
    return public_models(session, models), following


def list_class_models(
    session: Session, actor: Actor, classroom_id: str, *, cursor: str | None, limit: int
) -> tuple[list[ModelPublic], str | None]:
    """Models that are shared with a class, the newest first.

    Raises:
        NotFound: there is no class of this id for the actor.
    """
    get_classroom(session, actor, classroom_id)
    is_shared = (col(Model.visibility) == "classroom", col(Project.classroom_id) == classroom_id)
    statement: Any = select(Model).join(Project, col(Model.project_id) == Project.id).where(*_open(actor), *is_shared)
    keys = [col(Model.created_at), col(Model.id)]
    models, following = page_of(session, statement, keys, cursor=cursor, limit=limit, newest_first=True)
    return public_models(session, models), following


def public_models(session: Session, models: Sequence[Model]) -> list[ModelPublic]:
    """The public parts of rows."""
    return [ModelPublic.of(model, session.get_one(Project, model.project_id)) for model in models]


def promote(session: Session, actor: Actor, model_id: str) -> Model:
    """Make this the version that is served under its name; the next prediction uses it.

    Raises:
        Conflict: it needs improvement; an educator may promote it all the same.
        NotFound, NotAllowed: see `get_project`.
    """
    model, project = get_model(session, actor, model_id)
    get_project(session, actor, project.id, "edit")
    if not is_ready(model, project) and not _may_overrule(session, actor, project):
        score = "no score" if model.mean_iou is None else f"a mean IoU of {model.mean_iou:.3f}"
        raise Conflict(
            f"version {model.version} of {model.name!r} has {score} and the project asks for {project.threshold:g}; "
            "train it further, or ask your educator"
        )
    _switch(session, model)
    audit.record(session, actor, "model.promote", "model", model.id, name=model.name, version=model.version)
    return model


def roll_back(session: Session, actor: Actor, model_id: str) -> Model:
    """Promote the newest version that is older than this one and may be promoted, in one call.

    Raises:
        Conflict: there is none.
    """
    model, project = get_model(session, actor, model_id)
    get_project(session, actor, project.id, "edit")
    older = session.exec(
        select(Model)
        .where(*_same_name(model), col(Model.version) < model.version, col(Model.deleted_at).is_(None))
        .order_by(col(Model.version).desc())
    ).all()
    may_overrule = _may_overrule(session, actor, project)
    target = next((row for row in older if may_overrule or is_ready(row, project)), None)
    if target is None:
        raise Conflict(f"{model.name!r} has no usable version before {model.version}; there is nothing to go back to")
    _switch(session, target)
    audit.record(session, actor, "model.rollback", "model", target.id, name=target.name, version=target.version)
    return target


def share(session: Session, actor: Actor, model_id: str, visibility: Visibility) -> Model:
    """Let others use a model.

    Raises:
        NotAllowed: the educators of the classroom do not allow their students to share.
        InvalidRequest: the project is in no classroom.
    """
    model, project = get_model(session, actor, model_id)
    get_project(session, actor, project.id, "edit")
    if visibility != "private" and not is_switched_on(session, actor, project.classroom_id, "may_share_models"):
        raise NotAllowed("your class does not share models; ask your educator to allow it")
    if visibility == "classroom" and project.classroom_id is None:
        raise InvalidRequest("visibility", "the project is in no classroom; share with everyone or keep it private")
    model.visibility = visibility
    audit.record(session, actor, "model.share", "model", model.id, visibility=visibility)
    return model


def delete_model(session: Session, actor: Actor, platform: Platform, model_id: str) -> None:
    """Into the trash; it is served no longer."""
    model, project = get_model(session, actor, model_id)
    get_project(session, actor, project.id, "edit")
    model.is_promoted = False
    throw_away(session, actor, "model", model, days=platform.settings.trash_days)


def import_model(platform: Platform, actor: Actor, form: ModelImport) -> Model:
    """Make a model of uploaded safetensors.

    Raises:
        ModelRefused: the weights do not fit, or are damaged.
        Conflict: the upload is not complete; InvalidRequest: it is for something else.
    """

    def check(session: Session) -> Upload:
        get_project(session, actor, form.project_id, "edit")
        upload = get_upload(session, actor, form.upload_id)
        if upload.purpose != "model":
            raise InvalidRequest("upload_id", f"the upload is for {upload.purpose}; send it again for a model")
        if upload.state != "complete":
            raise Conflict(f"upload {upload.id!r} is {upload.state}; complete it first")
        return upload

    upload = platform.database.read(check)
    key = new_key("models")
    weights = platform.storage.local_path(upload.key)
    card = _write_import(platform, form, weights, key=key, file_name=upload.name)

    def create(session: Session) -> Model:
        project = get_project(session, actor, form.project_id, "edit")
        take_turns(session, project)
        same = (col(Model.project_id) == project.id, col(Model.name) == form.name)
        newest = session.exec(select(func.max(Model.version)).where(*same)).one() or 0
        model = Model(
            project_id=project.id,
            name=form.name,
            version=newest + 1,
            key=key,
            sha256=card.sha256,
            card=card.model_dump(mode="json"),
            created_by=actor.user_id,
        )
        session.add(model)
        release_uploads(session, [form.upload_id])
        audit.record(session, actor, "model.import", "model", model.id, name=model.name, sha256=model.sha256)
        return model

    return platform.database.write(create)


def model_files() -> tuple[str, ...]:
    """The files of a model's folder, in a download."""
    return (CARD, WEIGHTS, CROPS)


def _write_import(platform: Platform, form: ModelImport, weights: Path, *, key: str, file_name: str) -> ModelCard:
    if form.card is not None:
        document = {**form.card, "sha256": sha256_of(weights), "crops_sha256": None}
        try:
            text = json.dumps(document, allow_nan=False)
        except ValueError as error:
            raise ModelRefused("the model card has a number that is not finite; correct it") from error
        card = ModelCard.unpacked(text, name="the model card", error=ModelRefused)
        # Scores that were measured elsewhere are told nowhere as ours.
        card = card.model_copy(
            update={"scores": {}, "origin": card.origin.model_copy(update={"run": None, "imported_from": file_name})}
        )
        load_weights(card.spec, weights)
        target = platform.storage.at(key)
        target.write(WEIGHTS, weights)
        target.write(CARD, card.packed())
        return card
    assert form.architecture is not None and form.encoder is not None  # the form has checked it
    spec = NetworkSpec(
        architecture=form.architecture, encoder=form.encoder, channels=form.channels, num_classes=len(form.classes)
    )
    if form.mean:
        normalisation = Normalisation(kind="training set", mean=form.mean, std=form.std)
    else:
        normalisation = Normalisation(kind="image", mean=[0.5] * form.channels, std=[0.25] * form.channels)
    return import_weights(
        weights,
        spec=spec,
        classes=form.classes,
        normalisation=normalisation,
        crop=form.crop,
        target_uri=platform.uri(key),
        name=file_name,
    )


def _models(actor: Actor) -> Any:
    return select(Model, Project).join(Project, col(Model.project_id) == Project.id).where(*_open(actor))


def _open(actor: Actor) -> tuple[ColumnElement[bool], ...]:
    return (col(Model.deleted_at).is_(None), col(Project.deleted_at).is_(None), visible_models(actor))


def _same_name(model: Model) -> tuple[ColumnElement[bool], ...]:
    return (col(Model.project_id) == model.project_id, col(Model.name) == model.name)


def _switch(session: Session, model: Model) -> None:
    """The old version first: only one of a name may be promoted at any moment."""
    session.exec(update(Model).where(*_same_name(model), col(Model.is_promoted)).values(is_promoted=False))
    session.exec(update(Model).where(col(Model.id) == model.id).values(is_promoted=True))
    session.refresh(model)


def _may_overrule(session: Session, actor: Actor, project: Project) -> bool:
    return actor.role != "student" or teaches(session, actor, project.classroom_id)
