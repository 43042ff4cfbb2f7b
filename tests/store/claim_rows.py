"""Reads the tables and holds them against the model of the claim protocol; and lets the database's time pass."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise

from sqlalchemy import Column, Row, Select, Table, delete, select

from tests.store.claim_model import Model, Moment, Revision, Span, Work
from tests.store.play import document
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import EventType
from worker.store import sources
from worker.store.engine import Database, Session
from worker.store.tables import attempts, cursors, events, metadata, resources, results, versions
from worker.store.types import UtcDateTime

THEIRS = ("provider_created_at", "provider_updated_at", "completed_at")
"""Times that the provider gave. They do not move when ours do."""

AnyRow = Row[tuple[object, ...]]
Query = Select[tuple[object, ...]]


def _lasting(table: Table) -> list[Column]:
    """All columns but the times, which move when time passes."""
    return [column for column in table.columns if not isinstance(column.type, UtcDateTime)]


_RESOURCES: Query = select(*resources.c)
_ATTEMPTS: Query = select(*attempts.c).order_by(attempts.c.number)
_VERSIONS: Query = select(*_lasting(versions)).order_by(versions.c.number)
_EVENTS: Query = select(*_lasting(events)).order_by(events.c.position)
_RESULTS: Query = select(*results.c)


def empty(database: Database) -> None:
    """Leaves a migrated database as it was migrated."""
    with database.write() as session:
        for table in reversed(metadata.sorted_tables):
            if table is not cursors:
                session.execute(delete(table))


def pass_time(database: Database, by: timedelta) -> None:
    """Moves every time that is written down into the past, which is to say: now is later. A negative `by` is a clock
    that was set back."""
    moves = _moves(by, on_sqlite=database.is_sqlite)
    with database.write() as session:
        # In one go where that can be: this is done more often than anything else.
        for statement in moves if database.is_sqlite else ["; ".join(moves)]:
            session.connection().exec_driver_sql(statement)


@cache
def _moves(by: timedelta, *, on_sqlite: bool) -> list[str]:
    moves = []
    for table in metadata.sorted_tables:
        ours = [column.name for column in table.columns if isinstance(column.type, UtcDateTime)]
        moved = [f"{name} = {_moved(name, by, on_sqlite=on_sqlite)}" for name in ours if name not in THEIRS]
        if moved:
            moves.append(f"UPDATE {table.name} SET {', '.join(moved)}")  # noqa: S608 - names of our own tables
    return moves


def _moved(name: str, by: timedelta, *, on_sqlite: bool) -> str:
    seconds = f"{-by.total_seconds():+.3f} seconds"
    # SQLite's is as long as the texts that the application writes, or they would not compare.
    return (
        f"strftime('%Y-%m-%d %H:%M:%f', {name}, '{seconds}') || '000'"
        if on_sqlite
        else f"{name} + '{seconds}'::interval"
    )


@dataclass
class History:
    """What was once read of a resource, and may only be added to."""

    versions: list[AnyRow] = field(default_factory=list)
    events: list[AnyRow] = field(default_factory=list)
    attempts: int = 0
    provider_updated: datetime | None = None


class Auditor:
    """Holds each row against the model, and against what it was before."""

    def __init__(self, database: Database, model: Model) -> None:
        self._database = database
        self._model = model
        self._histories: defaultdict[ResourceKey, History] = defaultdict(History)

    def check(self) -> None:
        """Raises AssertionError if anything is not as the model says. Due times are learned from the rows: the model
        knows when they must be, but not to the millisecond."""
        with self._database.read() as session:
            found = {_key(row): row for row in session.execute(_RESOURCES)}
            numbered = _by_resource(session, _ATTEMPTS)
            stored = _by_resource(session, _VERSIONS)
            told: defaultdict[ResourceKey | str, list[AnyRow]] = defaultdict(list)
            for row in session.execute(_EVENTS):
                told[_key(row) if row.external_id else row.source].append(row)
            self._check_accounts(session, told)
            current = {row.resource_id: row for row in session.execute(_RESULTS)}
        assert set(found) == {work.key for work in self._model.works.values() if work.known}
        for key, row in found.items():
            work = self._model.works[key]
            _check_row(work, row)
            _check_attempts(work, row, numbered[row.id])
            _check_versions(work, row, stored[row.id], current.get(row.id))
            assert [(event.version, event.type) for event in told[key]] == work.events
            self._check_history(key, row, stored[row.id], told[key])

    def _check_accounts(self, session: Session, told: dict[ResourceKey | str, list[AnyRow]]) -> None:
        for source, account in self._model.accounts.items():
            state = sources.state(session, source)
            assert (state.held_at is not None, state.holds) == (account.held, account.holds)
            assert (state.throttled_until is not None) is account.throttled
            kinds = [row.type for row in told[source]]
            turns = [EventType.HELD, EventType.RELEASED] * account.holds
            assert kinds == (turns[:-1] if account.held else turns)

    def _check_history(self, key: ResourceKey, row: AnyRow, stored: list[AnyRow], told: list[AnyRow]) -> None:
        """What is written stays written, and the provider's time never goes back."""
        before = self._histories[key]
        assert stored[: len(before.versions)] == before.versions
        assert told[: len(before.events)] == before.events
        _all_different((event.version, event.type) for event in told if event.version)
        assert row.attempts >= before.attempts
        if before.provider_updated is not None:
            assert row.provider_updated_at >= before.provider_updated
        self._histories[key] = History(stored, told, row.attempts, row.provider_updated_at)


def _check_row(work: Work, row: AnyRow) -> None:
    assert row.retrieved <= row.wanted
    assert (row.wanted, row.retrieved, row.attempts) == (work.wanted, work.retrieved, len(work.ends))
    assert (row.failures, row.crashes, row.parks) == (work.failures, work.crashes, work.parks)
    assert (row.claim_token, row.park_reason) == (work.token, work.park_reason)
    assert (row.priority, row.cause) == (work.priority, work.cause)
    assert (row.read_started_at, row.provider_updated_at) == (work.read_started, work.updated)
    assert (row.parked_at is not None) is (row.park_reason is not None)
    assert row.due_at is None or row.parked_at is None
    assert row.due_at is not None or row.parked_at is not None or row.wanted == row.retrieved
    assert row.due_at is not None or row.claim_token is None
    work.due = _learned(work.due, row.due_at)
    work.wanted_since = _learned(work.wanted_since, row.wanted_since)


def _learned(expected: Moment, found: datetime | None) -> datetime | None:
    if isinstance(expected, Span):
        assert expected.holds(found)
    else:
        assert found == expected
    return found


def _check_attempts(work: Work, row: AnyRow, booked: list[AnyRow]) -> None:
    assert [attempt.number for attempt in booked] == list(range(1, row.attempts + 1))
    assert [attempt.outcome for attempt in booked] == work.ends
    assert [attempt.error for attempt in booked] == work.errors
    assert all((attempt.finished_at is None) is (attempt.outcome is None) for attempt in booked)
    under_way = [attempt.number for attempt in booked if attempt.outcome is None]
    assert under_way == ([row.attempts] if row.claim_token else [])


def _check_versions(work: Work, row: AnyRow, stored: list[AnyRow], current: AnyRow | None) -> None:
    assert [version.number for version in stored] == list(range(1, row.version + 1))
    assert [(version.content_sha256, version.attempt) for version in stored] == [
        (_digest(revision), attempt) for revision, attempt in work.versions
    ]
    digests = [version.content_sha256 for version in stored]
    assert all(one != next_one for one, next_one in pairwise(digests))
    by_attempt = [version.attempt for version in stored]
    assert by_attempt == sorted(set(by_attempt))
    assert (current.version if current else 0) == row.version
    if current:
        assert (current.stage, current.outcome) == (stored[-1].stage, stored[-1].outcome)


def _digest(revision: Revision) -> str:
    return document(revision.content).content_sha256


def _by_resource(session: Session, query: Query) -> defaultdict[int, list[AnyRow]]:
    found: defaultdict[int, list[AnyRow]] = defaultdict(list)
    for row in session.execute(query):
        found[row.resource_id].append(row)
    return found


def _key(row: AnyRow) -> ResourceKey:
    return ResourceKey(row.source, ResourceRef(row.kind, row.external_id))


def _all_different(items: Iterable[Hashable]) -> None:
    listed = list(items)
    assert len(set(listed)) == len(listed)
