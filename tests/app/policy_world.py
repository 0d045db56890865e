"""Two classes with everything that a route can name in one of them, made once and copied for each test."""

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlmodel import select
from starlette.testclient import TestClient

from axons.app import passwords
from axons.app.migrate import migrate
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.settings import Settings
from axons.app.tables import (
    Assignment,
    Classroom,
    Evaluation,
    Example,
    HandIn,
    Invitation,
    Job,
    Mark,
    Membership,
    Model,
    Prediction,
    Project,
    ProjectMember,
    Revision,
    Run,
    Tile,
    Token,
    TrainingSet,
    Trash,
    Upload,
    User,
    new_id,
    now,
)
from axons.data.layers import annotation_of, crc32, pack, to_json
from tests.app.browser import ADDRESS
from tests.app.conftest import add_user
from tests.app.images import add_images, add_project, png
from tests.app.serving import the_app, with_scope
from tests.serve.models import make_card

ACTORS = ("anonymous", "owner", "classmate", "outsider", "teacher", "other teacher", "administrator")
SECRET = "kept between us"  # in everything that only the owner's side may read
TITLE = "the task of class 4b"
EXAMPLE = "projects/example.png"
PLANE = np.zeros((64, 64), np.uint8)
LABELS = to_json(annotation_of(PLANE)) | {"crc32": crc32(PLANE)}


@dataclass(frozen=True)
class World:
    """Where it lies, the ids of what is in it by the name of the path parameter, and each actor's account."""

    settings: Settings
    ids: dict[str, Any]
    people: dict[str, Actor]


def make_world(folder: Path, database_url: str | None = None) -> World:
    """Everything in class 4b belongs to the owner; the outsider and the other teacher are in class 4c."""
    settings = Settings(data=folder, database_url=database_url)
    migrate(settings.database)
    platform = Platform.open(settings)
    people = {
        "owner": add_user(platform, "owner"),
        "classmate": add_user(platform, "classmate"),
        "outsider": add_user(platform, "outsider"),
        "teacher": add_user(platform, "teacher", "educator"),
        "other teacher": add_user(platform, "other-teacher", "educator"),
        "administrator": add_user(platform, "administrator", "administrator"),
    }
    classroom_id = platform.database.write(lambda session: _add_classes(session, people))
    project = add_project(platform, people["owner"], name=SECRET, classroom_id=classroom_id)
    (image,) = add_images(platform, people["owner"], project, folder)
    platform.storage.write(EXAMPLE, png(PLANE))
    ids = platform.database.write(lambda session: _add_things(session, people, project, image.id))
    platform.database.close()
    return World(settings=settings, ids=ids, people=people)


def copy_world(world: World, folder: Path) -> Platform:
    """The platform on a fresh copy of the database; the storage is shared."""
    path = folder / f"{new_id()}.db"
    shutil.copy(world.settings.data / "axons.db", path)
    settings = Settings(data=folder, database_url=f"sqlite:///{path}", storage_url=str(world.settings.data / "storage"))
    return Platform.open(settings)


def client_of(platform: Platform, actor: str, segment=None) -> TestClient:
    """REST through the gate, as one of the actors."""
    headers = {"authorization": f"Bearer {actor}"} if actor != "anonymous" else {}
    app = with_scope(the_app(platform), {}, segment)
    return TestClient(app, ADDRESS, False, headers=headers, follow_redirects=False)


def _add_classes(session: Any, people: dict[str, Actor]) -> str:
    """Both classes and everybody's token; gives the id of class 4b."""
    classrooms = []
    for name, students, teacher in (("4b", ("owner", "classmate"), "teacher"), ("4c", ("outsider",), "other teacher")):
        classroom = Classroom(name=name, join_code=f"JOIN{name.upper()}", created_by=people[teacher].user_id)
        session.add(classroom)
        session.flush()
        session.add(Membership(classroom_id=classroom.id, user_id=people[teacher].user_id, role="educator"))
        session.add_all(Membership(classroom_id=classroom.id, user_id=people[student].user_id) for student in students)
        classrooms.append(classroom)
    session.add_all(
        Token(user_id=actor.user_id, name=f"of {name}", token_hash=passwords.digest(name))
        for name, actor in people.items()
    )
    return classrooms[0].id


def _add_things(session: Any, people: dict[str, Actor], project: Project, image_id: str) -> dict[str, Any]:
    """One of each thing, all of the owner's project."""
    owner_id, teacher_id = people["owner"].user_id, people["teacher"].user_id
    by, of = {"created_by": owner_id}, {"project_id": project.id}
    tile = session.exec(select(Tile).where(Tile.project_id == project.id).order_by(Tile.row0, Tile.col0)).first()
    tile.revision, tile.status, tile.crc32 = 1, "started", crc32(PLANE)
    revision = Revision(
        tile_id=tile.id,
        number=1,
        save_id=new_id(),
        layers=pack(annotation_of(PLANE)),
        crc32=crc32(PLANE),
        counts={},
        author_id=owner_id,
    )
    helper = add_helper(session, project)
    training_set = TrainingSet(**of, **by, number=1, name=SECRET, state="ready", key=f"training-sets/{new_id()}")
    training_set.summary = {
        "num_images": {"train": 1, "val": 0, "test": 1},
        "num_records": 2,
        "num_bytes": 10,
        "channels": 1,
        "scale": 1.0,
        "pixel_size_um": None,
        "seed": 0,
        "classes": make_card().model_dump(mode="json")["classes"],
        "balance": {"pixels": {"train": [1, 2, 3]}, "objects": {"train": [1, 1, 1]}},
        "diversity": {},
        "warnings": [],
        "images": [],
    }
    finished = Job(kind="train", state="failed", user_id=owner_id, **of, classroom_id=project.classroom_id)
    waiting = Job(kind="export", user_id=owner_id, **of, classroom_id=project.classroom_id, reason=SECRET)
    session.add_all([revision, training_set, finished, waiting])
    session.flush()
    run = Run(
        **of,
        **by,
        training_set_id=training_set.id,
        job_id=finished.id,
        number=1,
        name=SECRET,
        key=f"models/{new_id()}",
        config={},
    )
    session.add(run)
    session.flush()
    finished.target_id = run.id
    model = Model(
        **of,
        **by,
        run_id=run.id,
        name=SECRET,
        version=1,
        key=f"models/{new_id()}",
        sha256="0" * 64,
        card=make_card().model_dump(mode="json"),
    )
    session.add(model)
    session.flush()
    prediction = Prediction(**of, **by, model_id=model.id, image_id=image_id, name=SECRET, key=f"models/{new_id()}")
    example = Example(**of, **by, number=1, key=EXAMPLE, caption=SECRET, height=64, width=64)
    evaluation = Evaluation(model_id=model.id, training_set_id=training_set.id, **by)
    evaluating = Job(kind="evaluate", user_id=owner_id, **of, target_id=evaluation.id, request={"split": "test"})
    upload = Upload(
        **of,
        user_id=owner_id,
        name=SECRET,
        num_bytes=4,
        part_bytes=4,
        key=f"tmp/{new_id()}",
        expires_at=now() + timedelta(hours=1),
    )
    gone = TrainingSet(**of, **by, number=2, name=SECRET, key="training-sets/gone", deleted_at=now())
    assignment = Assignment(classroom_id=project.classroom_id, title=TITLE, created_by=teacher_id)
    session.add_all([prediction, example, evaluation, evaluating, upload, gone, assignment])
    session.flush()
    assignment.template_project_id = project.id
    trash = Trash(
        kind="training_set",
        object_id=gone.id,
        label=SECRET,
        project_id=project.id,
        deleted_by=owner_id,
        purge_after=now() + timedelta(days=30),
    )
    hand_in = HandIn(assignment_id=assignment.id, user_id=owner_id, **of, comment=SECRET)
    invitation = Invitation(
        id=passwords.digest("invitation"),
        **of,
        role="viewer",
        **by,
        expires_at=now() + timedelta(days=1),
    )
    session.add_all([trash, hand_in, invitation])
    session.flush()
    session.add(Mark(hand_in_id=hand_in.id, value="2", comment=SECRET, by_user_id=teacher_id))
    return {
        "project_id": project.id,
        "classroom_id": project.classroom_id,
        "image_id": image_id,
        "tile_id": tile.id,
        "number": 1,
        "level": 0,
        "col": 0,
        "row": 0,
        "index": 1,
        "training_set_id": training_set.id,
        "run_id": run.id,
        "job_id": waiting.id,
        "model_id": model.id,
        "prediction_id": prediction.id,
        "evaluation_id": evaluation.id,
        "example_id": example.id,
        "upload_id": upload.id,
        "trash_id": trash.id,
        "assignment_id": assignment.id,
        "hand_in_id": hand_in.id,
        "invitation_id": invitation.id,
        "user_id": helper,
        "token_id": session.exec(select(Token.id).where(Token.user_id == owner_id)).one(),
    }


def add_helper(session: Any, project: Project) -> str:
    """Another student of the class, who edits the project with its owner."""
    helper = User(name="helper", folded_name="helper")
    session.add(helper)
    session.flush()
    session.add(Membership(classroom_id=project.classroom_id, user_id=helper.id))
    session.add(ProjectMember(project_id=project.id, user_id=helper.id, role="editor"))
    return helper.id
