"""A prediction becomes the labels of the tiles of its image."""

import numpy as np
import pytest
from sqlmodel import col, select

from axons.app.tables import Audit, ProjectMember, Revision
from axons.data.layers import unpack
from tests.app.conftest import As
from tests.app.images import add_project, document_of, png, tiles_of
from tests.app.test_pre_labels import by_brightness, change
from tests.app.test_predictions import client_of
from tests.app.uploads import send
from tests.drawing import draw_disks


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana, classes=["bg", "core", "other", "ring"])


@pytest.fixture
def client(platform, ana):
    return client_of(platform, ana, by_brightness)


@pytest.fixture
def predicted(client, model, image):
    return client.post(f"/v1/models/{model.id}/predict", json={"image_ids": [image.id]}).json()["predictions"][0]


def accept(client, predicted, **form):
    return client.post(f"/v1/predictions/{predicted['id']}/accept", json=form)


def counted(answer):
    assert answer.status_code == 200, answer.text
    return {name: number for name, number in answer.json().items() if name != "notices" and number}


def label(client, tile, value):
    document = document_of(np.full((tile.height, tile.width), value, np.uint8))
    query = {"save_id": f"a-save-of-{tile.id}"}
    answer = client.put(
        f"/v1/tiles/{tile.id}/annotation", params=query, json=document, headers={"If-Match": f'"{tile.revision}"'}
    )
    assert answer.status_code == 200, answer.text


def newest(platform, tile):
    wanted = select(Revision).where(col(Revision.tile_id) == tile.id).order_by(col(Revision.number).desc())
    return platform.database.read(lambda session: session.exec(wanted).first())


def test_the_mask_becomes_the_labels_of_all_tiles_and_says_of_which_model(platform, client, image, model, predicted):
    assert counted(accept(client, predicted)) == {"written": 6}
    whole = by_brightness(draw_disks(100, 150, seed=0, channels=3).image, "", 1.0)
    expected = np.array([0, 3, 1], np.uint8)[whole.mask]  # ring and core have other indices in the project
    found = np.zeros_like(expected)
    sources = set()
    for tile in tiles_of(platform, image):
        revision = newest(platform, tile)
        annotation = unpack(revision.layers)
        found[tile.row0 : tile.row0 + tile.height, tile.col0 : tile.col0 + tile.width] = annotation.plane()
        sources |= {(revision.source, layer.origin.source, layer.origin.by) for layer in annotation.layers}
    assert np.array_equal(found, expected)
    assert sources == {("prediction", f"model:{model.id}", "ana")}


def test_what_a_person_labelled_is_kept_unless_the_person_says_otherwise(platform, client, image, predicted):
    tile = tiles_of(platform, image)[0]
    label(client, tile, 2)
    assert counted(accept(client, predicted)) == {"written": 5, "kept": 1}
    assert newest(platform, tile).number == 1
    assert counted(accept(client, predicted, replaces_labels=True)) == {"written": 1, "unchanged": 5}
    assert (newest(platform, tile).number, newest(platform, tile).source) == (2, "prediction")


def test_accepting_once_more_changes_nothing_and_a_better_model_replaces_the_worse(client, model, image, predicted):
    accept(client, predicted)
    assert counted(accept(client, predicted)) == {"unchanged": 6}
    form = {"image_ids": [image.id], "scale": 0.3}
    other = client.post(f"/v1/models/{model.id}/predict", json=form).json()["predictions"][0]
    assert counted(accept(client, other))["written"] > 0


def test_done_tiles_and_tiles_in_anothers_editor_stay_as_they_are(
    platform, ana, ben, client, project, image, predicted
):
    done, opened, *_ = tiles_of(platform, image)
    client.post(f"/v1/tiles/{done.id}/done")
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="editor")
    platform.database.write(lambda session: session.add(member))
    As(platform, ben).post(f"/v1/tiles/{opened.id}/lease")
    assert counted(accept(client, predicted, replaces_labels=True)) == {"written": 4, "refused": 2}


def test_a_test_image_never_gets_labels_of_a_model(platform, client, image, predicted):
    change(platform, image, split="test")
    answer = accept(client, predicted)
    assert (answer.status_code, answer.json()["detail"][:37]) == (409, "image 'a.png' is kept for the test, w")
    assert all(tile.revision == 0 for tile in tiles_of(platform, image))


def test_a_file_that_came_for_its_prediction_alone_has_no_tiles(client, project, model):
    upload = send(client, png(draw_disks(90, 80).image), name="new.png", purpose="prediction", project_id=project.id)
    found = client.post(f"/v1/models/{model.id}/predict", json={"upload_id": upload}).json()["predictions"][0]
    answer = accept(client, found)
    assert answer.status_code == 409
    assert answer.json()["detail"] == "'new.png' came for its prediction alone; add it to the project's images first"


def test_a_class_that_the_project_lacks_stays_unlabelled_and_that_is_told(platform, client, project, image, predicted):
    client.delete(f"/v1/projects/{project.id}/classes/1")
    answer = accept(client, predicted)
    assert answer.json()["notices"] == ["the project has no class 'core': what the model takes for it stays unlabelled"]
    assert {value for tile in tiles_of(platform, image) for value in tile.counts} == {"0", "3", "255"}


def test_who_only_looks_accepts_nothing(platform, ben, project, predicted):
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
    platform.database.write(lambda session: session.add(member))
    assert accept(As(platform, ben), predicted).status_code == 403


def test_one_row_of_the_audit_says_how_much_was_accepted(platform, client, image, model, predicted):
    accept(client, predicted)
    wanted = select(Audit).where(col(Audit.action) == "prediction.accept")
    [row] = platform.database.read(lambda session: session.exec(wanted).all())
    counts = {"written": 6, "unchanged": 0, "kept": 0, "refused": 0}
    assert (row.object_id, row.detail) == (predicted["id"], counts | {"image_id": image.id, "model_id": model.id})
