"""Reading the event log by its cursor, also where only some events are wanted. Nothing here writes."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, select

from worker.domain.events import EventFilter, News
from worker.store.engine import Session
from worker.store.query import Record, records, unindexed
from worker.store.tables import cursors, events

MOST_LOOKED_AT = 10_000
"""Events that one page looks at, where it takes only some of them; so many are read in some ten milliseconds."""

MOST_LOOKED_BACK = 100_000
"""Events that a person's look at the last ones goes back, where only some are wanted."""

_SHOWN = tuple(column for column in events.c if column.name != "position")


@dataclass(frozen=True, slots=True)
class Found:
    """Events of a page, where to read on, and whether that was the end of the log when it was read."""

    records: list[Record]
    next_after: int
    at_end: bool


def page(session: Session, wanted: EventFilter, *, after: int, limit: int) -> Found:
    """The wanted events behind `after`, in order. What is passed over is limited, and need not be read again."""
    conditions = _conditions(wanted)
    query = select(*_SHOWN).where(events.c.sequence > after).order_by(events.c.sequence).limit(limit)
    if not conditions:
        found = records(session, query)
        return Found(found, _last(found, after), len(found) < limit)
    end = _end(session)
    far = session.execute(_sequences(after).offset(MOST_LOOKED_AT - 1).limit(1)).one_or_none()
    until = max(end, after) if far is None else far.sequence
    found = records(session, query.where(events.c.sequence <= until, *conditions))
    if len(found) == limit:
        return Found(found, _last(found, after), False)
    return Found(found, until, far is None)


def newest(session: Session, wanted: EventFilter, *, limit: int) -> Found:
    """The last wanted events, in order. Of what is rare, only the last `MOST_LOOKED_BACK` events are looked at."""
    conditions = _conditions(wanted)
    end = _end(session)
    query = select(*_SHOWN).where(events.c.sequence <= end).order_by(events.c.sequence.desc()).limit(limit)
    if conditions:
        query = query.where(events.c.sequence > end - MOST_LOOKED_BACK, *conditions)
    return Found(records(session, query)[::-1], end, True)


def news(session: Session, after: int, limit: int) -> list[News]:
    """The events behind `after`, with as much of each as a filter looks at."""
    query = _sequences(after).add_columns(events.c.type, events.c.source, events.c.kind).limit(limit)
    return [News(row.sequence, row.type, row.source, row.kind) for row in session.execute(query).all()]


def _end(session: Session) -> int:
    """The last number that was given. Asked before events are read: the next statement sees all that have one."""
    end: int = session.execute(select(cursors.c.value).where(cursors.c.name == "events")).scalar_one()
    return end


def _sequences(after: int) -> Select[tuple[int | None]]:
    return select(events.c.sequence).where(events.c.sequence > after).order_by(events.c.sequence)


def _last(found: Sequence[Record], after: int) -> int:
    last = found[-1]["sequence"] if found else after
    return last if isinstance(last, int) else after


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    asked = (
        (unindexed(events.c.type), wanted.types),
        (unindexed(events.c.source), wanted.sources),
        (unindexed(events.c.kind), wanted.kinds),
    )
    return [column.in_(sorted(values)) for column, values in asked if values]
