"""The list of tiles, leases, the queue."""

from datetime import timedelta

import numpy as np
import pytest

from axons.app.services.tiles import LEASE_S
from axons.app.tables import ProjectMember, now
from tests.app.conftest import As
from tests.app.images import add_images, add_project, document_of, tiles_of

pytestmark = pytest.mark.both_databases


@pytest.fixture
def project(platform, ana, ben):
    project = add_project(platform, ana)
    member = ProjectMember(project_id=project.id, user_id=ben.user_id, role="editor")
    platform.database.write(lambda session: session.add(member))
    return project


@pytest.fixture
def images(platform, ana, project, tmp_path):
    return add_images(platform, ana, project, tmp_path, names=("a.png", "b.png"))


@pytest.fixture
def other(platform, ben):
    return As(platform, ben)


def label(client, tile, value=1):
    plane = np.full((tile.height, tile.width), 255, np.uint8)
    plane[:5] = value
    headers = {"If-Match": '"0"'}
    path = f"/v1/tiles/{tile.id}/annotation"
    assert client.put(path, params={"save_id": "a"}, json=document_of(plane), headers=headers).status_code == 200


def change(platform, row, **fields):
    platform.database.write(lambda session: session.get_one(type(row), row.id).sqlmodel_update(fields))


def listed(client, project, **params):
    answer = client.get(f"/v1/projects/{project.id}/tiles", params=params)
    assert answer.status_code == 200, answer.text
    return [tile["id"] for tile in answer.json()["items"]]


def following(client, project, **params):
    answer = client.get(f"/v1/projects/{project.id}/queue/next", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(*tiles):
    return [tile.id for tile in tiles]


def test_tiles_are_listed_image_by_image_in_pages(platform, client, project, images):
    first = client.get(f"/v1/projects/{project.id}/tiles", params={"limit": 7}).json()
    second = client.get(f"/v1/projects/{project.id}/tiles", params={"limit": 7, "cursor": first["next"]}).json()
    by_id = sorted(images, key=lambda image: image.id)
    expected = [tile.id for image in by_id for tile in tiles_of(platform, image)]
    assert [tile["id"] for tile in first["items"] + second["items"]] == expected
    assert second["next"] is None


def test_tiles_are_found_by_image_status_and_class(platform, client, project, images):
    tiles = tiles_of(platform, images[0])
    label(client, tiles[0], 1)
    label(client, tiles[1], 2)
    client.post(f"/v1/tiles/{tiles[1].id}/done")
    assert listed(client, project, image_id=images[0].id) == ids(*tiles)
    assert listed(client, project, status="started") == ids(tiles[0])
    assert listed(client, project, status="done") == ids(tiles[1])
    assert listed(client, project, class_index=2) == ids(tiles[1])
    assert listed(client, project, class_index=25) == []
    assert len(listed(client, project, status="unlabelled")) == 10
    assert listed(client, project, tiling_id="another") == []


def test_tiles_of_a_deleted_image_are_not_listed(platform, client, project, images):
    client.delete(f"/v1/images/{images[0].id}")
    assert set(listed(client, project)) == set(ids(*tiles_of(platform, images[1])))


def test_a_tile_says_what_its_editor_needs(platform, client, images):
    tile = client.get(f"/v1/tiles/{tiles_of(platform, images[0])[5].id}").json()
    assert [tile[name] for name in ("row0", "col0", "height", "width")] == [64, 128, 36, 22]
    assert [tile[name] for name in ("image_name", "image_height", "image_width")] == ["a.png", 100, 150]
    assert tile["lease"] == {"is_mine": False, "holder": None, "until": None}


def test_a_lease_tells_others_who_has_the_tile_open(platform, client, other, images):
    tile = tiles_of(platform, images[0])[0]
    assert client.post(f"/v1/tiles/{tile.id}/lease").json()["is_mine"] is True
    seen = other.post(f"/v1/tiles/{tile.id}/lease").json()
    assert (seen["is_mine"], seen["holder"]) == (False, "ana")
    assert other.get(f"/v1/tiles/{tile.id}").json()["lease"]["holder"] == "ana"


def test_a_lease_does_not_keep_others_from_saving(platform, client, other, images):
    tile = tiles_of(platform, images[0])[0]
    client.post(f"/v1/tiles/{tile.id}/lease")
    label(other, tile)


def test_a_lease_can_be_taken_over_released_and_runs_out(platform, client, other, images):
    tile = tiles_of(platform, images[0])[0]
    client.post(f"/v1/tiles/{tile.id}/lease")
    assert other.post(f"/v1/tiles/{tile.id}/lease?takes_over=true").json()["holder"] == "ben"
    assert client.delete(f"/v1/tiles/{tile.id}/lease").status_code == 204
    assert client.get(f"/v1/tiles/{tile.id}").json()["lease"]["holder"] == "ben"
    other.delete(f"/v1/tiles/{tile.id}/lease")
    assert client.get(f"/v1/tiles/{tile.id}").json()["lease"]["holder"] is None
    client.post(f"/v1/tiles/{tile.id}/lease")
    change(platform, tile, leased_until=now() - timedelta(seconds=1))
    assert other.post(f"/v1/tiles/{tile.id}/lease").json()["is_mine"] is True


def test_a_lease_lasts_ninety_seconds(platform, client, images):
    tile = tiles_of(platform, images[0])[0]
    client.post(f"/v1/tiles/{tile.id}/lease")
    [held] = [row for row in tiles_of(platform, images[0]) if row.leased_until]
    assert abs((held.leased_until - now()).total_seconds() - LEASE_S) < 5


def test_the_queue_goes_through_the_tiles_in_order(platform, client, project, images):
    first, second, *_ = tiles_of(platform, images[0])
    assert following(client, project)["tile"]["id"] == first.id
    assert following(client, project, after=first.id)["tile"]["id"] == second.id
    assert following(client, project)["reason"] == "it has no labels yet"


def test_the_queue_begins_again_at_its_end(platform, client, project, images):
    last = tiles_of(platform, images[1])[-1]
    assert following(client, project, after=last.id)["tile"]["id"] == tiles_of(platform, images[0])[0].id


def test_the_queue_leaves_out_what_nobody_should_label_now(platform, ben, client, other, project, images):
    tiles = tiles_of(platform, images[1])
    change(platform, images[0], is_excluded=True)
    client.post(f"/v1/tiles/{tiles[0].id}/done")
    other.post(f"/v1/tiles/{tiles[1].id}/lease")
    change(platform, tiles[2], is_blank=True)
    change(platform, tiles[3], assigned_to=ben.user_id)
    assert following(client, project)["tile"]["id"] == tiles[4].id
    assert following(other, project)["tile"]["id"] == tiles[3].id


def test_what_is_mine_or_begun_comes_first(platform, client, ana, project, images):
    tiles = tiles_of(platform, images[1])
    label(client, tiles[3])
    assert following(client, project)["reason"] == "you have begun it"
    change(platform, tiles[4], assigned_to=ana.user_id)
    assert following(client, project)["reason"] == "it is yours to label"
    assert following(client, project)["tile"]["id"] == tiles[4].id


def assign(client, project, **form):
    return client.post(f"/v1/projects/{project.id}/tiles:assign", json=form)


def test_tiles_are_given_to_a_person_whose_queue_they_lead(platform, ben, client, other, project, images):
    tiles = [tiles_of(platform, image) for image in images]
    form = {"user_id": ben.user_id, "tile_ids": ids(tiles[0][2]), "image_ids": [images[1].id]}
    assert assign(client, project, **form).json() == {"num_tiles": 7}
    assert set(listed(client, project, assigned_to=ben.user_id)) == set(ids(tiles[0][2], *tiles[1]))
    assert following(other, project)["reason"] == "it is yours to label"
    assert following(other, project)["tile"]["id"] == tiles[0][2].id
    assert following(client, project, after=tiles[0][1].id)["tile"]["id"] == tiles[0][3].id


def test_tiles_are_given_back_to_everybody(platform, ben, client, project, images):
    assign(client, project, user_id=ben.user_id, image_ids=[images[0].id])
    assert assign(client, project, user_id=None, image_ids=[images[0].id]).json() == {"num_tiles": 6}
    assert listed(client, project, assigned_to=ben.user_id) == []


def test_who_leaves_a_project_leaves_its_tiles_to_everybody(platform, ben, client, project, images):
    assign(client, project, user_id=ben.user_id, image_ids=[images[0].id])
    client.delete(f"/v1/projects/{project.id}/members/{ben.user_id}")
    assert following(client, project)["tile"]["id"] == tiles_of(platform, images[0])[0].id


def test_who_may_only_look_leaves_the_tiles_to_everybody(platform, ben, client, project, images):
    assign(client, project, user_id=ben.user_id, image_ids=[images[0].id])
    client.patch(f"/v1/projects/{project.id}/members/{ben.user_id}", json={"role": "viewer"})
    assert listed(client, project, assigned_to=ben.user_id) == []


def test_tiles_are_given_to_those_only_who_may_label(platform, teacher, client, project, images):
    answer = assign(client, project, user_id=teacher.user_id, image_ids=[images[0].id])
    assert answer.status_code == 409
    assert answer.json()["detail"].endswith("may label in project 'nerve'; add the person as editor first")
    assert assign(client, project, user_id="nobody", image_ids=[images[0].id]).status_code == 409


def test_tiles_of_another_project_cannot_be_given(platform, ana, client, project, images):
    empty = add_project(platform, ana, name="empty")
    answer = assign(client, empty, user_id=ana.user_id, tile_ids=ids(tiles_of(platform, images[0])[0]))
    assert answer.status_code == 404
    assert listed(client, project, assigned_to=ana.user_id) == []


def test_an_editor_does_not_give_tiles_to_people(ben, other, project, images):
    assert assign(other, project, user_id=ben.user_id, image_ids=[images[0].id]).status_code == 403


def test_the_queue_ends(platform, client, project, images):
    tiles = [tile for image in images for tile in tiles_of(platform, image)]
    [client.post(f"/v1/tiles/{tile.id}/done") for tile in tiles]
    assert following(client, project) == {"tile": None, "reason": "every tile is done, blank or open elsewhere"}


def test_tiles_are_for_members(platform, admin, teacher, project, images):
    stranger = As(platform, teacher)
    tile = tiles_of(platform, images[0])[0]
    paths = [f"/v1/tiles/{tile.id}{part}" for part in ("", "/image", "/thumbnail", "/mask", "/annotation")]
    assert [stranger.get(path).status_code for path in paths] == [404] * 5
    assert stranger.post(f"/v1/tiles/{tile.id}/lease").status_code == 404
    assert stranger.get(f"/v1/projects/{project.id}/tiles").status_code == 404
    assert stranger.get(f"/v1/projects/{project.id}/queue/next").status_code == 404
    assert [As(platform, admin).get(path).status_code for path in paths] == [200] * 5


def test_the_stages_of_a_project_follow_its_labels(platform, client, project, images):
    label(client, tiles_of(platform, images[0])[0])
    stages = client.get(f"/v1/projects/{project.id}").json()["stages"]
    assert [stage["state"] for stage in stages] == ["done", "done", "now", "next", "next"]
    assert stages[1]["text"] == "1 of 12 tiles have labels"
