"""The spool's file: what receivers acknowledged while the database was away, on this host's own disk, in order.

A SQLite file in WAL mode that the processes of a host share. It knows nothing of what it keeps. Who takes from it takes
one batch after another: a batch has a name that the database remembers, so that it is recorded once, whatever dies.
"""

import fcntl
import os
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from sqlalchemy import delete
from sqlalchemy.orm import Session

from worker.errors import SpoolUnusable
from worker.store.engine import insert
from worker.store.tables import cursors

FILE = "spool.db"
LOCK = "drain.lock"

BATCH_ROWS = 64
BATCH_BYTES = 8 << 20
"""A batch is one transaction of the database. Larger ones hold locks for longer while webhooks arrive beside them."""

ROW_BYTES = 64
"""What a row costs besides its contents, so that very many empty bodies count too."""

USUAL_BYTES = 16 * 1024
"""Most notifications are shorter. A spool that has not room for one is full, though it may still take a few."""

ROOM_FACTOR = 2
"""What is appended stands in the journal first and then in the file as well."""

RESERVE_BYTES = ROOM_FACTOR * BATCH_BYTES
"""Left free whatever the settings say: what is handed over is overwritten, and that goes through the journal too."""

BUSY_SECONDS = 1.5
"""An append holds the file for milliseconds. A request that cannot have it for so long is told to come again."""

JOURNAL_BYTES = 8 << 20
"""The journal is cut to this when it has grown beyond, as it does with long bodies."""

VACUUM_PAGES = 1000
"""Given back at a time (4 MB), so that an append waits for milliseconds only."""

PROBE = "spool-probe"
"""The cursor that is written to find out whether the database takes writes. Its value means nothing."""

_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}",
    # Only where the file is new; it is what lets the file shrink again.
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA journal_mode=WAL",
    # NORMAL could lose the last commits when the power fails, and those were acknowledged.
    "PRAGMA synchronous=FULL",
    f"PRAGMA journal_size_limit={JOURNAL_BYTES}",
    # What was handed over must not stay readable in free pages.
    "PRAGMA secure_delete=ON",
)

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS arrivals (
        position INTEGER PRIMARY KEY AUTOINCREMENT, bytes INTEGER NOT NULL, head TEXT NOT NULL, body BLOB NOT NULL
    )""",
    # One row: what is kept, and the batch that is being handed over. It is empty between two batches.
    """CREATE TABLE IF NOT EXISTS totals (
        one INTEGER PRIMARY KEY CHECK (one = 1), deliveries INTEGER NOT NULL, bytes INTEGER NOT NULL,
        batch TEXT, up_to INTEGER, batch_before TEXT
    )""",
    "INSERT OR IGNORE INTO totals (one, deliveries, bytes) VALUES (1, 0, 0)",
)


class Kept(NamedTuple):
    """One row: a text that says what it is, and the bytes that arrived."""

    head: str
    body: bytes

    @property
    def size(self) -> int:
        """What it counts for, in bytes."""
        return len(self.head) + len(self.body) + ROW_BYTES


class Depth(NamedTuple):
    """How much is kept."""

    deliveries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest rows, under a name that stays theirs until they are forgotten. `before` is the batch before it."""

    name: str
    before: str | None
    up_to: int
    rows: tuple[Kept, ...]


class Spool:
    """Opened when it is first used; making it touches nothing. Thread-safe. Every method raises SpoolUnusable where the
    disk is full, the folder is missing, or the file is damaged or in use for too long."""

    def __init__(self, folder: Path, *, max_bytes: int, min_free_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._min_free_bytes = max(min_free_bytes, RESERVE_BYTES)
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        self._inode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, rows: Sequence[Kept]) -> list[bool]:
        """Keep the rows, on disk when this returns; false for those that a limit leaves no room for."""
        with self._writing() as connection:
            [(total,)] = connection.execute("SELECT bytes FROM totals")
            room = min(self._max_bytes - total, self._free() // ROOM_FACTOR)
            kept: list[Kept] = []
            answers = []
            for row in rows:
                fits = row.size <= room
                answers.append(fits)
                if fits:
                    room -= row.size
                    kept.append(row)
            connection.executemany(
                "INSERT INTO arrivals (bytes, head, body) VALUES (?, ?, ?)",
                [(row.size, row.head, row.body) for row in kept],
            )
            _add(connection, len(kept), sum(row.size for row in kept))
        return answers

    def has_room(self) -> bool:
        """Whether the limits would let a webhook of usual size in."""
        return self.depth().bytes + USUAL_BYTES <= self._max_bytes and self._free() >= USUAL_BYTES * ROOM_FACTOR

    def depth(self) -> Depth:
        """How much is kept. Costs the same however much that is."""
        with self._using() as connection:
            return _depth(connection)

    def batch(self) -> Batch | None:
        """The batch that is being handed over, or a new one of the oldest rows; None if there are none."""
        with self._writing() as connection:
            [(name, up_to, before)] = connection.execute("SELECT batch, up_to, batch_before FROM totals")
            if name is None:
                up_to = _end_of_batch(connection)
                if up_to is None:
                    return None
                name = uuid.uuid4().hex
                connection.execute("UPDATE totals SET batch = ?, up_to = ?", (name, up_to))
            rows = connection.execute("SELECT head, body FROM arrivals WHERE position <= ? ORDER BY position", (up_to,))
            return Batch(name, before, up_to, tuple(Kept(*row) for row in rows))

    def forget(self, batch: Batch) -> None:
        """Delete the rows of a batch that the database has. Again is harmless."""
        with self._writing() as connection:
            done = connection.execute(
                "UPDATE totals SET batch = NULL, up_to = NULL, batch_before = batch WHERE batch = ?", (batch.name,)
            )
            if done.rowcount:
                deleted = connection.execute("DELETE FROM arrivals WHERE position <= ?", (batch.up_to,)).rowcount
                _add(connection, -deleted, -sum(row.size for row in batch.rows))

    def shrink(self) -> None:
        """Give the disk back what is not used any more."""
        with self._using() as connection:
            [(pages,)] = connection.execute("PRAGMA freelist_count")
        for _ in range(0, pages, VACUUM_PAGES):
            with self._using() as connection:
                # As a script, because the driver ends a plain statement after the first page.
                connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        with self._using() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def draining(self) -> Iterator[bool]:
        """Whether this process is the one that hands over; it is, until the body ends or the process does."""
        with _usable():
            handle = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            yield _locked(handle)
        finally:
            os.close(handle)

    def close(self) -> None:
        """Close the file; it is opened again if it is used again."""
        with self._lock:
            self._drop()

    def _free(self) -> int:
        """Bytes that may still be taken of the disk."""
        with _usable():
            return shutil.disk_usage(self.folder).free - self._min_free_bytes

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has undone it already where the disk is full.
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _usable():
            if self._opened is not None and self._inode != _inode(self.folder):
                # Removed or replaced below us: what is written to it now would be gone with this process.
                self._drop()
            if self._opened is None:
                self._opened = _open(self.folder)
                self._inode = _inode(self.folder)
            try:
                yield self._opened
            except sqlite3.Error as error:
                # A file that is only in use or full is as good as before; whatever else happened, begin anew.
                if getattr(error, "sqlite_errorcode", None) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL):
                    self._drop()
                raise

    def _drop(self) -> None:
        if self._opened is not None:
            with suppress(sqlite3.Error):
                self._opened.close()
            self._opened = None


def look(folder: Path) -> Depth:
    """How much is kept in a folder's spool, which need not be there. Changes nothing. Raises SpoolUnusable."""
    path = folder / FILE
    with _usable():
        if not path.exists():
            return Depth(0, 0)
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as opened:
            return _depth(opened)


def mark_recorded(session: Session, batch: Batch) -> bool:
    """Remember in the database that it has this batch; false if it had it already. Part of the transaction that records
    its rows. The mark of the batch before is removed: its rows are gone from the spool."""
    statement = insert(session, cursors).values(name=_mark(batch.name), value=batch.up_to)
    marked = session.execute(statement.on_conflict_do_nothing().returning(cursors.c.name)).first()
    if marked is not None and batch.before is not None:
        session.execute(delete(cursors).where(cursors.c.name == _mark(batch.before)))
    return marked is not None


def probe(session: Session) -> None:
    """Write something: a database that is full, or a replica that only reads, answers every question."""
    statement = insert(session, cursors).values(name=PROBE, value=1)
    session.execute(
        statement.on_conflict_do_update(index_elements=[cursors.c.name], set_={"value": cursors.c.value + 1})
    )


def _mark(name: str) -> str:
    return f"spool:{name}"


def _depth(connection: sqlite3.Connection) -> Depth:
    return Depth(*connection.execute("SELECT deliveries, bytes FROM totals").fetchone())


def _add(connection: sqlite3.Connection, deliveries: int, size: int) -> None:
    connection.execute("UPDATE totals SET deliveries = deliveries + ?, bytes = bytes + ?", (deliveries, size))


def _end_of_batch(connection: sqlite3.Connection) -> int | None:
    """The last position of the oldest rows that make a batch; of one at least."""
    last, size = None, 0
    for position, more in connection.execute(
        "SELECT position, bytes FROM arrivals ORDER BY position LIMIT ?", (BATCH_ROWS,)
    ).fetchall():
        size += more
        if last is not None and size > BATCH_BYTES:
            break
        last = position
    return last


def _open(folder: Path) -> sqlite3.Connection:
    _make(folder)
    path = folder / FILE
    # The journals get the file's mode. A file that exists is not even opened here: to close it again would drop the
    # locks that this process has on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma).fetchall()
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _inode(folder: Path) -> int | None:
    try:
        return (folder / FILE).stat().st_ino
    except FileNotFoundError:
        return None


def _make(folder: Path) -> None:
    """Make the folder if it is missing, private, and known to the disk before anything in it is acknowledged."""
    if folder.exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    parent = os.open(folder.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _usable() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        # SQLite's messages say what is wrong with the file and quote no value; the system's are left without the path.
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpoolUnusable(f"the spool cannot be used: {reason}") from error
