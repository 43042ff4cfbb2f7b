"""Events: written with what they tell of, numbered in order of commit, read by cursor.

An identity column counts in order of insertion, and transactions commit in another order, so a poller that remembers
the last id would skip rows. Numbers are therefore given afterwards, one numberer at a time, to committed rows only:
no event appears behind a number that was seen.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, func, select, update
from sqlalchemy.orm import Session

from worker.domain.events import Event
from worker.domain.states import EventType, Outcome, Stage
from worker.store.engine import database_time, insert
from worker.store.tables import cursors, event_deliveries, events

NUMBERED_AT_ONCE = 500
"""Larger batches would hold the numberer's lock long enough to be noticed by the one who waits for it."""

_EVENTS = "events"


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """An event as its readers see it: with its place in the order, and when it happened."""

    sequence: int
    occurred_at: datetime
    event: Event
    id: str


def append(session: Session, new: Iterable[Event], now: datetime) -> None:
    """Write events into the outbox. One that is there already is not written again."""
    rows = [
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
    if rows:
        session.execute(insert(session, events).on_conflict_do_nothing(index_elements=[events.c.id]), rows)


def number(session: Session) -> int:
    """Number committed events that have no number yet; returns how many. Waits for another numberer to commit."""
    last = session.execute(select(cursors.c.value).where(cursors.c.name == _EVENTS).with_for_update()).scalar_one()
    waiting = (
        select(events.c.position, func.row_number().over(order_by=events.c.position).label("rank"))
        .where(events.c.sequence.is_(None))
        .order_by(events.c.position)
        .limit(NUMBERED_AT_ONCE)
        .subquery()
    )
    numbered = session.execute(
        update(events)
        .where(events.c.position == waiting.c.position)
        .values(sequence=last + waiting.c.rank)
        .returning(events.c.position)
    ).all()
    if numbered:
        session.execute(update(cursors).where(cursors.c.name == _EVENTS).values(value=last + len(numbered)))
    return len(numbered)


def any_unnumbered(session: Session) -> bool:
    """Whether events wait for their number."""
    return session.execute(select(events.c.position).where(events.c.sequence.is_(None)).limit(1)).first() is not None


def read(session: Session, after: int, limit: int) -> list[NumberedEvent]:
    """The events behind the cursor `after`, in order."""
    rows = session.execute(
        select(*events.c).where(events.c.sequence > after).order_by(events.c.sequence).limit(limit)
    ).all()
    return [_numbered(row) for row in rows]


def _numbered(row: Row[tuple[object, ...]]) -> NumberedEvent:
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
    found = session.execute(select(cursors.c.value).where(cursors.c.name == _sink_cursor(sink))).scalar_one_or_none()
    return found or 0


def delivered(session: Session, sink: str, sequences: Iterable[int]) -> None:
    """Note that `sink` has got these events, and move its cursor to the last of them."""
    now = database_time(session)
    taken = sorted(sequences)
    if not taken:
        return
    rows = [{"sink": sink, "sequence": item, "attempts": 1, "delivered_at": now} for item in taken]
    session.execute(
        insert(session, event_deliveries).on_conflict_do_update(
            index_elements=[event_deliveries.c.sink, event_deliveries.c.sequence],
            set_={"attempts": event_deliveries.c.attempts + 1, "delivered_at": now},
        ),
        rows,
    )
    statement = insert(session, cursors).values(name=_sink_cursor(sink), value=taken[-1])
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[cursors.c.name],
            set_={"value": statement.excluded.value},
            where=cursors.c.value < statement.excluded.value,
        )
    )


def _sink_cursor(sink: str) -> str:
    return f"sink:{sink}"
