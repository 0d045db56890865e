"""The model API of DEEPaaS: what its clients and curl scripts rely on."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image as Picture
from sqlmodel import select
from starlette.testclient import TestClient

from axons.app.jobs.dispatcher import Dispatcher
from axons.app.tables import Job, Model, Run
from axons.errors import SegmenterBusy
from tests.app.images import png
from tests.app.serving import client_of, past_the_gate, the_v2
from tests.app.test_predictions import segment_here
from tests.app.test_runs import in_class
from tests.app.trainings import ThreadCluster, add_model, add_project, add_training_set, settle
from tests.drawing import draw_disks
from tests.serve.models import make_model

TRAIN = {"crop": 32, "batch": 4, "epochs": 2, "encoder": "resnet18", "device": "cpu"}


def v2(platform, actor, segment=segment_here) -> TestClient:
    return client_of(past_the_gate(the_v2(), platform, actor, segment))


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def client(platform, ana):
    return v2(platform, ana)


def image(height=90, width=80):
    return {"data": ("new.png", png(draw_disks(height, width).image), "image/png")}


def test_models_are_listed_by_the_names_of_the_registry(client, model):
    [meta] = client.get("/models/").json()["models"]
    assert (meta["id"], meta["name"], meta["version"], meta["author"]) == ("random", "random", "1", "ana")
    assert set(meta) == {"id", "name", "description", "author", "license", "version", "url", "links"}
    assert client.get("/models/random/").json() == meta
    assert meta["links"][0]["href"] == "/v2/models/random/"


def test_the_promoted_version_stands_for_its_name(platform, ana, client, project, model):
    make_model(platform.uri("models/second"), seed=2)
    add_model(platform, ana, project, "models/second", version=2)
    assert client.get("/models/random/").json()["version"] == "2"
    platform.database.write(lambda session: setattr(session.get_one(Model, model.id), "is_promoted", True))
    assert client.get("/models/random/").json()["version"] == "1"


def test_a_name_of_two_projects_carries_its_project(platform, ana, client, model):
    other = add_project(platform, ana)
    make_model(platform.uri("models/other"))
    add_model(platform, ana, other, "models/other")
    ids = [meta["id"] for meta in client.get("/models/").json()["models"]]
    assert sorted(ids) == sorted(f"random@{project_id[:8]}" for project_id in (model.project_id, other.id))
    assert client.get(f"/models/{ids[0]}/").status_code == 200


def test_a_prediction_is_json_unless_asked_otherwise(client, model):
    answer = client.post("/models/random/predict/", files=image())
    assert answer.json()["status"] == "OK"
    predictions = answer.json()["predictions"]
    assert (predictions["height"], predictions["width"]) == (90, 80)
    assert sum(found["pixels"] for found in predictions["classes"]) == 90 * 80


def test_a_prediction_is_a_png_mask_if_that_is_accepted(client, model):
    answer = client.post("/models/random/predict/", files=image(), headers={"accept": "image/png"})
    mask = np.asarray(Picture.open(io.BytesIO(answer.content)))
    assert answer.headers["content-type"] == "image/png"
    assert mask.shape == (90, 80)
    assert mask.max() <= 2


def test_a_prediction_is_a_zip_of_everything_if_that_is_accepted(client, model):
    answer = client.post("/models/random/predict/", files=image(), headers={"accept": "application/zip"})
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert sorted(archive.namelist()) == ["classes.json", "mask.png", "overlay.png"]
    assert json.loads(archive.read("classes.json"))["height"] == 90


def test_nothing_of_a_prediction_is_stored(platform, client, model):
    before = platform.storage.list_objects()
    client.post("/models/random/predict/", files=image())
    assert platform.storage.list_objects() == before


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"files": {"data": ("bad.png", b"<svg/>")}}, 422),
        ({}, 422),
        ({"files": image(), "data": {"scale": "99"}}, 422),
        ({"files": image(), "headers": {"accept": "text/turtle"}}, 422),
    ],
)
def test_what_cannot_be_predicted_is_422(client, model, request_, status):
    assert client.post("/models/random/predict/", **request_).status_code == status


def test_a_file_with_too_many_pixels_is_413(platform, client, model):
    small = platform.settings.model_copy(update={"max_prediction_pixels": 1000})
    object.__setattr__(platform, "settings", small)
    assert client.post("/models/random/predict/", files=image()).status_code == 413


def test_a_full_queue_is_429(platform, ana, model):
    def busy(*_):
        raise SegmenterBusy("too many images are waiting for prediction; try again in 5 seconds", 5)

    assert v2(platform, ana, busy).post("/models/random/predict/", files=image()).status_code == 429


@pytest.mark.parametrize("path", ["/", "/models/", "/models/random/", "/models/random/train/", "/swagger.json"])
def test_nobody_is_401(platform, model, path):
    assert v2(platform, None).get(path).status_code == 401


def test_another_method_is_405(client, model):
    assert client.put("/models/random/predict/").status_code == 405


def test_a_model_of_somebody_else_is_404(platform, ben, model):
    assert v2(platform, ben).post("/models/random/predict/", files=image()).status_code == 404


@pytest.mark.parametrize(("switch", "path"), [("may_predict", "predict"), ("may_train", "train")])
def test_what_a_class_has_switched_off_is_405(platform, ana, teacher, switch, path):
    classroom_id = in_class(platform, teacher, ana, switches={switch: False})
    make_model(platform.uri("models/random"))
    add_model(platform, ana, add_project(platform, ana, classroom_id=classroom_id), "models/random")
    files = {"files": image()} if path == "predict" else {}
    assert v2(platform, ana).post(f"/models/random/{path}/", **files).status_code == 405


def test_a_model_that_was_not_trained_here_cannot_be_trained_without_a_set(client, model):
    assert client.post("/models/random/train/", params=TRAIN).status_code == 501


@pytest.fixture
def training(platform, client, project, model, tmp_path):
    """A training of the model, started by query arguments as DEEPaaS has them."""
    row = add_training_set(platform, project, tmp_path)
    answer = client.post("/models/random/train/", params={**TRAIN, "training_set": row.id})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_training_is_a_job_with_a_uuid(platform, training):
    [run] = platform.database.read(lambda session: session.exec(select(Run)).all())
    assert (training["uuid"], training["status"], training["args"]["crop"]) == (run.id, "running", 32)
    assert platform.database.read(lambda session: session.get_one(Job, run.job_id)).state == "queued"


def test_the_status_of_a_training_moves_to_done_with_its_metrics(platform, client, training):
    def state():
        return client.get(f"/models/random/train/{training['uuid']}").json()

    settle(Dispatcher(platform, ThreadCluster()), lambda: state()["status"] != "running")
    assert (state()["status"], state()["progress"], state()["metrics"]["epoch"]) == ("done", 1.0, 2)
    assert client.get("/models/random/train/").json() == [state()]
    assert client.get("/models/random/").json()["version"] == "2"


def test_deleting_a_training_cancels_it(client, training):
    assert client.delete(f"/models/random/train/{training['uuid']}").json()["status"] == "cancelled"
    assert client.get("/models/random/train/00000000-0000").status_code == 404


def test_the_next_training_uses_the_set_of_the_last(platform, client, training):
    settle(
        Dispatcher(platform, ThreadCluster()),
        lambda: client.get(f"/models/random/train/{training['uuid']}").json()["status"] == "done",
    )
    assert client.post("/models/random/train/", params=TRAIN).status_code == 200


@pytest.mark.parametrize("arguments", [{"epochs": 0}, {"crop": 100}, {"invented": 1}, {"encoder": "resnet19"}])
def test_an_argument_that_cannot_work_is_422(client, platform, project, model, tmp_path, arguments):
    row = add_training_set(platform, project, tmp_path)
    query = {**TRAIN, "training_set": row.id, **arguments}
    assert client.post("/models/random/train/", params=query).status_code == 422


def test_openapi_lists_the_routes(client, model):
    paths = client.get("/swagger.json").json()["paths"]
    assert {
        "/",
        "/models/",
        "/models/{model_name}/",
        "/models/{model_name}/predict/",
        "/models/{model_name}/train/",
        "/models/{model_name}/train/{uuid}",
    } == set(paths)
