"""The whole loop on a drawn sample, by the command only and by HTTP only, against `axons up` as a process."""

import shutil
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from axons.app import local_ray
from axons.data.sample import SAMPLE_CLASSES, draw_micrograph
from tests.app.images import document_of
from tests.app.installation import command, install

SIZE = 256
SETTINGS = "epochs: 1\ncrop: 128\nbatch: 4\nencoder: resnet18\n"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    installation = install(tmp_path_factory.mktemp("loop"))
    told = installation.start("--no-sample")
    command(installation, "login", "--code", told["code"])
    yield installation
    installation.stop()
    shutil.rmtree(local_ray.session_folder(installation.data), ignore_errors=True)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Four small micrographs with their masks."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for seed in range(4):
        drawn = draw_micrograph(np.random.default_rng(seed), size=SIZE)
        Image.fromarray(drawn.image).save(folder / "images" / f"nerve-{seed}.png")
        Image.fromarray(drawn.mask).save(folder / "masks" / f"nerve-{seed}.png")
    return folder


@pytest.fixture(scope="module")
def trained(up, sample, tmp_path_factory):
    """From nothing to a model, by the command only; yields what the commands printed, by name."""
    out = tmp_path_factory.mktemp("out")
    (out / "settings.yaml").write_text(SETTINGS)
    classes = ",".join(SAMPLE_CLASSES)
    told = {}
    told["project"] = command(up, "project", "create", "nerve", "--classes", classes, "--tile", "128")
    told["images"] = command(up, "images", "add", "nerve", str(sample / "images"))
    told["labels"] = command(up, "annotations", "import", "nerve", str(sample / "masks"))
    told["set"] = command(up, "training-set", "create", "nerve", "--split", "50/25/25")
    told["run"] = command(up, "train", "nerve/1", "--config", str(out / "settings.yaml"), "--name", "first", "--wait")
    return told


def test_by_the_command_a_folder_becomes_a_model(trained):
    assert trained["images"][0]["result"]["num_images"] == 4
    assert trained["set"]["state"] == "ready"
    assert trained["run"]["state"] == "done"
    assert trained["run"]["model_id"]


def test_a_run_keeps_its_epochs_and_its_log(up, trained):
    assert [epoch["epoch"] for epoch in command(up, "runs", "metrics", "nerve/1")["epochs"]] == [1]
    assert "done" in command(up, "runs", "log", "nerve/1")["log"]
    assert [run["id"] for run in command(up, "runs", "list", "nerve")] == [trained["run"]["id"]]


def test_the_command_evaluates_a_model_on_a_training_set_and_on_a_folder(up, trained, sample):
    frozen = command(up, "evaluate", trained["run"]["model_id"], "nerve/1")
    folder = ["--images", str(sample / "images"), "--masks", str(sample / "masks")]
    own = command(up, "evaluate", trained["run"]["model_id"], *folder)
    assert 0 <= frozen["scores"]["mean_iou"] <= 1
    assert own["num_images"] == 4
    assert 0 <= own["scores"]["mean_iou"] <= 1


def test_the_command_predicts_on_the_server_and_the_same_at_home(up, trained, sample, tmp_path):
    image = str(sample / "images" / "nerve-3.png")
    model_id = trained["run"]["model_id"]
    there = command(up, "predict", model_id, image, "-o", str(tmp_path / "there"), "--overlay")
    command(up, "models", "download", model_id, "-o", str(tmp_path / "model.zip"))
    shutil.unpack_archive(tmp_path / "model.zip", tmp_path / "model")
    weights = str(next((tmp_path / "model").rglob("model.safetensors")))
    here = command(up, "predict", "--local", weights, image, "-o", str(tmp_path / "here"))
    masks = [np.asarray(Image.open(told["images"][0]["mask"])) for told in (there, here)]
    assert masks[0].shape == (SIZE, SIZE)
    assert (masks[0] == masks[1]).mean() > 0.999
    assert (tmp_path / "there" / "nerve-3.png.overlay.png").is_file()


def test_the_report_and_the_labels_go_into_files(up, trained, tmp_path):
    command(up, "report", "nerve/1", "-o", str(tmp_path / "report.html"))
    command(up, "export", "nerve", "--format", "png", "-o", str(tmp_path / "labels.zip"))
    shutil.unpack_archive(tmp_path / "labels.zip", tmp_path / "labels")
    assert "<html" in (tmp_path / "report.html").read_text()
    assert len(list((tmp_path / "labels").rglob("*.png"))) == 4


def test_a_better_version_is_promoted_and_taken_back(up, trained, sample):
    weights = command(up, "models", "show", trained["run"]["model_id"])
    assert weights["version"] == 1
    assert command(up, "models", "promote", weights["id"])["is_promoted"]
    assert command(up, "models", "show", "nerve/first")["id"] == weights["id"]


def test_a_prepared_run_prints_its_folder_and_the_line_for_ray(up, trained):
    run = command(up, "train", "nerve/1", "--epochs", "1", "--prepare", "--name", "own")
    assert "ray job submit" in run["submit"]
    assert run["run_uri"] in run["submit"]
    assert (Path(run["run_uri"]) / "run.json").is_file()


def test_every_job_is_listed_for_ever_with_its_reason(up, trained):
    jobs = {job["kind"]: job for job in command(up, "jobs", "list", "--project", "nerve")}
    assert {"import", "freeze", "train"} <= jobs.keys()
    assert "nerve" in jobs["freeze"]["reason"] or "frozen" in jobs["freeze"]["reason"]


def test_a_configuration_that_cannot_work_is_refused_before_anything_is_spent(up, trained):
    assert "batch" in command(up, "train", "nerve/1", "--epochs", "1", "--batch", "0", is_ok=False)


class Http:
    """REST without any client of ours."""

    def __init__(self, up, token):
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=f"{up.url}/api/v1/", headers=headers, timeout=60)

    def __call__(self, method, path, **request):
        answer = self._http.request(method, path, **request)
        assert answer.is_success, answer.text
        return answer

    def wait(self, job):
        while job["state"] not in ("done", "failed", "cancelled"):
            time.sleep(0.5)
            job = self("GET", f"jobs/{job['id']}").json()
        assert job["state"] == "done", job["reason"]
        return job

    def upload(self, path, **form):
        data = path.read_bytes()
        upload = self("POST", "uploads", json={"name": path.name, "num_bytes": len(data), **form}).json()
        self("PUT", f"uploads/{upload['id']}/parts/0", content=data)
        self("POST", f"uploads/{upload['id']}:complete")
        return upload["id"]


def test_by_http_alone_images_are_labelled_trained_on_evaluated_and_predicted(up, sample):
    http = Http(up, command(up, "token", "create", "loop")["token"])
    project = http("POST", "projects", json={"name": "http", "classes": list(SAMPLE_CLASSES), "tile": 256}).json()
    where = {"purpose": "images", "project_id": project["id"]}
    uploads = [http.upload(path, **where) for path in sorted((sample / "images").iterdir())]
    http.wait(http("POST", f"projects/{project['id']}/images", json={"uploads": uploads}).json())
    for tile in http("GET", f"projects/{project['id']}/tiles").json()["items"]:
        save(http, tile)
    form = {"fractions": [0.5, 0.25, 0.25]}
    frozen = http("POST", f"projects/{project['id']}/training-sets", json=form).json()
    http.wait(frozen["job"])
    config = {"epochs": 1, "crop": 128, "batch": 4}
    run = http("POST", "runs", json={"training_set_id": frozen["training_set"]["id"], "config": config}).json()
    http.wait({"id": run["job_id"], "state": "queued"})
    run = http("GET", f"runs/{run['id']}").json()
    evaluation = http(
        "POST", "evaluations", json={"model_id": run["model_id"], "training_set_id": frozen["training_set"]["id"]}
    ).json()
    http.wait({"id": evaluation["job_id"], "state": "queued"})
    assert http("GET", f"evaluations/{evaluation['id']}").json()["scores"]["mean_iou"] is not None
    picture = http.upload(sample / "images" / "nerve-0.png", purpose="prediction", project_id=project["id"])
    predicted = http("POST", f"models/{run['model_id']}/predict", json={"upload_id": picture}).json()["predictions"][0]
    assert http("GET", f"predictions/{predicted['id']}/mask").headers["content-type"] == "image/png"
    assert "<html" in http("GET", f"runs/{run['id']}/report").text


def save(http, tile):
    """Label a tile: a third of it each class."""
    plane = np.zeros((tile["height"], tile["width"]), np.uint8)
    plane[:, tile["width"] // 3 :] = 1
    plane[:, 2 * tile["width"] // 3 :] = 2
    about = {"params": {"save_id": tile["id"]}, "headers": {"If-Match": '"0"'}}
    http("PUT", f"tiles/{tile['id']}/annotation", json=document_of(plane), **about)
