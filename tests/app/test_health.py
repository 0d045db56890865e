"""`/healthz`, and the description of REST that needs no network."""

import re
import threading

import pytest
from starlette.testclient import TestClient

from axons.app import asking
from axons.errors import StorageUnavailable
from tests.app.conftest import As
from tests.app.serving import the_app


@pytest.fixture
def anybody(platform):
    return TestClient(the_app(platform), base_url="http://127.0.0.1:8000")


def test_without_ray_the_platform_is_unwell_and_says_so(anybody, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests of this process have one
    answer = anybody.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unwell"
    assert answer.json()["database"] == {"is_well": True, "sentence": "SQLite answers"}
    assert answer.json()["storage"] == {"is_well": True, "sentence": "the storage folder answers"}
    assert answer.json()["ray"]["sentence"].endswith("start the platform with `axons up`")


def test_a_storage_that_refuses_is_told_in_its_own_words(anybody, platform, monkeypatch):
    def refuse(key):
        raise StorageUnavailable("the storage 's3://b' does not answer; try again later")

    monkeypatch.setattr(platform.storage, "exists", refuse)
    assert anybody.get("/healthz").json()["storage"] == {
        "is_well": False,
        "sentence": "the storage 's3://b' does not answer; try again later",
    }


def test_a_part_that_hangs_is_unwell_within_seconds(anybody, platform, monkeypatch):
    monkeypatch.setattr(asking, "PATIENCE_S", 0.1)
    let_go = threading.Event()
    monkeypatch.setattr(platform.storage, "exists", lambda key: let_go.wait(20))
    answer = anybody.get("/healthz")
    let_go.set()
    assert answer.json()["storage"]["sentence"] == "the storage did not answer within 0.1 seconds"


def test_the_description_of_rest_loads_nothing_from_elsewhere(platform, admin):
    client = As(platform, admin)
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r'(?:href|src)="([^"]+)"', page.text) == ["docs.css", "openapi.json", "docs.js"]
    assert "http" not in client.get("/docs.js").text + client.get("/docs.css").text


def test_the_description_is_openapi_3_1_with_a_name_for_each_route(platform, admin):
    document = As(platform, admin).get("/openapi.json").json()
    names = [route["operationId"] for path in document["paths"].values() for route in path.values()]
    assert document["openapi"].startswith("3.1")
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)


def test_the_page_to_sign_in_is_open_and_loads_nothing(anybody):
    page = anybody.get("/login", params={"code": "x"})
    assert page.status_code == 200
    assert "http" not in page.text
    assert re.findall(r'(?:src|href)="(?!data:)', page.text) == []


def test_a_stranger_who_opens_the_front_is_sent_to_sign_in(anybody):
    answer = anybody.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert answer.status_code in (302, 303)
    assert answer.headers["location"].startswith("/login")
