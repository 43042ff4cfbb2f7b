"""How the sinks stand: how far behind, what waits, who holds them. Cheap at any size of the database."""

from collections.abc import Iterable
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
