"""The work as operators see it: resources and where they stand, attempts, deliveries, and all about one of them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from worker.domain.model import ResourceKey
from worker.reports import results
from worker.reports.build import each, one
from worker.reports.events import EventRow, events_of
from worker.store import query_work
from worker.store.engine import Session
from worker.store.query_work import AttemptFilter, DeliveryFilter, ResourceFilter

__all__ = [
    "Attempt",
    "AttemptFilter",
    "Delivery",
    "DeliveryFilter",
    "Resource",
    "ResourceFilter",
    "Story",
    "attempts",
    "deliveries",
    "resource",
    "resources",
    "story",
]

STORY_LINES = 50
"""Of each kind, for one resource. Older lines are in the lists; a page of thousands helps nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Where a resource stands. `state` is a ResourceState; `wanted` and `retrieved` differ while work is open."""

    id: int
    source: str
    provider: str
    environment: str
    kind: str
    external_id: str
    state: str
    created_at: datetime
    cause: str
    priority: int
    wanted: int
    retrieved: int
    wanted_since: datetime | None
    due_at: datetime | None
    attempts: int
    failures: int
    crashes: int
    version: int
    provider_updated_at: datetime | None
    parks: int
    parked_at: datetime | None
    park_reason: str | None
    park_step: str | None
    park_fingerprint: str | None
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One retrieve call, and how it ended; without an outcome it is under way."""

    source: str
    kind: str
    external_id: str
    number: int
    cause: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    error: str | None
    detail: str | None
    http_status: int | None
    request_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One request of a provider, without its body."""

    id: UUID
    source: str
    event_id: str | None
    event_type: str | None
    state: str
    reason: str | None
    body_sha256: str
    occurred_at: datetime | None
    received_at: datetime
    repeats: int
    last_repeat_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All about one resource: its versions, attempts and deliveries newest first, its events in order."""

    resource: Resource
    result: results.ResultDetail | None
    versions: tuple[results.Version, ...]
    attempts: tuple[Attempt, ...]
    deliveries: tuple[Delivery, ...]
    events: tuple[EventRow, ...]


def resources(session: Session, wanted: ResourceFilter, *, limit: int) -> tuple[Resource, ...]:
    """Resources: the open ones longest waiting first, all others newest first."""
    return each(Resource, query_work.resource_list(session, wanted, limit=limit))


def resource(session: Session, key: ResourceKey) -> Resource | None:
    """One resource; None if nobody ever wanted it."""
    return one(Resource, query_work.resource(session, key))


def attempts(session: Session, wanted: AttemptFilter, *, limit: int) -> tuple[Attempt, ...]:
    """Attempts, newest first."""
    return each(Attempt, query_work.attempt_list(session, wanted, limit=limit))


def deliveries(session: Session, wanted: DeliveryFilter, *, limit: int) -> tuple[Delivery, ...]:
    """Deliveries, newest first."""
    return each(Delivery, query_work.delivery_list(session, wanted, limit=limit))


def story(session: Session, key: ResourceKey) -> Story | None:
    """All about one resource; None if nobody ever wanted it."""
    found = resource(session, key)
    if found is None:
        return None
    return Story(
        resource=found,
        result=results.result(session, key),
        versions=results.history(session, key, limit=STORY_LINES, newest_first=True),
        attempts=each(Attempt, query_work.attempts_of(session, key, limit=STORY_LINES)),
        deliveries=each(Delivery, query_work.deliveries_of(session, key, limit=STORY_LINES)),
        events=events_of(session, key, limit=STORY_LINES),
    )
