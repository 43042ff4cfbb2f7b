"""Reading the gauges of a scrape. Each query looks at so many rows and no more, along an index, whatever is stored or
open; and it is cut off when it takes too long.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Subquery, case, func, literal_column, select, text, union_all

from worker.clock import monotonic
from worker.domain.states import Priority, ResourceState
from worker.store.engine import Session, is_sqlite
from worker.store.query import Record, records
from worker.store.query_work import state_conditions
from worker.store.tables import drift_issues, resources

SQLITE_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock: less than a millisecond."""

NEW_DRIFT = timedelta(days=1)
"""For so long a value that no mapping knows is news."""


@contextmanager
def limited(session: Session, seconds: float) -> Iterator[None]:
    """Cut off whatever the body asks the database for longer: each statement on PostgreSQL, all together on SQLite.
    What is cut off raises one of UNAVAILABLE."""
    if not is_sqlite(session):
        session.execute(text(f"SET LOCAL statement_timeout = {int(seconds * 1000)}"))
        yield
        return
    connection = session.connection().connection.dbapi_connection
    ends = monotonic() + seconds
    # The driver calls it, and ends the statement when it says so.
    connection.set_progress_handler(lambda: monotonic() > ends, SQLITE_STEPS)  # type: ignore[union-attr]
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)  # type: ignore[union-attr]


def oldest_open(session: Session, now: datetime, limit: int) -> list[Record]:
    """Of the oldest `limit` pieces of open work: how many, and since when the oldest, by `source` and `state`."""
    oldest = (
        select(resources.c.source, _state(now), resources.c.wanted_since)
        .where(resources.c.wanted_since.is_not(None))
        .order_by(resources.c.wanted_since)
        .limit(_written_out(limit))
        .subquery()
    )
    return _counted(session, oldest)


def next_due(session: Session, source: str, now: datetime, limit: int) -> list[Record]:
    """The same of the next `limit` pieces of a source's work that is waiting or claimed."""
    soonest = (
        select(resources.c.source, _state(now), resources.c.wanted_since)
        .where(resources.c.source == source, resources.c.due_at.is_not(None))
        .order_by(resources.c.priority, resources.c.due_at)
        .limit(_written_out(limit))
        .subquery()
    )
    return _counted(session, soonest)


def overdue_since(session: Session, source: str, now: datetime) -> datetime | None:
    """Since when the most overdue work of a source could be done: what is claimed, or waits for a retry, is not due."""
    due = resources.c.due_at
    firsts = [
        select(func.min(due).label("due")).where(
            resources.c.source == source, resources.c.priority == priority, due <= now
        )
        for priority in Priority
    ]
    since: datetime | None = session.execute(select(func.min(union_all(*firsts).subquery().c.due))).scalar_one()
    return since


def parked_since(session: Session, since: datetime, limit: int) -> Mapping[str, int]:
    """How many resources of each source were parked after `since`, of the last `limit` that were."""
    newest = (
        select(resources.c.source)
        .where(resources.c.parked_at > since)
        .order_by(resources.c.parked_at.desc())
        .limit(_written_out(limit))
        .subquery()
    )
    query = select(newest.c.source, func.count().label("parked")).group_by(newest.c.source)
    return {row.source: row.parked for row in session.execute(query)}


def drift_counts(session: Session, now: datetime, limit: int) -> list[Record]:
    """How many values of each source no mapping knows, and how many of them are `recent`. The table keeps so many of a
    field and no more; of all, `limit` are looked at."""
    some = select(drift_issues.c.source, drift_issues.c.first_seen_at).limit(limit).subquery()
    recent = func.count().filter(some.c.first_seen_at > now - NEW_DRIFT)
    query = select(some.c.source, func.count().label("count"), recent.label("recent"))
    return records(session, query.group_by(some.c.source))


def _state(now: datetime) -> ColumnElement[str]:
    conditions = state_conditions(now)
    wanted = (ResourceState.PARKED, ResourceState.CLAIMED)
    cases = [(conditions[state], _word(state)) for state in wanted]
    return case(*cases, else_=_word(ResourceState.WAITING)).label("state")


def _word(state: ResourceState) -> ColumnElement[str]:
    return literal_column(f"'{state}'")


def _counted(session: Session, some: Subquery) -> list[Record]:
    query = select(
        some.c.source, some.c.state, func.count().label("count"), func.min(some.c.wanted_since).label("oldest")
    )
    return records(session, query.group_by(some.c.source, some.c.state))


def _written_out(limit: int) -> ColumnElement[int]:
    # PostgreSQL takes a limit that it does not know for a tenth of the table.
    return literal_column(str(limit))
