"""The database handle: one short transaction at a time, committed at the edge, rolled back on any error.

SQLite has two pools: readers, and a single writer with a queue before it that serves in order. (Many writers that poll
SQLite's own lock starve each other for seconds, and so do those that wait for a pool of one; see `docs/decisions/`.)
"""

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Select,
    Table,
    any_,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy import Row as Row
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session as Session
from sqlalchemy.pool import ConnectionPoolEntry

from worker.clock import monotonic
from worker.store.arrays import teach
from worker.store.types import db_now, json_value
from worker.waiting import THREADS, Waiter

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import PQGen

Result = TypeVar("Result")

UNAVAILABLE: tuple[type[Exception], ...] = (OperationalError, InterfaceError, PoolTimeout)
"""What a database raises that is away, full, restarting or overrun: our trouble, and it may pass."""

REFUSED: tuple[type[Exception], ...] = (SQLAlchemyError,)
"""What a database raises besides: a statement or a value that it will never take."""

DEADLOCK = "40P01"
"""PostgreSQL's SQLSTATE for the one whom it chose to give way. Doing the same again at once succeeds."""

DEADLOCK_TRIES = 3
"""PostgreSQL finds a deadlock after a second, so more tries would take longer than a provider waits."""

POOL_TIMEOUT = 5.0
"""A request that waits longer for a connection is better answered with 503 while its sender still listens."""

FRESH_SECONDS = 1.0
"""A pooled connection that was used so recently is used again without a look whether it still stands."""

_LAST_USED = "last_used"

_POSTGRESQL_OPTIONS = (
    "-c lock_timeout=5000 -c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"
    # PostgreSQL's own 4 is for disks that turn: it would read a table of some thousand rows whole rather than look up
    # the fifty that are written to.
    " -c random_page_cost=1.1"
)


class _Cursor(Protocol):
    def execute(self, sql: str) -> object: ...

    def close(self) -> None: ...


class _Turns:
    """A lock that serves in order of arrival. Python's own, and SQLAlchemy's pool, let the one who just left in
    again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        finally:
            with self._lock:
                self._taken = bool(self._waiting)
                if self._waiting:
                    self._waiting.popleft().set()

    def _enter(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            called = threading.Event()
            self._waiting.append(called)
        if called.wait(POOL_TIMEOUT):
            return
        with self._lock:
            if not called.is_set():
                self._waiting.remove(called)
                raise PoolTimeout("the database's writer was busy for too long")


class Database:
    """Opens sessions. Building it connects to nothing.

    PostgreSQL is waited for in `waiter`'s way. Whoever gives way must not want more sessions at once than there are
    connections, because a pool that is empty is waited for by blocking. SQLite blocks.
    """

    def __init__(self, url: str, *, pool_size: int = 10, waiter: Waiter = THREADS) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self._url = url
        self._beside: list[Database] = []
        self._turns = _Turns()
        if self.is_sqlite:
            self.engine = _sqlite_engine(url, "BEGIN", pool_size)
            self.writer = self.hasty = _sqlite_engine(url, "BEGIN IMMEDIATE", 1)
        else:
            self.engine = self.writer = _postgresql_engine(url, pool_size, waiter)
            # With connections of its own, because to switch one there and back takes as long as a short statement.
            self.hasty = _postgresql_engine(url, pool_size, waiter, autocommit=True)
        self._reader = self.engine.execution_options(postgresql_readonly=True)

    def beside(self, pool_size: int, waiter: Waiter) -> "Database":
        """A handle with connections of its own, which are closed with this one's. There is only one of a SQLite file,
        because it has one writer."""
        if self.is_sqlite:
            return self
        self._beside.append(Database(self._url, pool_size=pool_size, waiter=waiter))
        return self._beside[-1]

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; nothing that it does is kept."""
        with Session(self._reader) as session:
            yield session
            if not self.is_sqlite:
                # There is nothing to commit; but after a rollback psycopg forgets the statements that it has prepared.
                session.commit()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose work is committed on the way out, or undone if anything is raised."""
        turn: AbstractContextManager[None] = self._turns.turn() if self.is_sqlite else nullcontext()
        with turn, Session(self.writer) as session, session.begin():
            yield session

    def warm(self) -> None:
        """Open a connection of each kind. What SQLAlchemy asks its first ones blocks, whatever the waiter."""
        for engine in (self.engine, self.hasty):
            engine.connect().close()

    @contextmanager
    def write_at_once(self) -> Iterator[Session]:
        """A session in which PostgreSQL commits each statement by itself, without a word more; SQLite, where a word
        costs nothing, commits all together."""
        with self.write() if self.is_sqlite else Session(self.hasty) as session:
            yield session

    @contextmanager
    def at_once(self) -> Iterator[Connection]:
        """What PostgreSQL's sessions of `write_at_once` have below them: a session by itself takes as long as ten rows
        do."""
        with self.hasty.connect() as connection:
            yield connection

    def dispose(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()
        self.writer.dispose()
        self.hasty.dispose()
        for database in self._beside:
            database.dispose()


def is_deadlock(error: Exception) -> bool:
    """Whether the database undid a transaction only because it crossed another one."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) == DEADLOCK


def unless_crossed(write: Callable[[], Result]) -> Result:
    """What `write` returns, which is a transaction, or several. One that PostgreSQL undid because it crossed another is
    done again."""
    for _ in range(DEADLOCK_TRIES - 1):
        try:
            return write()
        except UNAVAILABLE as error:
            if not is_deadlock(error):
                raise
    return write()


def database_time(session: Session) -> datetime:
    """The database's clock."""
    return session.execute(_TIME).scalar_one()


_TIME = select(db_now())


def is_sqlite(session: Session) -> bool:
    """Whether the session's database is SQLite."""
    return session.get_bind().dialect.name == "sqlite"


def among(session: Session, column: Column[int], chosen: Select[int]) -> ColumnElement[bool]:
    """Whether the column's value is one of those that `chosen` selects, of which there are few.

    PostgreSQL's planner takes a limit that it does not know for a tenth of the table, and would read all of it.
    """
    if is_sqlite(session):
        return column.in_(chosen)
    return column == any_(func.array(chosen.scalar_subquery()))


def insert(session: Session, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """An INSERT of this database's own dialect, for its ON CONFLICT."""
    return sqlite.insert(table) if is_sqlite(session) else postgresql.insert(table)


def is_refusal(error: Exception) -> bool:
    """Whether an `UNAVAILABLE` error will not pass: PostgreSQL's class 54, a value that is over a limit."""
    state: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state is not None and state.startswith("54")


def _postgresql_engine(url: str, pool_size: int, waiter: Waiter, *, autocommit: bool = False) -> Engine:
    engine = create_engine(
        url,
        **({"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True} if autocommit else {}),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT,
        # The one that was used last has its statements prepared.
        pool_use_lifo=True,
        hide_parameters=True,
        json_deserializer=json_value,
        connect_args={
            "connect_timeout": 3,
            "tcp_user_timeout": 10_000,
            "keepalives_idle": 10,
            "application_name": "verisink",
            # What is packed into arrays is packed as that, whatever the server or the environment would choose.
            "client_encoding": "utf8",
            "options": _POSTGRESQL_OPTIONS,
        },
    )

    # SQLAlchemy has loaded the driver; the embedded default does without its ten megabytes.
    driver = engine.dialect.loaded_dbapi

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _entry: object, place: Sequence[Any], options: dict[str, Any]) -> object:
        return waiter.aside(partial(dialect.connect, *place, **options))

    @event.listens_for(engine, "connect")
    def prepare(connection: "psycopg.Connection[object]", entry: ConnectionPoolEntry) -> None:
        _wait_with(connection, waiter)
        # As text, psycopg would write and escape each value in Python.
        connection.adapters.register_dumper(list, driver.types.array.ListBinaryDumper)
        teach(connection, driver.pq.Format.BINARY)
        entry.info[_LAST_USED] = monotonic()

    @event.listens_for(engine, "checkin")
    def note_use(_connection: object, entry: ConnectionPoolEntry) -> None:
        entry.info[_LAST_USED] = monotonic()

    @event.listens_for(engine, "checkout")
    def look(connection: "psycopg.Connection[object]", entry: ConnectionPoolEntry, _proxy: object) -> None:
        # SQLAlchemy's own look before each use costs a round trip; what was fine a moment ago need not be asked.
        if monotonic() - entry.info[_LAST_USED] < FRESH_SECONDS:
            return
        try:
            # Without a transaction, whose rollback would make psycopg forget the statements that it has prepared.
            connection.autocommit = True
            connection.execute("")
            connection.autocommit = autocommit
        except driver.Error as error:
            raise DisconnectionError("the connection was closed while nobody used it") from error

    return engine


def _wait_with(connection: "psycopg.Connection[object]", waiter: Waiter) -> None:
    """Let callers that can give way do so while the server works."""
    blocking = connection.wait

    def wait(steps: "PQGen[Result]", interval: float = 0.1, timeout: float | None = None) -> Result:
        if timeout is not None or not waiter.gives_way():
            return blocking(steps, interval, timeout)
        fileno = connection.pgconn.socket
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(waiter.until_ready(fileno, wanted))
        except StopIteration as ended:
            result: Result = ended.value
            return result

    connection.wait = wait  # type: ignore[assignment, method-assign]


def _sqlite_engine(url: str, begin: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": POOL_TIMEOUT},
    )

    @event.listens_for(engine, "do_connect")
    def create_private(_dialect: object, _entry: object, place: Sequence[str], options: Mapping[str, object]) -> None:
        # The journals get the file's mode. A file that exists is not even opened here: to close it again would drop the
        # locks that this process has on it. Whatever is wrong, SQLite says it next.
        if not options.get("uri"):
            with suppress(OSError):
                os.close(os.open(place[0], os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        # Autocommit in the driver, because it would otherwise begin transactions at times of its own choosing.
        connection.isolation_level = None
        _execute(connection.cursor(), _SQLITE_PRAGMAS)

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: "_Connection") -> None:
        connection.exec_driver_sql(begin)

    return engine


class _Connection(Protocol):
    def exec_driver_sql(self, statement: str) -> object: ...


_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # NORMAL could lose the last commits when the power fails, and those were acknowledged.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    # What was erased about a person must not stay in free pages of the file.
    "PRAGMA secure_delete=ON",
)


def _execute(cursor: _Cursor, statements: Sequence[str]) -> None:
    for statement in statements:
        cursor.execute(statement)
    cursor.close()
