"""The event log as pollers read it: gap-free and in order, by the last sequence that they saw."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from worker.domain.events import EVERYTHING, EventFilter, News
from worker.domain.model import ResourceKey
from worker.reports.build import each
from worker.store import query_events, query_work
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


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events in order, the sequence to read on behind, and whether nothing was behind that when it was read."""

    items: tuple[EventRow, ...]
    next_after: int
    at_end: bool


def events(session: Session, *, after: int, limit: int, wanted: EventFilter = EVERYTHING) -> EventPage:
    """The events behind the sequence `after`. No event ever appears behind a sequence that was seen.

    With a filter a page may have fewer than `limit` items, or none, and still not be the last: what it passes over is
    limited too, and `next_after` is behind it.
    """
    found = query_events.page(session, wanted, after=after, limit=limit)
    return EventPage(each(EventRow, found.records), found.next_after, found.at_end)


def news(session: Session, *, after: int, limit: int) -> list[News]:
    """The events behind `after`, with as much of each as a filter looks at."""
    return query_events.news(session, after, limit)


def newest_events(session: Session, *, limit: int, wanted: EventFilter = EVERYTHING) -> EventPage:
    """The last events, in order. A filter looks at the last 100,000 only."""
    found = query_events.newest(session, wanted, limit=limit)
    return EventPage(each(EventRow, found.records), found.next_after, found.at_end)


def events_of(session: Session, key: ResourceKey, *, limit: int) -> tuple[EventRow, ...]:
    """The last events of one resource, in order."""
    return each(EventRow, query_work.events_of(session, key, limit=limit))
