"""The event log as pollers read it: gap-free and in order, by the last sequence that they saw."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from worker.domain.model import ResourceKey
from worker.reports.build import each
from worker.store import query_work
from worker.store.engine import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event, as in `v1_events`."""

    sequence: int
    id: str
    type: str
    source: str
    kind: str | None
    external_id: str | None
    version: int | None
    stage: str | None
    outcome: str | None
    occurred_at: datetime
    data: Mapping[str, object]


def events(session: Session, *, after: int, limit: int) -> tuple[EventRow, ...]:
    """The events behind the sequence `after`. No event ever appears behind a sequence that was seen."""
    return each(EventRow, query_work.event_list(session, after=after, limit=limit))


def newest_events(session: Session, *, limit: int) -> tuple[EventRow, ...]:
    """The last events, in order."""
    return each(EventRow, query_work.newest_events(session, limit=limit))


def events_of(session: Session, key: ResourceKey, *, limit: int) -> tuple[EventRow, ...]:
    """The last events of one resource, in order."""
    return each(EventRow, query_work.events_of(session, key, limit=limit))
