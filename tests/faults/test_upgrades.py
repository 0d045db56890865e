"""Upgrades from every release on both databases, killed half-way (R24): all or nothing, and no row is lost."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Boolean, Column, DateTime, LargeBinary, MetaData, Numeric, String, insert, select

import axons.app.migrations
from axons.app.database import Database, writing_engine
from axons.app.migrate import _config, _with_connection, migrate
from axons.app.services.users import ensure_administrator
from axons.app.tables import metadata

SCRIPTS = ScriptDirectory(str(Path(axons.app.migrations.__file__).parent))
RELEASES = ["base", *reversed([step.revision for step in SCRIPTS.walk_revisions()])]
KILLED_AFTER = (0.25, 0.6, 1.0)  # of the statements; after the last comes only the commit

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def new_url(request, tmp_path):
    """Makes addresses of empty databases."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").empty_database
    numbers: Iterator[int] = iter(range(100))
    return lambda: f"sqlite:///{tmp_path / f'{next(numbers)}.db'}"


@pytest.mark.parametrize("release", RELEASES)
def test_an_upgrade_of_a_release_with_rows_survives_three_kills(new_url, release, record_property):
    num_statements = int(run_migration(installed(new_url(), release), after=0).stdout)
    url = installed(new_url(), release)
    before = rows_of(url)
    kills = [] if release == RELEASES[-1] else [max(1, round(share * num_statements)) for share in KILLED_AFTER]
    for number in kills:
        killed = run_migration(url, after=number)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert rows_of(url) == before  # the release before still has what it needs
    migrate(url)
    check_is_upgraded(url, before)
    record_property("statements", num_statements)
    record_property("kills", len(kills))
    record_property("rows kept", sum(len(rows) for rows in before.values()))


def installed(url: str, release: str) -> str:
    """A database as this release leaves it, with a row in each table."""
    if release != "base":
        _with_connection(url, lambda connection: command.upgrade(_config(connection), release))
    engine = writing_engine(url)
    tables = MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            if table.name != "alembic_version":
                connection.execute(insert(table).values({column.name: some_value(column) for column in table.columns}))
    engine.dispose()
    return url


def some_value(column: Column[Any]) -> Any:
    """A value that the column takes; that of a foreign key is the id of the row it points to."""
    for key in column.foreign_keys:
        return f"{key.column.table.name} 1"
    values: list[tuple[type, Any]] = [
        (Boolean, True),
        (DateTime, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (JSON, {"kept": [1, 2]}),
        (LargeBinary, b"\x00\xff"),
        (Numeric, 7),
        (String, f"{column.table.name} 1"),
    ]
    return next((value for kind, value in values if isinstance(column.type, kind)), 1)


def rows_of(url: str) -> Rows:
    """Everything in a database, table by table."""
    engine = writing_engine(url)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        found = {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in tables.sorted_tables
        }
    engine.dispose()
    return found


def run_migration(url: str, *, after: int) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-W", "ignore", "-m", "tests.faults.killed_migration", url, str(after)]
    return subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parents[2])


def check_is_upgraded(url: str, before: Rows) -> None:
    """It has the tables of the code, every row of before in what is left of its columns, and takes writes."""
    after = rows_of(url)
    engine = writing_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()
    for name in before.keys() & after.keys() - {"alembic_version"}:
        assert len(after[name]) == len(before[name]), name
        for old, new in zip(before[name], after[name], strict=True):
            kept = old.keys() & new.keys()
            assert {key: old[key] for key in kept} == {key: new[key] for key in kept}
    database = Database(url)
    assert database.write(ensure_administrator)[0].role == "administrator"
    database.close()
