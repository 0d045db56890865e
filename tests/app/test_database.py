"""Transactions on SQLite."""

import threading

import pytest
from sqlmodel import select

from axons.app.database import sqlite_taken
from axons.app.tables import User
from axons.errors import DatabaseTaken
from tests.app.conftest import As, add_user


def test_what_was_written_is_read(platform, ana):
    found = platform.database.read(lambda session: session.exec(select(User)).one())
    assert found.name == "ana"
    assert found.created_at.tzinfo is not None


def test_nothing_is_changed_if_the_function_raises(platform):
    def fail(session):
        session.add(User(name="x", folded_name="x"))
        session.flush()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        platform.database.write(fail)
    assert platform.database.read(lambda session: session.exec(select(User)).all()) == []


def test_sixty_writers_wait_for_each_other(platform):
    threads = [threading.Thread(target=add_user, args=(platform, f"user-{i}")) for i in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(platform.database.read(lambda session: session.exec(select(User)).all())) == 60


def test_a_second_process_does_not_get_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("axons.app.database._TAKEN_WAIT_S", 0.1)
    with (
        sqlite_taken(tmp_path / "axons.db"),
        pytest.raises(DatabaseTaken, match="is in use by another process"),
        sqlite_taken(tmp_path / "axons.db"),
    ):
        pass


def test_an_unknown_address_is_a_problem_with_a_sentence(platform, ana):
    answer = As(platform, ana).get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
