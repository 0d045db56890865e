"""REST under requests made from its own description, right and wrong ones, in three roles (R28)."""

from typing import Any

import pytest
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
from tests.app.serving import the_api
from tests.app.test_policy import TABLE
from tests.app.test_predictions import segment_here

ROLES = {"administrator": "administrator", "educator": "teacher", "student": "owner"}
FEW, MANY = 2, 70  # for each operation and role
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def operations(world) -> dict[str, Any]:
    """What the description says of each route."""
    schema = schemathesis.openapi.from_dict(the_api().openapi())
    found = [operation.ok() for operation in schema.get_all_operations()]
    return {f"{operation.method.upper()} {operation.path}": operation for operation in found}


def known(values: Any, ids: dict[str, Any]) -> Any:
    """Ids of what exists in the place of made-up ones, for these do not lead far."""
    return {name: ids.get(name, value) for name, value in values.items()} if isinstance(values, dict) else values


def ask(client, case):
    request = case.as_transport_kwargs(base_url=f"{ADDRESS}/api")
    request.pop("cookies", None)
    content = request.pop("data", None)
    return client.request(**request, **({"content": content} if content is not None else {}))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("route", TABLE)
def test_every_answer_is_one_that_the_description_has(world, operations, route, examples, tmp_path, record_property):
    cases = st.one_of(operations[route].as_strategy(mode) for mode in GenerationMode)
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
                sent.append(ask(client, case))
                case.validate_response(sent[-1], checks=CHECKS)

            send()

    for actor in ROLES.values():
        try_as(actor)
    record_property("requests", len(sent))
    record_property("of them answered 2xx", sum(answer.is_success for answer in sent))
