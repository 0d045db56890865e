"""Pages of Ray and Grafana behind a real Caddy: administrators see them, nobody else, and nobody steers Ray by them."""

import shutil
import subprocess
import time

import httpx
import pytest

from axons.app import local_ray
from tests.app.installation import install
from tests.cluster.files import CLUSTER
from tests.cluster.test_caddy import _trust, pytestmark  # noqa: F401 (skips without Caddy)
from tests.conftest import free_port

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
PASSWORD = "a sentence to sign in with"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """An installation with Caddy and its pages for administrators in front, and whom to trust."""
    folder = tmp_path_factory.mktemp("door")
    https, dashboard = free_port(), free_port()
    up = install(folder, AXONS_PUBLIC_URL=f"https://localhost:{https}")
    up.start("--no-sample", "--dashboard-port", str(dashboard))
    for file in (CLUSTER / "Caddyfile", CLUSTER / "observability/administrators.caddy"):
        shutil.copy(file, folder)
    environment = {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "AXONS_SITE": up.settings["AXONS_PUBLIC_URL"],
        "AXONS_HTTP_PORT": str(free_port()),
        "AXONS_UPSTREAM": f"127.0.0.1:{up.port}",
        "AXONS_RAY_DASHBOARD": f"127.0.0.1:{dashboard}",
        "AXONS_GRAFANA": f"127.0.0.1:{free_port()}",
        "RAY_AUTH_TOKEN": (up.data / local_ray.TOKEN_FILE).read_text(),
    }
    command = [shutil.which("caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    with (folder / "log").open("w") as log:
        caddy = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    trust = _trust(folder / "caddy/pki/authorities/local/root.crt", https, folder / "log")
    yield up, trust
    caddy.terminate()
    caddy.wait(10)
    up.stop()
    shutil.rmtree(local_ray.session_folder(up.data), ignore_errors=True)


def browser(site):
    up, trust = site
    address = up.settings["AXONS_PUBLIC_URL"]
    return httpx.Client(base_url=address, verify=trust, timeout=60, headers={"Origin": address, **SAME_ORIGIN})


@pytest.fixture(scope="module")
def administrator(site):
    with browser(site) as client:
        assert client.post("/api/v1/auth/code", json={"code": site[0].told["code"]}).status_code == 200
        yield client


@pytest.fixture(scope="module")
def student(site, administrator):
    made = administrator.post("/api/v1/users", json={"name": "ana", "role": "student"}).json()
    with browser(site) as client:
        client.post("/api/v1/auth/login", json={"name": "ana", "password": made["password"]})
        client.post("/api/v1/auth/password", json={"current": made["password"], "new": PASSWORD})
        assert client.get("/api/v1/auth/me").json()["user"]["role"] == "student"
        yield client


@pytest.mark.slow
def test_a_stranger_is_sent_to_sign_in(site):
    with browser(site) as stranger:
        answers = [stranger.get(path) for path in ("/ray/", "/ray/api/jobs/", "/ray/static/x.js", "/grafana/")]
    assert {(answer.status_code, answer.headers["location"].split("?")[0]) for answer in answers} == {(303, "/login")}


@pytest.mark.slow
def test_a_student_sees_nothing(student):
    answers = [student.get(path) for path in ("/ray/", "/ray/api/jobs/", "/grafana/")]
    assert {(answer.status_code, answer.json()["title"]) for answer in answers} == {(403, "not-allowed")}


@pytest.mark.slow
def test_an_administrator_sees_rays_pages_without_its_token(site, administrator):
    page, jobs = administrator.get("/ray/"), administrator.get("/ray/api/jobs/")
    assert "Ray Dashboard" in page.text and jobs.json()[0]["type"] == "DRIVER"
    token = (site[0].data / local_ray.TOKEN_FILE).read_text()
    assert token not in page.text + jobs.text + str(page.headers) + str(jobs.headers)


@pytest.mark.slow
def test_nothing_is_changed_by_rays_pages_nor_by_a_link_of_another_site(administrator):
    job = {"entrypoint": "id"}
    assert administrator.post("/ray/api/jobs/", json=job).status_code == 403
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert administrator.get("/ray/api/actors/kill?actor_id=1", headers=foreign).status_code == 403
    assert administrator.get("/ray/api/jobs/").status_code == 200


@pytest.mark.slow
def test_where_the_platform_does_not_answer_nobody_gets_in(site, administrator):
    site[0].stop()
    until = time.monotonic() + 30
    while (status := administrator.get("/ray/").status_code) == 200 and time.monotonic() < until:
        time.sleep(0.2)
    assert status == 502
