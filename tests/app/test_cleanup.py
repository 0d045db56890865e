"""Cleaning up the storage: what goes, what stays, and what an administrator is told."""

import os
import time
from datetime import timedelta

import pytest

from axons.app.jobs import cleanup
from axons.app.services.kept_objects import busy_folders
from axons.app.tables import Job, Model, Prediction, Project, Run, TrainingSet, Upload, now
from axons.data.storage import open_storage
from tests.app.conftest import As
from tests.app.images import add_images, add_project, run_job
from tests.app.trainings import add_training_set

DAY = 86_400


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def stored(request, platform):
    """The platform on each kind of storage."""
    if request.param == "s3":
        object.__setattr__(platform, "storage", open_storage(request.getfixturevalue("s3_uri")))
    return platform


@pytest.fixture
def later(monkeypatch):
    """Cleanups judge ages as if it were the day after tomorrow."""
    monkeypatch.setattr(cleanup, "now", lambda: now() + timedelta(days=2))


def clean(platform, admin, **request):
    job = Job(kind="cleanup", user_id=admin.user_id, request=request)
    job_id = platform.database.write(lambda session: session.add(job) or job.id)
    run_job(platform, job_id)
    return platform.database.read(lambda session: session.get_one(Job, job_id))


def test_old_objects_go_if_no_row_and_no_job_needs_them(stored, ana, admin, tmp_path, later):
    project = add_project(stored, ana)
    add_images(stored, ana, project, tmp_path)
    training = Job(kind="train", user_id=ana.user_id, state="running", target_id="run-1")
    stored.database.write(lambda session: session.add(training))
    for key in ("tmp/old/file", "models/orphan/model.json", "models/run-1/run.json"):
        stored.storage.write(key, b"old")
    stored.storage.write(f"tmp/{training.id}/request.json", b"of a running job")
    images = [found.key for found in stored.storage.list_objects("projects")]
    job = clean(stored, admin)
    left = {found.key for found in stored.storage.list_objects()}
    assert {*images, "models/run-1/run.json", f"tmp/{training.id}/request.json"} == left - {f"tmp/{job.id}/kept.json"}
    assert (job.result["expired"], job.result["swept"], job.result["num_missing"]) == (1, 1, 0)


def test_young_objects_stay(stored, admin):
    stored.storage.write("models/orphan/model.json", b"young")
    stored.storage.write("tmp/young/file", b"young")
    assert (clean(stored, admin).result["swept"], stored.storage.exists("tmp/young/file")) == (0, True)


def test_an_upload_and_an_export_in_the_making_stay_however_old(platform, ana, admin, later):
    export = Job(kind="export", user_id=ana.user_id, state="running", attempt=2)
    upload = Upload(user_id=ana.user_id, name="a", num_bytes=1, part_bytes=1, key="tmp/up/file", expires_at=now())
    platform.database.write(lambda session: session.add_all([export, upload]))
    keys = [f"tmp/export-{export.id}-2/labels.zip", "tmp/up/part-0"]
    [platform.storage.write(key, b"half") for key in keys]
    clean(platform, admin)
    assert [platform.storage.exists(key) for key in keys] == [True, True]
    platform.database.write(lambda session: setattr(session.get_one(Job, export.id), "state", "done"))
    assert "up" in platform.database.read(busy_folders)
    clean(platform, admin)
    assert [platform.storage.exists(key) for key in keys] == [False, True]


def test_a_row_without_its_objects_is_told_and_nothing_is_done_about_it(stored, ana, admin, tmp_path, caplog):
    project = add_project(stored, ana)
    [image] = add_images(stored, ana, project, tmp_path)
    freezing = add_training_set(stored, project, tmp_path)
    stored.database.write(lambda session: setattr(session.get_one(TrainingSet, freezing.id), "state", "freezing"))
    stored.storage.delete_prefix(image.working_key)
    stored.storage.delete_prefix(freezing.key)
    job = clean(stored, admin)
    told = f"image {image.id}: {image.working_key}"
    assert (job.result["missing"], job.result["num_missing"]) == ([told], 1)
    assert told in job.log and told in caplog.text
    shown = As(stored, admin).get("/v1/cluster/storage").json()["cleanup"]
    assert (shown["job_id"], shown["missing"]) == (job.id, [told])
    assert "1 rows without an object" in shown["reason"]
    assert shown["num_bytes"]["projects"] > 0
    assert len(As(stored, ana).get(f"/v1/projects/{project.id}/images").json()["items"]) == 1


def test_a_storage_full_of_orphans_is_left_alone_until_a_person_says_so(platform, admin, later):
    for number in range(101):
        platform.storage.write(f"models/{number}/model.json", b"of another database?")
    job = clean(platform, admin)
    assert (job.result["held_back"], len(platform.storage.list_objects("models"))) == (101, 101)
    assert "101 objects, most of the storage, have no row and were not deleted" in job.reason
    assert clean(platform, admin, deletes_all_orphans=True).result["swept"] == 101
    assert platform.storage.list_objects("models") == []


def test_half_written_files_go_when_they_are_old(platform, admin, later):
    folder = platform.settings.data / "storage" / "models" / "run"
    folder.mkdir(parents=True)
    for name in (".part-old", ".part-young"):
        (folder / name).write_bytes(b"half")
    young = time.time() + 2 * DAY
    os.utime(folder / ".part-young", (young, young))
    assert clean(platform, admin).result["unfinished"] == 1
    assert [path.name for path in folder.iterdir()] == [".part-young"]


def test_unfinished_uploads_in_parts_are_aborted_below_our_prefix_alone(s3_uri):
    import s3fs

    bucket, _, prefix = s3_uri.removeprefix("s3://").partition("/")
    files = s3fs.S3FileSystem(use_listings_cache=False)
    for key in (f"{prefix}/models/half", "other/half"):
        files.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
    begun = files.call_s3("list_multipart_uploads", Bucket=bucket)["Uploads"][0]["Initiated"].timestamp()
    storage = open_storage(s3_uri)
    assert storage.delete_unfinished(older_than_s=DAY, now=begun + DAY - 1) == 0
    assert storage.delete_unfinished(older_than_s=DAY, now=begun + DAY + 1) == 1
    left = files.call_s3("list_multipart_uploads", Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["other/half"]


def test_a_prediction_owes_its_objects_once_it_is_done(platform, ana, admin):
    project = add_project(platform, ana)
    of = {"project_id": project.id, "created_by": ana.user_id, "name": "p"}
    model = Model(**of, version=1, key="models/m", sha256="", card={})
    waiting, done = (Prediction(**of, model_id=model.id, key=f"projects/{s}", state=s) for s in ("queued", "done"))
    platform.database.write(lambda session: session.add(model) or session.flush() or session.add_all([waiting, done]))
    missing = clean(platform, admin).result["missing"]
    assert missing == [f"model {model.id}: models/m", f"prediction {done.id}: projects/done"]


@pytest.mark.both_databases
def test_an_administrator_cleans_up_at_once_and_a_second_click_is_the_same_job(platform, admin):
    client = As(platform, admin)
    first, second = (client.post("/v1/cluster/storage/clean", json={}).json()["id"] for _ in range(2))
    thorough = client.post("/v1/cluster/storage/clean", json={"deletes_all_orphans": True}).json()["id"]
    assert first == second != thorough
    rows = client.get("/v1/audit", params={"action": "storage.clean"}).json()["items"]
    assert [row["detail"]["deletes_all_orphans"] for row in rows] == [True, False]
    assert client.get("/v1/cluster/storage").json()["cleanup"] is None
    clean(platform, admin)
    assert client.get("/v1/cluster/storage").json()["cleanup"]["num_bytes"] == {
        "projects": 0, "training-sets": 0, "models": 0,
    }  # fmt: skip


def trained(platform, ana, project, training_set, name, *, days, **job):
    """A run that ended so many days ago, with two checkpoints; gives its key."""
    job = Job(kind="train", user_id=ana.user_id, project_id=project.id, **job)
    job.finished_at = now() - timedelta(days=days) if job.state == "failed" else None
    of = {"project_id": project.id, "created_by": ana.user_id, "number": len(name), "config": {}}

    def add(session):
        session.add(job)
        session.flush()
        session.add(Run(**of, training_set_id=training_set.id, job_id=job.id, name=name, key=f"models/{name}"))

    platform.database.write(add)
    kept = ("run.json", "metrics.json", "log.txt", "attempts/1/attempt.json", "model-epoch-00001/model.json")
    spare = ("attempts/1/ray/epoch-1/weights.safetensors", "attempts/2/ray/epoch-2/weights.safetensors")
    for key in (*kept, *spare):
        platform.storage.write(f"models/{name}/{key}", b"12345")
    return f"models/{name}", sorted(kept), sorted(spare)


def keys_of(platform, folder):
    return [found.key.removeprefix(f"{folder}/") for found in platform.storage.list_objects(folder)]


@pytest.fixture
def next_year(monkeypatch):
    """Cleanups judge ages as if it were 120 days later."""
    monkeypatch.setattr(cleanup, "now", lambda: now() + timedelta(days=120))


@pytest.mark.both_databases
def test_of_a_run_that_ended_long_ago_only_the_checkpoints_go(platform, ana, admin, tmp_path, next_year):
    project = add_project(platform, ana)
    training_set = add_training_set(platform, project, tmp_path)
    args = (platform, ana, project, training_set)
    old, kept, spare = trained(*args, "old", days=1, state="failed")
    running, *_ = trained(*args, "running", days=0, state="running")
    job = clean(platform, admin)
    assert keys_of(platform, old) == kept
    assert keys_of(platform, running) == sorted([*kept, *spare])
    assert (job.result["trimmed"], job.result["trimmed_bytes"], job.result["swept"]) == (1, 10, 0)
    [row] = As(platform, admin).get("/v1/audit", params={"action": "run.trim"}).json()["items"]
    run = platform.database.read(lambda session: session.get_one(Run, row["object_id"]))
    assert (row["actor_id"], row["detail"], run.key) == (None, {"bytes": 10}, old)
    assert "resumed, it starts anew" in platform.database.read(lambda session: session.get_one(Job, run.job_id)).log
    assert "trimmed" not in clean(platform, admin).result  # told once


def test_a_run_that_ended_lately_keeps_its_checkpoints(platform, ana, admin, tmp_path, later):
    project = add_project(platform, ana)
    folder, kept, spare = trained(
        platform, ana, project, add_training_set(platform, project, tmp_path), "new", days=1, state="failed"
    )
    clean(platform, admin)
    assert keys_of(platform, folder) == sorted([*kept, *spare])


def test_of_an_archived_project_goes_what_can_be_made_again(platform, ana, admin, tmp_path, next_year):
    project, other = (add_project(platform, ana, name=name) for name in ("old", "in use"))
    [image] = add_images(platform, ana, project, tmp_path)
    of = {"created_by": ana.user_id, "name": "m", "version": 1, "sha256": "", "card": {}}
    models = [Model(**of, project_id=row.id, key=f"models/{row.id}") for row in (project, other)]

    def archive(session):
        session.get_one(Project, project.id).archived_at = now()
        session.add_all(models)

    platform.database.write(archive)
    for model in models:
        platform.storage.write(f"{model.key}/model.safetensors", b"weights")
        platform.storage.write(f"{model.key}/model.onnx", b"made again by the next export")
    clean(platform, admin)
    assert keys_of(platform, models[0].key) == ["model.safetensors"]
    assert keys_of(platform, models[1].key) == ["model.onnx", "model.safetensors"]
    assert platform.storage.exists(image.working_key) and platform.storage.exists(image.sheet_key)
