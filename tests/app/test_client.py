"""The client against a real server: uploads that resume, requests that are repeated or not, errors as sentences."""

import threading
import time
from datetime import timedelta

import httpx
import numpy as np
import pytest
import uvicorn

from axons.app.services import sign_in
from axons.app.tables import Job, now
from axons.client import Client
from axons.errors import AxonsError, JobFailed, RequestFailed, ServerUnavailable
from tests.app.images import add_project, png
from tests.app.serving import the_app
from tests.app.trainings import add_model
from tests.conftest import free_port
from tests.serve.models import make_model


@pytest.fixture
def url(platform):
    server = uvicorn.Server(uvicorn.Config(the_app(platform), port=free_port(), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.config.port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def token(platform, ana):
    until = now() + timedelta(days=1)
    return platform.database.write(lambda session: sign_in.make_token(session, ana, "test", until)[1])


@pytest.fixture
def client(url, token):
    with Client(url, token) as client:
        yield client


class Flaky(httpx.BaseTransport):
    """The network on a bad day: some requests, or their answers, are lost."""

    def __init__(self, *, lost_requests=0, lost_answers=0):
        self._http = httpx.HTTPTransport()
        self._lost_requests = lost_requests
        self._lost_answers = lost_answers
        self.sent = []

    def handle_request(self, request):
        self.sent.append(f"{request.method} {request.url.path}")
        if self._lost_requests:
            self._lost_requests -= 1
            raise httpx.ConnectError("lost", request=request)
        response = self._http.handle_request(request)
        if self._lost_answers:
            self._lost_answers -= 1
            response.read()
            raise httpx.ReadError("lost", request=request)
        return response


@pytest.fixture
def flaky(url, token):
    def connect(**losses):
        transport = Flaky(**losses)
        return Client(url, token, transport=transport, patience_s=10), transport

    return connect


def test_a_path_with_a_colon_is_a_path(client):
    with pytest.raises(RequestFailed, match="upload"):
        client.create("models:import", {"name": "brought", "project_id": "none"})


def test_pages_yield_every_row_once(client):
    made = [client.create_project(f"p{i:03}", ["background", "axon"])["id"] for i in range(5)]
    assert [row["id"] for row in client.pages("projects", limit=2)] == made


def test_a_read_is_repeated_until_it_is_answered(flaky):
    client, transport = flaky(lost_requests=2, lost_answers=1)
    assert client.get("projects")["items"] == []
    assert len(transport.sent) == 4


def test_a_creation_whose_answer_was_lost_is_done_once(flaky):
    client, transport = flaky(lost_answers=1)
    project = client.create_project("nerve", ["background", "axon"])
    assert [row["id"] for row in client.pages("projects")] == [project["id"]]
    assert transport.sent[:2] == ["POST /api/v1/projects"] * 2


def test_what_must_not_be_asked_twice_is_asked_once(flaky):
    client, transport = flaky(lost_requests=1)
    with pytest.raises(ServerUnavailable, match="does not answer"):
        client.act("auth/code", {"code": "x"})
    assert len(transport.sent) == 1


def test_a_refusal_is_the_servers_own_sentence(client):
    with pytest.raises(RequestFailed, match="there is no project") as refused:
        client.get("projects/nothing")
    assert (refused.value.status, refused.value.code) == (404, "not-found")


def test_a_server_that_is_no_axons_is_said_to_be_none(url):
    other = Client(url, transport=httpx.MockTransport(lambda request: httpx.Response(404, text="<html>")))
    with pytest.raises(RequestFailed, match="check that the address is that of an axons server"):
        other.get("projects")


def test_without_a_server_the_error_says_what_to_check():
    with pytest.raises(ServerUnavailable, match="check the address, and that axons is running"):
        Client(f"http://127.0.0.1:{free_port()}", patience_s=0.3).get("projects")


def test_the_client_waits_as_long_as_the_server_asks():
    answers = [httpx.Response(503, headers={"Retry-After": "1"}), httpx.Response(200, json={"items": []})]
    client = Client("http://x", transport=httpx.MockTransport(lambda request: answers.pop(0)))
    began = time.monotonic()
    client.get("projects")
    assert 0.9 < time.monotonic() - began < 5


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "slide.tif"
    path.write_bytes(bytes(range(256)) * 80_000)  # 20 MB: three parts
    return path


def test_a_file_is_sent_in_parts_and_progress_is_told(client, file):
    project = client.create_project("nerve", ["background", "axon"])
    shares = []
    upload_id = client.upload(file, purpose="images", project_id=project["id"], progress=lambda s, _: shares.append(s))
    upload = client.get(f"uploads/{upload_id}")
    assert (upload["state"], upload["num_bytes"], upload["missing"]) == ("complete", 20_480_000, [])
    assert shares == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1]


def test_an_upload_that_broke_off_goes_on_with_what_it_misses(client, file, flaky):
    project = client.create_project("nerve", ["background", "axon"])
    form = {"name": file.name, "num_bytes": file.stat().st_size, "purpose": "images", "project_id": project["id"]}
    begun = client.create("uploads", form)
    first = file.read_bytes()[: begun["part_bytes"]]
    client._send("PUT", f"uploads/{begun['id']}/parts/0", content=first)
    other, transport = flaky()
    other.upload(file, purpose="images", project_id=project["id"], upload_id=begun["id"])
    parts = [line for line in transport.sent if line.startswith("PUT")]
    assert parts == [f"PUT /api/v1/uploads/{begun['id']}/parts/{number}" for number in (1, 2)]


def test_a_lost_part_is_sent_again(client, file, flaky):
    project = client.create_project("nerve", ["background", "axon"])
    other, _ = flaky(lost_answers=2)
    upload_id = other.upload(file, purpose="images", project_id=project["id"])
    assert client.get(f"uploads/{upload_id}")["state"] == "complete"


def test_another_file_cannot_complete_an_upload(client, file, tmp_path):
    project = client.create_project("nerve", ["background", "axon"])
    form = {"name": file.name, "num_bytes": 7, "purpose": "images", "project_id": project["id"]}
    begun = client.create("uploads", form)
    with pytest.raises(AxonsError, match="the upload began with 7; begin it again"):
        client.upload(file, purpose="images", upload_id=begun["id"])


def add_job(platform, ana, **fields):
    def add(session):
        job = Job(kind="freeze", user_id=ana.user_id, **fields)
        session.add(job)
        return job.id

    return platform.database.write(add)


def test_a_job_that_fails_is_an_error_with_its_reason(client, platform, ana):
    job_id = add_job(platform, ana, state="failed", reason="no image is labelled")
    with pytest.raises(JobFailed, match="freeze failed: no image is labelled"):
        client.wait_for(job_id)


def test_waiting_ends_when_the_job_does(client, platform, ana):
    job_id = add_job(platform, ana, state="running")

    def end(session):
        session.get_one(Job, job_id).state = "done"

    threading.Timer(0.7, platform.database.write, [end]).start()
    assert client.wait_for(job_id)["state"] == "done"


def test_waiting_has_an_end_of_its_own_if_one_is_given(client, platform, ana):
    job_id = add_job(platform, ana, state="running")
    with pytest.raises(TimeoutError, match="the freeze job is running after 0.1 s; it goes on"):
        client.wait_for(job_id, timeout_s=0.1)


def test_a_download_that_breaks_off_leaves_no_file(url, token, tmp_path):
    def broken(request):
        return httpx.Response(404, json={"type": "axons:not-found", "detail": "there is no model 'x'"})

    with pytest.raises(RequestFailed, match="there is no model"):
        Client(url, token, transport=httpx.MockTransport(broken)).download("models/x/download", tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_a_model_is_asked_which_tiles_are_useful_and_people_are_shown_how_to_label(client, platform, ana, tmp_path):
    project = add_project(platform, ana)
    make_model(platform.uri("models/random"))
    model = add_model(platform, ana, project, "models/random")
    assert client.rank_tiles(project.id, model.id)["kind"] == "predict"
    picture = tmp_path / "shown.png"
    picture.write_bytes(png(np.zeros((9, 7), np.uint8)))
    made = client.add_example(project.id, picture, "not like this", is_good=False)
    assert client.get(f"projects/{project.id}/examples") == [made]
    assert (made["caption"], made["is_good"], made["height"], made["width"]) == ("not like this", False, 9, 7)
