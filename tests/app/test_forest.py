"""Labels from a few strokes, by REST."""

import numpy as np
import pytest

from axons.app.services import assist
from axons.app.tables import ProjectMember
from axons.data.pixel_forest import fill_by_forest
from tests.app.conftest import As
from tests.app.images import add_images, add_project, document_of, mask_of, tiles_of
from tests.app.serving import client_of, past_the_gate, the_api, with_scope
from tests.app.test_pre_labels import change, planes


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def images(platform, ana, project, tmp_path):
    return add_images(platform, ana, project, tmp_path, names=("a.png", "b.png"))


@pytest.fixture
def tiles(platform, images):
    return tiles_of(platform, images[0])


def forest_client(platform, actor, forest=fill_by_forest):
    return client_of(past_the_gate(with_scope(the_api(), {"axons.forest": forest}), platform, actor))


@pytest.fixture
def client(platform, ana):
    return forest_client(platform, ana)


def truth_of(tile, seed=0):
    return mask_of(seed)[tile.row0 : tile.row0 + tile.height, tile.col0 : tile.col0 + tile.width]


def strokes_of(tile):
    rows, cols = np.indices((tile.height, tile.width))
    return np.where((3 * rows + cols) % 35 == 0, truth_of(tile), np.uint8(255))


def ask(client, tile, plane, **params):
    return client.post(f"/v1/tiles/{tile.id}/assist/forest", params=params, json=document_of(plane))


def save(client, tile, plane):
    path = f"/v1/tiles/{tile.id}/annotation"
    about = {"params": {"save_id": "one"}, "headers": {"If-Match": '"0"'}}
    assert client.put(path, json=document_of(plane), **about).status_code == 200


def asked_with(platform, actor, tile, plane, **params):
    """What the forest is asked."""
    asked = []

    def look(request):
        asked.append(request)
        return fill_by_forest(request)

    planes(ask(forest_client(platform, actor, look), tile, plane, **params))
    return asked[0]


def test_a_few_strokes_become_labels_of_the_tile(client, tiles):
    strokes = strokes_of(tiles[0])
    answer = ask(client, tiles[0], strokes)
    values, confidence = planes(answer)
    assert (values == truth_of(tiles[0])).mean() > 0.9
    assert np.array_equal(values[strokes != 255], strokes[strokes != 255])
    assert (confidence[strokes != 255] == 255).all()
    assert answer.headers["Axons-Source"] == "forest"


def test_labels_of_other_tiles_are_learnt_from_unless_a_person_does_not_want_it(platform, ana, client, tiles):
    save(client, tiles[1], truth_of(tiles[1]))
    [other] = asked_with(platform, ana, tiles[0], strokes_of(tiles[0])).others
    assert (other.row0, other.col0) == (tiles[1].row0, tiles[1].col0)
    assert asked_with(platform, ana, tiles[0], strokes_of(tiles[0]), uses_other_tiles=False).others == []


def test_labels_of_test_images_teach_no_forest(platform, ana, client, images, tiles):
    save(client, tiles_of(platform, images[1])[0], truth_of(tiles[0], seed=1))
    change(platform, images[1], split="test")
    assert asked_with(platform, ana, tiles[0], strokes_of(tiles[0])).others == []


def test_strokes_of_one_class_are_not_enough(client, tiles):
    plane = np.full((64, 64), 255, np.uint8)
    plane[3] = 1
    answer = ask(client, tiles[0], plane)
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "a forest learns from strokes of at least two classes, and 1 is labelled; "
        "draw one stroke on what you look for and one on the background",
    )


def test_a_tile_of_a_test_image_is_filled_by_nobody_but_a_person(platform, client, images, tiles):
    change(platform, images[0], split="test")
    assert ask(client, tiles[0], strokes_of(tiles[0])).status_code == 409


def test_strokes_are_checked_as_in_a_save(client, tiles):
    path = f"/v1/tiles/{tiles[0].id}/assist/forest"
    assert client.post(path, json=document_of(strokes_of(tiles[0])) | {"crc32": 7}).status_code == 422
    assert ask(client, tiles[0], np.zeros((63, 64), np.uint8)).status_code == 422


def test_only_who_labels_gets_a_forest(platform, ben, project, tiles):
    other = forest_client(platform, ben)
    assert ask(other, tiles[0], strokes_of(tiles[0])).status_code == 404
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
    platform.database.write(lambda session: session.add(member))
    assert ask(other, tiles[0], strokes_of(tiles[0])).status_code == 403


def test_without_ray_nobody_starts_one_for_a_forest(platform, ana, tiles, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", None)
    answer = ask(As(platform, ana), tiles[0], strokes_of(tiles[0]))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["detail"].startswith("this server is not connected to Ray")


def test_on_ray_the_answer_is_the_same(platform, ana, client, tiles, local_ray):
    strokes = strokes_of(tiles[0])
    assert np.array_equal(planes(ask(As(platform, ana), tiles[0], strokes)), planes(ask(client, tiles[0], strokes)))


def test_a_forest_that_takes_too_long_is_given_up(platform, ana, tiles, local_ray, monkeypatch):
    monkeypatch.setattr(assist, "_TIMEOUT_S", 0.001)
    cancelled = []
    monkeypatch.setattr("ray.cancel", cancelled.append)
    answer = ask(As(platform, ana), tiles[0], strokes_of(tiles[0]))
    assert (answer.status_code, answer.headers["Retry-After"], len(cancelled)) == (429, "5", 1)
    assert answer.json()["detail"].startswith("the forest has not answered within 0.001 seconds")


def test_a_crowd_is_told_to_wait(platform, ana, tiles, local_ray, monkeypatch):
    monkeypatch.setattr(assist._PLACES, "acquire", lambda blocking: False)
    answer = ask(As(platform, ana), tiles[0], strokes_of(tiles[0]))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")


def test_what_is_wrong_on_a_worker_is_told_in_its_own_words(platform, ana, tiles, local_ray):
    platform.storage.delete_prefix("projects")
    answer = ask(As(platform, ana), tiles[0], strokes_of(tiles[0]))
    assert answer.status_code == 404
    assert "Traceback" not in answer.text
