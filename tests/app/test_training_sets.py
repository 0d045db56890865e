"""Training sets by REST, without a cluster: choices, rights, listing, download, trash."""

import io
import zipfile

import pytest
from sqlmodel import select

from axons.app.jobs.dispatcher import Dispatcher
from axons.app.tables import Job, ProjectMember, TrainingSet
from axons.data.training_set import load_training_set
from tests.app.conftest import As
from tests.app.trainings import ThreadCluster, add_project, add_training_set, settle


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def training_set(platform, project, tmp_path):
    return add_training_set(platform, project, tmp_path)


def stored(platform, table):
    return platform.database.read(lambda session: session.exec(select(table)).all())


def test_choices_become_a_row_and_a_job(platform, client, project):
    answer = client.post(f"/v1/projects/{project.id}/training-sets", json={"images": "a*", "seed": 3})
    assert answer.status_code == 202
    row, job = answer.json()["training_set"], answer.json()["job"]
    assert (row["number"], row["name"], row["state"], row["request"]["seed"]) == (1, "Disks 1", "freezing", 3)
    assert (job["kind"], job["state"], job["target_id"], row["job_id"]) == ("freeze", "queued", row["id"], job["id"])


@pytest.mark.parametrize(
    "choices",
    [
        {"fractions": [0.5, 0.1, 0.1]},
        {"fractions": [0, 0.5, 0.5]},
        {"group": "("},
        {"group": "(a+)+b"},
        {"scale": 5},
        {"scale": 0.5, "pixel_size_um": 1},
        {"seed": -1},
        {"image_ids": []},
        {"name": "two\nlines"},
        {"name": "\x00"},
        {"invented": True},
    ],
)
def test_choices_that_cannot_be_are_refused(platform, client, project, choices):
    assert client.post(f"/v1/projects/{project.id}/training-sets", json=choices).status_code == 422
    assert stored(platform, Job) == stored(platform, TrainingSet) == []


def test_a_viewer_cannot_freeze_and_a_stranger_sees_nothing(platform, project, ben, training_set):
    path = f"/v1/projects/{project.id}/training-sets"
    other = As(platform, ben)
    assert other.post(path, json={}).status_code == other.get(path).status_code == 404
    assert other.get(f"/v1/training-sets/{training_set.id}").status_code == 404
    platform.database.write(
        lambda session: session.add(ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer"))
    )
    assert other.post(path, json={}).status_code == 403
    assert other.get(f"/v1/training-sets/{training_set.id}").status_code == 200


def test_a_set_shows_its_balance_diversity_and_warnings(client, training_set):
    summary = client.get(f"/v1/training-sets/{training_set.id}").json()["summary"]
    assert sum(map(sum, summary["balance"]["pixels"].values())) == 4 * 96 * 96
    assert summary["diversity"]["num_images"] == 4
    assert [found["name"] for found in summary["classes"]] == ["background", "ring", "core"]
    assert summary["num_images"] == {"train": 2, "val": 1, "test": 1}


def test_sets_are_listed_the_newest_first(platform, client, project, training_set):
    client.post(f"/v1/projects/{project.id}/training-sets", json={})
    listed = client.get(f"/v1/projects/{project.id}/training-sets").json()["items"]
    assert [row["number"] for row in listed] == [2, 1]


def test_a_set_that_is_not_frozen_yet_cannot_be_compared_or_exported(client, project, training_set):
    other = client.post(f"/v1/projects/{project.id}/training-sets", json={}).json()["training_set"]["id"]
    query = {"id": [training_set.id, other]}
    assert client.get("/v1/training-sets:compare", params=query).status_code == 409
    assert client.post(f"/v1/training-sets/{other}/export").status_code == 409


def test_a_set_is_downloaded_as_a_zip_on_which_one_can_train(platform, client, training_set, tmp_path):
    job = client.post(f"/v1/training-sets/{training_set.id}/export").json()
    settle(Dispatcher(platform, ThreadCluster()), lambda: all(found.finished_at for found in stored(platform, Job)))
    assert client.get(f"/v1/jobs/{job['id']}").json()["reason"] == "training set of 4 images exported"
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{job['id']}/file").content))
    archive.extractall(tmp_path / "set")
    again = load_training_set(str(tmp_path / "set"), sha256=training_set.sha256)
    assert len(archive.namelist()) == 1 + len(again.shards)


def test_a_deleted_set_is_in_the_trash_and_comes_back(client, training_set):
    assert client.delete(f"/v1/training-sets/{training_set.id}").status_code == 204
    assert client.get(f"/v1/training-sets/{training_set.id}").status_code == 404
    [trash] = client.get("/v1/trash").json()
    assert client.post(f"/v1/trash/{trash['id']}/restore").status_code < 300
    assert client.get(f"/v1/training-sets/{training_set.id}").status_code == 200


def test_a_cancelled_freezing_leaves_a_set_that_says_so(platform, client, project):
    created = client.post(f"/v1/projects/{project.id}/training-sets", json={}).json()
    client.post(f"/v1/jobs/{created['job']['id']}/cancel")
    assert client.get(f"/v1/training-sets/{created['training_set']['id']}").json()["state"] == "failed"


def test_a_server_that_is_stopped_puts_its_work_back(platform, client, training_set):
    client.post(f"/v1/training-sets/{training_set.id}/export")
    dispatcher = Dispatcher(platform, ThreadCluster())
    dispatcher.step()
    dispatcher.stop()
    [job] = stored(platform, Job)
    assert (job.state, job.reason) == ("queued", "the server was stopped; it starts again")
    assert "crashes" not in job.result
    settle(Dispatcher(platform, ThreadCluster()), lambda: stored(platform, Job)[0].state == "done")


def test_work_that_needs_no_gpu_goes_on_while_all_training_places_are_taken(platform, ana, client, training_set):
    config = {"crop": 32, "batch": 4, "epochs": 2, "encoder": "resnet18", "device": "cpu"}
    client.post("/v1/runs", json={"training_set_id": training_set.id, "config": config})
    job = client.post(f"/v1/training-sets/{training_set.id}/export").json()
    cluster = ThreadCluster(places=1, train=lambda uri: None)
    cluster.submission = lambda submission_id: "running"
    settle(Dispatcher(platform, cluster), lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] == "done")
    assert sorted(found.state for found in stored(platform, Job)) == ["done", "preparing"]
