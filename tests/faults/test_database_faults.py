"""The database goes away while people work: nothing acknowledged is lost, and errors say when to come back (R22)."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import text
from sqlmodel import select
from starlette.testclient import TestClient

from axons.app.tables import Project
from tests.app.conftest import As

RESTARTS, NORMAL_AGAIN_S = 10, 10
LOCKED_S = 5
WRITERS = 4


@dataclass
class Writer:
    """Makes projects one after another, each until it is acknowledged."""

    name: str
    acknowledged: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def run(self, client: TestClient, stopping: threading.Event) -> None:
        while not stopping.is_set():
            key = f"{self.name}-{len(self.acknowledged)}"
            answer = client.post("/v1/projects", json={"name": key}, headers={"Idempotency-Key": key})
            self.statuses.append(answer.status_code)
            if answer.status_code == 201:
                self.acknowledged.append(answer.json()["id"])
            stopping.wait(0.05)


@contextmanager
def writing(platform, actor) -> Iterator[list[Writer]]:
    """Requests of four people beside each other, until the end of the block."""
    stopping, client = threading.Event(), As(platform, actor)
    writers = [Writer(f"writer-{number}") for number in range(WRITERS)]
    threads = [threading.Thread(target=writer.run, args=(client, stopping)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def acknowledged(writers: list[Writer]) -> set[str]:
    return {id_ for writer in writers for id_ in list(writer.acknowledged)}


def seconds_until_all_write(writers: list[Writer]) -> float:
    began, before = time.monotonic(), [len(writer.acknowledged) for writer in writers]
    while any(len(writer.acknowledged) <= count for writer, count in zip(writers, before, strict=True)):
        assert time.monotonic() - began < 60, "nothing is written any more"
        time.sleep(0.05)
    return time.monotonic() - began


def kept(platform) -> set[str]:
    return set(platform.database.read(lambda session: session.exec(select(Project.id)).all()))


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_is_restarted_ten_times_under_load_and_nothing_acknowledged_is_lost(
    platform,
    ana,
    postgres,
    record_property,
):
    waits = []
    with writing(platform, ana) as writers:
        seconds_until_all_write(writers)
        for _ in postgres.restarts(RESTARTS):
            waits.append(seconds_until_all_write(writers))
    statuses = [status for writer in writers for status in writer.statuses]
    record_property("restarts", RESTARTS)
    record_property("writes acknowledged", len(acknowledged(writers)))
    record_property("seconds until all write again, at most", round(max(waits), 1))
    assert acknowledged(writers) <= kept(platform)
    assert set(statuses) <= {201, 503}
    assert max(waits) <= NORMAL_AGAIN_S


def test_sqlite_locked_for_five_seconds_costs_nobody_a_write(platform, ana, record_property):
    with writing(platform, ana) as writers:
        seconds_until_all_write(writers)
        with closing(sqlite3.connect(platform.settings.data / "axons.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = len(acknowledged(writers))
            time.sleep(LOCKED_S)
            meanwhile = len(acknowledged(writers)) - before
            other.execute("COMMIT")
        wait = seconds_until_all_write(writers)
    check = platform.database.read(
        lambda session: session.connection().execute(text("PRAGMA integrity_check")).scalar()
    )
    record_property("seconds until all write again", round(wait, 1))
    assert meanwhile <= WRITERS
    assert {status for writer in writers for status in writer.statuses} <= {201, 503}
    assert acknowledged(writers) <= kept(platform)
    assert wait <= NORMAL_AGAIN_S
    assert check == "ok"
