"""Brings a database to the tables of this release; `python -m axons.app.migrate MESSAGE` writes the next step."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, event, text

from axons.app.database import writing_engine
from axons.errors import AxonsError

_LOCK = 0x61786F6E73  # of PostgreSQL, so that two replicas that start together do not both migrate


def migrate(url: str) -> None:
    """Make or change the tables, all or nothing; nothing happens where they are right already."""
    _with_connection(url, lambda connection: command.upgrade(_config(connection), "head"))


def write_step(message: str) -> None:
    """Compare the tables of the code with those of the last step and write a new step for a person to check."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'axons.db')}"
        migrate(url)
        number = len(list(Path(__file__).with_name("migrations").joinpath("versions").glob("0*.py"))) + 1
        _with_connection(
            url,
            lambda connection: command.revision(
                _config(connection), message, autogenerate=True, rev_id=f"{number:04d}"
            ),
        )


def _with_connection(url: str, function: Callable[[Connection], object]) -> None:
    engine = writing_engine(url)
    is_sqlite = engine.dialect.name == "sqlite"
    if is_sqlite:
        _let_tables_be_made_anew(engine)
    with engine.begin() as connection:
        if not is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        function(connection)
        if is_sqlite:
            _check_references(connection)
    engine.dispose()


def _let_tables_be_made_anew(engine: Engine) -> None:
    """Alembic changes a table of SQLite by copying it; dropping the old one must not touch rows that point to it."""

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA foreign_keys=OFF").close()


def _check_references(connection: Connection) -> None:
    """What SQLite did not look after meanwhile.

    Raises:
        AxonsError: rows point to rows that are not there.
    """
    if broken := connection.execute(text("PRAGMA foreign_key_check")).first():
        raise AxonsError(
            f"rows of the table {broken[0]!r} would point to nothing after the upgrade, so nothing was changed; "
            "go on with the release before and report this"
        )


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "axons.app:migrations")
    config.attributes["connection"] = connection
    return config


if __name__ == "__main__":
    write_step(sys.argv[1])
