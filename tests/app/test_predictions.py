"""Predictions that are answered at once, with the engine's own `segment` in this process."""

import csv
import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from sqlmodel import select
from starlette.testclient import TestClient

from axons.app.services.predictions import predict_file, predictions_csv
from axons.app.tables import Job, Prediction, Upload
from axons.data.storage import open_storage
from axons.errors import SegmenterBusy
from axons.serve.predictor import Segmentation, load_predictor, segment
from tests.app import serving
from tests.app.conftest import As
from tests.app.images import add_images, add_project, png
from tests.app.trainings import add_model
from tests.app.uploads import send
from tests.drawing import draw_disks
from tests.serve.models import CPU, make_model

FORMULAS = ("=", "+", "-", "@", "\t=", "\r=", "=cmd|' /C calc'!A", "=HYPERLINK(", "@SUM(", "+cmd|", "-2+3+cmd|", "=1+")


def segment_here(image, model_uri, scale, of_whole=None):
    """What the Segmenter does, without Ray Serve; models are loaded each time."""
    return segment(image, load_predictor(model_uri, device=CPU), scale=scale, of_whole=of_whole)


def client_of(platform, actor, segment=segment_here) -> TestClient:
    return serving.client_of(serving.past_the_gate(serving.the_api(), platform, actor, segment))


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def client(platform, ana):
    return client_of(platform, ana)


@pytest.fixture
def image(platform, ana, project, tmp_path):
    [image] = add_images(platform, ana, project, tmp_path, names=("=cmd.png",))
    return image


@pytest.fixture
def predicted(client, model, image):
    answer = client.post(f"/v1/models/{model.id}/predict", json={"image_ids": [image.id]})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"][0]


def test_a_small_image_is_predicted_at_once(client, predicted, image):
    assert (predicted["state"], predicted["height"], predicted["width"]) == ("done", 100, 150)
    assert sum(area["pixels"] for area in predicted["classes"]) == 100 * 150
    assert sum(area["percent"] for area in predicted["classes"]) == pytest.approx(100)
    mask = Picture.open(io.BytesIO(client.get(f"/v1/predictions/{predicted['id']}/mask").content))
    counts = np.bincount(np.asarray(mask).reshape(-1), minlength=3)
    assert counts.tolist() == [area["pixels"] for area in predicted["classes"]]


def test_files_that_are_predicted_at_once_are_not_mixed_up(platform, model, tmp_path):
    def nothing(image, _model_uri, _scale):
        mask = np.zeros(image.shape[:2], np.uint8)
        return Segmentation(mask=mask, confidence=mask, class_pixels=[mask.size, 0, 0], notices=[])

    def predict(height):
        path = tmp_path / f"{height}.png"
        path.write_bytes(png(np.zeros((height, 50, 1), np.uint8)))
        return predict_file(platform, nothing, model, path, name=path.name, scale=None).segmentation.mask.shape

    heights = range(40, 72)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(predict, heights)) == [(height, 50) for height in heights]


def test_the_overlay_has_the_size_of_the_image_and_its_opacity(client, predicted):
    path = f"/v1/predictions/{predicted['id']}/overlay"
    clear = np.asarray(Picture.open(io.BytesIO(client.get(path, params={"opacity": 0}).content)))
    full = np.asarray(Picture.open(io.BytesIO(client.get(path, params={"opacity": 1}).content)))
    assert clear.shape == full.shape == (100, 150, 3)
    assert not np.array_equal(clear, full)


def test_all_results_come_as_a_zip_whose_table_counts_the_masks_pixels(client, project, predicted):
    path = f"/v1/projects/{project.id}/predictions.zip"
    answer = client.get(path, params={"prediction_id": [predicted["id"], predicted["id"]]})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["001-cmd.mask.png", "001-cmd.overlay.png", "areas.csv"]
        mask = np.asarray(Picture.open(archive.open("001-cmd.mask.png")))
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("areas.csv"))))
    assert [int(row["pixels"]) for row in rows] == np.bincount(mask.reshape(-1), minlength=3).tolist()


def test_a_zip_holds_one_project_only(platform, ana, client, predicted):
    other = add_project(platform, ana, name="other")
    path = f"/v1/projects/{other.id}/predictions.zip"
    assert client.get(path, params={"prediction_id": predicted["id"]}).status_code == 404


def test_a_name_that_is_a_formula_is_text_in_the_csv(client, project, predicted):
    for path in (f"/v1/predictions/{predicted['id']}/csv", f"/v1/projects/{project.id}/predictions.csv"):
        lines = client.get(path).text.splitlines()
        assert lines[0] == "image,model,version,class,pixels,percent,area_um2"
        assert lines[1].startswith("'=cmd.png,random,1,background,")


@pytest.mark.parametrize("start", FORMULAS)
def test_no_cell_of_a_csv_begins_a_formula(platform, predicted, model, start):
    row = platform.database.read(lambda session: session.get_one(Prediction, predicted["id"]))
    table = predictions_csv([(row.model_copy(update={"name": f"{start}1+1"}), model)])
    cells = [cell for line in csv.reader(io.StringIO(table)) for cell in line]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []


def test_areas_are_in_um2_where_the_pixel_size_is_known(platform, ana, client, model, image):
    def scale(session):
        session.get_one(type(image), image.id).pixel_size_um = 0.5

    platform.database.write(scale)
    form = {"image_ids": [image.id]}
    classes = client.post(f"/v1/models/{model.id}/predict", json=form).json()["predictions"][0]["classes"]
    assert [area["area_um2"] for area in classes] == [area["pixels"] * 0.25 for area in classes]


def test_an_uploaded_image_is_checked_as_an_import_and_predicted(platform, client, project, model):
    upload = send(client, png(draw_disks(90, 80).image), name="new.png", purpose="prediction", project_id=project.id)
    answer = client.post(f"/v1/models/{model.id}/predict", json={"upload_id": upload})
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"][0]
    assert (found["name"], found["height"], found["width"], found["image_id"]) == ("new.png", 90, 80, None)
    assert client.get(f"/v1/predictions/{found['id']}/overlay").status_code == 200
    assert platform.database.read(lambda session: session.exec(select(Upload)).one()).state == "expired"


@pytest.mark.parametrize("is_big", [False, True], ids=["classic", "BigTIFF"])
def test_a_geotiff_becomes_a_geotiff_with_the_same_tags(client, project, model, tmp_path, is_big):
    scale, tie = (0.5, 0.5, 0.0), (0.0, 0.0, 0.0, 431000.25, 5432000.75, 0.0)
    tags = [(33550, 12, 3, scale, True), (33922, 12, 6, tie, True), (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True)]
    image = draw_disks(90, 80).image[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", image, bigtiff=is_big, tile=(32, 48), extratags=tags)
    data = (tmp_path / "a.tif").read_bytes()
    upload = send(client, data, name="a.tif", purpose="prediction", project_id=project.id)
    found = client.post(f"/v1/models/{model.id}/predict", json={"upload_id": upload}).json()["predictions"][0]
    answer = client.get(f"/v1/predictions/{found['id']}/mask")
    assert answer.headers["content-type"] == "image/tiff"
    with tifffile.TiffFile(io.BytesIO(answer.content)) as tiff:
        page = tiff.pages[0]
        assert [page.tags[code].value for code, *_ in tags] == [value for _, _, _, value, _ in tags]
        counts = np.bincount(page.asarray().reshape(-1), minlength=3).tolist()
    assert counts == [area["pixels"] for area in found["classes"]]
    assert client.get(f"/v1/predictions/{found['id']}/overlay").status_code == 200


def test_a_bad_file_is_refused_with_the_reason(client, project, model):
    upload = send(client, b"<svg></svg>" * 10, name="bad.png", purpose="prediction", project_id=project.id)
    answer = client.post(f"/v1/models/{model.id}/predict", json={"upload_id": upload})
    assert (answer.status_code, answer.json()["title"]) == (422, "image-refused")
    assert "'bad.png'" in answer.json()["detail"]


def test_a_damaged_model_does_not_answer_and_the_version_before_does(platform, ana, client, project, model, image):
    make_model(platform.uri("models/second"), seed=2)
    second = add_model(platform, ana, project, "models/second", version=2)
    path = Path(open_storage(platform.uri("models/second")).local_path("model.safetensors"))
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    form = {"image_ids": [image.id]}
    refused = client.post(f"/v1/models/{second.id}/predict", json=form)
    assert (refused.status_code, refused.json()["title"]) == (422, "checksum-mismatch")
    assert client.post(f"/v1/models/{model.id}/predict", json=form).status_code == 200
    assert len(platform.database.read(lambda session: session.exec(select(Prediction)).all())) == 1


def test_rolling_back_takes_effect_at_the_next_prediction(platform, ana, client, project, model, image):
    make_model(platform.uri("models/second"), seed=2)
    second = add_model(platform, ana, project, "models/second", version=2, is_promoted=True)
    query = {"project_id": project.id, "promoted": True}

    def served():
        [found] = client.get("/v1/models", params=query).json()["items"]
        answer = client.post(f"/v1/models/{found['id']}/predict", json={"image_ids": [image.id]}).json()
        return answer["predictions"][0]["model_id"]

    before = served()
    client.post(f"/v1/models/{second.id}/rollback")
    assert (before, served()) == (second.id, model.id)


def test_a_full_queue_is_told_with_the_time_to_wait(platform, ana, model, image):
    def busy(*_):
        raise SegmenterBusy("too many images are waiting for prediction; try again in 5 seconds", 5)

    answer = client_of(platform, ana, busy).post(f"/v1/models/{model.id}/predict", json={"image_ids": [image.id]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")


def test_two_images_are_a_job(platform, client, project, ana, model, tmp_path):
    (tmp_path / "more").mkdir()
    images = add_images(platform, ana, project, tmp_path / "more", names=("a.png", "b.png"))
    answer = client.post(f"/v1/models/{model.id}/predict", json={"image_ids": [found.id for found in images]})
    assert (answer.status_code, answer.json()["job"]["kind"]) == (202, "predict")
    assert [found["state"] for found in answer.json()["predictions"]] == ["queued", "queued"]
    job = answer.json()["job"]
    client.post(f"/v1/jobs/{job['id']}/cancel")
    rows = platform.database.read(lambda session: session.exec(select(Prediction)).all())
    assert {row.state for row in rows} == {"failed"}
    assert platform.database.read(lambda session: session.get_one(Job, job["id"])).state == "cancelled"


def test_a_stranger_sees_no_prediction_and_predicts_with_no_model(platform, ben, predicted, model, image):
    other = client_of(platform, ben)
    for path in ("", "/mask", "/overlay", "/csv"):
        assert other.get(f"/v1/predictions/{predicted['id']}{path}").status_code == 404
    assert other.post(f"/v1/models/{model.id}/predict", json={"image_ids": [image.id]}).status_code == 404


def test_a_shared_model_predicts_the_images_of_ones_own_project(platform, ben, client, model, image, tmp_path):
    client.post(f"/v1/models/{model.id}/share", json={"visibility": "everyone"})
    (tmp_path / "ben").mkdir()
    own = add_project(platform, ben, name="own")
    [mine] = add_images(platform, ben, own, tmp_path / "ben", names=("mine.png",))
    other = client_of(platform, ben)
    answer = other.post(f"/v1/models/{model.id}/predict", json={"image_ids": [mine.id]})
    assert answer.json()["predictions"][0]["project_id"] == own.id
    assert other.post(f"/v1/models/{model.id}/predict", json={"image_ids": [image.id]}).status_code == 404


def test_a_deleted_prediction_is_in_the_trash(client, project, predicted):
    assert client.delete(f"/v1/predictions/{predicted['id']}").status_code == 204
    assert client.get(f"/v1/projects/{project.id}/predictions").json()["items"] == []


def test_a_person_predicts_three_images_at_once_and_leaves_room_for_others(platform, ana, client, model, image):
    busy, free = threading.Barrier(4), threading.Event()

    def wait(pixels, model_uri, scale):
        busy.wait(30)
        free.wait(30)
        return segment_here(pixels, model_uri, scale)

    slow, form = client_of(platform, ana, wait), {"image_ids": [image.id]}
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(slow.post, f"/v1/models/{model.id}/predict", json=form) for _ in range(3)]
        busy.wait(30)
        refused = client.post(f"/v1/models/{model.id}/predict", json=form)
        free.set()
        assert [answer.result().status_code for answer in waiting] == [200] * 3
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert refused.json()["detail"].startswith("3 predictions of yours are at work; try again in 5 seconds")
    assert client.post(f"/v1/models/{model.id}/predict", json=form).status_code == 200


def test_without_ray_nobody_starts_one_to_predict(platform, ana, model, image, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", None)
    answer = As(platform, ana).post(f"/v1/models/{model.id}/predict", json={"image_ids": [image.id]})
    assert answer.status_code == 429
    assert answer.json()["detail"].startswith("predictions are not ready")


def test_without_a_segmenter_people_are_told_to_try_again(platform, ana, model, image, local_ray):
    answer = As(platform, ana).post(f"/v1/models/{model.id}/predict", json={"image_ids": [image.id]})
    assert answer.status_code == 429
    assert answer.json()["detail"].startswith("predictions are not ready")
