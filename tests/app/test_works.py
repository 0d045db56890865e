"""Jobs that make rows, through the dispatcher on a real Ray: freezing, evaluating, predicting, cleaning up."""

import io
import time

import numpy as np
import psutil
import pytest
from PIL import Image as Picture
from sqlmodel import select

from axons.app.jobs.dispatcher import Dispatcher
from axons.app.jobs.ray_work import RayCluster
from axons.app.tables import HeldOutImage, Job, LabelClass, Model, Prediction, Revision, Tile, TrainingSet, now
from axons.data.importing import label_tiles
from axons.data.tiles import TileGrid
from axons.data.training_set import load_training_set
from tests.app.conftest import As
from tests.app.images import add_images, add_project, images_of, tiles_of
from tests.app.trainings import add_training_set, settle
from tests.drawing import draw_disks
from tests.train.runs import title

pytestmark = pytest.mark.usefixtures("local_ray")

NAMES = ("a-1.png", "a-2.png", "b-1.png", "b-2.png", "c-1.png", "c-2.png")


@pytest.fixture
def project(platform, ana, tmp_path):
    """Six images of 100 x 150 px whose every pixel is labelled by geometry."""
    project = add_project(platform, ana)
    add_images(platform, ana, project, tmp_path, names=NAMES)
    for number, image in enumerate(platform.database.read(lambda session: images_of(session, project))):
        label(platform, ana, image, draw_disks(100, 150, seed=number).mask)
    return project


def label(platform, actor, image, mask):
    """The newest revision of every tile of an image, of an (H, W) mask."""
    labels = {(t.row0, t.col0): t for t in label_tiles(image.id, image.name, mask, TileGrid(tile=64), notices=[]).tiles}
    tiles = {tile.id: labels[tile.row0, tile.col0] for tile in tiles_of(platform, image)}

    def write(session):
        for tile_id, found in tiles.items():
            tile = session.get_one(Tile, tile_id)
            tile.revision += 1
            tile.crc32, tile.status, counts = found.crc32, "done", {str(k): n for k, n in found.counts.items()}
            tile.counts = counts
            session.add(
                Revision(
                    tile_id=tile_id,
                    number=tile.revision,
                    save_id=str(tile.revision),
                    layers=found.annotation,
                    crc32=found.crc32,
                    counts=counts,
                    author_id=actor.user_id,
                )
            )

    platform.database.write(write)


def run_jobs(platform, *, timeout_s=120):
    """Everything that waits, to its end; returns the last job."""
    dispatcher = Dispatcher(platform, RayCluster())
    settle(dispatcher, lambda: all(job.finished_at for job in all_jobs(platform)), timeout_s=timeout_s)
    dispatcher.stop()
    return all_jobs(platform)[-1]


def all_jobs(platform):
    return platform.database.read(lambda session: session.exec(select(Job).order_by(Job.created_at)).all())


def freeze(platform, actor, project, **choices):
    """A training set by REST and the dispatcher; returns its row and its job."""
    answer = As(platform, actor).post(f"/v1/projects/{project.id}/training-sets", json=choices)
    assert answer.status_code == 202, answer.text
    job = run_jobs(platform)
    return platform.database.read(
        lambda session: session.get_one(TrainingSet, answer.json()["training_set"]["id"])
    ), job


def test_labels_become_a_frozen_training_set(platform, ana, project):
    row, job = freeze(platform, ana, project, name="first", group="^[abc]")
    assert (job.state, row.state) == ("done", "ready"), job.reason
    manifest = load_training_set(platform.uri(row.key), sha256=row.sha256)
    splits = {(image.name[0], image.split) for image in manifest.images}
    assert len(splits) == 3
    assert sum(sum(counts) for counts in row.summary["balance"]["pixels"].values()) == 6 * 100 * 150
    assert job.reason == "'first' is frozen: 2 train, 2 val, 2 test"
    assert [found for found in platform.storage.list_objects("tmp") if job.id in found.key] == []


def test_the_test_images_of_a_frozen_set_are_remembered(platform, ana, project):
    row, _ = freeze(platform, ana, project, name="first", group="^[abc]")
    held_out = platform.database.read(lambda session: session.exec(select(HeldOutImage.known_as)).all())
    assert set(held_out) == {image["image_id"] for image in row.summary["images"] if image["split"] == "test"}
    assert len(held_out) == 2


def test_work_whose_process_is_killed_begins_again(platform, ana, project):
    As(platform, ana).post(f"/v1/projects/{project.id}/training-sets", json={})
    dispatcher = Dispatcher(platform, RayCluster())
    dispatcher.step()
    [job_id] = [job.id for job in all_jobs(platform) if job.kind == "freeze"]
    settle(dispatcher, lambda: processes(job_id))
    processes(job_id)[0].kill()
    settle(dispatcher, lambda: all_jobs(platform)[-1].finished_at, timeout_s=120)
    dispatcher.stop()
    job = all_jobs(platform)[-1]
    assert (job.state, job.attempt) == ("done", 2), job.log
    assert "it starts again" in job.log


def test_work_goes_on_when_the_dispatcher_is_another(platform, ana, project):
    As(platform, ana).post(f"/v1/projects/{project.id}/training-sets", json={})
    first, second = Dispatcher(platform, RayCluster()), Dispatcher(platform, RayCluster())
    first.step()
    first._release, second._lead = (lambda session: None), (lambda session: True)
    settle(second, lambda: all_jobs(platform)[-1].finished_at, timeout_s=120)
    first._give_up_all()
    job = all_jobs(platform)[-1]
    assert (job.state, job.attempt) == ("done", 2), job.log
    assert len(platform.storage.list_objects("training-sets")) >= 2


def test_work_is_cancelled_within_ten_seconds(platform, ana, project):
    created = As(platform, ana).post(f"/v1/projects/{project.id}/training-sets", json={}).json()
    dispatcher = Dispatcher(platform, RayCluster())
    dispatcher.step()
    settle(dispatcher, lambda: processes(created["job"]["id"]))
    began = time.monotonic()
    As(platform, ana).post(f"/v1/jobs/{created['job']['id']}/cancel")
    settle(dispatcher, lambda: all_jobs(platform)[-1].finished_at)
    settle(dispatcher, lambda: not processes(created["job"]["id"]))
    dispatcher.stop()
    assert time.monotonic() - began < 10
    assert all_jobs(platform)[-1].state == "cancelled"


def processes(job_id):
    """The workers that run the task of a job."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if job_id in title(child)]


def test_labels_that_change_later_do_not_change_a_frozen_set(platform, ana, project):
    row, _ = freeze(platform, ana, project)
    before = {found.key: platform.storage.read(found.key) for found in platform.storage.list_objects(row.key)}
    [image, *_] = platform.database.read(lambda session: images_of(session, project))
    label(platform, ana, image, np.zeros((100, 150), np.uint8))
    again, _ = freeze(platform, ana, project)
    after = {found.key: platform.storage.read(found.key) for found in platform.storage.list_objects(row.key)}
    assert before == after
    assert again.sha256 != row.sha256
    assert [row.number, again.number] == [1, 2]


def test_the_same_choices_and_seed_give_the_same_set(platform, ana, project):
    first, _ = freeze(platform, ana, project, name="same", seed=3)
    second, _ = freeze(platform, ana, project, name="same", seed=3)
    assert first.sha256 == second.sha256


def test_images_are_chosen_by_pattern(platform, ana, project):
    row, _ = freeze(platform, ana, project, images="*-1.png", exclude="c*")
    assert sorted(image["name"] for image in row.summary["images"]) == ["a-1.png", "b-1.png"]


def test_a_deleted_class_is_ignored_and_the_others_move_up(platform, ana, project):
    def delete_ring(session):
        session.exec(select(LabelClass).where(LabelClass.name == "ring")).one().deleted_at = now()

    platform.database.write(delete_ring)
    row, job = freeze(platform, ana, project)
    assert job.state == "done", job.reason
    assert [found["name"] for found in row.summary["classes"]] == ["bg", "core"]
    masks = [draw_disks(100, 150, seed=number).mask for number in range(6)]
    pixels = np.sum(list(row.summary["balance"]["pixels"].values()), axis=0)
    assert pixels.tolist() == [int(sum((mask == k).sum() for mask in masks)) for k in (0, 2)]


def test_a_set_without_labels_fails_with_the_reason(platform, ana, tmp_path):
    project = add_project(platform, ana)
    add_images(platform, ana, project, tmp_path)
    row, job = freeze(platform, ana, project)
    assert (job.state, row.state) == ("failed", "failed")
    assert job.reason == "none of the 1 chosen images has a labelled tile; label at least one"


def test_two_sets_are_compared(platform, ana, project):
    first, _ = freeze(platform, ana, project, images="[ab]*")
    second, _ = freeze(platform, ana, project, images="[bc]*", seed=1)
    query = {"id": [first.id, second.id]}
    comparison = As(platform, ana).get("/v1/training-sets:compare", params=query).json()
    assert comparison["only_in"] == [["a-1.png", "a-2.png"], ["c-1.png", "c-2.png"]]
    assert comparison["differing"] == {"seed": [0, 1]}
    assert [share["name"] for share in comparison["class_shares"]] == ["bg", "ring", "core"]


def test_a_model_is_evaluated_on_a_split(platform, ana, project, model, tmp_path):
    row = add_training_set(platform, project, tmp_path)

    def rename(session):
        found = session.get_one(Model, model.id)
        found.card = {**found.card, "classes": row.summary["classes"]}

    platform.database.write(rename)
    answer = As(platform, ana).post("/v1/evaluations", json={"model_id": model.id, "training_set_id": row.id})
    assert answer.status_code == 202, answer.text
    assert run_jobs(platform).state == "done", all_jobs(platform)[-1].reason
    scores = As(platform, ana).get(f"/v1/evaluations/{answer.json()['id']}").json()["scores"]
    assert np.sum(scores["confusion"]) == 96 * 96
    assert scores["pixel_accuracy"] + scores["error_rate"] == pytest.approx(1)
    assert scores["ms_per_tile"] > 0
    pictures = [found.key for found in platform.storage.list_objects(f"{model.key}/evaluations")]
    assert len(pictures) % 3 == 0


def test_an_evaluation_on_an_empty_split_is_refused(platform, ana, project, model, tmp_path):
    row = add_training_set(platform, project, tmp_path, splits=("train", "val"))
    form = {"model_id": model.id, "training_set_id": row.id}
    answer = As(platform, ana).post("/v1/evaluations", json=form)
    assert (answer.status_code, answer.json()["field"]) == (422, "split")


def test_many_images_are_predicted_as_a_job(platform, ana, project, model):
    images = platform.database.read(lambda session: images_of(session, project))
    client = As(platform, ana)
    answer = client.post(f"/v1/models/{model.id}/predict", json={"image_ids": [image.id for image in images]})
    assert answer.status_code == 202, answer.text
    job = run_jobs(platform)
    assert (job.state, job.reason) == ("done", "6 of 6 images predicted")
    shown = client.get(f"/v1/projects/{project.id}/predictions").json()["items"]
    assert {found["state"] for found in shown} == {"done"}
    assert [sum(area["pixels"] for area in found["classes"]) for found in shown] == [100 * 150] * 6
    assert [sum(area["percent"] for area in found["classes"]) for found in shown] == [pytest.approx(100)] * 6
    mask = Picture.open(io.BytesIO(client.get(f"/v1/predictions/{shown[0]['id']}/mask").content))
    assert mask.size == (150, 100)
    lines = client.get(f"/v1/projects/{project.id}/predictions.csv").text.splitlines()
    assert len(lines) == 1 + 6 * 3


def test_an_image_too_large_to_be_answered_at_once_is_predicted_block_by_block(platform, ana, project, model):
    [image, *_] = platform.database.read(lambda session: images_of(session, project))
    client = As(platform, ana)
    form = {"image_ids": [image.id], "scale": 4}
    small = platform.settings.model_copy(update={"max_prediction_pixels": 1000})
    object.__setattr__(platform, "settings", small)
    answer = client.post(f"/v1/models/{model.id}/predict", json=form)
    assert answer.status_code == 202, answer.text
    job = run_jobs(platform)
    assert job.state == "done", job.reason
    prediction_id = answer.json()["predictions"][0]["id"]
    assert client.get(f"/v1/predictions/{prediction_id}").json()["state"] == "done"
    assert client.get(f"/v1/predictions/{prediction_id}/overlay").headers["content-type"] == "image/png"


def test_one_image_that_cannot_be_predicted_stops_no_other(platform, ana, project, model):
    images = platform.database.read(lambda session: images_of(session, project))
    form = {"image_ids": [image.id for image in images[:2]]}
    As(platform, ana).post(f"/v1/models/{model.id}/predict", json=form)
    platform.storage.delete_prefix(images[0].working_key)
    job = run_jobs(platform)
    assert (job.state, job.reason) == ("done", "1 of 2 images predicted, 1 could not be")
    rows = platform.database.read(lambda session: session.exec(select(Prediction)).all())
    assert sorted(row.state for row in rows) == ["done", "failed"]


def test_what_no_row_points_to_is_swept_and_young_objects_stay(platform, ana, admin, project):
    row, _ = freeze(platform, ana, project)
    platform.storage.write("models/orphan/model.json", b"old")
    platform.storage.write("tmp/old/file", b"old")
    time.sleep(1.1)
    object.__setattr__(platform, "settings", platform.settings.model_copy(update={"temporary_hours": 1 / 3600}))
    kept = {found.key for found in platform.storage.list_objects(row.key)}
    platform.database.write(lambda session: session.add(Job(kind="cleanup", user_id=admin.user_id)))
    job = run_jobs(platform)
    assert job.state == "done", job.reason
    assert job.result["swept"] == 1
    assert job.result["missing"] == []
    assert {found.key for found in platform.storage.list_objects(row.key)} == kept
    assert not platform.storage.exists("tmp/old/file")
