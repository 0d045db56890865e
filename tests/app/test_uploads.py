"""Uploads in parts: any order, twice, resumed, aborted; nothing stays."""

import anyio
import numpy as np
import pytest
from sqlmodel import col, select

from axons.app.services.uploads import expire_uploads, release_uploads, use_uploads
from axons.app.tables import Classroom, Project, Upload, now
from axons.errors import Conflict, InvalidRequest
from tests.app.conftest import As
from tests.app.serving import past_the_gate, the_api
from tests.app.uploads import begin, part_of, send, send_part

pytestmark = pytest.mark.both_databases

PART = 1 << 16
DATA = np.random.default_rng(7).bytes(3 * PART + 100)


@pytest.fixture
def platform(platform):
    settings = platform.settings.model_copy(
        update={"upload_part_bytes": PART, "max_upload_bytes": 1 << 20, "min_free_bytes": 0}
    )
    return type(platform)(settings=settings, database=platform.database, storage=platform.storage)


@pytest.fixture
def project(platform, ana) -> Project:
    project = Project(name="nerve", owner_id=ana.user_id)
    platform.database.write(lambda session: session.add(project))
    return project


def rows(platform):
    return platform.database.read(lambda session: list(session.exec(select(Upload))))


def stored(platform):
    return [found.key for found in platform.storage.list_objects()]


def age(platform):
    def change(session):
        for upload in session.exec(select(Upload)):
            upload.expires_at = now()

    platform.database.write(change)


def left_behind(platform):
    return [path for path in platform.settings.data.rglob("*") if path.is_file() and "axons.db" not in path.name]


def test_the_parts_become_the_file_whatever_their_order(platform, client, project):
    upload = begin(client, DATA, project_id=project.id)
    assert upload["missing"] == [0, 1, 2, 3]
    answers = [send_part(client, upload, DATA, number) for number in (3, 0, 2, 0, 1)]
    assert [answer.json()["missing"] for answer in answers] == [[0, 1, 2], [1, 2], [1], [1], []]
    assert client.post(f"/v1/uploads/{upload['id']}:complete").json()["state"] == "complete"
    [row] = rows(platform)
    assert stored(platform) == [row.key]
    assert platform.storage.read(row.key) == DATA


def test_completing_twice_changes_nothing(platform, client, project):
    upload_id = send(client, DATA, project_id=project.id)
    assert client.post(f"/v1/uploads/{upload_id}:complete").status_code == 200
    assert len(stored(platform)) == 1


def test_an_upload_with_a_missing_part_is_not_complete(client, project):
    upload = begin(client, DATA, project_id=project.id)
    send_part(client, upload, DATA, 1)
    answer = client.post(f"/v1/uploads/{upload['id']}:complete")
    assert answer.status_code == 409
    assert "misses 3 parts, the first is 0" in answer.json()["detail"]


def test_a_part_of_another_length_is_refused(platform, client, project):
    upload = begin(client, DATA, project_id=project.id)
    path = f"/v1/uploads/{upload['id']}/parts"
    assert client.put(f"{path}/0", content=DATA[: PART - 1]).status_code == 422
    assert client.put(f"{path}/0", content=DATA[: PART + 1]).status_code == 413
    assert client.put(f"{path}/4", content=b"x").status_code == 422
    assert left_behind(platform) == []


def test_a_part_that_was_damaged_on_the_way_is_refused(platform, client, project):
    upload = begin(client, DATA, project_id=project.id)
    path = f"/v1/uploads/{upload['id']}/parts/0"
    answer = client.put(path, content=part_of(upload, DATA, 1), headers={"X-Part-SHA256": "0" * 64})
    assert answer.status_code == 422
    assert "send it again" in answer.json()["detail"]
    assert left_behind(platform) == []


def test_an_upload_is_resumed_after_a_broken_connection(platform, client, project):
    upload = begin(client, DATA, project_id=project.id)
    send_part(client, upload, DATA, 0)
    send_part(client, upload, DATA, 2)
    missing = client.get(f"/v1/uploads/{upload['id']}").json()["missing"]
    assert missing == [1, 3]
    send_part(client, upload, DATA, 1)
    send_part(client, upload, DATA, 3)
    client.post(f"/v1/uploads/{upload['id']}:complete")
    assert platform.storage.read(rows(platform)[0].key) == DATA


def test_an_aborted_upload_leaves_nothing(platform, client, project):
    upload = begin(client, DATA, project_id=project.id)
    send_part(client, upload, DATA, 0)
    assert client.delete(f"/v1/uploads/{upload['id']}").status_code == 204
    assert (rows(platform), left_behind(platform)) == ([], [])
    assert send_part(client, upload, DATA, 1).status_code == 404


def test_what_nobody_completes_is_gone_after_its_time(platform, client, project):
    upload = begin(client, DATA, project_id=project.id)
    send_part(client, upload, DATA, 0)
    send(client, DATA, project_id=project.id)
    assert expire_uploads(platform) == 0
    age(platform)
    assert client.get(f"/v1/uploads/{upload['id']}").status_code == 404
    assert expire_uploads(platform) == 2
    assert (rows(platform), left_behind(platform)) == ([], [])


def test_a_hundred_uploads_broken_off_anywhere_leave_nothing(platform, ana, client, project):
    rng = np.random.default_rng(14)
    uploads = [begin(client, DATA, project_id=project.id) for _ in range(100)]
    api = past_the_gate(the_api(), platform, ana)
    for upload in uploads:
        anyio.run(break_off, api, upload, int(rng.integers(0, 4)), int(rng.integers(0, PART)))
    whole = send(client, DATA, project_id=project.id)
    age_of_broken = {upload["id"] for upload in uploads}

    def make_old(session):
        for upload in session.exec(select(Upload).where(col(Upload.id).in_(age_of_broken))):
            upload.expires_at = now()

    platform.database.write(make_old)
    assert expire_uploads(platform) == 100
    [row] = rows(platform)
    assert row.id == whole
    assert [path.stat().st_size for path in left_behind(platform)] == [len(DATA)]


async def break_off(api, upload, number, num_bytes):
    """Send a part and lose the connection after some bytes."""
    messages = [
        {"type": "http.request", "body": part_of(upload, DATA, number)[:num_bytes], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send_nowhere(_message):
        pass

    path = f"/v1/uploads/{upload['id']}/parts/{number}"
    scope = {
        "type": "http",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
    }
    await api(scope, receive, send_nowhere)


def test_an_upload_is_for_its_owner_alone(platform, ben, client, project):
    upload = begin(client, DATA, project_id=project.id)
    stranger = As(platform, ben)
    assert stranger.get(f"/v1/uploads/{upload['id']}").status_code == 404
    assert send_part(stranger, upload, DATA, 0).status_code == 404
    assert stranger.post(f"/v1/uploads/{upload['id']}:complete").status_code == 404
    assert stranger.delete(f"/v1/uploads/{upload['id']}").status_code == 404
    answer = stranger.post("/v1/uploads", json={"name": "x", "num_bytes": 1, "project_id": project.id})
    assert answer.status_code == 404


def test_a_file_that_is_too_large_is_refused_at_once(client, project):
    form = {"name": "huge.tif", "num_bytes": (1 << 20) + 1, "project_id": project.id}
    assert client.post("/v1/uploads", json=form).status_code == 413


def test_images_need_a_project(client):
    assert client.post("/v1/uploads", json={"name": "x", "num_bytes": 1}).json()["field"] == "project_id"


def limited(platform, **limits):
    settings = platform.settings.model_copy(update=limits)
    return type(platform)(settings=settings, database=platform.database, storage=platform.storage)


def test_an_upload_that_would_fill_the_disk_is_refused(platform, ana, project):
    client = As(limited(platform, min_free_bytes=1 << 60), ana)
    form = {"name": "x", "num_bytes": 1, "project_id": project.id}
    assert client.post("/v1/uploads", json=form).status_code == 507


@pytest.mark.parametrize("limit", ["max_project_bytes", "max_user_bytes"])
def test_a_full_project_takes_no_more(platform, ana, project, limit):
    client = As(limited(platform, **{limit: 2_000_000}), ana)
    form = {"name": "x", "num_bytes": 900_000, "project_id": project.id}
    assert [client.post("/v1/uploads", json=form).status_code for _ in range(3)] == [201, 201, 409]


@pytest.mark.parametrize("limit", ["max_project_bytes", "max_user_bytes"])
def test_educators_set_the_storage_of_their_class(platform, teacher, client, project, limit):
    room = Classroom(name="7b", created_by=teacher.user_id, limits={limit: 1000})
    platform.database.write(lambda session: session.add(room))
    platform.database.write(
        lambda session: session.get_one(Project, project.id).sqlmodel_update({"classroom_id": room.id})
    )
    form = {"name": "x", "num_bytes": 1001, "project_id": project.id}
    assert client.post("/v1/uploads", json=form).status_code == 409
    assert client.post("/v1/uploads", json={**form, "num_bytes": 1000}).status_code == 201


def test_a_job_has_an_upload_for_itself(platform, ana, client, project):
    upload_id = send(client, DATA, project_id=project.id)
    platform.database.write(lambda session: use_uploads(session, ana, [upload_id], project, "images"))
    with pytest.raises(Conflict, match="is used by another job"):
        platform.database.write(lambda session: use_uploads(session, ana, [upload_id], project, "images"))
    assert client.delete(f"/v1/uploads/{upload_id}").status_code == 409
    assert expire_uploads(platform) == 0
    platform.database.write(lambda session: release_uploads(session, [upload_id]))
    assert expire_uploads(platform) == 1
    assert left_behind(platform) == []


def test_an_upload_is_used_for_what_it_was_sent(platform, ana, client, project):
    upload_id = send(client, DATA, project_id=project.id, purpose="annotations")
    with pytest.raises(InvalidRequest, match="is not for images of this project"):
        platform.database.write(lambda session: use_uploads(session, ana, [upload_id], project, "images"))


def test_a_killed_server_leaves_no_half_part_for_ever(platform, client):
    folder = platform.settings.data / "incoming" / "left"
    folder.mkdir(parents=True)
    (folder / "part").write_bytes(b"x")
    expire_uploads(platform)
    assert folder.exists()
    expire_uploads(limited(platform, upload_ttl_s=1e-9))
    assert not folder.exists()
