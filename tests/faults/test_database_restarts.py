"""The database goes away under the running platform while people label (R22): nothing acknowledged is lost."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from axons.app.database import Database
from axons.client import Client
from tests.app.postgres import INSTALLED, is_installed, running_postgres
from tests.faults.annotators import (
    annotating,
    draw_files,
    lost,
    new_project,
    num_acknowledged,
    refusals,
    seconds_until_all_save,
)

RESTARTS, NORMAL_AGAIN_S = 10, 10
LOCKED_S = 5
ANNOTATORS = 8

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.mark.skipif(not is_installed(), reason=f"PostgreSQL is not installed below {INSTALLED}")
def test_postgresql_is_restarted_ten_times_while_people_label_on_the_running_platform(start, tmp_path, record_property):
    files = draw_files(tmp_path / "images", ["a.png", "b.png"])
    with running_postgres(is_durable=True) as server:
        database_url = server.fresh_database()
        up, token = start(AXONS_DATABASE_URL=database_url)
        client = Client(up.url, token)
        project_id, tiles = new_project(client, files)
        waits = []
        with annotating(up.url, token, tiles[:ANNOTATORS]) as annotators:
            seconds_until_all_save(annotators)
            for _ in server.restarts(RESTARTS):
                waits.append(seconds_until_all_save(annotators))
        later = client.import_images(project_id, draw_files(tmp_path / "later", ["c.png"], seed=9))
        assert client.wait_for(later["id"], timeout_s=120)["result"]["num_images"] == 1
        up.stop()
        database = Database(database_url)
        missing = lost(database, annotators)
        database.close()
        server.check(database_url)
    told = refusals(annotators)
    record_property("restarts", RESTARTS)
    record_property("saves acknowledged", num_acknowledged(annotators))
    record_property("answers 503", told[503])
    record_property("seconds until all save again, at most", round(max(waits), 1))
    assert missing == []
    assert set(told) <= {503}
    assert sum(annotator.num_unanswered for annotator in annotators) == 0
    assert max(waits) <= NORMAL_AGAIN_S


def test_sqlite_is_locked_for_five_seconds_by_another_process(start, tmp_path, record_property):
    up, token = start()
    client = Client(up.url, token)
    project_id, tiles = new_project(client, draw_files(tmp_path / "images", ["a.png", "b.png"]))
    file = up.data / "axons.db"
    with annotating(up.url, token, tiles[:ANNOTATORS]) as annotators:
        seconds_until_all_save(annotators)
        locker = subprocess.Popen([sys.executable, "-c", LOCK, str(file), str(LOCKED_S)], stdout=subprocess.PIPE)
        assert locker.stdout.readline() == b"locked\n"
        before = num_acknowledged(annotators)
        assert client.get(f"projects/{project_id}")["id"] == project_id  # who reads does not wait
        assert locker.stdout.readline() == b"unlocked\n"
        meanwhile = num_acknowledged(annotators) - before
        wait = seconds_until_all_save(annotators)
        locker.wait()
    up.stop()
    database = Database(f"sqlite:///{file}")
    missing, told = lost(database, annotators), refusals(annotators)
    database.close()
    with closing(sqlite3.connect(file)) as connection:
        check = connection.execute("PRAGMA integrity_check").fetchone()[0]
    record_property("saves acknowledged", num_acknowledged(annotators))
    record_property("answers 503", told[503])
    record_property("seconds until all save again", round(wait, 1))
    assert meanwhile <= ANNOTATORS  # whose answers were on the way
    assert missing == []
    assert set(told) <= {503}
    assert wait <= NORMAL_AGAIN_S
    assert check == "ok"


LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
print("unlocked", flush=True)
"""
