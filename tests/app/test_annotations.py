"""Saving labels: revisions, stale saves, repeated saves, what is refused."""

import gzip
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image as Picture
from sqlmodel import select

from axons.app.services import annotations
from axons.app.tables import Audit, ProjectMember, Revision, Tile
from tests.app.conftest import As
from tests.app.images import add_images, add_project, document_of, tiles_of

pytestmark = pytest.mark.both_databases

PLANE = np.full((64, 64), 255, np.uint8)
PLANE[10:20, 5:50] = 1


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def image(platform, ana, project, tmp_path):
    return add_images(platform, ana, project, tmp_path)[0]


@pytest.fixture
def tile(platform, image) -> Tile:
    return tiles_of(platform, image)[0]


def save(client, tile, plane, *, base, save_id, **fields):
    path = f"/v1/tiles/{tile.id}/annotation"
    headers = {"If-Match": f'"{base}"'}
    return client.put(path, params={"save_id": save_id}, json=document_of(plane) | fields, headers=headers)


def painted(value):
    plane = PLANE.copy()
    plane[30:40, 30:40] = value
    return plane


def revisions(platform):
    return platform.database.read(lambda session: list(session.exec(select(Revision))))


def test_a_tile_begins_unlabelled_at_revision_0(client, tile):
    answer = client.get(f"/v1/tiles/{tile.id}/annotation")
    assert answer.headers["etag"] == '"0"'
    assert (answer.json()["layers"], answer.json()["height"]) == ([], 64)


def test_saved_labels_come_back_as_they_were_drawn(client, tile):
    saved = save(client, tile, PLANE, base=0, save_id="one")
    assert (saved.status_code, saved.headers["etag"]) == (200, '"1"')
    assert saved.json()["counts"] == {"1": 450, "255": 64 * 64 - 450}
    answer = client.get(f"/v1/tiles/{tile.id}/annotation")
    assert answer.headers["etag"] == '"1"'
    assert answer.json() == document_of(PLANE)
    assert client.get(f"/v1/tiles/{tile.id}").json()["status"] == "started"


def test_layers_travel_gzipped_or_plain(client, tile):
    path, body = f"/v1/tiles/{tile.id}/annotation", gzip.compress(json.dumps(document_of(PLANE)).encode())
    headers = {"If-Match": '"0"', "Content-Encoding": "gzip"}
    assert client.put(path, params={"save_id": "a"}, content=body, headers=headers).status_code == 200
    packed = client.get(path)
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert (packed.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
    assert packed.json() == plain.json()


def test_unchanged_labels_are_not_sent_again(client, tile):
    save(client, tile, PLANE, base=0, save_id="one")
    path = f"/v1/tiles/{tile.id}/annotation"
    assert client.get(path, headers={"If-None-Match": '"1"'}).status_code == 304
    assert client.get(path, headers={"If-None-Match": '"0"'}).status_code == 200


def test_a_save_must_say_with_which_revision_it_began(platform, client, tile):
    path = f"/v1/tiles/{tile.id}/annotation"
    body = {"params": {"save_id": "a"}, "json": document_of(PLANE)}
    assert client.put(path, **body).status_code == 428
    assert client.put(path, **body, headers={"If-Match": "*"}).status_code == 428
    assert client.put(path, **body, headers={"If-Match": "soon"}).status_code == 422
    assert revisions(platform) == []


def test_a_stale_save_changes_nothing_and_names_the_current_revision(platform, client, tile):
    save(client, tile, PLANE, base=0, save_id="one")
    stale = save(client, tile, painted(2), base=0, save_id="two")
    assert (stale.status_code, stale.json()["current"]) == (412, 1)
    assert len(revisions(platform)) == 1


def test_the_same_save_again_changes_nothing(platform, client, tile):
    first = save(client, tile, PLANE, base=0, save_id="one")
    again = save(client, tile, PLANE, base=0, save_id="one")
    assert first.json() == again.json()
    assert len(revisions(platform)) == 1


def test_a_save_sent_ten_times_at_once_is_saved_once(platform, client, tile):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(save(client, tile, PLANE, base=0, save_id="one").status_code))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 10
    assert len(revisions(platform)) == 1


def test_a_save_id_belongs_to_one_save(client, tile):
    save(client, tile, PLANE, base=0, save_id="one")
    assert save(client, tile, painted(2), base=1, save_id="one").status_code == 409


def test_a_save_is_answered_only_after_it_is_committed(platform, client, tile, monkeypatch):
    def fail(*_args, **_fields):
        raise RuntimeError("killed before the commit")

    monkeypatch.setattr(annotations, "_saved", fail)
    assert save(client, tile, PLANE, base=0, save_id="one").status_code == 500
    assert revisions(platform) == []
    monkeypatch.undo()
    assert save(client, tile, PLANE, base=0, save_id="one").json()["revision"] == 1


def test_two_editors_never_overwrite_each_other(platform, ana, ben, tile, project):
    platform.database.write(
        lambda session: session.add(ProjectMember(project_id=project.id, user_id=ben.user_id, role="editor"))
    )
    editors = [As(platform, ana), As(platform, ben)]
    rng = np.random.default_rng(17)
    planes = [rng.integers(0, 3, (64, 64), dtype=np.uint8) for _ in range(200)]
    fresh, stale = [], []
    for number, plane in enumerate(planes):
        fresh.append(save(editors[number % 2], tile, plane, base=number, save_id=f"s{number}").status_code)
        stale.append(save(editors[1 - number % 2], tile, plane, base=number, save_id=f"t{number}").status_code)
    assert (fresh, stale) == ([200] * 200, [412] * 200)
    listed = editors[0].get(f"/v1/tiles/{tile.id}/revisions").json()
    assert [row["number"] for row in listed] == list(range(200, 0, -1))
    assert [row["author_name"] for row in listed[:2]] == ["ben", "ana"]
    kept = [editors[0].get(f"/v1/tiles/{tile.id}/revisions/{n + 1}").json() for n in (0, 1, 198, 199)]
    assert kept == [document_of(planes[n]) for n in (0, 1, 198, 199)]


def test_an_earlier_revision_is_restored_as_a_new_one(platform, client, tile):
    save(client, tile, PLANE, base=0, save_id="one")
    save(client, tile, painted(2), base=1, save_id="two")
    path = f"/v1/tiles/{tile.id}/revisions/1/restore"
    assert client.post(path, params={"save_id": "r"}).status_code == 428
    assert client.post(path, params={"save_id": "r"}, headers={"If-Match": '"1"'}).status_code == 412
    restored = client.post(path, params={"save_id": "r"}, headers={"If-Match": '"2"'})
    assert restored.json()["revision"] == 3
    assert client.get(f"/v1/tiles/{tile.id}/annotation").json() == document_of(PLANE)
    assert [row.source for row in revisions(platform)] == ["manual", "manual", "restore"]
    assert (
        client.post(
            f"/v1/tiles/{tile.id}/revisions/9/restore", params={"save_id": "x"}, headers={"If-Match": '"3"'}
        ).status_code
        == 404
    )


def test_a_rendering_that_differs_is_refused(platform, client, tile):
    answer = save(client, tile, PLANE, base=0, save_id="one", crc32=7)
    assert answer.status_code == 422
    assert "and to 7 in your browser" in answer.json()["detail"]
    assert revisions(platform) == []


def test_a_save_without_a_checksum_is_refused(client, tile):
    assert save(client, tile, PLANE, base=0, save_id="one", crc32=None).status_code == 422


def test_labels_of_a_class_that_the_project_lacks_are_refused(client, tile):
    answer = save(client, tile, painted(3), base=0, save_id="one")
    assert answer.status_code == 422
    assert "class index 3" in answer.json()["detail"]


def test_labels_of_a_class_that_was_deleted_meanwhile_are_kept(client, tile, project):
    client.delete(f"/v1/projects/{project.id}/classes/2")
    assert save(client, tile, painted(2), base=0, save_id="one").status_code == 200


def test_a_class_is_deleted_only_when_no_tile_has_pixels_of_it(platform, client, image, tile, project):
    second = tiles_of(platform, image)[1]
    save(client, tile, painted(2), base=0, save_id="one")
    save(client, second, painted(2), base=0, save_id="two")
    path = f"/v1/projects/{project.id}/classes/2"
    refused = client.delete(path)
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "2 tiles have pixels of class 'core', the first in 'a.png' at row 0, column 0; "
        "give them another class or erase them, then delete it",
    )
    save(client, tile, PLANE, base=1, save_id="three")
    assert client.delete(path).json()["detail"].startswith("1 tile has pixels of class 'core', the first in 'a.png'")
    save(client, second, PLANE, base=1, save_id="four")
    assert client.delete(path).status_code == 204


def test_labels_of_an_image_in_the_trash_do_not_keep_a_class(client, image, tile, project):
    save(client, tile, painted(2), base=0, save_id="one")
    client.delete(f"/v1/images/{image.id}")
    assert client.delete(f"/v1/projects/{project.id}/classes/2").status_code == 204


def test_labels_of_another_size_are_refused(client, tile):
    answer = save(client, tile, PLANE[:63], base=0, save_id="one")
    assert answer.status_code == 422
    assert "63 x 64 px but the tile has 64 x 64" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b"{", 422),
        (b"[" * 100_000, 422),
        (b'{"layers": 7}', 422),
        (b'{"layers": [7]}', 422),
        (b'{"layers": [{"t": "mask", "box": [0, 0, "x", 1]}]}', 422),
        (b'{"layers": [{"t": "mask", "box": [0, 0, 100000, 100000]}]}', 413),
        (b'{"schema": 1, "height": 64, "width": 64, "crc32": 1, "layers": [{"t": "tree"}]}', 422),
    ],
)
def test_what_is_no_annotation_is_refused(client, tile, body, status):
    answer = client.put(
        f"/v1/tiles/{tile.id}/annotation", params={"save_id": "a"}, content=body, headers={"If-Match": '"0"'}
    )
    assert answer.status_code == status


def put_gzipped(client, tile, body):
    headers = {"If-Match": '"0"', "Content-Encoding": "gzip"}
    path = f"/v1/tiles/{tile.id}/annotation"
    return client.put(path, params={"save_id": "a"}, content=body, headers=headers).status_code


def test_bytes_that_unpack_to_too_much_are_refused(client, tile):
    assert put_gzipped(client, tile, gzip.compress(bytes(100 << 20))) == 413


@pytest.mark.parametrize("body", [b"x", gzip.compress(b"{}", mtime=0)[:-9]], ids=["not gzip", "cut off"])
def test_damaged_gzip_is_refused(client, tile, body):
    assert put_gzipped(client, tile, body) == 422


def test_polygons_that_would_take_for_ever_to_render_are_refused(client, tile):
    ring = [number for _ in range(5000) for number in (0, 0, 1024, 16)]
    layers = [{"t": "poly", "value": 1, "rings": [ring], "keep": []} for _ in range(60)]
    document = {"schema": 1, "height": 64, "width": 64, "layers": layers, "crc32": 0}
    answer = client.put(
        f"/v1/tiles/{tile.id}/annotation", params={"save_id": "a"}, json=document, headers={"If-Match": '"0"'}
    )
    assert answer.status_code == 413
    assert "simplify them" in answer.json()["detail"]


def test_a_tile_that_is_done_stays_as_it_is_until_it_is_reopened(platform, client, tile):
    save(client, tile, PLANE, base=0, save_id="one")
    assert client.post(f"/v1/tiles/{tile.id}/done").json()["status"] == "done"
    assert save(client, tile, painted(2), base=1, save_id="two").status_code == 423
    assert save(client, tile, PLANE, base=0, save_id="one").status_code == 200
    assert client.delete(f"/v1/tiles/{tile.id}/done").json()["status"] == "started"
    assert save(client, tile, painted(2), base=1, save_id="two").status_code == 200
    actions = platform.database.read(lambda session: session.exec(select(Audit.action)).all())
    assert "tile.reopen" in actions


def test_labels_that_are_all_erased_leave_the_tile_unlabelled(client, tile):
    save(client, tile, PLANE, base=0, save_id="one")
    erased = save(client, tile, np.full((64, 64), 255, np.uint8), base=1, save_id="two")
    assert erased.json()["status"] == "unlabelled"


def test_the_mask_of_a_tile_is_its_classes_in_their_colours(client, tile):
    save(client, tile, PLANE, base=0, save_id="one")
    answer = client.get(f"/v1/tiles/{tile.id}/mask")
    mask = Picture.open(io.BytesIO(answer.content))
    assert mask.mode == "P"
    assert np.array_equal(np.array(mask), PLANE)
    assert tuple(mask.getpalette()[3:6]) == (0xE6, 0x9F, 0x00)
    save(client, tile, painted(2), base=1, save_id="two")
    earlier = client.get(f"/v1/tiles/{tile.id}/mask?revision=1")
    assert earlier.content == answer.content


def test_labels_are_for_members_who_may_label(platform, ana, ben, tile, project):
    stranger = As(platform, ben)
    assert save(stranger, tile, PLANE, base=0, save_id="a").status_code == 404
    assert stranger.get(f"/v1/tiles/{tile.id}/annotation").status_code == 404
    assert stranger.get(f"/v1/tiles/{tile.id}/revisions").status_code == 404
    platform.database.write(
        lambda session: session.add(ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer"))
    )
    assert stranger.get(f"/v1/tiles/{tile.id}/annotation").status_code == 200
    assert save(stranger, tile, PLANE, base=0, save_id="a").status_code == 403
    assert stranger.post(f"/v1/tiles/{tile.id}/lease").status_code == 403
    assert stranger.post(f"/v1/tiles/{tile.id}/done").status_code == 403


def test_the_labels_of_a_deleted_image_are_gone_and_come_back_with_it(client, image, tile):
    save(client, tile, PLANE, base=0, save_id="one")
    client.delete(f"/v1/images/{image.id}")
    assert client.get(f"/v1/tiles/{tile.id}/annotation").status_code == 404
    [lost] = client.get("/v1/trash").json()
    client.post(f"/v1/trash/{lost['id']}/restore")
    assert client.get(f"/v1/tiles/{tile.id}/annotation").json() == document_of(PLANE)
