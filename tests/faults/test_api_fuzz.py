"""REST under requests made from its own description, right and wrong ones, in three roles (R28)."""

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.app.browser import ADDRESS
from tests.app.policy_world import World, client_of, copy_world, make_world
from tests.app.serving import the_api, the_v2
from tests.app.test_policy import TABLE
from tests.app.test_predictions import segment_here

ROLES = {"administrator": "administrator", "educator": "teacher", "student": "owner"}
FEW, MANY = 2, 70  # for each operation and role
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

# Below these addresses; the model API is written `POST /v2/models/...`, the others as in the policy table.
APPLICATIONS = {"/api": ("", the_api), "/v2": ("/v2", the_v2)}
OF_V2 = [f"{method.upper()} /v2{path}" for path, methods in the_v2().openapi()["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    """What the descriptions say of each route, and below which address it is."""
    return {
        f"{operation.ok().method.upper()} {prefix}{operation.ok().path}": (base, operation.ok())
        for base, (prefix, application) in APPLICATIONS.items()
        for operation in schemathesis.openapi.from_dict(application().openapi()).get_all_operations()
    }


def known(values: Any, ids: dict[str, Any]) -> Any:
    """Ids of what exists in the place of made-up ones, for these do not lead far."""
    return {name: ids.get(name, value) for name, value in values.items()} if isinstance(values, dict) else values


def ask(client, base, case):
    request = case.as_transport_kwargs(base_url=ADDRESS + base)
    request.pop("cookies", None)
    if files := request.pop("files", None):  # as schemathesis means them: the client knows other ways
        form = requests.Request("POST", ADDRESS, data=request.pop("data", None), files=files).prepare()
        request["headers"] = {**request["headers"], "content-type": form.headers["content-type"]}
        request["data"] = form.body
    content = request.pop("data", None)
    return client.request(**request, **({"content": content} if content is not None else {}))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("route", [*TABLE, *OF_V2])
def test_every_answer_is_one_that_the_description_has(world, operations, route, examples, tmp_path, record_property):
    base, operation = operations[route]
    cases = st.one_of(operation.as_strategy(mode) for mode in GenerationMode)
    quietly = settings(max_examples=examples, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

    sent = []

    def try_as(actor: str) -> None:
        with client_of(copy_world(world, tmp_path), actor, segment_here) as client:

            @quietly
            @given(case=cases, is_known=st.booleans())
            def send(case, is_known):
                if is_known:
                    for part in ("path_parameters", "query", "body"):
                        setattr(case, part, known(getattr(case, part), world.ids))
                sent.append(ask(client, base, case))
                case.validate_response(sent[-1], checks=CHECKS)

            send()

    for actor in ROLES.values():
        try_as(actor)
    record_property("requests", len(sent))
    record_property("of them answered 2xx", sum(answer.is_success for answer in sent))
