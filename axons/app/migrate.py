"""Brings a database to the tables of this release; `python -m axons.app.migrate MESSAGE` writes the next step."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from axons.app.database import writing_engine

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
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        function(connection)
    engine.dispose()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "axons.app:migrations")
    config.attributes["connection"] = connection
    return config


if __name__ == "__main__":
    write_step(sys.argv[1])
