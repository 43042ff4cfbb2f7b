"""Sessions, the database's clock, and types that mean the same everywhere."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, InternalError, StatementError

from tests.store.play import EARLY, arrival, now, record, rows, undone
from worker.clock import monotonic, utc_now
from worker.store import audit, engine
from worker.store.engine import UNAVAILABLE, Database, database_time, insert, is_refusal
from worker.store.tables import audit_entries, cursors, leases
from worker.store.types import db_now, storable, storable_json


def test_a_write_is_kept_and_an_error_undoes_it(database):
    with database.write() as session:
        session.execute(insert(session, cursors).values(name="a", value=1))
    with undone(database) as session:
        session.execute(insert(session, cursors).values(name="b", value=1))

    assert [row.name for row in rows(database, cursors)] == ["a", "events"]


def test_nothing_done_in_a_reading_session_is_kept(database):
    refused = nullcontext() if database.is_sqlite else pytest.raises(InternalError, match="read-only")

    with refused, database.read() as session:
        session.execute(insert(session, cursors).values(name="a", value=1))

    assert [row.name for row in rows(database, cursors)] == ["events"]


def test_the_databases_clock_is_aware_and_goes_on_within_a_transaction(database):
    with database.read() as session:
        first = database_time(session)
        while (second := database_time(session)) == first:
            pass

    assert first.tzinfo is UTC
    assert second > first
    assert abs(first - utc_now()) < timedelta(seconds=5)


@pytest.mark.parametrize(
    "moment",
    [
        EARLY,
        EARLY.replace(microsecond=123456),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_times_come_back_as_they_were(database, moment):
    with database.write() as session:
        session.execute(insert(session, leases).values(name="a", holder="b", expires_at=moment))

    [row] = rows(database, leases)
    assert row.expires_at == moment
    assert row.expires_at.tzinfo is UTC


def test_times_without_a_zone_are_refused(database):
    naive = EARLY.replace(tzinfo=None)

    with pytest.raises(StatementError, match="without a zone"), database.write() as session:
        session.execute(insert(session, leases).values(name="a", holder="b", expires_at=naive))


def test_times_written_by_us_and_by_the_database_compare(database):
    past, future = now(database) - timedelta(milliseconds=5), now(database) + timedelta(minutes=1)
    with database.write() as session:
        for name, moment in (("past", past), ("future", future)):
            session.execute(insert(session, leases).values(name=name, holder="b", expires_at=moment))
        session.execute(insert(session, leases).values(name="now", holder="b", expires_at=db_now()))

    with database.read() as session:
        over = select(leases.c.name).where(leases.c.expires_at <= db_now()).order_by(leases.c.expires_at)
        assert session.execute(over).scalars().all() == ["past", "now"]


def test_a_constraint_is_no_passing_trouble(database):
    with pytest.raises(IntegrityError) as refusal, database.write() as session:
        session.execute(insert(session, cursors).values(name="events", value=1))

    assert not isinstance(refusal.value, UNAVAILABLE)


def test_a_database_that_is_away_is_passing_trouble(tmp_path, database):
    away = Database(
        f"sqlite:///{tmp_path}/no/such/folder.db" if database.is_sqlite else "postgresql+psycopg://u@127.0.0.1:1/x"
    )
    with pytest.raises(UNAVAILABLE), away.read() as session:
        session.execute(text("SELECT 1"))
    away.dispose()


def test_building_a_handle_connects_to_nothing():
    Database("postgresql+psycopg://u@127.0.0.1:1/x").dispose()


def test_writers_do_not_overwrite_each_other(database):
    together = threading.Barrier(10)

    def add(_):
        together.wait(10)
        for _ in range(10):
            with database.write() as session:
                value = session.execute(select(cursors.c.value).where(cursors.c.name == "n").with_for_update()).scalar()
                session.execute(cursors.update().where(cursors.c.name == "n").values(value=(value or 0) + 1))

    with database.write() as session:
        session.execute(insert(session, cursors).values(name="n", value=0))
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(add, range(10)))

    assert rows(database, cursors, name="n")[0].value == 100


def test_writers_are_served_in_order(database):
    """Without a queue, whoever writes in a loop keeps the others out for seconds, and they give up."""
    stop = threading.Event()

    def hog():
        while not stop.is_set():
            with database.write():
                pass

    with ThreadPoolExecutor(3) as pool:
        hogs = [pool.submit(hog) for _ in range(2)]
        longest = 0.0
        for _ in range(100):
            began = monotonic()
            with database.write():
                longest = max(longest, monotonic() - began)
        stop.set()
        for each in hogs:
            each.result(10)

    assert longest < 1


def test_a_writer_that_waits_too_long_is_told_so(sqlite_database, monkeypatch):
    monkeypatch.setattr(engine, "POOL_TIMEOUT", 0.05)
    with ThreadPoolExecutor(1) as pool:
        with sqlite_database.write():
            late = pool.submit(rows_written, sqlite_database)
            with pytest.raises(UNAVAILABLE):
                late.result(10)
        assert pool.submit(rows_written, sqlite_database).result(10) == 1


def rows_written(database):
    with database.write() as session:
        return len(session.execute(select(cursors.c.name)).all())


def test_sqlite_keeps_what_was_acknowledged(sqlite_database):
    for pool in (sqlite_database.engine, sqlite_database.writer):
        with pool.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_sqlite_overwrites_what_was_erased(sqlite_database):
    for pool in (sqlite_database.engine, sqlite_database.writer):
        with pool.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1


def test_sqlite_files_are_nobody_else_s_to_read(tmp_path):
    path = tmp_path / "verisink.db"
    handle = Database(f"sqlite:///{path}")
    assert list(tmp_path.iterdir()) == []
    with handle.write() as session:
        session.execute(text("CREATE TABLE people (name TEXT)"))
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    handle.dispose()

    assert modes == {"verisink.db": 0o600, "verisink.db-wal": 0o600, "verisink.db-shm": 0o600}


def test_the_mode_of_a_sqlite_file_that_exists_is_its_owner_s(tmp_path):
    path = tmp_path / "verisink.db"
    path.touch()
    path.chmod(0o640)
    handle = Database(f"sqlite:///{path}")
    with handle.read() as session:
        session.execute(text("SELECT 1"))
    handle.dispose()

    assert path.stat().st_mode & 0o777 == 0o640


def test_a_reader_does_not_wait_for_a_writer(database):
    with database.write() as writing:
        writing.execute(insert(writing, cursors).values(name="a", value=1))
        assert [row.name for row in rows(database, cursors)] == ["events"]


@pytest.mark.postgres
def test_postgresql_waits_for_nothing_for_long(postgres_database):
    with postgres_database.read() as session:
        shown = {name: session.execute(text(f"SHOW {name}")).scalar() for name in (
            "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "timezone")}  # fmt: skip

    assert shown == {
        "lock_timeout": "5s",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "1min",
        "timezone": "UTC",
    }


def test_audit_entries_keep_who_did_what(database):
    with database.write() as session:
        audit.note(session, audit.Deed("alice\x00", "hold", "persona-live", "why\x00", {"more": "x\ud800"}), EARLY)

    [entry] = rows(database, audit_entries)
    assert (entry.actor, entry.action, entry.subject) == ("alice\ufffd", "hold", "persona-live")
    assert (entry.occurred_at, entry.reason, entry.details) == (EARLY, "why\ufffd", {"more": "x\ufffd"})


@given(st.text())
def test_storable_text_is_the_text_but_for_what_cannot_be_stored(value):
    kept = storable(value)

    assert len(kept) == len(value)
    assert kept.encode("utf-8").decode("utf-8") == kept
    assert "\x00" not in kept
    assert storable_json({value: [value, 1, None]}) == {kept: [kept, 1, None]}


@pytest.mark.postgres
def test_a_value_over_a_limit_is_a_refusal_and_nothing_that_passes(postgres_database):
    with pytest.raises(UNAVAILABLE) as limit:
        record(postgres_database, arrival(secrets.token_hex(20_000)))
    with postgres_database.write() as session:
        session.execute(text("SET LOCAL statement_timeout = 20"))
        with pytest.raises(UNAVAILABLE) as late, session.begin_nested():
            session.execute(text("SELECT pg_sleep(5)"))

    assert is_refusal(limit.value) is True
    assert is_refusal(late.value) is False


def test_what_sqlite_raises_is_no_refusal(sqlite_database):
    with pytest.raises(UNAVAILABLE) as failure, sqlite_database.read() as session:
        session.execute(text("SELECT 1 FROM missing"))

    assert is_refusal(failure.value) is False
    assert is_refusal(ValueError()) is False
