"""Events: written with what they tell of, numbered in order of commit, read by cursor.

An identity column counts in order of insertion, and transactions commit in another order, so a poller that remembers
the last id would skip rows. Numbers are therefore given afterwards, one numberer at a time, to committed rows only:
no event appears behind a number that was seen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    Row,
    Select,
    String,
    bindparam,
    exists,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session

from worker.domain.events import Event
from worker.domain.states import EventType, Outcome, Stage, UndeliveredState
from worker.store.bulk import Insertion, Step, insert_rows, write_together
from worker.store.engine import database_time, insert, is_sqlite
from worker.store.sink_tables import sink_states, undelivered_events
from worker.store.tables import cursors, event_deliveries, events
from worker.store.types import db_now

NUMBERED_AT_ONCE = 500
"""Larger batches would hold the numberer's lock long enough to be noticed by the one who waits for it."""

_EVENTS = "events"
_SINK_CURSOR = "sink:"
_EVENT = Insertion(events, key=("id",))
_DELIVERY = Insertion(event_deliveries, key=("sink", "sequence"), returning=("sequence",))


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """An event as its readers see it: with its place in the order, and when it happened."""

    sequence: int
    occurred_at: datetime
    event: Event
    id: str


def append(session: Session, new: Iterable[Event], now: datetime) -> None:
    """Write events into the outbox. One that is there already is not written again."""
    write_together(session, [appending(new, now)])


def appending(new: Iterable[Event], now: datetime) -> Step:
    """`append`, to be written with more."""
    return _EVENT, [
        {
            "id": item.id,
            "type": item.type,
            "source": item.source,
            "kind": item.kind,
            "external_id": item.external_id,
            "version": item.version,
            "stage": item.stage,
            "outcome": item.outcome,
            "occurred_at": now,
            "data": dict(item.data),
        }
        for item in new
    ]


def number(session: Session) -> int:
    """Number committed events that have no number yet; returns how many. Waits for another numberer to commit."""
    if is_sqlite(session):
        return _number_alone(session)
    while True:
        [row] = session.connection().exec_driver_sql(_NUMBER)
        if row.alone:
            count: int = row.events
            return count


_NUMBER = f"""
WITH locked AS (SELECT value FROM cursors WHERE name = '{_EVENTS}' FOR UPDATE),
seen AS (SELECT locked.value, locked.value = cursors.value AS alone
         FROM cursors CROSS JOIN locked WHERE cursors.name = '{_EVENTS}'),
waiting AS (SELECT position, row_number() OVER (ORDER BY position) AS rank
            FROM events WHERE sequence IS NULL ORDER BY position LIMIT {NUMBERED_AT_ONCE}),
numbered AS (UPDATE events SET sequence = seen.value + waiting.rank
             FROM waiting CROSS JOIN seen WHERE events.position = waiting.position AND seen.alone RETURNING 1),
counted AS (SELECT count(*) AS events FROM numbered),
moved AS (UPDATE cursors SET value = cursors.value + counted.events
          FROM counted WHERE cursors.name = '{_EVENTS}' AND counted.events > 0)
SELECT seen.alone, counted.events FROM seen CROSS JOIN counted
"""  # noqa: S608 - a name and a number of our own
"""One statement, and so one word with the server. What it sees of the table is as old as itself, and it may have waited
for another numberer since: then the cursor that it has locked is no longer the one that it sees, and it begins again.
The limit is written out, because PostgreSQL takes one that it does not know for a tenth of the table."""


def _number_alone(session: Session) -> int:
    """`number` for SQLite, whose one writer has nobody to wait for."""
    last = session.execute(select(cursors.c.value).where(cursors.c.name == _EVENTS)).scalar_one()
    waiting = (
        select(events.c.position, func.row_number().over(order_by=events.c.position).label("rank"))
        .where(events.c.sequence.is_(None))
        .order_by(events.c.position)
        .limit(NUMBERED_AT_ONCE)
        .subquery()
    )
    numbering = (
        update(events)
        .where(events.c.position == waiting.c.position)
        .values(sequence=last + waiting.c.rank)
        .returning(events.c.position)
    )
    count = len(session.execute(numbering).all())
    session.execute(update(cursors).where(cursors.c.name == _EVENTS).values(value=last + count))
    return count


def any_unnumbered(session: Session) -> bool:
    """Whether events wait for their number."""
    return session.execute(select(events.c.position).where(events.c.sequence.is_(None)).limit(1)).first() is not None


def read(session: Session, after: int, limit: int) -> list[NumberedEvent]:
    """The events behind the cursor `after`, in order."""
    rows = session.execute(
        select(*events.c).where(events.c.sequence > after).order_by(events.c.sequence).limit(limit)
    ).all()
    return [numbered(row) for row in rows]


def numbered(row: Row[*tuple[Any, ...]]) -> NumberedEvent:
    """The event of a row with the columns of `events`."""
    event = Event(
        type=EventType(row.type),
        source=row.source,
        kind=row.kind,
        external_id=row.external_id,
        version=row.version,
        stage=Stage(row.stage) if row.stage else None,
        outcome=Outcome(row.outcome) if row.outcome else None,
        data=row.data,
    )
    return NumberedEvent(row.sequence, row.occurred_at, event, row.id)


def sink_position(session: Session, sink: str) -> int:
    """The sequence up to which everything was delivered to `sink`; a new sink begins at the start."""
    found = session.execute(select(cursors.c.value).where(cursors.c.name == sink_cursor(sink))).scalar_one_or_none()
    return found or 0


@dataclass(frozen=True, slots=True)
class Look:
    """The events behind a sink's cursor, in order, and whether anything is to be known of the sink besides: that it is
    away, that events wait for it before its cursor, or that it never began."""

    batch: list[NumberedEvent]
    troubled: bool


def look(session: Session, sink: str, limit: int) -> Look:
    """What `sink` has not got yet. One statement, of as many columns as a read of the events needs and one."""
    rows = session.execute(_look(limit), {"sink": sink, "cursor": sink_cursor(sink)}).all()
    return Look([numbered(row) for row in rows if row.sequence is not None], bool(rows[0].troubled))


@lru_cache(maxsize=8)
def _look(limit: int) -> Select[*tuple[Any, ...]]:
    """The statement, made once: to make it takes longer than to ask it, and it is asked with each batch."""
    name: BindParameter[str] = bindparam("sink", type_=String)
    after = select(cursors.c.value).where(cursors.c.name == bindparam("cursor")).scalar_subquery()
    waiting = (undelivered_events.c.sink == name, undelivered_events.c.state == UndeliveredState.WAITING)
    troubled = or_(
        after.is_(None),
        exists(select(sink_states.c.sink).where(sink_states.c.sink == name, sink_states.c.failures > 0)),
        exists(select(undelivered_events.c.sequence).where(*waiting)),
    )
    # The answer is there when no event is: that is what the outer join is for.
    state = select(troubled.label("troubled")).subquery()
    unread = select(*events.c).where(events.c.sequence > func.coalesce(after, 0))
    # Written out, because PostgreSQL takes a limit that it does not know for a tenth of the table.
    some = unread.order_by(events.c.sequence).limit(literal_column(str(limit))).subquery()
    return select(state.c.troubled, *some.c).select_from(state.outerjoin(some, true())).order_by(some.c.sequence)


def behind(session: Session, sinks: Iterable[str]) -> frozenset[str]:
    """Those of `sinks` that may be served and have something to get: events behind their cursor, or one that waits and
    is due. Who is held, or is away and not yet to be tried, is not among them."""
    name = func.substr(cursors.c.name, len(_SINK_CURSOR) + 1)
    waits = exists(
        select(undelivered_events.c.sequence).where(
            undelivered_events.c.sink == name,
            undelivered_events.c.state == UndeliveredState.WAITING,
            undelivered_events.c.due_at <= db_now(),
        )
    )
    rests = or_(sink_states.c.held_at.is_not(None), sink_states.c.due_at > db_now())
    query = select(
        cursors.c.name, cursors.c.value, func.coalesce(rests, false()).label("rests"), waits.label("waits")
    ).outerjoin(sink_states, sink_states.c.sink == name)
    found = {row.name: row for row in session.execute(query)}
    last = found[_EVENTS].value if _EVENTS in found else 0

    def has_work(sink: str) -> bool:
        row = found.get(sink_cursor(sink))
        if row is None:
            return last > 0
        return not row.rests and (row.waits or row.value < last)

    return frozenset(sink for sink in sinks if has_work(sink))


@dataclass(frozen=True, slots=True)
class Taken:
    """An event that a sink has taken, after how many attempts, and with which error before."""

    sequence: int
    attempts: int = 1
    last_error: str | None = None


def delivered(session: Session, sink: str, taken: Iterable[Taken], *, position: int) -> None:
    """Note that `sink` has got these events, and move its cursor to `position`, the last that it got, need not get, or
    is to get aside."""
    some = sorted(taken, key=lambda item: item.sequence)
    if some:
        _note_delivered(session, sink, some)
    statement = insert(session, cursors).values(name=sink_cursor(sink), value=position)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[cursors.c.name],
            set_={"value": statement.excluded.value},
            where=cursors.c.value < statement.excluded.value,
        )
    )


def _note_delivered(session: Session, sink: str, taken: Sequence[Taken]) -> None:
    now = database_time(session)
    rows = [
        {
            "sink": sink,
            "sequence": item.sequence,
            "attempts": item.attempts,
            "delivered_at": now,
            "last_error": item.last_error,
        }
        for item in taken
    ]
    added = insert_rows(session, _DELIVERY, rows)
    if len(added) == len(taken):
        return
    new = {row.sequence for row in added}
    session.execute(
        update(event_deliveries)
        .where(
            event_deliveries.c.sink == sink,
            event_deliveries.c.sequence.in_([item.sequence for item in taken if item.sequence not in new]),
        )
        .values(attempts=event_deliveries.c.attempts + 1, delivered_at=now)
    )


def sink_cursor(sink: str) -> str:
    """The name of the sink's cursor."""
    return f"{_SINK_CURSOR}{sink}"
