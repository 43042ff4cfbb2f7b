"""Reading how sinks stand. Each query is bounded by a limit or finds one row by its index, however many events there
are."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, select

from worker.domain.states import UndeliveredState
from worker.store.engine import Session
from worker.store.query import Record as Record
from worker.store.query import records
from worker.store.sink_tables import sink_states, undelivered_events
from worker.store.tables import events


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


def oldest(session: Session, sink: str, position: int) -> datetime | None:
    """When the oldest event happened that `sink`, whose cursor is at `position`, has not got and is still to get."""
    behind = select(events.c.occurred_at).where(events.c.sequence > position).order_by(events.c.sequence).limit(1)
    first = select(func.min(undelivered_events.c.sequence)).where(
        undelivered_events.c.sink == sink, undelivered_events.c.state == UndeliveredState.WAITING
    )
    waiting = select(events.c.occurred_at).where(events.c.sequence == first.scalar_subquery())
    found = [session.execute(query).scalar_one_or_none() for query in (behind, waiting)]
    return min((moment for moment in found if moment is not None), default=None)
