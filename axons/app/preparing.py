"""What is done to the database before the platform starts."""

from contextlib import nullcontext
from dataclasses import dataclass

from sqlmodel import Session, col, select

from axons.app.database import Database, sqlite_taken
from axons.app.migrate import migrate
from axons.app.services import users
from axons.app.settings import Settings
from axons.app.tables import Model
from axons.errors import AxonsError

_WARM = 2  # models; each is some 100 MB


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sign-in code of the administrator, and the addresses of the models to be warm from the beginning."""

    code: str
    warm: list[str]


def prepare(settings: Settings) -> Prepared:
    """Migrate, make the administrator if there is none, and close the database again: a file is its replica's alone.

    Raises:
        DatabaseTaken: another process has the file open.
        AxonsError: see `check_shared`.
    """
    check_shared(settings)
    with sqlite_taken(settings.data / "axons.db") if settings.database_url is None else nullcontext():
        migrate(settings.database)
        database = Database(settings.database)
        try:
            code = database.write(lambda session: users.ensure_administrator(session)[1])
            return Prepared(code=code, warm=_models_to_warm(settings, database))
        finally:
            database.close()


def check_shared(settings: Settings) -> None:
    """Refuse several processes on a database that is the file of one.

    Raises:
        AxonsError: says what to set.
    """
    if settings.api_replicas and settings.database.startswith("sqlite"):
        raise AxonsError(
            f"AXONS_API_REPLICAS is {settings.api_replicas}, but the database is SQLite, for one process alone; "
            "set AXONS_DATABASE_URL to a PostgreSQL, or AXONS_API_REPLICAS to 0"
        )


def models_to_warm(settings: Settings) -> list[str]:
    """The newest models in use: whoever predicts first with one of them shall not wait for it."""
    database = Database(settings.database)
    try:
        return _models_to_warm(settings, database)
    finally:
        database.close()


def _models_to_warm(settings: Settings, database: Database) -> list[str]:
    return [f"{settings.storage}/{key}" for key in database.read(_keys_to_warm)]


def _keys_to_warm(session: Session) -> list[str]:
    in_use = (col(Model.is_promoted), col(Model.deleted_at).is_(None))
    return list(session.exec(select(Model.key).where(*in_use).order_by(col(Model.created_at).desc()).limit(_WARM)))
