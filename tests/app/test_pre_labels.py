"""What a model makes of one tile."""

import json
from urllib.parse import unquote

import numpy as np
import pytest

from axons.app.tables import HeldOutImage, ProjectMember
from axons.errors import SegmenterBusy
from axons.serve.predictor import Segmentation, segment
from tests.app.conftest import As
from tests.app.images import add_project, tiles_of
from tests.app.test_predictions import client_of
from tests.app.trainings import add_model, add_training_set
from tests.drawing import draw_disks
from tests.serve.models import make_model, make_predictor


def by_brightness(image, _model_uri, scale, of_whole=None):
    """Dark is class 0, middle 1, bright 2, as compared with the whole image."""
    return segment(image, make_predictor(), scale=scale, of_whole=of_whole)


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana, classes=["bg", "core", "other", "ring"])


@pytest.fixture
def client(platform, ana):
    return client_of(platform, ana, by_brightness)


def change(platform, row, **fields):
    platform.database.write(lambda session: session.get_one(type(row), row.id).sqlmodel_update(fields))


def ask(client, tile, model):
    return client.post(f"/v1/tiles/{tile.id}/pre-label", json={"model_id": model.id})


def planes(answer):
    """Values and confidence."""
    assert answer.status_code == 200, answer.text
    shape = (2, int(answer.headers["Axons-Height"]), int(answer.headers["Axons-Width"]))
    return np.frombuffer(answer.content, np.uint8).reshape(shape)


def notices(answer):
    return json.loads(unquote(answer.headers["Axons-Notices"]))


def test_a_tile_is_labelled_as_in_the_prediction_of_the_whole_image(platform, client, image, model):
    whole = by_brightness(draw_disks(100, 150, seed=0, channels=3).image, "", 1.0)
    expected = np.array([0, 3, 1], np.uint8)[whole.mask]  # ring and core have other indices in the project
    for tile in tiles_of(platform, image):
        rows, cols = slice(tile.row0, tile.row0 + tile.height), slice(tile.col0, tile.col0 + tile.width)
        values, confidence = planes(ask(client, tile, model))
        assert np.array_equal(values, expected[rows, cols])
        assert np.array_equal(confidence, whole.confidence[rows, cols])


def test_the_answer_says_from_which_model_it_is_and_is_gzipped(platform, client, image, model):
    answer = ask(client, tiles_of(platform, image)[0], model)
    assert answer.headers["Axons-Source"] == f"model:{model.id}"
    assert answer.headers["Content-Encoding"] == "gzip"
    plain = client.post(answer.request.url.path, json={"model_id": model.id}, headers={"Accept-Encoding": "identity"})
    assert plain.content == answer.content


def test_the_network_sees_what_is_around_the_tile(platform, ana, image, model):
    seen = []

    def look(pixels, _model_uri, _scale, of_whole=None):
        seen.append((pixels.shape, of_whole))
        return by_brightness(pixels, "", 1.0, of_whole)

    planes(ask(client_of(platform, ana, look), tiles_of(platform, image)[0], model))
    assert seen == [((100, 150, 3), (image.mean, image.std))]


def test_what_the_project_has_no_class_for_stays_unlabelled(platform, client, project, image, model):
    client.delete(f"/v1/projects/{project.id}/classes/1")
    answer = ask(client, tiles_of(platform, image)[0], model)
    values, confidence = planes(answer)
    assert set(np.unique(values)) == {0, 3, 255}
    assert (confidence[values == 255] == 0).all()
    assert notices(answer)[-1] == "the project has no class 'core': what the model takes for it stays unlabelled"


def test_a_model_of_other_classes_is_refused(platform, client, project, image, model):
    classes = [{**found, "name": f"other {found['name']}"} for found in model.card["classes"]]
    change(platform, model, card={**model.card, "classes": classes})
    answer = ask(client, tiles_of(platform, image)[0], model)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("model 'random' knows none of the project's classes")


@pytest.mark.parametrize("by", ["a person", "the draw of a training set"])
def test_a_tile_of_a_test_image_is_never_labelled_by_a_model(platform, client, project, image, model, tmp_path, by):
    if by == "a person":
        change(platform, image, split="test")
    else:
        row = add_training_set(platform, project, tmp_path)
        held_out = HeldOutImage(training_set_id=row.id, known_as=image.id)
        platform.database.write(lambda session: session.add(held_out))
    answer = ask(client, tiles_of(platform, image)[0], model)
    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "image 'a.png' is kept for the test, whose labels must not come from a model; label it by hand"
    )


def test_only_who_labels_gets_suggestions(platform, ben, project, image, model):
    tile = tiles_of(platform, image)[0]
    other = client_of(platform, ben, by_brightness)
    assert ask(other, tile, model).status_code == 404
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
    platform.database.write(lambda session: session.add(member))
    assert ask(other, tile, model).status_code == 403


def test_a_model_that_one_may_not_see_is_not_there(platform, ana, ben, image, model):
    own = add_project(platform, ben, name="own")
    make_model(platform.uri("models/bens"))
    hidden = add_model(platform, ben, own, "models/bens")
    assert ask(client_of(platform, ana, by_brightness), tiles_of(platform, image)[0], hidden).status_code == 404


def test_a_full_queue_is_told_with_the_time_to_wait(platform, ana, image, model):
    def busy(*_, **__) -> Segmentation:
        raise SegmenterBusy("too many images are waiting for prediction; try again in 5 seconds", 5)

    answer = ask(client_of(platform, ana, busy), tiles_of(platform, image)[0], model)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")


def test_without_ray_people_are_told_to_try_again(platform, ana, image, model, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    answer = ask(As(platform, ana), tiles_of(platform, image)[0], model)
    assert (answer.status_code, answer.json()["detail"][:25]) == (429, "predictions are not ready")
