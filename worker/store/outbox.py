"""Events: written with what they tell of, numbered in order of commit, read by cursor.

An identity column counts in order of insertion, and transactions commit in another order, so a poller that remembers
the last id would skip rows. Numbers are therefore given afterwards, one numberer at a time, to committed rows only:
no event appears behind a number that was seen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, exists, func, literal_column, select, update
from sqlalchemy.orm import Session

from worker.domain.events import Event
from worker.domain.states import EventType, Outcome, Stage
from worker.store.bulk import Insertion, Step, insert_rows, write_together
from worker.store.engine import database_time, insert, is_sqlite
from worker.store.tables import cursors, event_deliveries, events

NUMBERED_AT_ONCE = 500
"""Larger batches would hold the numberer's lock long enough to be noticed by the one who waits for it."""

_EVENTS = "events"
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
    last = session.execute(select(cursors.c.value).where(cursors.c.name == _EVENTS).with_for_update()).scalar_one()
    waiting = (
        select(events.c.position, func.row_number().over(order_by=events.c.position).label("rank"))
        .where(events.c.sequence.is_(None))
        .order_by(events.c.position)
        # Written out, because PostgreSQL takes a limit that it does not know for a tenth of the table.
        .limit(literal_column(str(NUMBERED_AT_ONCE)))
        .subquery()
    )
    numbering = (
        update(events)
        .where(events.c.position == waiting.c.position)
        .values(sequence=last + waiting.c.rank)
        .returning(events.c.position)
    )
    if is_sqlite(session):
        count = len(session.execute(numbering).all())
        session.execute(update(cursors).where(cursors.c.name == _EVENTS).values(value=last + count))
        return count
    numbered = numbering.cte("numbered")
    count_all = select(func.count()).select_from(numbered).scalar_subquery()
    moved = session.execute(
        update(cursors)
        .where(cursors.c.name == _EVENTS, exists(select(numbered.c.position)))
        .values(value=last + count_all)
        .returning(cursors.c.value)
    ).scalar_one_or_none()
    return 0 if moved is None else moved - last


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


def unread(session: Session, sink: str, limit: int) -> list[NumberedEvent]:
    """The events that `sink` has not got yet, in order."""
    after = select(cursors.c.value).where(cursors.c.name == _sink_cursor(sink)).scalar_subquery()
    query = select(*events.c).where(events.c.sequence > func.coalesce(after, 0))
    return [_numbered(row) for row in session.execute(query.order_by(events.c.sequence).limit(limit)).all()]


def behind(session: Session, sinks: Iterable[str]) -> frozenset[str]:
    """Those of `sinks` that have not got every numbered event yet."""
    values = {row.name: row.value for row in session.execute(select(cursors.c.name, cursors.c.value))}
    return frozenset(sink for sink in sinks if values.get(_sink_cursor(sink), 0) < values.get(_EVENTS, 0))


def delivered(session: Session, sink: str, sequences: Iterable[int], *, position: int) -> None:
    """Note that `sink` has got these events, and move its cursor to `position`, the last that it got or need not
    get."""
    taken = sorted(sequences)
    if taken:
        _note_delivered(session, sink, taken)
    statement = insert(session, cursors).values(name=_sink_cursor(sink), value=position)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[cursors.c.name],
            set_={"value": statement.excluded.value},
            where=cursors.c.value < statement.excluded.value,
        )
    )


def _note_delivered(session: Session, sink: str, taken: Sequence[int]) -> None:
    now = database_time(session)
    rows = [{"sink": sink, "sequence": item, "attempts": 1, "delivered_at": now} for item in taken]
    added = insert_rows(session, _DELIVERY, rows)
    if len(added) == len(taken):
        return
    new = {row.sequence for row in added}
    session.execute(
        update(event_deliveries)
        .where(event_deliveries.c.sink == sink, event_deliveries.c.sequence.in_(set(taken) - new))
        .values(attempts=event_deliveries.c.attempts + 1, delivered_at=now)
    )


def _sink_cursor(sink: str) -> str:
    return f"sink:{sink}"
