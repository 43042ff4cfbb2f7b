"""Events that a sink has not got although its cursor has passed them: those that it refused, those that wait behind one
of the same resource, and those that were given up.

Of the waiting events of a resource the first has a time, and the others have none until it is gone.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, delete, func, select, update

from worker.domain.states import UndeliveredState
from worker.store.bulk import Insertion, insert_rows
from worker.store.engine import Session, insert
from worker.store.outbox import NumberedEvent, numbered
from worker.store.sink_tables import undelivered_events
from worker.store.tables import event_deliveries, events

_SET_ASIDE = Insertion(undelivered_events, key=("sink", "sequence"))
_WAITING = undelivered_events.c.state == UndeliveredState.WAITING


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits: how often it was tried, since when it waits (None: since now), and what it failed with."""

    item: NumberedEvent
    attempts: int = 0
    since: datetime | None = None
    last_error: str | None = None

    @property
    def resource(self) -> str:
        """What it is about."""
        return self.item.event.resource


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that was refused: after how many attempts in all, why, and when it is tried again."""

    item: NumberedEvent
    attempts: int
    error: str
    since: datetime
    due_at: datetime


def due(session: Session, sink: str, now: datetime, *, resources: int, limit: int) -> list[Waiting]:
    """What waits about some resources whose time has come: all their events in order, up to a limit."""
    mine = and_(undelivered_events.c.sink == sink, _WAITING)
    chosen = (
        select(undelivered_events.c.resource)
        .where(mine, undelivered_events.c.due_at <= now)
        .order_by(undelivered_events.c.due_at)
        .limit(resources)
    )
    names = set(session.execute(chosen).scalars())
    if not names:
        return []
    query = (
        select(*events.c, undelivered_events.c.attempts, undelivered_events.c.since, undelivered_events.c.last_error)
        .join(events, events.c.sequence == undelivered_events.c.sequence)
        .where(mine, undelivered_events.c.resource.in_(sorted(names)))
        .order_by(undelivered_events.c.sequence)
        .limit(limit)
    )
    return [Waiting(numbered(row), row.attempts, row.since, row.last_error) for row in session.execute(query)]


def blocked(session: Session, sink: str, resources: Collection[str]) -> set[str]:
    """Those of the resources of which an event waits."""
    query = select(undelivered_events.c.resource).where(
        undelivered_events.c.sink == sink, _WAITING, undelivered_events.c.resource.in_(sorted(resources))
    )
    return set(session.execute(query.distinct()).scalars()) if resources else set()


def count_waiting(session: Session, sink: str, most: int) -> int:
    """How many events wait, counted up to `most`."""
    some = select(undelivered_events.c.sequence).where(undelivered_events.c.sink == sink, _WAITING).limit(most)
    return session.execute(select(func.count()).select_from(some.subquery())).scalar_one()


def wait_behind(session: Session, sink: str, followers: Iterable[NumberedEvent], now: datetime) -> None:
    """Let events wait behind others of their resource."""
    _insert(session, sink, [(item, UndeliveredState.WAITING, 0, None) for item in followers], now)


def give_up(session: Session, sink: str, some: Iterable[tuple[NumberedEvent, int, str]], now: datetime) -> None:
    """Pass over events that do not wait yet, for good: each with its attempts and its last error."""
    rows = [(item, UndeliveredState.GIVEN_UP, attempts, error) for item, attempts, error in some]
    _insert(session, sink, rows, now)


def _insert(
    session: Session,
    sink: str,
    some: Sequence[tuple[NumberedEvent, UndeliveredState, int, str | None]],
    now: datetime,
) -> None:
    rows = [
        {
            "sink": sink,
            "sequence": item.sequence,
            "resource": item.event.resource,
            "state": state,
            "attempts": attempts,
            "since": now,
            "due_at": None,
            "last_error": error,
        }
        for item, state, attempts, error in some
    ]
    insert_rows(session, _SET_ASIDE, rows)


def refuse(session: Session, sink: str, refused: Refused) -> None:
    """Let a refused event wait until its time, and what follows it about the same resource with it."""
    values = {
        "state": UndeliveredState.WAITING,
        "attempts": refused.attempts,
        "due_at": refused.due_at,
        "last_error": refused.error,
    }
    key = {"sink": sink, "sequence": refused.item.sequence}
    fixed = {"resource": refused.item.event.resource, "since": refused.since}
    statement = insert(session, undelivered_events).values(**key, **fixed, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["sink", "sequence"], set_=values))
    session.execute(
        update(undelivered_events)
        .where(
            undelivered_events.c.sink == sink,
            _WAITING,
            undelivered_events.c.resource == refused.item.event.resource,
            undelivered_events.c.sequence > refused.item.sequence,
            undelivered_events.c.due_at.is_not(None),
        )
        .values(due_at=None)
    )


def give_up_waiting(session: Session, sink: str, refused: Refused, now: datetime) -> None:
    """Try a refused event no more."""
    refuse(session, sink, refused)
    session.execute(
        update(undelivered_events)
        .where(undelivered_events.c.sink == sink, undelivered_events.c.sequence == refused.item.sequence)
        .values(state=UndeliveredState.GIVEN_UP, since=now, due_at=None)
    )


def last_were_given_up(session: Session, sink: str, most: int) -> bool:
    """Whether so many events were given up behind the last that the sink has taken."""
    last = select(func.max(event_deliveries.c.sequence)).where(event_deliveries.c.sink == sink).scalar_subquery()
    query = select(undelivered_events.c.sequence).where(
        undelivered_events.c.sink == sink,
        undelivered_events.c.state == UndeliveredState.GIVEN_UP,
        undelivered_events.c.sequence > func.coalesce(last, 0),
    )
    return session.execute(query.offset(most - 1).limit(1)).first() is not None


def arrived(session: Session, sink: str, sequences: Collection[int]) -> None:
    """Forget about events that the sink has got."""
    session.execute(
        delete(undelivered_events).where(
            undelivered_events.c.sink == sink, undelivered_events.c.sequence.in_(sorted(sequences))
        )
    )


def wake_first(session: Session, sink: str, resources: Collection[str], now: datetime) -> None:
    """Let the first event that waits about each of these resources be due, if none about it has a time."""
    if not resources:
        return
    other = undelivered_events.alias("other")
    waiting = and_(other.c.sink == sink, other.c.state == UndeliveredState.WAITING)
    first = (
        select(func.min(other.c.sequence))
        .where(waiting, other.c.resource == undelivered_events.c.resource)
        .scalar_subquery()
    )
    session.execute(
        update(undelivered_events)
        .where(
            undelivered_events.c.sink == sink,
            _WAITING,
            undelivered_events.c.resource.in_(sorted(resources)),
            undelivered_events.c.due_at.is_(None),
            undelivered_events.c.sequence == first,
        )
        .values(due_at=now)
    )


def send_again(session: Session, sink: str, some: Sequence[NumberedEvent], now: datetime) -> int:
    """Let events wait that are to be sent again, whether they were given up or delivered; returns how many of them did
    not wait yet."""
    changed = 0
    for item in some:
        values = {"state": UndeliveredState.WAITING, "since": now, "due_at": None}
        key = {"sink": sink, "sequence": item.sequence, "resource": item.event.resource}
        again = (
            insert(session, undelivered_events)
            .values(**key, **values)
            .on_conflict_do_update(
                index_elements=["sink", "sequence"],
                set_=values,
                where=undelivered_events.c.state == UndeliveredState.GIVEN_UP,
            )
        )
        changed += len(session.execute(again.returning(undelivered_events.c.sequence)).all())
    wake_first(session, sink, {item.event.resource for item in some}, now)
    return changed
