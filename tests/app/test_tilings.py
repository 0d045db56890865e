"""Another tile size keeps every label."""

import numpy as np
import pytest
from sqlmodel import select

from axons.app.jobs import tile as tile_job
from axons.app.tables import Job, Revision, Tile
from axons.data.layers import unpack
from tests.app.images import add_images, add_project, commit, document_of, mask_of, run_job, tiles_of

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def project(platform, ana):
    return add_project(platform, ana)


@pytest.fixture
def image(platform, ana, project, tmp_path):
    return add_images(platform, ana, project, tmp_path)[0]


def label(client, tile, mask, *, base=0, save_id="a"):
    plane = mask[tile.row0 : tile.row0 + tile.height, tile.col0 : tile.col0 + tile.width]
    path = f"/v1/tiles/{tile.id}/annotation"
    headers = {"If-Match": f'"{base}"'}
    answer = client.put(path, params={"save_id": save_id}, json=document_of(plane), headers=headers)
    assert answer.status_code == 200, answer.text


def mosaic(platform, image, tiling_id=None):
    """The labels of an image, put together from its tiles."""
    plane = np.full((image.height, image.width), 255, np.uint8)

    def read(session):
        revisions = {(r.tile_id, r.number): r.layers for r in session.exec(select(Revision))}
        for tile in session.exec(select(Tile).where(Tile.image_id == image.id)):
            if tile.revision and tiling_id in (None, tile.tiling_id):
                part = unpack(revisions[tile.id, tile.revision]).plane()
                plane[tile.row0 : tile.row0 + tile.height, tile.col0 : tile.col0 + tile.width] = part

    platform.database.read(read)
    return plane


def start(client, project, tile):
    answer = client.post(f"/v1/projects/{project.id}/tilings", json={"tile": tile})
    assert answer.status_code == 202, answer.text
    return answer.json()


@pytest.mark.parametrize("size", [96, 128, 2048])
def test_every_label_is_where_it_was_in_the_new_tiles(platform, client, project, image, size):
    mask = mask_of(0)
    mask[40:60, 40:90] = 254
    mask[10:30, 100:140] = 255
    [label(client, tile, mask) for tile in tiles_of(platform, image)]
    job = start(client, project, size)
    _rows, sentence = run_job(platform, job["id"])
    assert np.array_equal(mosaic(platform, image, job["target_id"]), mask)
    assert sentence.startswith(f"tiles are {size} px now")
    assert client.get(f"/v1/projects/{project.id}").json()["tile"] == size
    assert [row["is_current"] for row in client.get(f"/v1/projects/{project.id}/tilings").json()] == [True, False]


def test_smaller_tiles_and_back_again_keep_every_label(platform, client, project, image):
    mask = mask_of(0)
    [label(client, tile, mask) for tile in tiles_of(platform, image)[:3]]
    before = mosaic(platform, image)
    run_job(platform, start(client, project, 100)["id"])
    back = start(client, project, 64)
    run_job(platform, back["id"])
    assert np.array_equal(mosaic(platform, image, back["target_id"]), before)
    counts = client.get(f"/v1/projects/{project.id}").json()["num_tiles_by_status"]
    assert counts == {"unlabelled": 3, "started": 3, "done": 0}


def test_labels_saved_while_the_job_runs_are_not_lost(platform, client, project, image):
    first, mask = tiles_of(platform, image)[0], mask_of(0)
    label(client, first, mask)
    job = start(client, project, 128)
    request = platform.database.read(
        lambda session: tile_job.prepare(platform, session, session.get_one(Job, job["id"]))
    )
    rows = list(tile_job.work(request))
    platform.database.write(lambda session: commit(session, job["id"], rows))
    label(client, first, np.flipud(mask), base=1, save_id="b")
    expected = mosaic(platform, image, first.tiling_id)
    platform.database.write(lambda session: tile_job.finish(session, session.get_one(Job, job["id"])))
    assert np.array_equal(mosaic(platform, image, job["target_id"]), expected)


@pytest.mark.both_databases
def test_committing_twice_changes_nothing(platform, client, project, image):
    label(client, tiles_of(platform, image)[0], mask_of(0))
    job = start(client, project, 128)
    rows, _sentence = run_job(platform, job["id"])

    def state(session):
        return sorted((r.tile_id, r.number, r.crc32) for r in session.exec(select(Revision)))

    before = platform.database.read(state)
    platform.database.write(lambda session: commit(session, job["id"], rows))
    platform.database.write(lambda session: tile_job.finish(session, session.get_one(Job, job["id"])))
    assert platform.database.read(state) == before


@pytest.mark.parametrize(("num_done", "status"), [(6, "done"), (5, "started")])
def test_a_tile_is_done_if_all_of_it_was(platform, client, project, image, num_done, status):
    tiles = tiles_of(platform, image)
    [label(client, tile, mask_of(0)) for tile in tiles]
    [client.post(f"/v1/tiles/{tile.id}/done") for tile in tiles[:num_done]]
    job = start(client, project, 256)
    run_job(platform, job["id"])
    assert [tile.status for tile in tiles_of(platform, image, tiling_id=job["target_id"])] == [status]


def test_two_things_never_change_the_tiles_at_once(client, project, image):
    start(client, project, 128)
    again = client.post(f"/v1/projects/{project.id}/tilings", json={"tile": 256})
    assert again.status_code == 409
    assert client.post(f"/v1/projects/{project.id}/tilings", json={"tile": 64}).status_code == 409
    images = client.post(f"/v1/projects/{project.id}/images", json={"uploads": ["x"]})
    assert "tiles of 'nerve' are being changed" in images.json()["detail"]


def test_an_image_in_the_trash_comes_back_with_its_labels(platform, client, project, image):
    mask = mask_of(0)
    [label(client, tile, mask) for tile in tiles_of(platform, image)]
    client.delete(f"/v1/images/{image.id}")
    job = start(client, project, 128)
    run_job(platform, job["id"])
    client.post(f"/v1/trash/{client.get('/v1/trash').json()[0]['id']}/restore")
    assert np.array_equal(mosaic(platform, image, job["target_id"]), mask)
