"""Migrations on SQLite and on a PostgreSQL server."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import String, inspect, text
from sqlmodel import select

from axons.app.database import Database, writing_engine
from axons.app.migrate import _with_connection, migrate
from axons.app.services.users import ensure_administrator
from axons.app.tables import Token, User, metadata
from axons.errors import AxonsError


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'axons.db'}"
    return request.getfixturevalue("postgres").empty_database()


def test_a_migrated_database_has_the_tables_of_the_code(url):
    migrate(url)
    engine = writing_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrating_twice_keeps_the_rows(url):
    migrate(url)
    database = Database(url)
    user, _ = database.write(ensure_administrator)
    migrate(url)
    assert database.write(ensure_administrator)[0].id == user.id
    database.close()


def test_a_migration_that_fails_leaves_nothing_behind(url):
    engine = writing_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE token (id INTEGER)"))
    with pytest.raises(Exception, match="token"):
        migrate(url)
    assert inspect(engine).get_table_names() == ["token"]
    engine.dispose()


def _add_token(url):
    """A user with a token."""
    database = Database(url)

    def add(session):
        user, _ = ensure_administrator(session)
        session.add(Token(user_id=user.id, name="mine", token_hash="x"))

    database.write(add)
    database.close()


def test_a_step_that_makes_a_table_anew_keeps_the_rows_that_point_to_it(url):
    migrate(url)
    _add_token(url)

    def step(connection):
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("user", recreate="auto") as table:
            table.alter_column("name", type_=String(61), existing_type=String(60))

    _with_connection(url, step)
    database = Database(url)
    names = database.read(lambda session: session.exec(select(Token.name).join(User)).all())
    database.close()
    assert names == ["mine"]


def test_a_step_after_which_rows_point_to_nothing_changes_nothing(tmp_path):
    url = f"sqlite:///{tmp_path / 'axons.db'}"
    migrate(url)
    _add_token(url)
    with pytest.raises(AxonsError, match="'token' would point to nothing"):
        _with_connection(url, lambda connection: connection.execute(text('DELETE FROM "user"')))
    migrate(url)
    database = Database(url)
    assert len(database.read(lambda session: session.exec(select(User)).all())) == 1
    database.close()
