"""Migrations on SQLite and on a PostgreSQL server."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from axons.app.database import Database, writing_engine
from axons.app.migrate import migrate
from axons.app.services.users import ensure_administrator
from axons.app.tables import metadata


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
