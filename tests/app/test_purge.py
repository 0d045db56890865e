"""The end of the trash: rows go in an order that the database accepts, and what others need stays."""

import pytest
from sqlmodel import func, select

from axons.app.services.purge import purge
from axons.app.services.trash import throw_away
from axons.app.tables import (
    Assignment,
    Classroom,
    EpochMetric,
    Evaluation,
    Example,
    HandIn,
    HeldOutImage,
    Image,
    Job,
    Membership,
    Model,
    Prediction,
    Project,
    Revision,
    Run,
    Tile,
    TileScore,
    TrainingSet,
    Trash,
    now,
)
from tests.app.images import add_images, add_project, run_job, tiles_of
from tests.app.trainings import add_training_set

OF_A_PROJECT = (
    Project,
    Image,
    Tile,
    Revision,
    TrainingSet,
    Run,
    EpochMetric,
    Model,
    Prediction,
    Evaluation,
    HeldOutImage,
    TileScore,
    Example,
)


@pytest.fixture
def project(platform, ana, tmp_path):
    """A project with one of everything."""
    project = add_project(platform, ana)
    [image] = add_images(platform, ana, project, tmp_path)
    tile = tiles_of(platform, image)[0]
    row = add_training_set(platform, project, tmp_path)

    def add(session):
        user = {"created_by": ana.user_id}
        job = Job(kind="train", user_id=ana.user_id, project_id=project.id, state="done", finished_at=now())
        session.add(job)
        session.add(
            Revision(tile_id=tile.id, number=1, save_id="1", layers=b"", crc32=0, counts={}, author_id=ana.user_id)
        )
        session.flush()
        run = Run(
            project_id=project.id, training_set_id=row.id, job_id=job.id, number=1, name="run", key="models/run",
            config={}, **user,
        )  # fmt: skip
        session.add(run)
        session.flush()
        model = Model(
            project_id=project.id,
            run_id=run.id,
            name="m",
            version=1,
            key="models/run/model",
            sha256="",
            card={},
            **user,
        )
        session.add_all([EpochMetric(run_id=run.id, epoch=1, metrics={}), model])
        session.flush()
        session.add(
            Prediction(project_id=project.id, model_id=model.id, image_id=image.id, name="p", key="projects/p", **user)
        )
        session.add(Evaluation(model_id=model.id, training_set_id=row.id, **user))
        session.add(HeldOutImage(training_set_id=row.id, known_as=image.id))
        session.add(Example(project_id=project.id, number=1, key="projects/e", caption="c", height=1, width=1, **user))
        score = {"score": 0.5, "unsure_share": 0.1, "class_pixels": {}}
        session.add(TileScore(tile_id=tile.id, job_id=job.id, project_id=project.id, model_id=model.id, **score))

    platform.database.write(add)
    return project


def count(platform, table):
    return platform.database.read(lambda session: session.exec(select(func.count()).select_from(table)).one())


def throw(platform, actor, kind, table, *, days=-1.0):
    """Throw away the only row of a table; by default its time in the trash is over."""
    platform.database.write(
        lambda session: throw_away(session, actor, kind, session.exec(select(table)).one(), days=days)
    )
    return platform.database.write(purge)


@pytest.mark.both_databases
def test_a_project_goes_with_everything_in_it_and_its_jobs_stay(platform, ana, project):
    assert throw(platform, ana, "project", Project) == 1
    assert [count(platform, table) for table in (*OF_A_PROJECT, Trash)] == [0] * 14
    jobs = platform.database.read(lambda session: session.exec(select(Job)).all())
    assert [(job.kind, job.project_id) for job in jobs] == [("import", None), ("train", None)]


def test_of_a_project_that_is_gone_no_object_stays_in_storage(platform, ana, admin, project):
    throw(platform, ana, "project", Project)
    object.__setattr__(platform, "settings", platform.settings.model_copy(update={"temporary_hours": 0}))
    cleanup = Job(kind="cleanup", user_id=admin.user_id)
    job_id = platform.database.write(lambda session: session.add(cleanup) or cleanup.id)
    before = [found.key for found in platform.storage.list_objects()]
    run_job(platform, job_id)
    left = [found.key for found in platform.storage.list_objects() if not found.key.startswith("tmp/")]
    assert (len(before) > 2, left) == (True, [])


def test_what_still_has_its_time_stays(platform, ana, project):
    assert throw(platform, ana, "project", Project, days=1) == 0
    assert count(platform, Project) == count(platform, Trash) == 1


@pytest.mark.parametrize(
    ("kind", "table", "gone"),
    [
        ("image", Image, (Image, Tile, Revision, Prediction, TileScore)),
        ("model", Model, (Model, Prediction, Evaluation, TileScore)),
        ("run", Run, (Run, EpochMetric)),
        ("prediction", Prediction, (Prediction,)),
    ],
)
def test_a_part_goes_with_what_hangs_on_it(platform, ana, project, kind, table, gone):
    assert throw(platform, ana, kind, table) == 1
    assert {found.__name__ for found in OF_A_PROJECT if count(platform, found) == 0} == {f.__name__ for f in gone}


def test_a_training_set_stays_as_long_as_a_run_of_it(platform, ana, project):
    assert throw(platform, ana, "training_set", TrainingSet) == 0
    assert count(platform, TrainingSet) == 1


def test_what_was_handed_in_is_kept(platform, ana, teacher, project):
    def hand_in(session):
        classroom = Classroom(name="7b", created_by=teacher.user_id)
        session.add(classroom)
        session.flush()
        session.add(Membership(classroom_id=classroom.id, user_id=ana.user_id))
        assignment = Assignment(classroom_id=classroom.id, title="t", created_by=teacher.user_id)
        session.add(assignment)
        session.flush()
        session.add(HandIn(assignment_id=assignment.id, user_id=ana.user_id, project_id=project.id))

    platform.database.write(hand_in)
    assert throw(platform, ana, "project", Project) == 0
    assert count(platform, Project) == 1
