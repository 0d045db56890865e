"""What the annotation page opens with, and what it shows around the tile."""

import io

import numpy as np
import pytest
from PIL import Image as Picture

from axons.app.tables import HeldOutImage, Image, ProjectMember, TrainingSet, now
from axons.data.decoding import Decoder
from tests.app.conftest import As
from tests.app.images import add_images, add_project, document_of, mask_of, png, tiles_of
from tests.app.trainings import add_model
from tests.serve.models import make_model

pytestmark = pytest.mark.both_databases


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana, instructions="outline the rings")


@pytest.fixture
def images(platform, ana, project, tmp_path):
    return add_images(platform, ana, project, tmp_path, names=("b.png", "a.png"))


@pytest.fixture
def model(platform, ana, project):
    make_model(platform.uri("models/random"))
    return add_model(platform, ana, project, "models/random", is_promoted=True)


def opened(client, tile):
    answer = client.get(f"/v1/tiles/{tile.id}/editor")
    assert answer.status_code == 200, answer.text
    return answer.json()


def change(platform, row, **fields):
    platform.database.write(lambda session: session.get_one(type(row), row.id).sqlmodel_update(fields))


def save(client, tile, plane):
    path = f"/v1/tiles/{tile.id}/annotation"
    about = {"params": {"save_id": "one"}, "headers": {"If-Match": '"0"'}}
    assert client.put(path, json=document_of(plane), **about).status_code == 200


def seen(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Picture.open(io.BytesIO(answer.content)))


def test_one_answer_opens_a_tile(platform, ana, client, project, images, model):
    first, *_ = tiles_of(platform, images[0])
    editor = opened(client, first)
    assert editor["tile"] == client.get(f"/v1/tiles/{first.id}").json()
    assert editor["project"] == {"id": project.id, "name": "nerve", "instructions": "outline the rings", "tile": 64}
    assert editor["user"] == {"id": ana.user_id, "name": "ana", "may_annotate": True}
    assert [row["name"] for row in editor["classes"]] == ["bg", "ring", "core"]
    assert [editor["image"][field] for field in ("name", "height", "dtype", "is_test")] == [
        "a.png",
        100,
        "uint8",
        False,
    ]
    assert editor["offers_pre_labels"] is True


def test_tiles_are_numbered_and_joined_in_the_order_of_the_queue(platform, client, images):
    tiles = [tile for image in images for tile in tiles_of(platform, image)]
    editors = [opened(client, tile) for tile in tiles]
    assert [(editor["number"], editor["num_tiles"]) for editor in editors] == [(n, 12) for n in range(1, 13)]
    assert [editor["next_id"] for editor in editors] == [*(tile.id for tile in tiles[1:]), None]
    assert [editor["previous_id"] for editor in editors] == [None, *(tile.id for tile in tiles[:-1])]


def test_tiles_of_images_in_the_trash_are_passed_over(platform, client, images):
    client.delete(f"/v1/images/{images[0].id}")
    editor = opened(client, tiles_of(platform, images[1])[0])
    assert (editor["number"], editor["num_tiles"], editor["previous_id"]) == (1, 6, None)


def test_who_may_only_look_is_told_so(platform, ben, project, images):
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer")
    platform.database.write(lambda session: session.add(member))
    assert opened(As(platform, ben), tiles_of(platform, images[0])[0])["user"]["may_annotate"] is False


def test_in_the_archive_nobody_labels(platform, client, project, images):
    change(platform, project, archived_at=now())
    assert opened(client, tiles_of(platform, images[0])[0])["user"]["may_annotate"] is False


def test_deleted_classes_are_told_as_such(platform, client, project, images):
    client.delete(f"/v1/projects/{project.id}/classes/2")
    editor = opened(client, tiles_of(platform, images[0])[0])
    assert [row["is_deleted"] for row in editor["classes"]] == [False, False, True]


def test_models_that_know_a_class_are_offered_the_promoted_first(platform, ana, client, project, images, model):
    make_model(platform.uri("models/newer"), seed=2)
    newer = add_model(platform, ana, project, "models/newer", version=2, mean_iou=None)
    make_model(platform.uri("models/foreign"), seed=3)
    foreign = add_model(platform, ana, project, "models/foreign", version=3)
    classes = [{**found, "name": f"other {found['name']}"} for found in foreign.card["classes"]]
    change(platform, foreign, card={**foreign.card, "classes": classes})
    offered = opened(client, tiles_of(platform, images[0])[0])["models"]
    assert [found["id"] for found in offered] == [model.id, newer.id]
    assert offered[0] == {"id": model.id, "name": "random", "version": 1, "is_promoted": True, "mean_iou": 0.7}


def test_a_tile_of_an_image_that_a_person_keeps_for_the_test_offers_no_model(platform, client, images, model):
    client.patch(f"/v1/images/{images[0].id}", json={"split": "test"})
    editor = opened(client, tiles_of(platform, images[0])[0])
    assert (editor["image"]["is_test"], editor["offers_pre_labels"], editor["models"]) == (True, False, [])


def hold_out(platform, project, image, **fields):
    """A training set that has drawn the image for its test split."""
    row = TrainingSet(project_id=project.id, number=1, name="set", key="training-sets/a", created_by=project.owner_id)

    def add(session):
        session.add(row)
        session.flush()
        session.add(HeldOutImage(training_set_id=row.id, known_as=image.known_as))

    platform.database.write(add)
    return row


def test_an_image_in_the_test_split_of_a_training_set_is_a_test_image_until_the_set_is_deleted(
    platform, client, project, images
):
    change(platform, images[0], source_id="elsewhere")
    row = hold_out(platform, project, platform.database.read(lambda session: session.get_one(Image, images[0].id)))
    tile = tiles_of(platform, images[0])[0]
    assert opened(client, tile)["image"]["is_test"] is True
    assert opened(client, tiles_of(platform, images[1])[0])["image"]["is_test"] is False
    change(platform, row, deleted_at=now())
    assert opened(client, tile)["image"]["is_test"] is False


def test_a_test_image_of_another_project_is_none_of_this_one(platform, ana, client, project, images):
    other = add_project(platform, ana, name="other")
    hold_out(platform, other, images[0])
    assert opened(client, tiles_of(platform, images[0])[0])["image"]["is_test"] is False


def test_the_page_opens_for_members_only(platform, ben, images):
    tile = tiles_of(platform, images[0])[0]
    assert As(platform, ben).get(f"/v1/tiles/{tile.id}/editor").status_code == 404
    assert As(platform, ben).get(f"/v1/tiles/{tile.id}/surroundings").status_code == 404


def test_around_a_tile_the_labels_of_its_neighbours_are_seen(platform, client, images):
    truth = mask_of(0)
    tiles = tiles_of(platform, images[1])  # b.png was drawn first
    for tile in tiles:
        save(client, tile, truth[tile.row0 : tile.row0 + tile.height, tile.col0 : tile.col0 + tile.width])
    answer = client.get(f"/v1/tiles/{tiles[1].id}/surroundings", params={"margin": 30})
    expected = truth.copy()
    expected[:64, 64:128] = 255
    assert answer.headers["Axons-Window"] == "0,34,94,116"
    assert np.array_equal(seen(answer), expected[:94, 34:150])


def test_the_labels_of_a_whole_image_are_one_picture(platform, client, images):
    truth = mask_of(0)
    for tile in tiles_of(platform, images[1]):
        save(client, tile, truth[tile.row0 : tile.row0 + tile.height, tile.col0 : tile.col0 + tile.width])
    path = f"/v1/images/{images[1].id}/labels"
    answer = client.get(path)
    assert np.array_equal(seen(answer), truth)
    assert np.array_equal(seen(client.get(path, params={"max_side": 50})), truth[::3, ::3])
    assert client.get(path, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_an_image_without_labels_has_a_clear_picture_of_them(client, images):
    answer = client.get(f"/v1/images/{images[0].id}/labels")
    assert np.unique(seen(answer)).tolist() == [255]
    assert Picture.open(io.BytesIO(answer.content)).convert("RGBA").getextrema()[3] == (0, 0)


def test_surroundings_without_labels_are_unlabelled(platform, client, images):
    tile = tiles_of(platform, images[0])[0]
    assert np.unique(seen(client.get(f"/v1/tiles/{tile.id}/surroundings"))).tolist() == [255]


def test_surroundings_are_not_sent_twice_unless_a_neighbour_has_changed(platform, client, images):
    first, second, *_ = tiles_of(platform, images[0])
    path = f"/v1/tiles/{first.id}/surroundings"
    known = {"If-None-Match": client.get(path).headers["ETag"]}
    assert client.get(path, headers=known).status_code == 304
    save(client, second, np.ones((64, 64), np.uint8))
    assert client.get(path, headers=known).status_code == 200


@pytest.fixture
def deep(platform, ana, project, tmp_path):
    """A 16-bit image whose values are those of its columns, times 100."""
    (tmp_path / "deep").mkdir()
    [image] = add_images(platform, ana, project, tmp_path / "deep", names=("deep.png",))
    pixels = np.tile(np.arange(150, dtype=np.uint16) * 100, (100, 1))
    platform.storage.write("projects/deep.png", png(pixels))
    with Decoder() as decoder:
        decoder.normalise(platform.storage.local_path("projects/deep.png"), tmp_path / "deep.tif", name="deep.png")
    platform.storage.write("projects/deep.tif", tmp_path / "deep.tif")
    change(platform, image, working_key="projects/deep.tif", dtype="uint16", channels=1, contrast_high=14900.0)
    return image


def test_a_person_chooses_the_contrast_of_a_deep_image(platform, client, deep):
    tile = tiles_of(platform, deep)[0]
    path = f"/v1/tiles/{tile.id}/image"
    view = seen(client.get(path, params={"low": 1000, "high": 3000}))
    assert (view[0, :11] == 0).all() and (view[0, 30:] == 255).all()
    assert view[0, 20] == 128
    assert not np.array_equal(view, seen(client.get(path)))


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        ({"low": 5}, "high: one contrast limit alone was given; give both or none"),
        ({"low": 9, "high": 9}, "high: the contrast limits are 9 and 9; choose low < high <= 255"),
        ({"low": 0, "high": 256}, "high: the contrast limits are 0 and 256; choose low < high <= 255"),
    ],
)
def test_contrast_limits_that_cannot_be_are_refused(platform, client, images, limits, detail):
    answer = client.get(f"/v1/tiles/{tiles_of(platform, images[0])[0].id}/image", params=limits)
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)


def test_a_tile_is_found_by_its_number(client, platform, images):
    first, second, *_ = tiles_of(platform, images[0])
    answer = client.get(f"/v1/tiles/{first.id}/numbered/2")
    assert (answer.status_code, answer.json()["id"]) == (200, second.id)
    assert client.get(f"/v1/tiles/{first.id}/numbered/1000").status_code == 404
