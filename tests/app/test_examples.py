"""Pictures that show people how to label."""

import io

import numpy as np
import pytest
from PIL import Image as Picture
from sqlmodel import select

from axons.app.services.copying import copy_project
from axons.app.services.kept_objects import kept_keys
from axons.app.tables import Example, Project, Upload
from tests.app.conftest import As
from tests.app.images import add_images, add_project, document_of, png, tiles_of
from tests.app.uploads import send
from tests.drawing import draw_disks


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def tile(platform, ana, project, tmp_path):
    [image] = add_images(platform, ana, project, tmp_path)
    return tiles_of(platform, image)[0]


def add(client, project, caption="outline it like this", **fields):
    return client.post(f"/v1/projects/{project.id}/examples", json={"caption": caption, **fields})


def upload(client, project, pixels, **fields):
    return send(client, png(pixels), name="shown.png", **{"purpose": "example", "project_id": project.id, **fields})


def listed(client, project):
    return client.get(f"/v1/projects/{project.id}/examples").json()


def picture_of(client, project, example):
    answer = client.get(f"/v1/projects/{project.id}/examples/{example['id']}/picture")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    return np.asarray(Picture.open(io.BytesIO(answer.content)))


def known_keys(platform):
    """The objects that a cleanup leaves where they are."""
    return set(platform.database.read(kept_keys))


def test_a_tile_is_shown_beside_itself_with_its_labels(client, project, tile):
    plane = np.full((64, 64), 255, np.uint8)
    plane[:20, :20] = 1
    path = f"/v1/tiles/{tile.id}/annotation"
    client.put(path, params={"save_id": "one"}, headers={"If-Match": '"0"'}, json=document_of(plane))
    answer = add(client, project, tile_id=tile.id)
    assert answer.status_code == 201, answer.text
    picture, view = picture_of(client, project, answer.json()), draw_disks(100, 150, seed=0, channels=3).image[:64, :64]
    assert picture.shape == (answer.json()["height"], answer.json()["width"], 3) == (64, 132, 3)
    assert np.array_equal(picture[:, :64], view)
    assert np.array_equal(picture[30:, 68:], view[30:])
    assert (picture[19, 68:88] == (0xE6, 0x9F, 0x00)).all()  # the border in the colour of the class
    assert not np.array_equal(picture[:19, 68:87], view[:19, :19])


def test_an_uploaded_picture_is_made_anew_and_at_most_1024_px_large(platform, client, project):
    pixels = np.random.default_rng(1).integers(0, 256, (1500, 900, 3), dtype=np.uint8)
    answer = add(client, project, upload_id=upload(client, project, pixels), is_good=False)
    assert (answer.json()["height"], answer.json()["width"], answer.json()["is_good"]) == (1024, 614, False)
    assert picture_of(client, project, answer.json()).shape == (1024, 614, 3)
    assert platform.database.read(lambda session: session.exec(select(Upload)).one()).state == "expired"


def test_a_file_that_is_no_image_is_refused(client, project):
    sent = send(client, b"<svg></svg>" * 10, name="bad.png", purpose="example", project_id=project.id)
    answer = add(client, project, upload_id=sent)
    assert (answer.status_code, answer.json()["title"]) == (422, "image-refused")
    assert listed(client, project) == []


def test_an_upload_for_something_else_is_no_example(client, project):
    sent = upload(client, project, np.zeros((9, 9), np.uint8), purpose="images")
    assert add(client, project, upload_id=sent).status_code == 422


def test_a_tile_of_another_project_is_no_example(platform, ana, client, tile):
    other = add_project(platform, ana, name="other")
    assert add(client, other, tile_id=tile.id).status_code == 404


@pytest.mark.parametrize("fields", [{}, {"tile_id": "a", "upload_id": "b"}, {"tile_id": "a", "caption": ""}])
def test_an_example_is_of_one_thing_and_has_a_caption(client, project, fields):
    assert add(client, project, **fields).status_code == 422


def test_examples_keep_their_order_and_open_with_the_page(client, project, tile):
    made = [add(client, project, caption=caption, tile_id=tile.id).json() for caption in ("b", "a", "c")]
    assert [row["caption"] for row in listed(client, project)] == ["b", "a", "c"]
    assert client.get(f"/v1/tiles/{tile.id}/editor").json()["examples"] == made


def test_a_deleted_example_is_gone_with_its_picture(platform, client, project, tile):
    made = add(client, project, tile_id=tile.id).json()
    path = f"/v1/projects/{project.id}/examples/{made['id']}"
    [key] = platform.database.read(lambda session: session.exec(select(Example.key)).all())
    assert key in known_keys(platform)
    assert client.delete(path).status_code == 204
    assert (listed(client, project), client.get(f"{path}/picture").status_code) == ([], 404)
    assert key not in known_keys(platform)


def test_an_example_of_another_project_is_not_there(platform, ana, client, project, tile):
    made = add(client, project, tile_id=tile.id).json()
    other = add_project(platform, ana, name="other")
    assert client.delete(f"/v1/projects/{other.id}/examples/{made['id']}").status_code == 404
    assert client.get(f"/v1/projects/{other.id}/examples/{made['id']}/picture").status_code == 404


def test_there_is_an_end_to_examples(client, project, tile, monkeypatch):
    monkeypatch.setattr("axons.app.services.examples.MAX_EXAMPLES", 1)
    add(client, project, tile_id=tile.id)
    answer = add(client, project, tile_id=tile.id)
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "the project has 1 examples, which is all there can be; delete one first",
    )


def test_a_copy_of_a_template_shows_the_same_pictures(platform, ana, ben, client, project, tile):
    made = add(client, project, tile_id=tile.id).json()
    copy = Project(name="copy", owner_id=ben.user_id, tile=project.tile, copied_from=project.id)
    platform.database.write(lambda session: copy_project(session, session.get_one(Project, project.id), copy))
    client.delete(f"/v1/projects/{project.id}/examples/{made['id']}")
    [shown] = listed(As(platform, ben), copy)
    assert (shown["caption"], shown["id"] == made["id"]) == (made["caption"], False)
    assert picture_of(As(platform, ben), copy, shown).shape == (64, 132, 3)
    [key] = platform.database.read(lambda session: session.exec(select(Example.key)).all())
    assert key in known_keys(platform)


def test_the_etag_spares_a_picture(client, project, tile):
    made = add(client, project, tile_id=tile.id).json()
    path = f"/v1/projects/{project.id}/examples/{made['id']}/picture"
    known = {"If-None-Match": client.get(path).headers["ETag"]}
    assert client.get(path, headers=known).status_code == 304
