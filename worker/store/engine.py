"""The database handle: one short transaction at a time, committed at the edge, rolled back on any error.

SQLite has two pools: readers, and a single writer whose pool of one is the queue that keeps writers fair. (Many writers
that poll SQLite's own lock starve each other for seconds; see `docs/decisions/`.)
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from sqlalchemy import Engine, Table, create_engine, event, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session as Session
from sqlalchemy.pool import ConnectionPoolEntry

from worker.store.types import db_now

UNAVAILABLE: tuple[type[Exception], ...] = (OperationalError, InterfaceError, PoolTimeout)
"""What a database raises that is away, full, restarting or overrun: our trouble, and it may pass."""

REFUSED: tuple[type[Exception], ...] = (SQLAlchemyError,)
"""What a database raises besides: a statement or a value that it will never take."""

POOL_TIMEOUT = 5.0
"""A request that waits longer for a connection is better answered with 503 while its sender still listens."""

_POSTGRESQL_OPTIONS = (
    "-c lock_timeout=5000 -c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"
)


class _Cursor(Protocol):
    def execute(self, sql: str) -> object: ...

    def close(self) -> None: ...


class Database:
    """Opens sessions. Building it connects to nothing."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.is_sqlite = url.startswith("sqlite")
        if self.is_sqlite:
            self.engine = _sqlite_engine(url, "BEGIN", pool_size)
            self.writer = _sqlite_engine(url, "BEGIN IMMEDIATE", 1)
        else:
            self.engine = self.writer = _postgresql_engine(url, pool_size)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; nothing that it does is kept."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose work is committed on the way out, or undone if anything is raised."""
        with Session(self.writer) as session, session.begin():
            yield session

    def dispose(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()
        self.writer.dispose()


def database_time(session: Session) -> datetime:
    """The database's clock."""
    return session.execute(select(db_now())).scalar_one()


def insert(session: Session, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """An INSERT of this database's own dialect, for its ON CONFLICT."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _postgresql_engine(url: str, pool_size: int) -> Engine:
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 3,
            "tcp_user_timeout": 10_000,
            "keepalives_idle": 10,
            "application_name": "verisink",
            "options": _POSTGRESQL_OPTIONS,
        },
    )


def _sqlite_engine(url: str, begin: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": POOL_TIMEOUT},
    )

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
)


def _execute(cursor: _Cursor, statements: Sequence[str]) -> None:
    for statement in statements:
        cursor.execute(statement)
    cursor.close()
