"""How the sinks stand: how far behind, what waits, who holds them. Cheap at any size of the database."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from worker.domain.states import UndeliveredState
from worker.store import query_sinks, query_status
from worker.store.engine import Session, database_time

MOST_COUNTED = 10_000
"""Past this, how many more events wait or were given up makes no difference to anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkState:
    """How one sink stands. `behind` counts the numbered events after `position`; `waiting` those before it that were
    refused, or stand behind one that was, and `given_up` those that nobody tries any more: both stop at MOST_COUNTED.
    `oldest_seconds` is the age of the oldest event that it is still to get."""

    name: str
    position: int
    behind: int
    oldest_seconds: float | None
    waiting: int
    given_up: int
    held_at: datetime | None
    hold_reason: str | None


def sink_states(session: Session, names: Iterable[str]) -> list[SinkState]:
    """How these sinks stand, in this order; one that never began stands at the beginning."""
    now = database_time(session)
    cursors = query_status.cursor_values(session)
    troubles = query_sinks.troubles(session)
    return [
        _state(session, name, cursors.get("events", 0), cursors.get(f"sink:{name}", 0), now, troubles.get(name, {}))
        for name in names
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """How one sink stands, with what an operator wants to know besides. `state` is `active`, `held`, `away` (nothing
    is taken, and it is tried again), `refusing` (some events are refused), or `removed` for one that is configured no
    more. `lag` is how many numbered events are behind its position."""

    sink: str
    state: str
    position: int
    lag: int
    oldest_seconds: float | None
    waiting: int
    given_up: int
    held_at: datetime | None
    hold_reason: str | None
    away_since: datetime | None
    failures: int
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDelivery:
    """What became of one event at one sink: `state` is `delivered`, `waiting` or `given_up`. `due_at` is when one that
    waits is tried next, unless it waits for one before it."""

    sink: str
    sequence: int
    id: str
    type: str
    source: str
    kind: str | None
    external_id: str | None
    occurred_at: datetime
    state: str
    attempts: int
    delivered_at: datetime | None
    due_at: datetime | None
    last_error: str | None


def sink_list(session: Session, names: Iterable[str] | None = None) -> tuple[SinkStatus, ...]:
    """How the configured sinks stand, by name, and then those that are configured no more. Without `names` every sink
    that ever got anything counts as configured."""
    cursors = query_status.cursor_values(session)
    known = {name.removeprefix("sink:") for name in cursors if name.startswith("sink:")}
    configured = known if names is None else set(names)
    troubles = query_sinks.troubles(session)
    found = sink_states(session, [*sorted(configured), *sorted(known - configured)])
    return tuple(_status(item, troubles.get(item.name, {}), item.name in configured) for item in found)


def one_sink(session: Session, name: str) -> SinkStatus:
    """One configured sink."""
    [found] = [item for item in sink_list(session, [name]) if item.sink == name]
    return found


def _status(item: SinkState, trouble: query_sinks.Record, configured: bool) -> SinkStatus:
    failures = cast("int", trouble.get("failures", 0))
    state = "held" if item.held_at else "away" if failures else "refusing" if item.waiting else "active"
    return SinkStatus(
        sink=item.name,
        state=state if configured else "removed",
        position=item.position,
        lag=item.behind,
        oldest_seconds=item.oldest_seconds,
        waiting=item.waiting,
        given_up=item.given_up,
        held_at=item.held_at,
        hold_reason=item.hold_reason,
        away_since=cast("datetime | None", trouble.get("away_since")),
        failures=failures,
        last_error=cast("str | None", trouble.get("last_error")),
    )


def delivery_log(session: Session, sink: str, state: str, *, limit: int) -> tuple[EventDelivery, ...]:
    """What became of events at a sink: the last that were `delivered`, newest first, or the first that are `waiting`
    or were `given_up`. Lines of delivered events are kept for KEEP_EVENT_DELIVERIES_DAYS."""
    if state == "delivered":
        found = query_sinks.log_delivered(session, sink, limit)
    else:
        found = query_sinks.log_undelivered(session, sink, UndeliveredState(state), limit)
    return tuple(_delivery({"sink": sink, **record}) for record in found)


def deliveries_of(session: Session, names: Iterable[str], sequences: Iterable[int]) -> tuple[EventDelivery, ...]:
    """What is known of some events at some sinks. One that was delivered, and is to be sent again, has two lines."""
    return tuple(map(_delivery, query_sinks.log_of_events(session, list(names), list(sequences))))


def sequence_of(session: Session, event_id: str) -> int | None:
    """The number of an event; None if there is no such event, or it has none yet."""
    return query_sinks.sequence_of(session, event_id)


def _delivery(record: query_sinks.Record) -> EventDelivery:
    make: Callable[..., EventDelivery] = EventDelivery
    return make(**record)


def _state(
    session: Session, name: str, last: int, position: int, now: datetime, trouble: query_sinks.Record
) -> SinkState:
    oldest = query_sinks.oldest(session, name, position)
    return SinkState(
        name=name,
        position=position,
        behind=max(last - position, 0),
        oldest_seconds=None if oldest is None else max((now - oldest).total_seconds(), 0.0),
        waiting=query_sinks.count(session, name, UndeliveredState.WAITING, MOST_COUNTED),
        given_up=query_sinks.count(session, name, UndeliveredState.GIVEN_UP, MOST_COUNTED),
        held_at=cast("datetime | None", trouble.get("held_at")),
        hold_reason=cast("str | None", trouble.get("hold_reason")),
    )
