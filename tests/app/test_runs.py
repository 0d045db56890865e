"""Runs by REST: checked before anything is spent, limited, shown while they run, kept."""

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sqlmodel import select

from axons.app.jobs.dispatcher import Dispatcher
from axons.app.services import runs as services
from axons.app.services.runs import RunCreate
from axons.app.tables import Classroom, Job, Membership, Model, ProjectMember, Run, User
from axons.errors import LimitReached
from axons.model.network import NetworkSpec, check_network
from axons.train.config import TrainConfig
from axons.train.run import RunFolder, RunMetrics, Status
from tests.app.conftest import As
from tests.app.trainings import CONFIG, ThreadCluster, add_project, add_training_set, epoch, play, settle


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def training_set(platform, project, tmp_path):
    return add_training_set(platform, project, tmp_path)


def ask(client, training_set, **config):
    return client.post("/v1/runs", json={"training_set_id": training_set.id, "config": {**CONFIG, **config}})


def stored(platform, table):
    return platform.database.read(lambda session: session.exec(select(table)).all())


def finished(platform):
    return [job for job in stored(platform, Job) if job.finished_at]


def test_the_form_the_api_and_the_command_share_one_schema(client):
    schema = TrainConfig.model_json_schema()
    del schema["properties"]["preset"]  # there is none in this installation
    assert client.get("/v1/schemas/train").json() == schema


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"epochs": 0}, "config.epochs"),
        ({"epochs": 2, "minutes": 1}, "config"),
        ({"crop": 100}, "config.crop"),
        ({"encoder": "resnet19"}, "encoder"),
        ({"architecture": "unetplusplus", "encoder": "mit_b0"}, "encoder"),
        ({"batch": 3, "num_workers": 2}, "batch"),
        ({"epochs": None, "minutes": 121}, "minutes"),
        ({"init_model": "nobody"}, "init_model"),
        ({"encoder_weights": "/etc"}, "encoder_weights"),
        ({"invented": 1}, "config.invented"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_before_anything_is_spent(
    platform, client, training_set, config, field
):
    answer = ask(client, training_set, **config)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert stored(platform, Job) == stored(platform, Run) == []
    assert platform.storage.list_objects("models") == []


@pytest.mark.parametrize(("architecture", "encoder"), services.SURE_NETWORKS)
@pytest.mark.parametrize("crop", [32, 64, 512])
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_that_are_not_tried_each_time_do_work(architecture, encoder, crop, channels):
    spec = NetworkSpec(architecture=architecture, encoder=encoder, channels=channels, num_classes=3)
    check_network(spec, crop=crop, batch=2)


def test_a_set_without_validation_images_is_refused_by_name(platform, project, client, tmp_path):
    row = add_training_set(platform, project, tmp_path, splits=("train", "train"))
    answer = ask(client, row)
    assert (answer.status_code, answer.json()["field"]) == (422, "training_set_id")
    assert "has 2 images and none for validation" in answer.json()["detail"]


def test_one_image_may_train_without_validation(platform, project, client, tmp_path):
    assert ask(client, add_training_set(platform, project, tmp_path, splits=("train",))).status_code == 202


def test_a_second_training_of_a_student_is_refused_while_one_waits(client, training_set):
    assert ask(client, training_set).status_code == 202
    answer = ask(client, training_set)
    assert (answer.status_code, answer.json()["title"]) == (409, "limit-reached")
    assert answer.json()["detail"] == (
        "you have 1 of 1 trainings waiting or running; wait for one to end, or cancel it"
    )


def test_a_cancelled_training_makes_room_for_another(client, training_set):
    client.post(f"/v1/runs/{ask(client, training_set).json()['id']}/cancel")
    assert ask(client, training_set).status_code == 202


def test_a_prepared_run_uses_no_place_until_it_is_submitted(client, training_set):
    assert client.post("/v1/runs", json={"training_set_id": training_set.id, "config": CONFIG, "prepare": True}).json()[
        "run_uri"
    ]
    assert ask(client, training_set).status_code == 202


def test_a_prepared_run_has_its_folder_with_the_whole_request(platform, client, training_set):
    form = {"training_set_id": training_set.id, "config": CONFIG, "prepare": True}
    request = RunFolder(client.post("/v1/runs", json=form).json()["run_uri"]).request()
    assert request.training_set_sha256 == training_set.sha256
    assert request.training_set == platform.uri(training_set.key)
    assert request.config.crop == 32
    assert request.metadata["user"] == "ana"
    assert request.cpu_resources == {"CPU": 1}


def in_class(platform, teacher, pupil, *, switches=None, limits=None):
    """A class with one pupil; returns its id."""
    classroom = Classroom(name="7b", created_by=teacher.user_id, switches=switches or {}, limits=limits or {})

    def add(session):
        session.add(classroom)
        session.flush()
        session.add(Membership(classroom_id=classroom.id, user_id=teacher.user_id, role="educator"))
        session.add(Membership(classroom_id=classroom.id, user_id=pupil.user_id, role="student"))
        return classroom.id

    return platform.database.write(add)


def test_the_limits_of_a_class_count_instead_of_those_of_the_installation(platform, ana, teacher, client, tmp_path):
    classroom_id = in_class(platform, teacher, ana, limits={"max_active_trainings": 2, "max_training_minutes": 3})
    row = add_training_set(platform, add_project(platform, ana, classroom_id=classroom_id), tmp_path)
    assert ask(client, row, epochs=None, minutes=4).status_code == 422
    answers = [ask(client, row).status_code for _ in range(3)]
    assert answers == [202, 202, 409]


def test_a_class_that_may_not_train_does_not(platform, ana, teacher, client, tmp_path):
    classroom_id = in_class(platform, teacher, ana, switches={"may_train": False})
    row = add_training_set(platform, add_project(platform, ana, classroom_id=classroom_id), tmp_path)
    assert ask(client, row).status_code == 403
    assert ask(As(platform, teacher), row).status_code == 202


def test_a_viewer_of_a_project_cannot_train_and_a_stranger_does_not_see_it(platform, project, ben, training_set):
    stranger = ask(As(platform, ben), training_set)
    platform.database.write(
        lambda session: session.add(ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer"))
    )
    assert (stranger.status_code, ask(As(platform, ben), training_set).status_code) == (404, 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/metrics"),
        ("GET", "/log"),
        ("GET", "/samples"),
        ("GET", "/samples/picture?name=samples/truth.png"),
        ("GET", "/report"),
        ("GET", "/tensorboard"),
        ("POST", "/cancel"),
        ("POST", "/stop"),
        ("POST", "/resume"),
        ("DELETE", ""),
    ],
)
def test_nothing_of_a_run_is_there_for_a_stranger(platform, ben, client, training_set, method, path):
    run = ask(client, training_set).json()
    assert As(platform, ben).request(method, f"/v1/runs/{run['id']}{path}").status_code == 404


def test_the_curve_gains_points_before_the_run_ends(platform, client, training_set):
    run = ask(client, training_set).json()
    dispatcher = Dispatcher(platform, ThreadCluster(train=lambda uri: None))
    dispatcher._cluster.submission = lambda submission_id: "running"
    dispatcher.step()
    folder = RunFolder(platform.uri(f"models/{run['id']}"))
    attempt = folder.begin_attempt()
    points = []
    for number in (1, 2, 3):
        status = Status(state="running", attempt=attempt, epoch=number, progress=number / 10, seconds_left=9.0)
        folder.write_status(status)
        rows = [epoch(n) for n in range(1, number + 1)]
        folder.write_metrics(RunMetrics(attempt=attempt, classes=["a"], epochs=rows))
        dispatcher.step()
        points.append([row["epoch"] for row in client.get(f"/v1/runs/{run['id']}/metrics").json()["epochs"]])
    shown = client.get(f"/v1/runs/{run['id']}").json()
    assert points == [[1], [1, 2], [1, 2, 3]]
    assert (shown["state"], shown["progress"], shown["status"]["seconds_left"]) == ("running", 0.3, 9.0)
    later = client.get(f"/v1/runs/{run['id']}/metrics", params={"after": 2}).json()
    assert [row["epoch"] for row in later["epochs"]] == [3]
    assert later["classes"] == ["background", "ring", "core"]


def test_the_log_tells_what_happened_to_the_job_and_in_the_training(platform, client, training_set):
    run = ask(client, training_set).json()
    settle(Dispatcher(platform, ThreadCluster()), lambda: finished(platform))
    RunFolder(platform.uri(f"models/{run['id']}")).storage.replace("log.txt", b"epoch 1: loss 0.5\n")
    log = client.get(f"/v1/runs/{run['id']}/log").text
    assert "attempt 1 begins" in log
    assert "epoch 1: loss 0.5" in log
    assert "done: model 'Disks' version 1" in client.get(f"/v1/jobs/{run['job_id']}/log").json()["log"]


def test_pictures_and_curves_of_a_run_are_downloaded(platform, client, training_set):
    run = ask(client, training_set).json()
    folder = RunFolder(platform.uri(f"models/{run['id']}"))
    folder.storage.write("samples/truth.png", b"\x89PNG")
    folder.storage.write("tensorboard/events.out.tfevents.run", b"events")
    path = f"/v1/runs/{run['id']}"
    assert client.get(f"{path}/samples").json() == {"samples": ["samples/truth.png"]}
    picture = client.get(f"{path}/samples/picture", params={"name": "samples/truth.png"})
    assert (picture.content, picture.headers["content-type"]) == (b"\x89PNG", "image/png")
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"{path}/tensorboard").content))
    assert archive.read("tensorboard/events.out.tfevents.run") == b"events"


@pytest.mark.parametrize("name", ["run.json", "samples/../run.json", "/etc/passwd", "model/model.json"])
def test_only_pictures_are_served_as_pictures(client, training_set, name):
    run = ask(client, training_set).json()
    answer = client.get(f"/v1/runs/{run['id']}/samples/picture", params={"name": name})
    assert answer.status_code == 422


def test_a_report_of_a_run_that_is_not_done_is_refused(client, training_set):
    run = ask(client, training_set).json()
    answer = client.get(f"/v1/runs/{run['id']}/report")
    assert answer.status_code == 422
    assert answer.json()["title"] == "run-refused"


def test_a_run_goes_into_the_trash_only_when_it_is_over(platform, client, training_set):
    run = ask(client, training_set).json()
    assert client.delete(f"/v1/runs/{run['id']}").status_code == 409
    settle(Dispatcher(platform, ThreadCluster()), lambda: finished(platform))
    assert client.delete(f"/v1/runs/{run['id']}").status_code == 204
    assert client.get(f"/v1/runs/{run['id']}").status_code == 404
    assert len(client.get("/v1/models").json()["items"]) == 1


def learn(platform, client, training_set, **how):
    """A run that learns for as long as one likes, and a dispatcher that follows it."""
    run = ask(client, training_set).json()
    dispatcher = Dispatcher(platform, ThreadCluster(train=partial(play, epochs=10_000, pause_s=0.02, **how)))
    settle(dispatcher, lambda: client.get(f"/v1/runs/{run['id']}").json()["status"].get("epoch"))
    return run["id"], dispatcher


def test_a_run_that_is_stopped_gives_a_model_and_is_resumed_to_another(platform, client, training_set):
    run_id, dispatcher = learn(platform, client, training_set)
    assert client.post(f"/v1/runs/{run_id}/stop").json()["is_stopping"]
    settle(dispatcher, lambda: finished(platform))
    stopped = client.get(f"/v1/runs/{run_id}").json()
    assert (stopped["state"], stopped["is_stopping"], stopped["status"]["is_stopped"]) == ("done", False, True)
    assert stopped["reason"].startswith("stopped at epoch ")
    assert stopped["reason"].endswith("model 'Disks' version 1, mean IoU 0.700")
    dispatcher._cluster.train = play
    assert client.post(f"/v1/runs/{run_id}/resume").status_code == 202
    settle(dispatcher, lambda: finished(platform))
    resumed = client.get(f"/v1/runs/{run_id}").json()
    first, second = sorted(stored(platform, Model), key=lambda model: model.version)
    assert (resumed["attempt"], resumed["reason"]) == (2, "model 'Disks' version 2, mean IoU 0.700")
    assert [stopped["model_id"], resumed["model_id"]] == [first.id, second.id]
    assert client.get("/v1/runs").json()["items"][0]["model_id"] == second.id
    assert (first.key != second.key, first.is_promoted, second.is_promoted) == (True, True, False)
    assert client.post(f"/v1/runs/{run_id}/resume").status_code == 409


def test_a_run_whose_process_dies_while_it_is_stopped_is_published_by_the_next(platform, client, training_set):
    run_id, dispatcher = learn(platform, client, training_set, dies_when_stopped=True)
    dispatcher._cluster.train = play
    client.post(f"/v1/runs/{run_id}/stop")
    settle(dispatcher, lambda: finished(platform))
    run = client.get(f"/v1/runs/{run_id}").json()
    assert (run["state"], run["attempt"], run["status"]["is_stopped"]) == ("done", 2, True)
    assert len(stored(platform, Model)) == 1


def test_a_run_that_is_stopped_before_it_has_learnt_anything_is_cancelled(platform, client, training_set):
    run = ask(client, training_set).json()
    assert client.post(f"/v1/runs/{run['id']}/stop").json()["state"] == "cancelled"
    assert client.post(f"/v1/runs/{run['id']}/stop").status_code == 409


def test_runs_of_a_project_are_listed_page_by_page(platform, project, client, training_set):
    for _ in range(3):
        client.post(f"/v1/runs/{ask(client, training_set).json()['id']}/cancel")
    first = client.get("/v1/runs", params={"project_id": project.id, "limit": 2}).json()
    second = client.get("/v1/runs", params={"project_id": project.id, "limit": 2, "cursor": first["next"]}).json()
    assert [run["number"] for run in first["items"] + second["items"]] == [3, 2, 1]
    assert second["next"] is None


@pytest.mark.both_databases
def test_two_starts_in_one_moment_count_each_other(platform, ana, tmp_path):
    row = add_training_set(platform, add_project(platform, ana), tmp_path)
    form = RunCreate(training_set_id=row.id, config=TrainConfig(**CONFIG))

    def start(_):
        try:
            platform.database.write(partial(services.create_run, actor=ana, form=form, settings=platform.settings))
        except LimitReached:
            return "refused"
        return "accepted"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(start, range(8)))
    assert sorted(outcomes) == ["accepted"] + ["refused"] * 7
    assert len(stored(platform, Run)) == len(stored(platform, Job)) == 1
    assert len(stored(platform, User)) == 1


@pytest.mark.parametrize("address", ["/etc/passwd", "s3://bucket/model", "../model", "\x00"])
def test_an_address_is_not_a_model_to_start_from(client, training_set, address):
    answer = ask(client, training_set, init_model=address)
    assert (answer.status_code, answer.json()["field"]) == (422, "init_model")
