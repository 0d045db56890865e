"""A class with its people, and a template project with labels, as rows."""

import itertools

from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.tables import (
    Image,
    Job,
    LabelClass,
    Membership,
    Project,
    ProjectMember,
    Revision,
    Run,
    Tile,
    Tiling,
    TrainingSet,
    new_id,
    now,
)
from tests.app.conftest import As, add_user

FAILED = "the GPU ran out of memory; choose a smaller batch"
_NUMBERS = itertools.count(1)


def make_class(platform: Platform, teacher: Actor, *students: Actor, name: str = "4b") -> dict:
    """A class of the teacher that the students have joined."""
    classroom = As(platform, teacher).post("/v1/classrooms", json={"name": name}).json()
    for student in students:
        assert As(platform, student).post("/v1/classrooms/join", json={"code": classroom["join_code"]}).is_success
    return classroom


def image_row(project: Project, name: str) -> Image:
    return Image(
        project_id=project.id,
        name=name,
        sha256="0" * 64,
        num_bytes=100,
        format="png",
        height=64,
        width=128,
        channels=1,
        dtype="uint8",
        mean=[0.5],
        std=[0.1],
        contrast_low=0,
        contrast_high=255,
        dark_share=0,
        bright_share=0,
        hashes=["0", "1"],
        notices=[],
        working_key=f"projects/{new_id()}/working.tif",
        sheet_key=f"projects/{new_id()}/sheet.png",
        sheet_step=1,
        stored_bytes=1000,
        created_by=project.owner_id,
    )


def make_template(
    platform: Platform, owner: Actor, *, num_images: int = 2, num_revisions: int = 3, classroom_id: str | None = None
) -> str:
    """A project with two tiles per image, of which the first is labelled, and one image in the trash."""

    def make(session) -> str:
        of = {"owner_id": owner.user_id, "classroom_id": classroom_id}
        project = Project(name="template", **of, instructions="look", tile=64)
        session.add(project)
        session.flush()
        classes = [("background", "#000000"), ("axon", "#ff0000")]
        session.add_all(
            LabelClass(project_id=project.id, index=index, name=name, colour=colour)
            for index, (name, colour) in enumerate(classes)
        )
        tiling = Tiling(project_id=project.id, tile=64, created_by=owner.user_id)
        images = [image_row(project, f"image {number}.png") for number in range(num_images)]
        gone = image_row(project, "gone.png")
        gone.deleted_at = now()
        session.add_all([tiling, gone, *images])
        session.flush()
        for image in [gone, *images]:
            _add_tiles(session, image, tiling, num_revisions)
        return project.id

    return platform.database.write(make)


def _add_tiles(session, image: Image, tiling: Tiling, num_revisions: int) -> None:
    measured = {"mean": 0.5, "contrast": 0.2, "sharpness": 1.0, "is_blank": False, "is_blurred": False}
    where = {"project_id": image.project_id, "tiling_id": tiling.id, "image_id": image.id, "height": 64, "width": 64}
    labelled = Tile(**where, **measured, row0=0, col0=0, status="done", revision=num_revisions, crc32=7)
    labelled.labelled_by = labelled.assigned_to = image.created_by
    session.add_all([labelled, Tile(**where, **measured, row0=0, col0=64)])
    session.flush()
    session.add_all(
        Revision(
            tile_id=labelled.id,
            number=number,
            save_id=new_id(),
            layers=f"layers {number}".encode(),
            crc32=7,
            counts={"1": 9},
            author_id=image.created_by,
        )
        for number in range(1, num_revisions + 1)
    )


def join(platform: Platform, classroom: dict, actor: Actor, role: str) -> None:
    """Put somebody into a class as a row."""
    row = Membership(classroom_id=classroom["id"], user_id=actor.user_id, role=role)
    platform.database.write(lambda session: session.add(row))


def add_pupils(platform: Platform, project: Project, count: int) -> list[Actor]:
    """Students who work on one project."""
    found = [add_user(platform, f"pupil-{number:02}") for number in range(count)]
    members = [ProjectMember(project_id=project.id, user_id=pupil.user_id, role="editor") for pupil in found]
    platform.database.write(lambda session: session.add_all(members))
    return found


def add_run(platform: Platform, classroom: dict, owner: Actor, project_id: str, state: str, **status) -> None:
    """A training of a frozen set, as rows; `status` as the run itself tells it."""

    def add(session) -> None:
        where, by = {"project_id": project_id}, {"created_by": owner.user_id}
        kept = TrainingSet(**where, **by, number=next(_NUMBERS), name="disks", state="ready", key="training-sets/x")
        job = Job(kind="train", state=state, user_id=owner.user_id, classroom_id=classroom["id"], **where)
        job.reason = FAILED if state == "failed" else ""
        session.add_all([kept, job])
        session.flush()
        of = {"training_set_id": kept.id, "job_id": job.id, "status": status}
        session.add(Run(**where, **by, **of, number=next(_NUMBERS), name="run", key="models/x", config={}))

    platform.database.write(add)
