"""Errors as answers: each kind has its status and a sentence, and nothing of our inside is told (R30)."""

import inspect

import pytest

from axons import errors
from axons.app.rest.problems import documented, problem_of
from axons.errors import AxonsError
from tests.app.conftest import As
from tests.app.serving import the_api

SENTENCE = "the tile is 7 px; choose 64 to 2048"
ARGUMENTS = {"message": SENTENCE, "field": "tile", "retry_after_s": 5, "current": 3, "status": 409, "code": "x"}
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AxonsError)]


def make(kind: type[AxonsError]) -> AxonsError:
    wanted = [name for name in inspect.signature(kind.__init__).parameters if name in ARGUMENTS]
    return kind(*([ARGUMENTS[name] for name in wanted] or [SENTENCE]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_has_a_documented_status_and_tells_its_sentence(kind):
    answer = problem_of(make(kind))
    assert answer.media_type == "application/problem+json"
    assert SENTENCE in answer.body.decode()
    assert answer.status_code < 500 or "retry-after" in answer.headers or answer.status_code in (501, 507)
    assert documented(answer.status_code)


def test_what_nobody_foresaw_tells_a_number_and_nothing_of_our_inside(platform, ana, caplog, monkeypatch):
    def fail(_session, _actor):
        raise RuntimeError("/srv/axons/secret")

    monkeypatch.setattr("axons.app.services.sign_in.list_tokens", fail)
    with caplog.at_level("ERROR", "axons.rest"):
        answer = As(platform, ana).get("/v1/auth/tokens")
    problem = answer.json()
    assert answer.status_code == 500
    assert problem["detail"] == (
        f"something went wrong on our side; tell the administrator the number {problem['number']}"
    )
    assert problem["number"] in caplog.text
    assert "/srv" not in answer.text


def test_a_field_that_cannot_be_is_named_in_the_same_form(platform, ana):
    problem = As(platform, ana).post("/v1/projects", json={"name": "x", "tile": 7}).json()
    assert (problem["status"], problem["title"], problem["field"]) == (422, "invalid-request", "tile")
    assert problem["detail"].startswith("tile: ")


def test_the_description_shows_the_form_of_errors_on_every_route():
    document = the_api().openapi()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    reference = {"$ref": "#/components/schemas/Problem"}
    shown = {
        operation["responses"]["422"]["content"]["application/problem+json"]["schema"] == reference
        for operation in operations
    }
    assert shown == {True}
    assert document["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status", "detail"]
