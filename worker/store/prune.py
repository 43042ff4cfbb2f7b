"""Prune: what was kept for long enough is deleted, a short stretch at a time.

A table is walked in an order that has an index and is that of time, or nearly, so that neither what is old nor that
nothing is old is found by reading a table that grows. What is still open is kept, however old it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from sqlalchemy import Column, ColumnElement, and_, delete, exists, func, literal, or_, select, tuple_

from worker.domain.reconcile import ReconcileState
from worker.domain.states import DeliveryState
from worker.store.engine import Session
from worker.store.reconciliations import SCHEDULE
from worker.store.tables import (
    attempts,
    audit_entries,
    cursors,
    deliveries,
    delivery_resources,
    event_deliveries,
    expectations,
    reconciliations,
    replay_items,
    replays,
    resources,
)

Place: TypeAlias = tuple[object, ...]
Conditions: TypeAlias = list[ColumnElement[bool]]

_SINK_CURSOR = "sink:"


@dataclass(frozen=True, slots=True)
class Stock:
    """Rows that are pruned by one rule. `order` is unique and has an index; a walk along it ends where `moment` is no
    longer old. `expendable` says, for a time before which things are old, which of the rows may go; they are known by
    their `key` among those `within` the stock. What hangs on a row by `parts` goes first, because it may be much."""

    order: tuple[Column[object], ...]
    moment: Column[datetime]
    expendable: Callable[[datetime], Conditions]
    within: tuple[ColumnElement[bool], ...] = ()
    parts: Column[object] | None = None

    @property
    def key(self) -> Column[object]:
        """The last column of the order."""
        return self.order[-1]


@dataclass(frozen=True, slots=True)
class Passed:
    """A row that a walk came by: when it was, by its stock's `moment`, and its place in the order."""

    moment: datetime | None
    place: Place

    @property
    def key(self) -> object:
        """What the row is known by."""
        return self.place[-1]


def stretch(session: Session, stock: Stock, *, behind: Place | None, limit: int) -> list[Passed]:
    """The next rows of a stock behind a place, in order."""
    query = select(*stock.order, stock.moment.label("moment")).where(*stock.within)
    if behind is not None:
        values = [literal(value, column.type) for value, column in zip(behind, stock.order, strict=True)]
        query = query.where(tuple_(*stock.order) > tuple_(*values))
    rows = session.execute(query.order_by(*stock.order).limit(limit))
    return [Passed(row.moment, tuple(row)[: len(stock.order)]) for row in rows]


def discard(
    session: Session, stock: Stock, keys: Sequence[object], before: datetime, *, limit: int
) -> tuple[int, bool]:
    """Delete those of the rows that may go, as things stood `before` then. Returns how many, and whether that was all:
    no more than `limit` parts go at a time, and the rows they belong to stay until the last of them is gone.

    A row that somebody holds is left for another time.
    """
    chosen = (
        select(stock.key)
        .where(*stock.within, stock.key.in_(keys), *stock.expendable(before))
        .with_for_update(skip_locked=True)
    )
    going = list(session.execute(chosen).scalars())
    if not going:
        return 0, True
    if stock.parts is not None and _discard_parts(session, stock.parts, going, limit) == limit:
        return 0, False
    session.execute(delete(stock.key.table).where(*stock.within, stock.key.in_(going)))
    return len(going), True


def _discard_parts(session: Session, owner: Column[object], going: Sequence[object], limit: int) -> int:
    table = owner.table
    some = select(*table.primary_key.columns).where(owner.in_(going)).limit(limit)
    found = session.execute(some).all()
    if found:
        session.execute(delete(table).where(tuple_(*table.primary_key.columns).in_([tuple(row) for row in found])))
    return len(found)


def sinks(session: Session) -> list[str]:
    """The sinks that have ever got an event, also those that are configured no more."""
    names = session.execute(select(cursors.c.name).where(cursors.c.name.startswith(_SINK_CURSOR))).scalars()
    return sorted(name.removeprefix(_SINK_CURSOR) for name in names)


_STILL_OPEN = or_(
    resources.c.wanted > resources.c.retrieved, resources.c.due_at.is_not(None), resources.c.parked_at.is_not(None)
)


def _deliveries(before: datetime) -> Conditions:
    tells_of_open_work = (
        select(delivery_resources.c.resource_id)
        .join(resources, resources.c.id == delivery_resources.c.resource_id)
        .where(delivery_resources.c.delivery_id == deliveries.c.id, _STILL_OPEN)
    )
    is_to_be_read_again = (
        select(replay_items.c.position)
        .join(replays, replays.c.id == replay_items.c.replay_id)
        .where(replay_items.c.delivery_id == deliveries.c.id, replays.c.finished_at.is_(None))
    )
    return [
        deliveries.c.received_at < before,
        # It is what a repeat is recognised by, so as long as repeats come it stays.
        or_(deliveries.c.last_repeat_at.is_(None), deliveries.c.last_repeat_at < before),
        deliveries.c.state != DeliveryState.UNREADABLE,
        ~exists(tells_of_open_work),
        ~exists(is_to_be_read_again),
    ]


def _attempts(before: datetime) -> Conditions:
    oldest_replay = select(func.min(replays.c.created_at)).where(replays.c.finished_at.is_(None)).scalar_subquery()
    is_open = select(resources.c.id).where(resources.c.id == attempts.c.resource_id, _STILL_OPEN)
    return [
        attempts.c.started_at < before,
        # A replay looks at the attempts since it began, to tell how its items ended.
        attempts.c.started_at < func.coalesce(oldest_replay, literal(before, attempts.c.started_at.type)),
        # How often something failed in a row decides what becomes of it.
        ~exists(is_open),
    ]


def _reconciliations(before: datetime) -> Conditions:
    later = reconciliations.alias("later")
    of_the_same = and_(later.c.source == reconciliations.c.source, later.c.id > reconciliations.c.id)
    # The schedule looks back to the last of its runs that succeeded.
    succeeded = and_(later.c.state == ReconcileState.FINISHED, later.c.actor == SCHEDULE)
    return [
        reconciliations.c.finished_at < before,
        exists(select(later.c.id).where(of_the_same)),
        or_(
            reconciliations.c.state != ReconcileState.FINISHED,
            reconciliations.c.actor != SCHEDULE,
            exists(select(later.c.id).where(of_the_same, succeeded)),
        ),
    ]


DELIVERIES = Stock((deliveries.c.received_at, deliveries.c.id), deliveries.c.received_at, _deliveries)
ATTEMPTS = Stock((attempts.c.id,), attempts.c.started_at, _attempts)
REPLAYS = Stock(
    (replays.c.created_at, replays.c.id),
    replays.c.created_at,
    lambda before: [replays.c.finished_at < before],
    parts=replay_items.c.replay_id,
)
RECONCILIATIONS = Stock((reconciliations.c.id,), reconciliations.c.started_at, _reconciliations)
EXPECTATIONS = Stock(
    (expectations.c.deadline, expectations.c.id),
    expectations.c.deadline,
    lambda before: [expectations.c.closed_at < before],
)
AUDIT_ENTRIES = Stock(
    (audit_entries.c.id,), audit_entries.c.occurred_at, lambda before: [audit_entries.c.occurred_at < before]
)


def event_deliveries_to(sink: str) -> Stock:
    """The notes of what one sink has got, up to where it will be read on from."""
    position = select(cursors.c.value).where(cursors.c.name == _SINK_CURSOR + sink).scalar_subquery()
    return Stock(
        (event_deliveries.c.sequence,),
        event_deliveries.c.delivered_at,
        lambda before: [event_deliveries.c.delivered_at < before, event_deliveries.c.sequence <= position],
        within=(event_deliveries.c.sink == sink,),
    )
