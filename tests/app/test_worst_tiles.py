"""Where a model errs most: pictures of it for all who see the model, and tiles to correct, never those of the test."""

import pytest

from axons.app.tables import Image, TrainingSet
from tests.app.conftest import As
from tests.app.images import add_images, add_project, document_of, mask_of, tiles_of
from tests.app.results import add_evaluation, add_result
from tests.app.trainings import add_training_set

CLASSES = ["background", "ring", "core"]


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana, classes=CLASSES, tile=64)


@pytest.fixture
def training_set(platform, project, tmp_path):
    return add_training_set(platform, project, tmp_path)


@pytest.fixture
def image(platform, ana, project, tmp_path):
    """An image of 100 x 150 px, which the set knows as its validation image of 96 x 96 px."""
    (image,) = add_images(platform, ana, project, tmp_path)
    change(platform, Image, image.id, source_id="disks-2")
    return image


@pytest.fixture
def run(platform, ana, training_set):
    return add_result(platform, ana, training_set)


def change(platform, table, row_id, **fields):
    platform.database.write(lambda session: session.get_one(table, row_id).sqlmodel_update(fields))


def worst_of(client, run):
    answer = client.get(f"/v1/runs/{run.id}/worst-tiles")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_worst_place_of_validation_gives_the_tiles_that_lie_in_it(platform, client, image, run):
    tiles = {(tile.row0, tile.col0): tile.id for tile in tiles_of(platform, image)}
    # The place has 96 x 96 px: of the tile at row 0, column 64 it holds half, of that at row 64 less.
    assert {found["tile_id"] for found in worst_of(client, run)} == {tiles[0, 0], tiles[0, 64], tiles[64, 0]}
    assert {(found["rank"], found["image_name"], found["is_corrected"]) for found in worst_of(client, run)} == {
        (1, "a.png", False)
    }


def test_places_of_a_scaled_set_are_found_in_the_image(platform, client, image, run):
    row = platform.database.read(lambda session: session.get_one(TrainingSet, run.training_set_id))
    change(platform, TrainingSet, row.id, summary={**row.summary, "scale": 2.0})
    # 96 x 96 px there are 48 x 48 px here.
    assert [(found["row0"], found["col0"]) for found in worst_of(client, run)] == [(0, 0)]


def test_a_tile_with_new_labels_counts_as_corrected(client, image, run):
    tile_id = worst_of(client, run)[0]["tile_id"]
    answer = client.put(
        f"/v1/tiles/{tile_id}/annotation",
        json=document_of(mask_of(0)[:64, :64]),
        params={"save_id": "5f0c2f54-9f2b-4f4c-9d83-0b3f8f1c8a11"},
        headers={"if-match": '"0"'},
    )
    assert answer.status_code == 200, answer.text
    assert {found["tile_id"] for found in worst_of(client, run) if found["is_corrected"]} == {tile_id}


def test_an_image_that_is_kept_for_the_test_by_now_is_not_offered(platform, client, image, run):
    change(platform, Image, image.id, split="test")
    assert worst_of(client, run) == []


def test_worst_tiles_of_the_test_are_only_shown(platform, ana, client, run):
    evaluation_id = add_evaluation(platform, ana, run, "test")
    answer = client.get(f"/v1/evaluations/{evaluation_id}/worst-tiles")
    assert (answer.status_code, "only shown" in answer.json()["detail"]) == (409, True)
    (worst,) = client.get(f"/v1/evaluations/{evaluation_id}").json()["scores"]["worst"]
    for kind in ("truth", "prediction", "difference"):
        picture = client.get(f"/v1/evaluations/{evaluation_id}/picture", params={"name": worst[kind]})
        assert (picture.status_code, picture.content[:4]) == (200, b"\x89PNG")


def test_an_evaluation_on_validation_offers_its_tiles(platform, ana, client, image, run):
    evaluation_id = add_evaluation(platform, ana, run, "val")
    assert client.get(f"/v1/evaluations/{evaluation_id}/worst-tiles").json() == worst_of(client, run)


def test_nothing_of_it_is_there_for_a_stranger(platform, ana, ben, run):
    evaluation_id = add_evaluation(platform, ana, run, "val")
    paths = [f"runs/{run.id}/worst-tiles", f"evaluations/{evaluation_id}/worst-tiles"]
    paths.append(f"evaluations/{evaluation_id}/picture?name=evaluation/val-1-truth.png")
    assert [As(platform, ben).get(f"/v1/{path}").status_code for path in paths] == [404] * 3


@pytest.mark.parametrize("name", ["model/model.json", "evaluation/../../model.json", "/etc/passwd"])
def test_only_pictures_of_an_evaluation_are_served(client, name):
    answer = client.get("/v1/evaluations/nothing/picture", params={"name": name})
    assert answer.status_code == 422
