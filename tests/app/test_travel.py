"""A project travels from one platform to another as one file."""

import base64
import io
import json
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image as Picture
from sqlmodel import SQLModel, select

from axons.app.database import Database
from axons.app.jobs.dispatcher import Dispatcher
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.project_archive import DOCUMENT, example_member, image_member, labels_member, model_member, set_member
from axons.app.services.images import is_test
from axons.app.settings import Settings
from axons.app.tables import (
    Audit,
    Example,
    Image,
    Job,
    Model,
    Project,
    ProjectMember,
    Revision,
    Tile,
    TrainingSet,
    User,
)
from axons.data.images import WorkingImage
from axons.data.layers import annotation_of, pack, unpack
from axons.data.storage import open_storage, sha256_of
from axons.data.tiles import Window
from axons.data.training_set import load_training_set
from axons.model.files import WEIGHTS, load_card
from tests.app.conftest import As, add_user
from tests.app.images import add_images, add_project, commit, document_of, mask_of, run_job, tiles_of
from tests.app.trainings import ThreadCluster, settle
from tests.app.uploads import send
from tests.serve.models import make_model

pytestmark = pytest.mark.usefixtures("local_ray")

NAMES = ("b.png", "a.png", "c.png")
CHOICES = {"name": "chosen", "fractions": [0.4, 0.3, 0.3], "seed": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Platform]:
    """A laptop with a project on it; see `_fill`."""
    yield from _platform(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def project(home, tmp_path_factory) -> Project:
    """Three labelled images, one more without labels, a frozen set and a model; a class and an image were deleted."""
    ana = add_user(home, "ana")
    project = add_project(home, ana, name="nerve", classes=["bg", "ring", "core", "gone"], threshold=0.7)
    client = As(home, ana)
    folder = tmp_path_factory.mktemp("images")
    images = {image.name: image for image in add_images(home, ana, project, folder, names=(*NAMES, "d.png", "e.png"))}
    for number, name in enumerate(NAMES):
        for tile in tiles_of(home, images[name]):
            window = Window(tile.row0, tile.col0, tile.height, tile.width)
            _save(client, tile, mask_of(number)[window.slices])
    first = tiles_of(home, images["a.png"])[0]
    _save(client, first, np.full((64, 64), 1, np.uint8), base=1)
    assert client.post(f"/v1/tiles/{first.id}/done").status_code == 200
    client.patch(f"/v1/images/{images['b.png'].id}", json={"group": "rat 1", "pixel_size_um": 0.25})
    client.delete(f"/v1/projects/{project.id}/classes/3")
    client.delete(f"/v1/images/{images['e.png'].id}")
    freeze(home, client, project.id)
    example = {"caption": "like this", "is_good": False, "tile_id": first.id}
    assert client.post(f"/v1/projects/{project.id}/examples", json=example).status_code == 201
    make_model(home.uri("models/of-project"))
    card = load_card(home.uri("models/of-project"))
    row = Model(project_id=project.id, name="nerve", version=2, key="models/of-project", sha256=card.sha256)
    row.card, row.created_by, row.mean_iou, row.is_promoted = card.model_dump(mode="json"), ana.user_id, 0.9, True
    home.database.write(lambda session: session.add(row))
    return project


@pytest.fixture(scope="module")
def packed(home, project) -> bytes:
    """The project as the file that its owner downloads."""
    client = As(home, home.database.read(lambda session: _owner(session, project)))
    job = client.post(f"/v1/projects/{project.id}/export", json={"format": "project"})
    assert job.status_code == 202, job.text
    run_job(home, job.json()["id"])
    return client.get(f"/v1/jobs/{job.json()['id']}/file").content


@pytest.fixture
def client(platform, ben):
    """The server to which the project travels, as its next owner."""
    return As(platform, ben)


def _platform(folder) -> Iterator[Platform]:
    settings = Settings(data=folder)
    database = Database(settings.database)
    SQLModel.metadata.create_all(database._writer)
    yield Platform(settings=settings, database=database, storage=open_storage(settings.storage))
    database.close()


def _owner(session, project):
    return Actor.of(session.get_one(User, project.owner_id))


def _save(client, tile, plane, *, base=0):
    about = {"params": {"save_id": f"{tile.id}-{base}"}, "headers": {"If-Match": f'"{base}"'}}
    answer = client.put(f"/v1/tiles/{tile.id}/annotation", json=document_of(plane), **about)
    assert answer.status_code == 200, answer.text


def freeze(platform, client, project_id):
    """Freeze the same choices; the training set as REST shows it."""
    made = client.post(f"/v1/projects/{project_id}/training-sets", json=CHOICES).json()
    run_job(platform, made["job"]["id"])
    return client.get(f"/v1/training-sets/{made['training_set']['id']}").json()


def start(client, data):
    upload = send(client, data, name="nerve.zip", purpose="project")
    answer = client.post("/v1/projects:import", json={"upload_id": upload})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def arrive(platform, client, data):
    """Import a project; its id."""
    job_id = start(client, data)
    run_job(platform, job_id)
    return client.get(f"/v1/jobs/{job_id}").json()["result"]["project_id"]


def rows(platform, table, project_id):
    return platform.database.read(
        lambda session: session.exec(select(table).where(table.project_id == project_id)).all()
    )


def repacked(data, changes=None, *, document=None, drop=(), honest=True, method=zipfile.ZIP_STORED):
    """The archive with other members; `honest` writes their true hashes into its document."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members.update(changes or {})
    told = json.loads(members.pop(DOCUMENT))
    members = {name: body for name, body in members.items() if name not in drop}
    if honest:
        told["members"] = [{"name": n, "sha256": sha256_of(b), "num_bytes": len(b)} for n, b in members.items()]
    told = document(told) if document else told
    return _zipped(members | {DOCUMENT: json.dumps(told)}, method)


def body_of(data, name):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(name)


def test_a_frozen_set_keeps_its_hash_on_the_way(home, project, packed, platform, client):
    project_id = arrive(platform, client, packed)
    [there], [here] = rows(home, TrainingSet, project.id), rows(platform, TrainingSet, project_id)
    assert (here.sha256, here.number, here.name, here.state) == (there.sha256, 1, "chosen", "ready")
    assert here.summary == there.summary
    assert load_training_set(platform.uri(here.key), sha256=there.sha256).sha256() == there.sha256


def test_examples_arrive_with_their_pictures(home, project, packed, platform, client):
    project_id = arrive(platform, client, packed)
    [there], [here] = rows(home, Example, project.id), rows(platform, Example, project_id)
    said = {"caption", "is_good", "number", "height", "width"}
    assert here.model_dump(include=said) == there.model_dump(include=said)
    assert here.key != there.key
    pictures = [found.storage.read(row.key) for found, row in ((home, there), (platform, here))]
    pixels = [np.asarray(Picture.open(io.BytesIO(data))) for data in pictures]
    assert np.array_equal(*pixels)


def test_test_images_are_known_as_such_where_they_arrive(home, project, packed, platform, client):
    project_id = arrive(platform, client, packed)

    def tested(platform, project_id):
        asked = select(Image.name).where(Image.project_id == project_id, is_test())
        return platform.database.read(lambda session: session.exec(asked).all())

    assert tested(platform, project_id) == tested(home, project.id) != []


def test_the_same_choices_freeze_to_the_same_hash_on_both_platforms(home, project, packed, platform, client):
    [there] = rows(home, TrainingSet, project.id)
    project_id = arrive(platform, client, packed)
    assert freeze(platform, client, project_id)["sha256"] == there.sha256


def test_a_project_that_travels_on_still_freezes_to_the_same_hash(home, project, packed, platform, client):
    [there] = rows(home, TrainingSet, project.id)
    first = arrive(platform, client, packed)
    job = client.post(f"/v1/projects/{first}/export", json={"format": "project"}).json()
    run_job(platform, job["id"])
    second = arrive(platform, client, client.get(f"/v1/jobs/{job['id']}/file").content)
    assert second != first
    assert freeze(platform, client, second)["sha256"] == there.sha256


def test_images_and_labels_arrive_pixel_by_pixel(home, project, packed, platform, client):
    project_id = arrive(platform, client, packed)
    there = {image.name: image for image in rows(home, Image, project.id) if image.name != "e.png"}
    here = {image.name: image for image in rows(platform, Image, project_id)}
    assert here.keys() == there.keys() == {*NAMES, "d.png"}
    for name in there:
        assert _pixels(platform, here[name]).tobytes() == _pixels(home, there[name]).tobytes()
        assert _labels(platform, here[name]) == _labels(home, there[name])
        kept = {"sha256", "num_bytes", "format", "mean", "std", "group", "pixel_size_um", "hashes", "contrast_low"}
        assert here[name].model_dump(include=kept) == there[name].model_dump(include=kept)


def test_only_the_newest_revision_travels_and_keeps_its_number(packed, platform, client):
    project_id = arrive(platform, client, packed)
    tiles = [tile for tile in rows(platform, Tile, project_id) if tile.status == "done"]
    [revision] = client.get(f"/v1/tiles/{tiles[0].id}/revisions").json()
    assert (len(tiles), tiles[0].revision, revision["number"], revision["source"]) == (1, 2, 2, "import")
    assert revision["author_name"] == "ben"


def test_classes_keep_their_indices_and_a_deleted_one_is_never_given_again(packed, platform, client):
    project_id = arrive(platform, client, packed)
    shown = client.get(f"/v1/projects/{project_id}").json()
    assert [(row["index"], row["name"], row["is_deleted"]) for row in shown["classes"]][3] == (3, "gone", True)
    assert client.post(f"/v1/projects/{project_id}/classes", json={"name": "new"}).json()["index"] == 4
    assert (shown["name"], shown["threshold"], shown["owner_name"], shown["role"]) == ("nerve", 0.7, "ben", "owner")


def test_a_model_travels_with_its_weights_but_without_scores_that_nobody_here_has_seen(packed, platform, client):
    project_id = arrive(platform, client, packed)
    [model] = rows(platform, Model, project_id)
    assert (model.name, model.version, model.is_promoted, model.visibility) == ("nerve", 2, False, "private")
    assert (model.mean_iou, model.card["scores"], model.card["origin"]["imported_from"]) == (None, {}, "nerve.zip")
    assert platform.storage.local_path(f"{model.key}/{WEIGHTS}", sha256=model.sha256)


def test_what_was_deleted_and_who_it_was_stays_at_home(home, packed):
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist() if not name.endswith(".tif"))
        assert sorted(name for name in archive.namelist() if name.startswith("images")) == [
            image_member(number) for number in range(4)
        ]
    assert b"e.png" not in everything
    assert b"ana" not in everything


def test_the_storage_of_what_arrives_is_counted(packed, platform, client):
    project_id = arrive(platform, client, packed)
    images = rows(platform, Image, project_id)
    sizes = [platform.storage.local_path(key).stat().st_size for i in images for key in (i.working_key, i.sheet_key)]
    assert client.get(f"/v1/projects/{project_id}").json()["stored_bytes"] == sum(sizes) > 0


def test_the_way_out_and_the_way_in_are_in_the_audit(home, project, packed, platform, client):
    project_id = arrive(platform, client, packed)

    def told(session):
        return [(row.action, row.object_id) for row in session.exec(select(Audit)) if row.action.startswith("project.")]

    assert ("project.export", project.id) in home.database.read(told)
    assert platform.database.read(told) == [("project.import", project_id)]


def test_two_imports_of_one_file_are_two_projects(packed, platform, client):
    first, second = arrive(platform, client, packed), arrive(platform, client, packed)
    assert first != second
    assert len(rows(platform, Image, first)) == len(rows(platform, Image, second)) == 4


def test_a_step_that_runs_twice_makes_one_project(packed, platform, client):
    job_id = start(client, packed)
    made, sentence = run_job(platform, job_id)
    assert sentence == "project 'nerve' imported: 4 images, 1 training set, 1 model"
    platform.database.write(lambda session: commit(session, job_id, made[-1:]))
    assert len(client.get("/v1/projects").json()["items"]) == 1


@pytest.mark.parametrize(("person", "status"), [("viewer", 202), ("stranger", 404)])
def test_who_sees_a_project_may_take_it_along_and_nobody_else(home, project, person, status):
    actor = add_user(home, person)
    member = ProjectMember(project_id=project.id, user_id=actor.user_id, role="viewer")
    home.database.write(lambda session: session.add(member) if person == "viewer" else None)
    answer = As(home, actor).post(f"/v1/projects/{project.id}/export", json={"format": "project"})
    assert answer.status_code == status


def test_the_file_is_for_those_who_see_the_project(home, project, packed):
    [job] = [job for job in rows(home, Job, project.id) if job.result.get("file")]
    assert As(home, add_user(home, "passer-by")).get(f"/v1/jobs/{job.id}/file").status_code == 404


def _twice(told):
    return told | {"classes": [*told["classes"], told["classes"][0]]}


def _other_size(told):
    return told | {"images": [row | {"height": row["height"] - 1} for row in told["images"]]}


def _other_mean(told):
    return told | {"images": [row | {"mean": [0.5] * len(row["mean"])} for row in told["images"]]}


def _labels_of(value):
    line = {"row0": 0, "col0": 0, "revision": 1, "is_done": False}
    return json.dumps(line | {"layers": value}).encode()


def _packed_labels(plane):
    return _labels_of(base64.b64encode(pack(annotation_of(plane))).decode())


HOSTILE = {
    "no ZIP": (lambda data: b"PK\x03\x04 and nothing more", "not a ZIP"),
    "cut off": (lambda data: data[: len(data) // 2], "cut off"),
    "another archive": (lambda data: _zipped({"a.png": b"1"}), "is no exported project"),
    "no JSON": (lambda data: _zipped({DOCUMENT: b"{"}), "format None"),
    "a later version": (lambda d: repacked(d, document=lambda told: told | {"version": 2}), "format 2, this server"),
    "an unknown field": (lambda d: repacked(d, document=lambda told: told | {"owner_id": "x"}), "owner_id"),
    "a class twice": (lambda d: repacked(d, document=_twice), "class indices"),
    "a missing image": (lambda d: repacked(d, drop=[image_member(0)]), "lacks 'images/0.tif'"),
    "a missing member": (lambda d: repacked(d, drop=[labels_member(0)], honest=False), "lacks 'labels/0.jsonl'"),
    "a missing shard": (lambda d: repacked(d, drop=[set_member(0, "manifest.json")]), "lacks 'training-sets/0"),
    "a member too many": (lambda d: repacked(d, {"x": b"1"}, honest=False), "knows nothing"),
    "a changed member": (lambda d: repacked(d, {image_member(0): b"x"}, honest=False), "another sha256"),
    "a path": (lambda d: repacked(d, {"../x": b"1"}), "leads out of the archive"),
    "an archive inside": (lambda d: repacked(d, {"x": _zipped({"a": b"1"})}), "itself an archive"),
    "no image": (lambda d: repacked(d, {image_member(0): b"<svg/>"}), "'a.png'"),
    "no picture": (lambda d: repacked(d, {example_member(0): b"<svg/>"}), "'examples/0.png'"),
    "another image": (lambda d: repacked(d, {image_member(0): body_of(d, image_member(1))}), "not true of its pixels"),
    "another size": (lambda d: repacked(d, document=_other_size), "not true of its pixels"),
    "another mean": (lambda d: repacked(d, document=_other_mean), "not true of its pixels"),
    "labels that are none": (lambda d: repacked(d, {labels_member(0): b"{}"}), "labels/0.jsonl is not readable"),
    "no layers": (lambda d: repacked(d, {labels_member(0): _labels_of("AAAA")}), "not gzip"),
    "small labels": (lambda d: repacked(d, {labels_member(0): _packed_labels(np.ones((9, 9), np.uint8))}), "9 x 9 px"),
    "an unknown class": (
        lambda d: repacked(d, {labels_member(0): _packed_labels(np.full((64, 64), 9, np.uint8))}),
        "class index 9",
    ),
    "labels twice": (
        lambda d: repacked(d, {labels_member(0): 2 * (_packed_labels(np.ones((64, 64), np.uint8)) + b"\n")}),
        "twice or where",
    ),
    "another manifest": (
        lambda d: repacked(d, {set_member(0, "manifest.json"): body_of(d, set_member(0, "manifest.json")) + b" x"}),
        "not the one that was frozen",
    ),
    "another shard": (
        lambda d: repacked(d, {set_member(0, "shards/00000.safetensors"): b"x"}),
        "not the one that belongs there",
    ),
    "other weights": (lambda d: repacked(d, {model_member(0, WEIGHTS): b"x"}), "not the one that belongs there"),
}


def _zipped(members, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        [archive.writestr(name, body) for name, body in members.items()]
    return buffer.getvalue()


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_file_is_refused_and_nothing_of_it_is_left(packed, platform, client, case):
    change, reason = HOSTILE[case]
    job_id = start(client, change(packed))
    dispatch(platform, job_id)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["result"]) == ("failed", {})
    assert reason in job["reason"]
    assert str(platform.settings.data) not in job["reason"]
    assert client.get("/v1/projects").json()["items"] == []
    assert left(platform) == []


def test_weights_that_do_not_load_are_refused(packed, platform, client):
    def change(told):
        told["models"][0]["card"]["sha256"] = sha256_of(b"x")
        return told

    job_id = start(client, repacked(packed, {model_member(0, WEIGHTS): b"x"}, document=change))
    dispatch(platform, job_id)
    assert "not a safetensors file" in client.get(f"/v1/jobs/{job_id}").json()["reason"]
    assert left(platform) == []


def crowded(platform, num_bytes):
    """The same platform, where nobody may have more than this."""
    settings = platform.settings.model_copy(update={"max_user_bytes": num_bytes})
    return Platform(settings=settings, database=platform.database, storage=platform.storage)


def test_what_is_larger_than_its_person_may_have_is_refused_at_once(packed, platform, ben, client):
    upload = send(client, packed, name="nerve.zip", purpose="project")
    server = As(crowded(platform, len(packed) - 1), ben)
    answer = server.post("/v1/projects:import", json={"upload_id": upload})
    assert answer.status_code == 409
    assert "the new project would have" in answer.json()["detail"]


def test_what_unpacks_to_more_than_its_person_may_have_is_refused(packed, platform, ben, client):
    bomb = repacked(packed, {"x": bytes(10**6)}, method=zipfile.ZIP_DEFLATED)
    job_id = start(As(crowded(platform, len(packed)), ben), bomb)
    dispatch(crowded(platform, len(packed)), job_id)
    assert "unpacks to" in client.get(f"/v1/jobs/{job_id}").json()["reason"]
    assert left(platform) == []


def test_an_import_that_is_cancelled_leaves_nothing(packed, platform, client):
    job_id = start(client, packed)
    dispatcher = Dispatcher(platform, ThreadCluster())
    dispatcher.step()
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    settle(dispatcher, lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] in ("cancelled", "done"))
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"
    assert client.get("/v1/projects").json()["items"] == []
    dispatcher.stop()
    assert left(platform) == []


def test_an_upload_for_something_else_is_no_project(packed, platform, client):
    upload = send(client, packed, name="nerve.zip", purpose="model")
    answer = client.post("/v1/projects:import", json={"upload_id": upload})
    assert (answer.status_code, answer.json()["field"]) == (422, "uploads")


def dispatch(platform, job_id):
    """Let a dispatcher bring a job to its end."""
    dispatcher = Dispatcher(platform, ThreadCluster())

    def is_over():
        return platform.database.read(lambda session: session.get_one(Job, job_id).finished_at) is not None

    settle(dispatcher, is_over)
    dispatcher.stop()


def left(platform):
    """Keys of what is in storage besides uploads."""
    return [stored.key for stored in platform.storage.list_objects() if not stored.key.endswith("/file")]


def _pixels(platform, image):
    whole = Window(0, 0, image.height, image.width)
    return WorkingImage(platform.storage.local_path(image.working_key)).read(whole)


def _labels(platform, image):
    """Number and plane of each labelled tile, by place."""

    def read(session):
        asked = select(Tile, Revision).where(
            Tile.image_id == image.id, Revision.tile_id == Tile.id, Revision.number == Tile.revision
        )
        return {
            (tile.row0, tile.col0): (tile.revision, tile.crc32, tile.counts, unpack(revision.layers).plane().tolist())
            for tile, revision in session.exec(asked)
        }

    return platform.database.read(read)
