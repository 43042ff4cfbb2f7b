"""Reading how sinks stand. Each query is bounded by a limit or finds one row by its index, however many events there
are."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import func, literal, null, select

from worker.domain.states import UndeliveredState
from worker.store.engine import Session
from worker.store.query import Record as Record
from worker.store.query import records
from worker.store.sink_tables import sink_states, undelivered_events
from worker.store.tables import event_deliveries, events

_DELIVERY = (
    event_deliveries.c.attempts,
    event_deliveries.c.delivered_at,
    null().label("due_at"),
    event_deliveries.c.last_error,
)
_WAIT = (
    undelivered_events.c.attempts,
    null().label("delivered_at"),
    undelivered_events.c.due_at,
    undelivered_events.c.last_error,
)


def troubles(session: Session) -> Mapping[str, Record]:
    """The row of each sink that has one: whether it is held or away, since when and why."""
    return {str(row["sink"]): row for row in records(session, select(*sink_states.c))}


def count(session: Session, sink: str, state: UndeliveredState, limit: int) -> int:
    """How many events of `sink` are waiting or were given up; counting stops at `limit`."""
    some = (
        select(undelivered_events.c.sequence)
        .where(undelivered_events.c.sink == sink, undelivered_events.c.state == state)
        .limit(limit)
    )
    return session.execute(select(func.count()).select_from(some.subquery())).scalar_one()


_EVENT = (
    events.c.sequence, events.c.id, events.c.type, events.c.source, events.c.kind, events.c.external_id,
    events.c.occurred_at,
)  # fmt: skip


def log_delivered(session: Session, sink: str, limit: int) -> list[Record]:
    """The last events that `sink` has got, the newest first, and what is known of their delivery."""
    query = select(*_EVENT, literal("delivered").label("state"), *_DELIVERY)
    found = query.join(events, events.c.sequence == event_deliveries.c.sequence).where(event_deliveries.c.sink == sink)
    return records(session, found.order_by(event_deliveries.c.sequence.desc()).limit(limit))


def log_undelivered(session: Session, sink: str, state: UndeliveredState, limit: int) -> list[Record]:
    """The first events of `sink` that wait or were given up, in order."""
    query = select(*_EVENT, undelivered_events.c.state, *_WAIT)
    found = query.join(events, events.c.sequence == undelivered_events.c.sequence)
    mine = found.where(undelivered_events.c.sink == sink, undelivered_events.c.state == state)
    return records(session, mine.order_by(undelivered_events.c.sequence).limit(limit))


def log_of_events(session: Session, sinks: Collection[str], sequences: Collection[int]) -> list[Record]:
    """What is known of the delivery of some events to some sinks."""
    found = []
    for table, state, columns in (
        (event_deliveries, literal("delivered").label("state"), _DELIVERY),
        (undelivered_events, undelivered_events.c.state, _WAIT),
    ):
        query = select(table.c.sink, *_EVENT, state, *columns).join(events, events.c.sequence == table.c.sequence)
        wanted = (table.c.sink.in_(sorted(sinks)), table.c.sequence.in_(sorted(sequences)))
        found += records(session, query.where(*wanted).order_by(table.c.sequence, table.c.sink))
    return found


def sequence_of(session: Session, event_id: str) -> int | None:
    """The number of an event; None if there is no such event, or it has none yet."""
    return session.execute(select(events.c.sequence).where(events.c.id == event_id)).scalar_one_or_none()


def oldest(session: Session, sink: str, position: int) -> datetime | None:
    """When the oldest event happened that `sink`, whose cursor is at `position`, has not got and is still to get."""
    behind = select(events.c.occurred_at).where(events.c.sequence > position).order_by(events.c.sequence).limit(1)
    first = select(func.min(undelivered_events.c.sequence)).where(
        undelivered_events.c.sink == sink, undelivered_events.c.state == UndeliveredState.WAITING
    )
    waiting = select(events.c.occurred_at).where(events.c.sequence == first.scalar_subquery())
    found = [session.execute(query).scalar_one_or_none() for query in (behind, waiting)]
    return min((moment for moment in found if moment is not None), default=None)
