"""Models: versions, verdict, promotion, sharing, download, import; damaged ones never answer."""

import io
import json
import zipfile

import pytest
from safetensors.numpy import load
from sqlmodel import select

from axons.app.tables import Audit, Membership, Model
from tests.app.conftest import As
from tests.app.test_runs import in_class
from tests.app.trainings import add_project
from tests.app.uploads import send
from tests.serve.models import make_model


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def add(platform, ana, project):
    """Add a version of the model 'random'; returns its id."""

    def add_one(version, *, mean_iou=0.7, in_project=project, **fields):
        key = f"models/random-{in_project.id}-{version}"
        make_model(platform.uri(key), seed=version)
        card = json.loads(platform.storage.read(f"{key}/model.json"))
        row = Model(
            project_id=in_project.id,
            name="random",
            version=version,
            key=key,
            sha256=card["sha256"],
            card=card,
            mean_iou=mean_iou,
            created_by=ana.user_id,
            **fields,
        )
        platform.database.write(lambda session: session.add(row))
        return row.id

    return add_one


def promoted(client):
    return [model["version"] for model in client.get("/v1/models", params={"promoted": True}).json()["items"]]


def test_the_verdict_is_against_the_threshold_of_the_project(client, add):
    good, bad = add(1, mean_iou=0.6), add(2, mean_iou=0.59)
    assert client.get(f"/v1/models/{good}").json()["verdict"] == "ready"
    assert client.get(f"/v1/models/{bad}").json()["verdict"] == "needs improvement"


def test_promoting_and_rolling_back_are_one_call_each(client, add):
    first, second = add(1), add(2)
    client.post(f"/v1/models/{first}/promote")
    assert promoted(client) == [1]
    client.post(f"/v1/models/{second}/promote")
    assert promoted(client) == [2]
    assert client.post(f"/v1/models/{second}/rollback").json()["version"] == 1
    assert promoted(client) == [1]


def test_a_student_cannot_promote_below_the_threshold_and_an_educator_can(platform, teacher, ana, client, add):
    classroom_id = in_class(platform, teacher, ana)
    model = add(1, mean_iou=0.1, in_project=add_project(platform, ana, classroom_id=classroom_id))
    answer = client.post(f"/v1/models/{model}/promote")
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("version 1 of 'random' has a mean IoU of 0.100 and the project asks for")
    assert As(platform, teacher).post(f"/v1/models/{model}/promote").status_code == 200


def test_rolling_back_passes_over_versions_that_need_improvement(client, add):
    add(1)
    add(2, mean_iou=0.1)
    third = add(3)
    assert client.post(f"/v1/models/{third}/rollback").json()["version"] == 1


def test_there_is_nothing_before_the_first_version(client, add):
    assert client.post(f"/v1/models/{add(1)}/rollback").status_code == 409


def test_every_promotion_leaves_an_audit_row(platform, ana, client, add):
    client.post(f"/v1/models/{add(1)}/promote")
    rows = platform.database.read(lambda session: session.exec(select(Audit)).all())
    assert [(row.actor_id, row.action) for row in rows] == [(ana.user_id, "model.promote")]


def test_another_student_sees_a_model_only_after_it_is_shared(client, platform, ben, add):
    model = add(1)
    other = As(platform, ben)
    assert other.get(f"/v1/models/{model}").status_code == 404
    assert client.post(f"/v1/models/{model}/share", json={"visibility": "everyone"}).status_code == 200
    assert other.get(f"/v1/models/{model}").status_code == 200
    assert other.post(f"/v1/models/{model}/promote").status_code == 404
    client.post(f"/v1/models/{model}/share", json={"visibility": "private"})
    assert other.get(f"/v1/models/{model}").status_code == 404


def test_a_classroom_model_is_for_the_class(platform, ana, ben, teacher, admin, add):
    classroom_id = in_class(platform, teacher, ana, switches={"may_share_models": True})
    model = add(1, in_project=add_project(platform, ana, classroom_id=classroom_id))
    assert As(platform, ana).post(f"/v1/models/{model}/share", json={"visibility": "classroom"}).status_code == 200
    assert As(platform, ben).get(f"/v1/models/{model}").status_code == 404
    platform.database.write(
        lambda session: session.add(Membership(classroom_id=classroom_id, user_id=ben.user_id, role="student"))
    )
    assert As(platform, ben).get(f"/v1/models/{model}").status_code == 200


def test_a_class_that_does_not_share_does_not(platform, ana, teacher, add):
    model = add(1, in_project=add_project(platform, ana, classroom_id=in_class(platform, teacher, ana)))
    answer = As(platform, ana).post(f"/v1/models/{model}/share", json={"visibility": "everyone"})
    assert answer.status_code == 403


def test_a_model_is_downloaded_as_plain_safetensors_with_its_card(client, add):
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/v1/models/{add(1)}/download").content))
    assert sorted(archive.namelist()) == ["model.json", "model.safetensors"]
    assert len(load(archive.read("model.safetensors"))) > 10
    assert json.loads(archive.read("model.json"))["architecture"] == "unet"


def test_a_deleted_model_is_served_no_longer(client, add):
    model = add(1, is_promoted=True)
    assert client.delete(f"/v1/models/{model}").status_code == 204
    assert client.get("/v1/models").json()["items"] == []


@pytest.fixture
def weights(tmp_path):
    make_model(tmp_path / "own", seed=5)
    return (tmp_path / "own" / "model.safetensors").read_bytes()


def form_of(upload_id, project, **changes):
    classes = [{"name": name, "colour": "#000000"} for name in ("background", "ring", "core")]
    usual = {
        "upload_id": upload_id,
        "project_id": project.id,
        "name": "brought",
        "architecture": "unet",
        "encoder": "timm-mobilenetv3_small_100",
        "classes": classes,
        "crop": 64,
    }
    return {**usual, **changes}


def test_weights_that_somebody_brings_become_a_model(client, project, weights):
    upload = send(client, weights, name="own.safetensors", purpose="model")
    answer = client.post("/v1/models:import", json=form_of(upload, project))
    assert answer.status_code == 201, answer.text
    assert answer.json()["card"]["origin"]["imported_from"] == "own.safetensors"
    assert answer.json()["verdict"] == "needs improvement"


def test_weights_come_with_the_card_they_were_downloaded_with(client, project, weights, tmp_path):
    upload = send(client, weights, name="own.safetensors", purpose="model")
    card = json.loads((tmp_path / "own" / "model.json").read_text())
    form = {"upload_id": upload, "project_id": project.id, "name": "brought", "card": {**card, "scores": {"test": {}}}}
    answer = client.post("/v1/models:import", json=form)
    assert answer.status_code == 201, answer.text
    assert answer.json()["card"]["scores"] == {}
    assert answer.json()["sha256"] == card["sha256"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-8],
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: b"PK\x03\x04" + data[4:],
        lambda data: b"\x80\x04\x95" + data[3:],
    ],
)
def test_damaged_weights_are_refused_and_leave_nothing(platform, client, project, weights, damage):
    upload = send(client, damage(weights), name="own.safetensors", purpose="model")
    answer = client.post("/v1/models:import", json=form_of(upload, project))
    assert (answer.status_code, answer.json()["title"]) == (422, "model-refused")
    assert client.get("/v1/models").json()["items"] == []


def test_weights_of_another_network_are_refused(client, project, weights):
    upload = send(client, weights, name="own.safetensors", purpose="model")
    answer = client.post("/v1/models:import", json=form_of(upload, project, encoder="resnet18"))
    assert answer.status_code == 422
    assert "the weights are not those of unet with resnet18" in answer.json()["detail"]
