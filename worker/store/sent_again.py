"""Which events an operator wants a sink to get again."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select

from worker.domain.states import UndeliveredState
from worker.store.engine import Session
from worker.store.outbox import NumberedEvent, numbered
from worker.store.sink_tables import undelivered_events
from worker.store.tables import events

MARGIN = timedelta(minutes=10)
"""Events are numbered in order of commit, and their times are those of the transactions' beginnings. No transaction
lasts so long."""


def given_up(session: Session, sink: str, limit: int) -> list[NumberedEvent]:
    """The first events that were given up."""
    query = (
        select(*events.c)
        .join(undelivered_events, undelivered_events.c.sequence == events.c.sequence)
        .where(undelivered_events.c.sink == sink, undelivered_events.c.state == UndeliveredState.GIVEN_UP)
    )
    found = session.execute(query.order_by(undelivered_events.c.sequence).limit(limit))
    return [numbered(row) for row in found]


def by_id(session: Session, event_id: str, position: int) -> NumberedEvent | None:
    """The event of this id, if it stands before a sink's cursor."""
    query = select(*events.c).where(events.c.id == event_id, events.c.sequence <= position)
    row = session.execute(query).one_or_none()
    return None if row is None else numbered(row)


def happened(
    session: Session, since: datetime | None, until: datetime | None, position: int, limit: int
) -> list[NumberedEvent]:
    """The events before a sink's cursor that happened in a time, its end not included. The table has no index of
    times, and needs none: numbers and times grow together, so the stretch is found by halving."""
    first = 1 if since is None else _first_since(session, since - MARGIN, position)
    last = position if until is None else _first_since(session, until + MARGIN, position)
    query = select(*events.c).where(events.c.sequence.between(first, min(last, position)))
    if since is not None:
        query = query.where(events.c.occurred_at >= since)
    if until is not None:
        query = query.where(events.c.occurred_at < until)
    return [numbered(row) for row in session.execute(query.order_by(events.c.sequence).limit(limit))]


def _first_since(session: Session, moment: datetime, position: int) -> int:
    """About the first number whose event happened at or after a moment; behind the position if there is none."""

    def is_before(sequence: int) -> bool:
        query = select(events.c.occurred_at).where(events.c.sequence == sequence)
        occurred_at = session.execute(query).scalar_one_or_none()
        return occurred_at is not None and occurred_at < moment

    return _bisected(1, position + 1, is_before)


def _bisected(low: int, high: int, is_before: Callable[[int], bool]) -> int:
    while low < high:
        middle = (low + high) // 2
        if is_before(middle):
            low = middle + 1
        else:
            high = middle
    return low
