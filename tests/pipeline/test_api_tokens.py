"""Making and revoking tokens, and knowing them without asking the database for every request."""

import re
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import event, select

from tests.pipeline.plant import wait_until
from tests.support.services import free_port
from worker.clock import monotonic
from worker.domain.scopes import MARK, TOKEN, Caller, Scope
from worker.errors import TokenNotMade
from worker.pipeline import api_tokens
from worker.pipeline.api_tokens import KNOWN_SECONDS, UNKNOWN_SECONDS, USE_SECONDS, Order, TokenBook, TokensAway
from worker.settings import token_digest
from worker.store.engine import Database
from worker.store.query import records
from worker.store.tables import audit_entries
from worker.store.token_table import api_tokens as table

READER = Order("reader", frozenset({Scope.RESULTS_READ, Scope.OPS_READ}), "cli:ada")


class Clock:
    """A clock that tests put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(api_tokens, "monotonic", made)
    return made


@pytest.fixture
def book(database):
    made = TokenBook(database)
    yield made
    made.close()


@pytest.fixture
def queries(database):
    """The questions about tokens that the database was asked."""
    asked: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        if statement.startswith("SELECT api_tokens.id"):
            asked.append(statement)

    return asked


def make(database, order=READER):
    with database.write() as session:
        return api_tokens.create(session, order)


def revoke(database, name="reader"):
    with database.write() as session:
        return api_tokens.revoke(session, name, actor="cli:ada")


def invented():
    return token_digest(MARK + secrets.token_urlsafe(32))


def last_used(database):
    with database.read() as session:
        return session.scalar(select(table.c.last_used_at))


def test_a_token_is_long_marked_and_nowhere_stored(database):
    token = make(database)

    assert TOKEN.fullmatch(token)
    with database.read() as session:
        [row] = records(session, table.select())
        audit = records(session, audit_entries.select())
    assert row["sha256"] == token_digest(token)
    assert token not in f"{row}{audit}"
    assert token[len(MARK) :] not in f"{row}{audit}"


def test_making_and_revoking_is_audited_once(database):
    make(database)
    assert revoke(database) is True
    assert revoke(database) is False

    with database.read() as session:
        entries = records(session, audit_entries.select().order_by(audit_entries.c.id))
    assert [(entry["actor"], entry["action"], entry["subject"]) for entry in entries] == [
        ("cli:ada", "create-token", "reader"), ("cli:ada", "revoke-token", "reader"),
    ]  # fmt: skip
    assert entries[0]["details"] == {"scopes": "ops:read results:read", "expires_at": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "name"),
        ({"name": "-x"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": "tokén"}, "name"),
        ({"name": "reader\n"}, "name"),
        ({"name": "of-the-settings"}, "settings"),
        ({"scopes": frozenset()}, "scope"),
        ({"lifetime": timedelta()}, "lives"),
        ({"lifetime": timedelta(days=3651)}, "lives"),
    ],
)
def test_what_cannot_be_a_token_is_refused(sqlite_database, changes, words):
    values = {"name": "reader", "scopes": READER.scopes, "actor": "cli:ada", "lifetime": None, **changes}
    with pytest.raises(TokenNotMade, match=words), sqlite_database.write() as session:
        api_tokens.create(session, Order(**values), reserved=["of-the-settings"])

    with sqlite_database.read() as session:
        assert records(session, table.select()) == []


def test_a_name_is_taken_until_it_is_revoked(database):
    first = make(database)
    with pytest.raises(TokenNotMade, match="there is a token reader already"):
        make(database)
    revoke(database)

    assert make(database) != first


def test_there_is_a_most(sqlite_database, monkeypatch):
    monkeypatch.setattr(api_tokens, "MOST_TOKENS", 1)
    make(sqlite_database)
    with pytest.raises(TokenNotMade, match="there are 1 tokens"):
        make(sqlite_database, Order("another", READER.scopes, "cli:ada"))


def test_a_token_is_known_by_its_digest(database, book):
    token = make(database)

    found = book.find(token_digest(token))

    assert found is not None
    assert found.caller == Caller("reader", READER.scopes)
    assert found.caller.actor == "api:reader"
    assert found.caller.may(Scope.OPS_READ)
    assert not found.caller.may(Scope.RESULTS_PII)
    assert book.find(invented()) is None


def test_scopes_of_a_newer_release_mean_nothing(database, book):
    token = make(database)
    with database.write() as session:
        session.execute(table.update().values(scopes="ops:read future:thing results:readx"))

    found = book.find(token_digest(token))

    assert found is not None
    assert found.caller.scopes == {Scope.OPS_READ}


def test_requests_cost_no_queries(database, book, queries, clock):
    digest = token_digest(make(database))
    for _ in range(50):
        assert book.find(digest) is not None

    assert len(queries) == 1
    clock.ahead += KNOWN_SECONDS + 1
    book.find(digest)
    assert len(queries) == 2


def test_invented_tokens_cost_a_query_a_second_and_no_memory(database, book, queries, clock):
    digest = token_digest(make(database))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: book.find(invented()), range(200))) == {None}

    assert len(queries) <= 2, "one for the first, and one more if that took long"
    asked = len(queries)
    clock.ahead += UNKNOWN_SECONDS + 0.1
    assert [book.find(invented()) for _ in range(20)] == [None] * 20
    assert len(queries) <= asked + 2
    assert book.find(digest) is not None
    assert len(book._page) == 1


def test_a_new_token_is_known_within_a_second(database, book, clock):
    assert book.find(invented()) is None
    digest = token_digest(make(database))

    clock.ahead += UNKNOWN_SECONDS + 0.1

    assert book.find(digest) is not None


def test_a_revoked_token_is_refused_within_seconds(database, book, clock):
    digest = token_digest(make(database))
    assert book.find(digest) is not None
    revoke(database)

    clock.ahead += KNOWN_SECONDS

    assert book.find(digest) is None


def test_a_token_ends_when_it_is_said_to(database, book, clock):
    digest = token_digest(make(database, Order("brief", READER.scopes, "cli:ada", timedelta(seconds=60))))
    assert book.find(digest) is not None
    # What is known stays fresh, so that nothing but the end itself can refuse it.
    book._read_at += 70
    clock.ahead += 61

    assert [known.sha256 for known in book._tokens(clock() - KNOWN_SECONDS)] == [digest]
    assert api_tokens._among(book._page, digest) is None


def test_use_is_noted_at_most_once_a_minute_and_later(database, book, clock):
    digest = token_digest(make(database))
    assert last_used(database) is None
    book.find(digest)
    wait_until(lambda: last_used(database))
    first = last_used(database)

    for _ in range(20):
        book.find(digest)
    book.close()
    assert last_used(database) == first

    with database.write() as session:
        session.execute(table.update().values(last_used_at=first - timedelta(seconds=USE_SECONDS)))
    clock.ahead += USE_SECONDS + 1
    book.find(digest)
    wait_until(lambda: last_used(database) >= first)


def test_a_busy_database_delays_no_request(sqlite_database, clock):
    """Its only writer is taken: the request is answered, and the use is written when there is room."""
    book = TokenBook(sqlite_database)
    digest = token_digest(make(sqlite_database))

    with sqlite_database.write():
        began = monotonic()
        assert book.find(digest) is not None
        assert monotonic() - began < 2
        assert last_used(sqlite_database) is None

    wait_until(lambda: last_used(sqlite_database))
    book.close()


def test_a_database_that_only_reads_fails_no_request(sqlite_database, capsys):
    digest = token_digest(make(sqlite_database))
    with sqlite_database.writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    book = TokenBook(sqlite_database)

    assert book.find(digest) is not None
    wait_until(lambda: "token_use_not_noted" in capsys.readouterr().out)

    assert book.find(digest) is not None
    assert last_used(sqlite_database) is None


def test_a_database_that_is_away_is_said_and_not_asked_by_everybody(capsys):
    database = Database(f"postgresql+psycopg://ada:canary@127.0.0.1:{free_port()}/verisink")
    book = TokenBook(database)

    with ThreadPoolExecutor(8) as pool:
        for answer in [pool.submit(book.find, invented()) for _ in range(40)]:
            with pytest.raises(TokensAway, match="OperationalError"):
                answer.result()

    said = capsys.readouterr().out
    assert said.count("api_tokens_unavailable") <= 2
    assert "canary" not in said
    database.dispose()


@pytest.mark.postgres
def test_a_database_that_hangs_keeps_one_request_and_not_all(postgres_database, monkeypatch, clock):
    """Anybody can send something that looks like a token, and threads are few."""
    monkeypatch.setattr(api_tokens, "WAIT_SECONDS", 1)
    book = TokenBook(postgres_database)
    with postgres_database.write() as session, ThreadPoolExecutor(1) as pool:
        session.connection().exec_driver_sql("LOCK TABLE api_tokens IN ACCESS EXCLUSIVE MODE")
        hanging = pool.submit(book.find, invented())
        wait_until(book._reading.locked)
        began = monotonic()
        for ahead in range(10):
            clock.ahead = ahead * (api_tokens.AWAY_SECONDS / 2)
            with pytest.raises(TokensAway, match="slow"):
                book.find(invented())
        assert monotonic() - began < 5, "only the first one waited"
        session.commit()
        assert hanging.result(20) is None
    clock.ahead += UNKNOWN_SECONDS + 0.1
    assert book.find(invented()) is None


def test_what_was_known_serves_while_it_is_fresh(tmp_path, sqlite_database, clock):
    book = TokenBook(sqlite_database)
    digest = token_digest(make(sqlite_database))
    assert book.find(digest) is not None
    book.close()
    sqlite_database.dispose()
    for path in tmp_path.glob("verisink.db*"):
        path.unlink()
    (tmp_path / "verisink.db").mkdir()

    assert book.find(digest) is not None
    clock.ahead += KNOWN_SECONDS + 0.1
    with pytest.raises(TokensAway):
        book.find(digest)


def test_the_mark_is_for_scanners():
    assert re.fullmatch(r"[a-z]{2,10}_", MARK)


def test_without_a_thread_a_use_waits_for_the_next(database, book, clock, monkeypatch, capsys):
    digest = token_digest(make(database))

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert book.find(digest) is not None
    book.close()
    assert "token_use_not_noted" in capsys.readouterr().out
    assert last_used(database) is None

    clock.ahead += USE_SECONDS + 1
    assert book.find(digest) is not None
    wait_until(lambda: last_used(database))
