"""A creation that is sent again."""

from datetime import timedelta

import pytest
from sqlmodel import select

from axons.app.tables import IdempotencyKey, Project, now
from tests.app.conftest import As

KEY = {"Idempotency-Key": "4f6c"}


def create(client, name="nerve", **headers):
    return client.post("/v1/projects", json={"name": name}, headers=headers or KEY)


def projects(platform):
    return platform.database.read(lambda session: session.exec(select(Project.name)).all())


def test_a_creation_sent_twice_is_done_once_and_answered_twice(platform, ana):
    client = As(platform, ana)
    first, second = create(client), create(client)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert projects(platform) == ["nerve"]


def test_without_a_key_each_request_makes_one(platform, ana):
    client = As(platform, ana)
    client.post("/v1/projects", json={"name": "nerve"})
    client.post("/v1/projects", json={"name": "nerve"})
    assert projects(platform) == ["nerve", "nerve"]


def test_the_same_key_of_somebody_else_is_another_one(platform, ana, ben):
    create(As(platform, ana))
    create(As(platform, ben))
    assert projects(platform) == ["nerve", "nerve"]


def test_a_key_that_was_sent_with_another_request_is_refused(platform, ana):
    client = As(platform, ana)
    create(client)
    answer = create(client, name="muscle")
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")


def test_after_a_refusal_the_key_can_be_used_again(platform, ana):
    client = As(platform, ana)
    assert create(client, name="").status_code == 422
    assert create(client).status_code == 201


def test_while_the_first_is_being_answered_the_second_is_told_to_wait(platform, ana):
    client = As(platform, ana)
    create(client)
    unfinish(platform, age_s=1)
    answer = create(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_where_nobody_knows_whether_it_was_done_a_person_looks(platform, ana):
    client = As(platform, ana)
    create(client)
    unfinish(platform, age_s=1000)
    answer = create(client)
    assert answer.status_code == 409
    assert "was interrupted; look whether it was done" in answer.json()["detail"]


def test_after_a_day_the_key_is_forgotten(platform, ana):
    client = As(platform, ana)
    create(client)
    unfinish(platform, age_s=90_000)
    assert create(client).status_code == 201


@pytest.mark.parametrize("key", ["x" * 121, "a\tb"])
def test_a_key_that_is_no_key_is_refused(platform, ana, key):
    assert create(As(platform, ana), **{"Idempotency-Key": key}).status_code == 422


def test_a_secret_in_an_answer_is_kept_nowhere(platform, ana):
    token = As(platform, ana).post("/v1/auth/tokens", json={"name": "x"}, headers=KEY)
    assert token.status_code == 201
    assert platform.database.read(lambda session: session.exec(select(IdempotencyKey)).all()) == []


def unfinish(platform, *, age_s):
    def change(session):
        row = session.exec(select(IdempotencyKey)).one()
        row.status_code, row.created_at = 0, now() - timedelta(seconds=age_s)

    platform.database.write(change)
