"""Sessions on SQLite or PostgreSQL: whole transactions, retried whole."""

import fcntl
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.pool import QueuePool
from sqlmodel import Session, SQLModel
from tenacity import RetryCallState, Retrying, stop_after_delay, wait_random_exponential

from axons.data.full_disk import SENTENCE as DISK_FULL
from axons.errors import DatabaseBusy, DatabaseTaken, StorageFull

_T = TypeVar("_T")

_RETRY_FOR_S = 8.0
_TAKEN_WAIT_S = 20.0  # a killed app's replica lives on for seconds
_UNIQUE_TRIES = 3
# All stay open, for opening one takes longer than a request. A few are best: Python runs one thread at a time, and each
# step of a transaction gives it away. Of many at once none gets on, while one that waits here holds up nobody.
_CONNECTIONS = 8
_CONNECTION_WAIT_S = 10.0
_CHANGES = "changes"
_SERIALIZATION_FAILURE, _DEADLOCK, _UNIQUE_VIOLATION, _DISK_FULL = "40001", "40P01", "23505", "53100"


UNCOUNTED = {"is_uncounted": True}  # option of an update of which `Database.num_changes` shall not tell


class _CountingSession(Session):
    """Writes down in `info` which tables have had rows changed or deleted."""


@event.listens_for(_CountingSession, "after_flush")
def _count_rows(session: Session, _context: Any) -> None:
    session.info.setdefault(_CHANGES, set()).update(type(row) for row in (*session.dirty, *session.deleted))


@event.listens_for(_CountingSession, "do_orm_execute")
def _count_statement(state: ORMExecuteState) -> None:
    if (state.is_update or state.is_delete) and not state.execution_options.get("is_uncounted"):
        assert state.bind_mapper is not None
        state.session.info.setdefault(_CHANGES, set()).add(state.bind_mapper.class_)


class Database:
    """Runs functions of a session, each as one transaction that is committed when the function returns.

    SQLite has one writing connection behind one lock, PostgreSQL runs writers beside each other at REPEATABLE READ; a
    function that lost a race is run again from its beginning, so it must do nothing but read and write rows.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self._reader = _engine(url, is_sqlite=self.is_sqlite, begin="BEGIN")
        self._writer = (
            _engine(url, is_sqlite=self.is_sqlite, begin="BEGIN IMMEDIATE") if self.is_sqlite else self._reader
        )
        self._write_lock = threading.Lock() if self.is_sqlite else nullcontext()
        self._num_changes: Counter[type] = Counter()
        self._changes_lock = threading.Lock()

    def read(self, function: Callable[[Session], _T]) -> _T:
        """The answer of a function that only reads.

        Raises:
            DatabaseBusy: the database did not answer in time.
        """
        return self._run(function, self._reader)

    def write(self, function: Callable[[Session], _T]) -> _T:
        """Run a function and commit; nothing is changed if it raises.

        Raises:
            DatabaseBusy: the database did not answer in time.
            StorageFull: there is no room on its disk.
        """
        return self._run(function, self._writer)

    def num_changes(self, *tables: type[SQLModel]) -> int:
        """How many transactions of this process have changed or deleted rows of these tables."""
        return sum(self._num_changes[table] for table in tables)

    def check(self) -> None:
        """Ask the database something.

        Raises:
            DatabaseBusy: it does not answer.
        """
        self.read(lambda session: session.connection().execute(text("SELECT 1")))

    def copy_to(self, target: Path) -> None:
        """Write the SQLite database as it is now to a new file; writers go on meanwhile."""
        raw = self._reader.raw_connection()
        try:
            raw.cursor().execute("VACUUM INTO ?", (str(target),))
        finally:
            raw.close()

    def close(self) -> None:
        """Close every connection."""
        self._reader.dispose()
        self._writer.dispose()

    def _run(self, function: Callable[[Session], _T], engine: Engine) -> _T:
        retrying = Retrying(
            retry=_may_succeed_again,
            stop=stop_after_delay(_RETRY_FOR_S),
            wait=wait_random_exponential(0.02, max=1.0),
            reraise=True,
        )
        try:
            return retrying(self._once, function, engine)
        except (DBAPIError, NoConnection) as error:
            if _is_full(error):
                raise StorageFull(DISK_FULL) from error
            if isinstance(error, DBAPIError) and not _is_passing(error):
                raise
            raise DatabaseBusy("the database does not answer at the moment; try again in 5 seconds") from error

    def _once(self, function: Callable[[Session], _T], engine: Engine) -> _T:
        lock: Any = self._write_lock if engine is self._writer else nullcontext()
        session = _CountingSession(engine, expire_on_commit=False)
        try:
            with lock, session, session.begin():
                return function(session)
        finally:  # also of a commit that failed: perhaps it was only its answer that was lost
            with self._changes_lock:
                self._num_changes.update(session.info.get(_CHANGES, ()))


@contextmanager
def sqlite_taken(path: Path) -> Iterator[None]:
    """Be the one process that has the SQLite file open.

    Raises:
        DatabaseTaken: another process holds it and does not let go.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        until = time.monotonic() + _TAKEN_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise DatabaseTaken(
                        f"the database {str(path)!r} is in use by another process; stop the other axons first"
                    ) from error
                time.sleep(0.2)
        file.write(str(os.getpid()))
        file.flush()
        yield


def writing_engine(url: str) -> Engine:
    """Connections for a migration: on SQLite each transaction has the write lock from its beginning."""
    return _engine(url, is_sqlite=make_url(url).get_backend_name() == "sqlite", begin="BEGIN IMMEDIATE")


def _engine(url: str, *, is_sqlite: bool, begin: str) -> Engine:
    if not is_sqlite:
        return create_engine(
            url,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_CONNECTION_WAIT_S,
            isolation_level="REPEATABLE READ",
        )
    is_writer = begin != "BEGIN"
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1 if is_writer else _CONNECTIONS,
        max_overflow=0,
        pool_timeout=_CONNECTION_WAIT_S,
        connect_args={"check_same_thread": False, "timeout": 10, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _may_succeed_again(state: RetryCallState) -> bool:
    """A row that another transaction made at the same moment is seen by the next try; a real conflict stays one."""
    error = state.outcome.exception() if state.outcome is not None else None
    lost_a_race = isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _UNIQUE_VIOLATION
    return error is not None and (_is_passing(error) or (lost_a_race and state.attempt_number <= _UNIQUE_TRIES))


def _is_full(error: DBAPIError | NoConnection) -> bool:
    """Whether the database's disk is full."""
    cause = getattr(error, "orig", None)
    is_full = isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    return is_full or getattr(cause, "sqlstate", None) == _DISK_FULL


def _is_passing(error: BaseException) -> bool:
    """Whether the same transaction may succeed a moment later."""
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state in (_SERIALIZATION_FAILURE, _DEADLOCK) or error.connection_invalidated:
        return True
    if state is not None and state[:2] in ("08", "57"):  # connection lost, server going down
        return True
    return isinstance(error, OperationalError) and (
        state is None and any(word in str(error.orig) for word in ("locked", "busy", "connect", "server closed"))
    )
