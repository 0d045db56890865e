"""The queue by usefulness, and the ranking behind it."""

from collections import Counter

import pytest
from sqlmodel import select

from axons.app.jobs import rank
from axons.app.tables import Image, Job, ProjectMember, Tile, TileScore, Tiling, now
from tests.app.conftest import As
from tests.app.images import add_images, add_project, run_job, tiles_of
from tests.app.test_pre_labels import change
from tests.app.test_tiles import following, label
from tests.serve.models import make_predictor

pytestmark = pytest.mark.both_databases

NOT_RANKED = "no model has looked at the tiles yet, so this is the next in order"


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
def here(monkeypatch):
    """Regions are predicted in this process, by a function instead of a network."""
    monkeypatch.setattr(rank, "cluster_gpus", lambda: 0)
    monkeypatch.setattr(rank, "predictor_of", lambda _uri, _on_gpu: make_predictor())

    def stream(rows, function, *, on_gpu, **_options):
        for row in rows:
            yield from function(row, on_gpu=on_gpu)

    monkeypatch.setattr(rank, "stream", stream)


def start(client, project, model):
    return client.post(f"/v1/projects/{project.id}/tiles:rank", json={"model_id": model.id})


def scores_of(platform):
    rows = platform.database.read(lambda session: session.exec(select(TileScore)).all())
    return {row.tile_id: row for row in rows}


def add_ranking(platform, project, model, scores, *, rarest=None, state="done", pixels=None):
    """A ranking with these scores by tile id."""
    result = {"rarest": rarest, "num_tiles": len(scores)}
    job = Job(kind="predict", state=state, user_id=project.owner_id, project_id=project.id, result=result)
    job.request, job.finished_at = {"purpose": "ranking", "model_id": model.id}, now()

    def add(session):
        session.add(job)
        session.flush()
        of = {"job_id": job.id, "project_id": project.id, "model_id": model.id}
        for tile_id, score in scores.items():
            counts = (pixels or {}).get(tile_id, {"0": 10})
            session.add(TileScore(tile_id=tile_id, score=score, unsure_share=0.12, class_pixels=counts, **of))

    platform.database.write(add)
    return job


def turn(monkeypatch, kind):
    monkeypatch.setattr("axons.app.services.useful_tiles._TURNS", (kind,) * 5)


def useful(client, project, **params):
    return following(client, project, order="useful", **params)


def test_a_ranking_scores_every_tile_that_may_be_asked_for(platform, client, project, images, model, here):
    first, second, *rest = tiles_of(platform, images[0])
    client.post(f"/v1/tiles/{first.id}/done")
    change(platform, second, is_blank=True)
    change(platform, images[1], split="test")
    job = start(client, project, model)
    assert (job.status_code, job.json()["kind"]) == (202, "predict")
    _, told = run_job(platform, job.json()["id"])
    scores = scores_of(platform)
    assert (set(scores), told) == ({tile.id for tile in rest}, "4 tiles ranked")
    assert all(0 < row.score < 1 and 0 <= row.unsure_share <= 1 for row in scores.values())
    assert sum(sum(row.class_pixels.values()) for row in scores.values()) == sum(t.height * t.width for t in rest)


def test_the_rarest_class_is_the_one_that_the_model_sees_least_of(platform, client, project, images, model, here):
    job_id = start(client, project, model).json()["id"]
    run_job(platform, job_id)
    pixels = Counter()
    [pixels.update(row.class_pixels) for row in scores_of(platform).values()]
    job = platform.database.read(lambda session: session.get_one(Job, job_id))
    assert str(job.result["rarest"]) == min(("1", "2"), key=lambda value: pixels[value])


def test_a_newer_ranking_takes_the_place_of_the_one_before(platform, client, project, images, model, here):
    run_job(platform, start(client, project, model).json()["id"])
    newer = start(client, project, model).json()["id"]
    run_job(platform, newer)
    rows = platform.database.read(lambda session: session.exec(select(TileScore)).all())
    assert (len(rows), {row.job_id for row in rows}) == (12, {newer})


def test_a_ranking_that_is_cancelled_leaves_the_one_before(platform, client, project, images, model):
    tile = tiles_of(platform, images[0])[0]
    before = add_ranking(platform, project, model, {tile.id: 0.5})
    job_id = start(client, project, model).json()["id"]

    def half(session):
        of = {"job_id": job_id, "project_id": project.id, "model_id": model.id}
        session.add(TileScore(tile_id=tile.id, score=0.9, unsure_share=0, class_pixels={}, **of))

    platform.database.write(half)
    client.post(f"/v1/jobs/{job_id}/cancel")
    rows = platform.database.read(lambda session: session.exec(select(TileScore)).all())
    assert [row.job_id for row in rows] == [before.id]


def test_a_ranking_that_begins_again_does_not_repeat_what_it_has(platform, client, project, images, model, here):
    job_id = start(client, project, model).json()["id"]
    request = platform.database.read(lambda session: rank.prepare(platform, session, session.get_one(Job, job_id)))
    [first, *_] = list(rank.work(request))
    platform.database.write(lambda session: rank.commit(session, session.get_one(Job, job_id), [first]))
    platform.database.write(lambda session: rank.commit(session, session.get_one(Job, job_id), [first]))
    again = platform.database.read(lambda session: rank.prepare(platform, session, session.get_one(Job, job_id)))
    assert sum(len(region["tiles"]) for region in again["regions"]) == 12 - len(first["scores"])


def test_a_model_that_cannot_be_used_is_told_in_the_end(platform, client, project, images, model, local_ray):
    platform.storage.delete_prefix("models/random")
    job_id = start(client, project, model).json()["id"]
    _, told = run_job(platform, job_id)
    assert told.startswith("no tile could be ranked: ")


def test_a_ranking_runs_on_ray(platform, client, project, images, model, local_ray):
    job_id = start(client, project, model).json()["id"]
    rows, told = run_job(platform, job_id)
    assert (told, rows[-1]) == ("12 tiles ranked", {"progress": 1.0})


def test_one_ranking_at_a_time(platform, client, project, images, model):
    start(client, project, model)
    answer = start(client, project, model)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("the tiles of 'nerve' are being ranked")


def test_without_a_ranking_the_queue_goes_on_in_order_and_says_so(platform, client, project, images):
    found = useful(client, project)
    assert (found["tile"]["id"], found["reason"]) == (tiles_of(platform, images[0])[0].id, NOT_RANKED)


def test_a_ranking_that_is_not_over_counts_for_nothing(platform, client, project, images, model):
    add_ranking(platform, project, model, {tiles_of(platform, images[1])[3].id: 0.9}, state="running")
    assert useful(client, project)["reason"] == NOT_RANKED


def test_the_most_unsure_tile_comes_first_and_says_why(platform, client, project, images, model, monkeypatch):
    turn(monkeypatch, "unsure")
    tiles = tiles_of(platform, images[0])
    add_ranking(platform, project, model, {tiles[1].id: 0.3, tiles[4].id: 0.8, tiles[5].id: 0.5})
    found = useful(client, project)
    assert found["tile"]["id"] == tiles[4].id
    assert found["reason"] == "the model is unsure here: 12 % of the tile below 60 %"


def test_who_leaves_a_tile_goes_on_to_the_next_most_unsure(platform, client, project, images, model, monkeypatch):
    turn(monkeypatch, "unsure")
    tiles = tiles_of(platform, images[0])
    add_ranking(platform, project, model, {tiles[1].id: 0.3, tiles[4].id: 0.8, tiles[5].id: 0.5})
    seen = [tiles[4].id]
    for _ in range(3):
        seen.append(useful(client, project, after=seen[-1])["tile"]["id"])
    assert seen == [tiles[4].id, tiles[5].id, tiles[1].id, tiles[4].id]


def test_the_tile_with_most_of_the_rarest_class_comes_first(platform, client, project, images, model, monkeypatch):
    turn(monkeypatch, "rare")
    tiles = tiles_of(platform, images[0])
    scores = {tile.id: 0.1 for tile in tiles}
    pixels = {tiles[2].id: {"0": 1, "2": 5}, tiles[3].id: {"2": 40}}
    add_ranking(platform, project, model, scores, rarest=2, pixels=pixels)
    found = useful(client, project)
    assert (found["tile"]["id"], found["reason"]) == (tiles[3].id, "has core, the rarest class")


def test_a_tile_at_random_is_the_same_until_another_is_done(platform, client, project, images, model, monkeypatch):
    turn(monkeypatch, "random")
    tiles = [tile for image in images for tile in tiles_of(platform, image)]
    add_ranking(platform, project, model, {tiles[0].id: 0.9})
    found = useful(client, project)
    assert found["reason"] == "picked at random"
    assert {useful(client, project)["tile"]["id"] for _ in range(5)} == {found["tile"]["id"]}
    others = {useful(client, project, after=tile.id)["tile"]["id"] for tile in tiles}
    assert len(others) > 3


def test_of_five_tiles_three_are_unsure_one_is_rare_and_one_at_random(platform, client, project, images, model):
    tiles = [tile for image in images for tile in tiles_of(platform, image)]
    scores = {tile.id: number / 20 for number, tile in enumerate(tiles)}
    add_ranking(platform, project, model, scores, rarest=1, pixels={tile.id: {"1": 3} for tile in tiles})
    kinds = Counter()
    for _ in range(5):
        found = useful(client, project)
        kinds[found["reason"].split()[0]] += 1
        [tile] = [tile for tile in tiles if tile.id == found["tile"]["id"]]
        label(client, tile)
        client.post(f"/v1/tiles/{tile.id}/done")
    assert kinds == {"the": 3, "has": 1, "picked": 1}


def test_nothing_beside_a_tile_that_was_labelled_since_is_offered(
    platform, client, project, images, model, monkeypatch
):
    turn(monkeypatch, "unsure")
    tiles = tiles_of(platform, images[0])
    far = tiles_of(platform, images[1])[0]
    add_ranking(platform, project, model, {tiles[0].id: 0.9, tiles[1].id: 0.8, tiles[5].id: 0.7, far.id: 0.2})
    label(client, tiles[4])  # in the middle of the second row: all of the image lies beside it
    assert useful(client, project)["tile"]["id"] == far.id


def test_nothing_beside_a_tile_that_somebody_has_open_is_offered(
    platform, ben, client, project, images, model, monkeypatch
):
    turn(monkeypatch, "unsure")
    tiles = tiles_of(platform, images[0])
    add_ranking(platform, project, model, {tiles[0].id: 0.9, tiles[1].id: 0.8, tiles[5].id: 0.1})
    As(platform, ben).post(f"/v1/tiles/{tiles[0].id}/lease")
    assert useful(client, project)["tile"]["id"] == tiles[5].id


def test_where_everything_lies_beside_new_labels_the_most_unsure_is_offered_all_the_same(
    platform, client, project, images, model, monkeypatch
):
    turn(monkeypatch, "unsure")
    tiles = tiles_of(platform, images[0])
    add_ranking(platform, project, model, {tiles[0].id: 0.4, tiles[1].id: 0.8})
    label(client, tiles[4])
    assert useful(client, project)["tile"]["id"] == tiles[1].id


@pytest.mark.parametrize("kind", ["unsure", "rare", "random"])
def test_test_images_are_never_offered_by_usefulness(platform, client, project, images, model, monkeypatch, kind):
    turn(monkeypatch, kind)
    tiles = [tile for image in images for tile in tiles_of(platform, image)]
    pixels = {tile.id: {"1": 9} for tile in tiles}
    add_ranking(platform, project, model, {tile.id: 0.5 for tile in tiles}, rarest=1, pixels=pixels)
    change(platform, images[0], split="test")
    assert useful(client, project)["tile"]["image_id"] == images[1].id
    change(platform, images[1], split="test")
    found = useful(client, project)
    assert found["tile"] is None
    assert found["reason"].endswith("go on in order for these")
    assert following(client, project)["tile"] is not None


def test_without_a_ranking_test_images_are_not_offered_by_usefulness_either(platform, client, project, images):
    change(platform, images[0], split="test")
    assert useful(client, project)["tile"]["image_id"] == images[1].id


def test_tiles_that_were_given_to_a_person_come_first(platform, ana, client, project, images, model, monkeypatch):
    turn(monkeypatch, "unsure")
    tiles = tiles_of(platform, images[0])
    add_ranking(platform, project, model, {tiles[0].id: 0.9, tiles[5].id: 0.1})
    change(platform, tiles[5], assigned_to=ana.user_id)
    assert useful(client, project)["tile"]["id"] == tiles[5].id


def test_scores_of_an_earlier_tile_size_are_of_no_use(platform, client, project, images, model):
    add_ranking(platform, project, model, {tile.id: 0.5 for tile in tiles_of(platform, images[0])})
    job = client.post(f"/v1/projects/{project.id}/tilings", json={"tile": 128}).json()
    switch_tiling(platform, job["id"])
    assert useful(client, project)["reason"] == NOT_RANKED


def switch_tiling(platform, job_id):
    """The new tiling without its tiles being measured."""

    def switch(session):
        new = session.get_one(Tiling, session.get_one(Job, job_id).target_id)
        old = session.exec(select(Tiling).where(Tiling.project_id == new.project_id, Tiling.is_current)).one()
        old.is_current, new.is_current = False, True
        session.flush()
        image = session.exec(select(Image)).first()
        measured = {"mean": 0.5, "contrast": 0.1, "sharpness": 0.1, "is_blank": False, "is_blurred": False}
        place = {"row0": 0, "col0": 0, "height": 100, "width": 128}
        session.add(Tile(project_id=new.project_id, tiling_id=new.id, image_id=image.id, **place, **measured))

    platform.database.write(switch)


def test_the_queue_by_status(platform, client, project, images):
    tiles = tiles_of(platform, images[0])
    label(client, tiles[2])
    label(client, tiles[3])
    client.post(f"/v1/tiles/{tiles[3].id}/done")
    assert following(client, project, status="started")["tile"]["id"] == tiles[2].id
    assert following(client, project, status="unlabelled")["tile"]["id"] == tiles[0].id
    done = following(client, project, status="done")
    assert (done["tile"]["id"], done["reason"]) == (tiles[3].id, "it is done, to be looked at again")


def test_the_queue_by_owner(platform, ana, ben, client, project, images):
    tiles = tiles_of(platform, images[0])
    label(As(platform, ben), tiles[0])
    label(client, tiles[3])
    change(platform, tiles[4], assigned_to=ana.user_id)
    mine = following(client, project, owner="mine")["tile"]["id"]
    assert mine == tiles[4].id
    assert following(client, project, owner="mine", after=mine)["tile"]["id"] == tiles[3].id
    none = following(As(platform, ben), project, owner="mine", status="done")
    assert none == {"tile": None, "reason": "no tile that is not blank or open elsewhere fits what you have asked for"}


def test_a_ranking_is_for_those_who_edit(platform, ben, teacher, project, images, model):
    assert start(As(platform, teacher), project, model).status_code == 404
    own = add_project(platform, ben, name="own")
    hidden = model.model_copy(update={"id": "nowhere"})
    assert start(As(platform, ben), own, hidden).status_code == 404
