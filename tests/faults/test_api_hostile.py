"""REST under values that break other servers: each is refused or taken, none is a fault of ours (R28)."""

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from axons.app.platform import Platform
from tests.app.policy_world import World, client_of, make_world
from tests.app.serving import the_api
from tests.app.test_policy import BODIES, CONTENT, HEADERS, QUERIES, TABLE, _filled
from tests.app.test_predictions import segment_here

DEEP = 5_000
DISK = SimpleNamespace(free=1 << 60)  # what a file may be long is not up to the disk of who runs the tests
VALUES: list[Any] = [
    "a\0b",
    "\ud800",
    "\U0010ffff" * 400,
    "",
    "x" * 70_000,
    -1,
    2**31,
    2**63,
    10**400,
    1e308,
    math.nan,
    math.inf,
    None,
    True,
    [],
    {},
    [["a\0b"]],
    {"a\0b": "\ud800"},
]
RAW_BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b'{"name": "\xff"}',
    b'{"name": "a", "name": 7}',
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b"[" * DEEP + b"]" * DEEP,
    b'{"num_bytes": 1' + b"0" * 5000 + b"}",
    b"\x1f\x8b\x08\0\0\0\0\0",
]
CONTENT_TYPES = [None, "", "text/plain", "application/xml", "application/json; charset=utf-16", "multipart/form-data"]
NUMBERS = ["-1", "0", str(2**31), str(2**63), "1" * 5000]
IN_A_PATH = ["%00", "a%00b", "%ED%A0%80", "%FF", "..", "%2e%2e%2fetc", "%20", *NUMBERS]
IN_A_QUERY = ["", "a%00b", "%ED%A0%80", "%FF", "nan", "%5B%5D", *NUMBERS]


@pytest.fixture(scope="module")
def world(tmp_path_factory, request) -> World:
    """On the database that a test asks for; all its requests go to the same rows."""
    url = request.getfixturevalue("postgres").fresh_database() if request.param == "postgresql" else None
    return make_world(tmp_path_factory.mktemp("world"), url)


both_databases = pytest.mark.parametrize(
    "world", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True, scope="module"
)


class Sender:
    """Sends requests as the administrator, and keeps those that were answered as a fault of ours."""

    def __init__(self, world: World, client: TestClient) -> None:
        self._ids, self._client = world.ids, client
        self.num_sent = 0
        self.faults: list[str] = []

    def check(self, record_property: Callable[[str, object], None]) -> None:
        """At the end of a test."""
        record_property("requests", self.num_sent)
        assert self.faults == []

    def filled(self, template: Any) -> Any:
        return _filled(template, self._ids)

    def send(self, route: str, *, path: str | None = None, query: str = "", **request: Any) -> None:
        """The request of a route as the tests of the policy have it, with something else in its place."""
        method, known = route.split(" ")
        usual = urlencode(self.filled(QUERIES.get(route)) or {}, doseq=True)
        address = f"/api{path or self.filled(known)}?{usual}{query}"
        request.setdefault("content", json.dumps(self.filled(BODIES.get(route))))
        headers = HEADERS.get(route, {}) | request.pop("headers", {"content-type": "application/json"})
        answer = self._client.request(method, address, headers=headers, **request)
        self.num_sent += 1
        if answer.status_code >= 500:
            self.faults.append(f"{method} {address:.300} {request!r:.300} -> {answer.status_code} {answer.text:.200}")


@pytest.fixture
def sender(world, monkeypatch) -> Iterator[Sender]:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DISK)
    platform = Platform.open(world.settings)
    with client_of(platform, "administrator", segment_here) as client:
        yield Sender(world, client)
    platform.database.close()


def query_of(route: str) -> list[str]:
    """The names of what a route takes in its query."""
    method, path = route.split(" ")
    operation = the_api().openapi()["paths"][path][method.lower()]
    return [found["name"] for found in operation.get("parameters", []) if found["in"] == "query"]


@both_databases
@pytest.mark.parametrize("route", BODIES)
def test_a_hostile_value_in_any_field_is_refused_or_taken(sender, route, record_property):
    body = sender.filled(BODIES[route])
    for name, value in product(body, VALUES):
        sender.send(route, content=json.dumps(body | {name: value}))
    sender.check(record_property)


@both_databases
def test_a_body_that_is_none_is_refused(sender, record_property):
    for route, content in product([*BODIES, *CONTENT], RAW_BODIES):
        sender.send(route, content=content)
    sender.check(record_property)


@both_databases
def test_a_body_of_any_content_type_is_refused_or_taken(sender, record_property):
    for route, kind in product(BODIES, CONTENT_TYPES):
        sender.send(route, headers={"content-type": kind} if kind is not None else {})
    sender.check(record_property)


@both_databases
def test_an_address_that_cannot_be_is_refused(sender, record_property):
    for route, value in product([route for route in TABLE if "{" in route], IN_A_PATH):
        path = route.split(" ")[1]
        for name in re.findall(r"{\w+}", path):
            sender.send(route, path=sender.filled(path.replace(name, "HERE")).replace("HERE", value))
    sender.check(record_property)


@both_databases
def test_a_query_that_cannot_be_is_refused_or_taken(sender, record_property):
    for route, value in product(TABLE, IN_A_QUERY):
        for name in query_of(route):
            sender.send(route, query=f"&{name}={value}")
    sender.check(record_property)
