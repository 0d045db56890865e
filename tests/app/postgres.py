"""A throwaway PostgreSQL server for the tests, and fresh databases in it."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from axons.app.migrate import migrate
from tests.conftest import free_port

INSTALLED = Path("/usr/lib/postgresql")


class Postgres:
    """A running server; `url` is its administrative database."""

    def __init__(self, programs: Path, folder: Path, port: int, *, is_durable: bool) -> None:
        self._programs, self._folder, self._port = programs, folder, port
        self._fsync = "on" if is_durable else "off"
        self.url = self._url("postgres")

    def start(self) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c fsync={self._fsync} -k {self._folder}"
        self._run("pg_ctl", "-D", self._data, "-l", str(self._folder / "log"), "-o", options, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def restarts(self, times: int) -> Iterator[None]:
        """Restart so often, every second time as after a crash; yields after each."""
        for number in range(times):
            self.stop("immediate" if number % 2 else "fast")
            time.sleep(0.5)
            self.start()
            yield

    def make_cluster(self) -> None:
        self._run("initdb", "-D", self._data, "-U", "axons", "--auth=trust", "--encoding=UTF8", "--no-sync")

    def fresh_database(self) -> str:
        """A database with the tables of this release and no rows."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE migrated')
        return self._url(name)

    def make_template(self) -> None:
        self.execute("CREATE DATABASE migrated")
        migrate(self._url("migrated"))

    def empty_database(self) -> str:
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self._url(name)

    def check(self, url: str) -> None:
        """Look through every table and index of a database; raises CalledProcessError if one is damaged."""
        self._run("pg_amcheck", *self._whose, "--install-missing", "--heapallindexed", url.rpartition("/")[2])

    def dumped_and_restored(self, url: str) -> str:
        """A new database made of a dump of another."""
        dump, restored = str(self._folder / "dump"), self.empty_database()
        self._run("pg_dump", *self._whose, "--format=custom", "-f", dump, url.rpartition("/")[2])
        self._run("pg_restore", *self._whose, "-d", restored.rpartition("/")[2], dump)
        return restored

    def execute(self, statement: str) -> None:
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    @property
    def _whose(self) -> tuple[str, ...]:
        return ("-h", "127.0.0.1", "-p", str(self._port), "-U", "axons")

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://axons@127.0.0.1:{self._port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([self._programs / program, *arguments], check=True, capture_output=True, **_as_somebody())


def is_installed() -> bool:
    """Whether this machine has PostgreSQL's programs."""
    return any(INSTALLED.glob("*/bin/initdb"))


@contextmanager
def running_postgres(*, is_durable: bool = False) -> Iterator[Postgres]:
    """A server of its own; one that is not durable is quicker."""
    programs = sorted(INSTALLED.glob("*/bin/initdb"))
    folder = Path(tempfile.mkdtemp(prefix="axons-postgres-", dir="/tmp"))  # where `nobody` gets in, too
    if somebody := _as_somebody():
        os.chown(folder, somebody["user"], somebody["group"])
    server = Postgres(programs[-1].parent, folder, free_port(), is_durable=is_durable)
    try:
        server.make_cluster()
        server.start()
        server.make_template()
        yield server
        server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests of a session."""
    if not is_installed():
        pytest.skip(f"PostgreSQL is not installed below {INSTALLED}")
    with running_postgres() as server:
        yield server


def _as_somebody() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": "/"}
