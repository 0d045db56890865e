"""The whole loop against `axons up` as a process: by the command only, by HTTP only, and as the pages in docs/ say."""

import io
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from axons.app import local_ray
from axons.data.sample import SAMPLE_CLASSES, draw_micrograph
from tests.app.images import document_of
from tests.app.installation import command, environment, install
from tests.app.notebook import run_notebook
from tests.serve.models import make_model

SIZE = 256
SETTINGS = "epochs: 1\ncrop: 64\nbatch: 4\nencoder: mobilenet_v2\n"
DOCS = Path(__file__).parents[2] / "docs"

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


def v2(up, name, image, **headers):
    """What a DEEPaaS client gets for an image."""
    token = command(up, "token", "create", f"for {name}")["token"]
    files = {"data": (image.name, image.read_bytes())}
    headers = {"Authorization": f"Bearer {token}", **headers}
    answer = httpx.post(f"{up.url}/v2/models/{name}/predict/", files=files, headers=headers, timeout=60)
    assert answer.is_success, answer.text
    return answer


def test_the_command_predicts_what_the_model_api_answers(up, trained, sample, tmp_path):
    image = sample / "images" / "nerve-3.png"
    told = command(up, "predict", trained["run"]["model_id"], str(image), "-o", str(tmp_path))
    answered = v2(up, "first", image, accept="image/png").content
    masks = [np.asarray(Image.open(mask)) for mask in (told["images"][0]["mask"], io.BytesIO(answered))]
    assert np.array_equal(*masks)


@pytest.mark.slow
def test_a_second_prediction_takes_less_than_half_of_the_first(up, trained, sample, tmp_path, record_property):
    make_model(tmp_path, seed=7)
    model = command(up, "models", "import", "nerve", str(tmp_path / "model.safetensors"), "--name", "cold")
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        v2(up, model["name"], sample / "images" / "nerve-3.png")
        seconds.append(time.monotonic() - began)
    record_property("seconds of the first and of the second", [round(each, 2) for each in seconds])
    assert seconds[1] < seconds[0] / 2


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


def ray(up, line):
    """Run a line of `ray` as docs/ray-jobs.md says; returns what it prints."""
    known = environment(
        up.data,
        RAY_API_SERVER_ADDRESS=up.told["dashboard"],
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(up.data / "ray-token"),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, env=known)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def ended(up, run_id):
    """The run once the dispatcher has seen its end."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        run = command(up, "runs", "show", run_id)
        if run["finished_at"]:
            break
        time.sleep(1)
    return run


@pytest.mark.slow
def test_the_printed_line_submits_a_prepared_run_that_ends_with_a_model(up, trained):
    options = ["--epochs", "1", "--crop", "128", "--batch", "4"]
    run = command(up, "train", "nerve/1", *options, "--prepare", "--name", "own")
    assert (Path(run["run_uri"]) / "run.json").is_file()
    assert (run["state"], run["reason"]) == ("queued", "waits until you submit it")
    ray(up, run["submit"])
    shown = ended(up, run["id"])
    assert (shown["state"], shown["reason"][:11]) == ("done", "model 'own'")
    assert command(up, "models", "show", shown["model_id"])["name"] == "own"


@pytest.mark.slow
def test_a_model_of_ones_own_script_is_imported(up, trained, tmp_path):
    command(up, "training-set", "download", "nerve/1", "-o", str(tmp_path / "set.zip"))
    shutil.unpack_archive(tmp_path / "set.zip", tmp_path / "my-project" / "set")
    shutil.copy(DOCS / "examples" / "train.py", tmp_path / "my-project")
    log = ray(up, f"ray job submit --working-dir {tmp_path}/my-project -- python train.py set {tmp_path}/own 3")
    assert "step 3: loss" in log
    model = command(up, "models", "import", "nerve", f"{tmp_path}/own/model.safetensors", "--name", "script")
    assert (model["name"], model["version"]) == ("script", 1)
    assert model["card"]["origin"]["training_set_sha256"] == trained["set"]["sha256"]


def test_a_project_travels_by_the_command(up, trained, tmp_path):
    command(up, "project", "export", "nerve", "-o", str(tmp_path / "nerve.zip"))
    arrived = command(up, "project", "import", str(tmp_path / "nerve.zip"))["result"]["project_id"]
    assert arrived != trained["project"]["id"]
    assert command(up, "training-set", "show", f"{arrived}/1")["sha256"] == trained["set"]["sha256"]
    command(up, "project", "delete", arrived)


@pytest.mark.slow
def test_the_notebook_goes_from_images_to_a_prediction(up, monkeypatch):
    monkeypatch.setenv("AXONS_URL", up.url)
    monkeypatch.setenv("AXONS_TOKEN", command(up, "token", "create", "notebook")["token"])
    shown = run_notebook(DOCS / "notebook.ipynb")
    assert [picture.size for picture in shown if isinstance(picture, Image.Image)] == [
        (SIZE, SIZE),
        (128, 128),
        (SIZE, SIZE),
        (SIZE, SIZE),
    ]
    assert shown[-3].keys() == set(SAMPLE_CLASSES)


@pytest.mark.slow
def test_while_a_training_runs_the_platform_answers(up, trained, record_property):
    token = command(up, "token", "create", "meanwhile")["token"]
    seconds = []
    with httpx.Client(base_url=f"{up.url}/api/v1/", headers={"Authorization": f"Bearer {token}"}) as http:
        began = time.monotonic()
        form = {"training_set_id": trained["set"]["id"], "config": {"epochs": 50, "crop": 128, "batch": 4}}
        run = http.post("runs", json=form)
        accepted_s = time.monotonic() - began
        for _ in range(100):
            began = time.monotonic()
            assert http.get(f"projects/{trained['project']['id']}").status_code == 200
            seconds.append(time.monotonic() - began)
            time.sleep(0.1)
    command(up, "runs", "cancel", run.json()["id"])
    p95 = sorted(seconds)[94]
    record_property("seconds until a training is accepted; p95 of a project beside it", f"{accepted_s:.2f}; {p95:.3f}")
    assert run.status_code == 202


def test_accounts_are_added_reset_and_disabled_by_the_command(up):
    added = command(up, "user", "add", "ana", "--role", "student")
    assert command(up, "user", "reset", "ana")["password"] != added["password"]
    assert command(up, "user", "disable", "ana")["is_active"] is False
    assert command(up, "user", "enable", "ana")["is_active"] is True
    assert "ana" in {user["name"] for user in command(up, "user", "list")}


def test_a_project_is_renamed_archived_and_deleted_by_the_command(up):
    command(up, "project", "create", "short", "--classes", "bg,axon")
    assert command(up, "project", "rename", "short", "shorter")["name"] == "shorter"
    command(up, "project", "archive", "shorter")
    assert "shorter" in {project["name"] for project in command(up, "project", "list", "--archived")}
    command(up, "project", "archive", "shorter", "--undo")
    command(up, "project", "delete", "shorter")
    assert "shorter" not in {project["name"] for project in command(up, "project", "list")}


def test_every_job_is_listed_for_ever_with_its_reason(up, trained):
    jobs = {job["kind"]: job for job in command(up, "jobs", "list", "--project", "nerve")}
    assert {"import", "freeze", "train"} <= jobs.keys()
    assert "nerve" in jobs["freeze"]["reason"] or "frozen" in jobs["freeze"]["reason"]


def test_a_configuration_that_cannot_work_is_refused_before_anything_is_spent(up, trained):
    assert "batch" in command(up, "train", "nerve/1", "--epochs", "1", "--batch", "0", is_ok=False)


def test_of_files_that_were_refused_each_is_told_and_the_command_fails(up, sample, tmp_path):
    command(up, "project", "create", "mixed", "--classes", "bg,axon")
    shutil.copy(sample / "images" / "nerve-0.png", tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    [job] = command(up, "images", "add", "mixed", str(tmp_path), is_ok=False)
    assert job["result"]["num_images"] == 1
    assert [found["name"] for found in job["result"]["refused"]] == ["broken.png"]


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
    config = {"epochs": 1, "crop": 64, "batch": 4, "encoder": "mobilenet_v2"}
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
