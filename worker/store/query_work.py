"""Reading the work: resources and where they stand, attempts, deliveries and events. Nothing here writes."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, not_, select

from worker.domain.model import ResourceKey
from worker.domain.states import ResourceState
from worker.store.engine import Session, database_time
from worker.store.query import Record, record, records, unindexed
from worker.store.tables import attempts, deliveries, delivery_resources, events, resources


@dataclass(frozen=True, slots=True)
class ResourceFilter:
    """Which resources; None is all. `reason` is the reason of parking."""

    source: str | None = None
    provider: str | None = None
    kind: str | None = None
    state: ResourceState | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries; None is all. `event_type` is the provider's."""

    source: str | None = None
    state: str | None = None
    event_type: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptFilter:
    """Which attempts; None is all. `error` is the kind of failure."""

    source: str | None = None
    outcome: str | None = None
    error: str | None = None


_RESOURCE = tuple(column for column in resources.c if column.name not in ("claim_token", "read_started_at"))
_DELIVERY = tuple(column for column in deliveries.c if column.name != "delivery_key")
_NAMES = (resources.c.source, resources.c.kind, resources.c.external_id)
_ATTEMPT = (*_NAMES, *(column for column in attempts.c if column.name not in ("id", "resource_id")))
_EVENT = tuple(column for column in events.c if column.name != "position")


def state_conditions(now: datetime) -> dict[ResourceState, ColumnElement[bool]]:
    """Where a resource stands, as conditions of which exactly one holds for each row."""
    parked = resources.c.parked_at.is_not(None)
    due = and_(not_(parked), resources.c.due_at.is_not(None))
    claimed = and_(due, resources.c.claim_token.is_not(None), resources.c.due_at > now)
    return {
        ResourceState.PARKED: parked,
        ResourceState.CLAIMED: claimed,
        ResourceState.WAITING: and_(due, not_(and_(resources.c.claim_token.is_not(None), resources.c.due_at > now))),
        ResourceState.SETTLED: and_(not_(parked), resources.c.due_at.is_(None)),
    }


def resource_list(session: Session, wanted: ResourceFilter, *, limit: int) -> list[Record]:
    """Resources with their `state`: the open ones longest waiting first, all others newest first."""
    now = database_time(session)
    query = select(*_RESOURCE, _state(now)).where(*_equal(wanted)).limit(limit)
    if wanted.state is not None:
        query = query.where(state_conditions(now)[wanted.state])
    if wanted.state in (ResourceState.WAITING, ResourceState.CLAIMED):
        # Said twice, because the index of open work is chosen by these words.
        query = query.where(resources.c.wanted_since.is_not(None)).order_by(resources.c.wanted_since)
    elif wanted.state is ResourceState.PARKED:
        query = query.order_by(resources.c.parked_at.desc())
    return records(session, query.order_by(resources.c.id.desc()))


def _equal(wanted: ResourceFilter) -> list[ColumnElement[bool]]:
    equal = {
        unindexed(resources.c.source): wanted.source,
        unindexed(resources.c.provider): wanted.provider,
        unindexed(resources.c.kind): wanted.kind,
        resources.c.park_reason: wanted.reason,
    }
    return [column == value for column, value in equal.items() if value is not None]


def resource(session: Session, key: ResourceKey) -> Record | None:
    """One resource with its `state`; None if nobody ever wanted it."""
    return record(session, select(*_RESOURCE, _state(database_time(session))).where(*_is(key)))


def _state(now: datetime) -> ColumnElement[str]:
    conditions = state_conditions(now)
    return case(*((condition, str(state)) for state, condition in conditions.items())).label("state")


def _is(key: ResourceKey) -> tuple[ColumnElement[bool], ...]:
    return (
        resources.c.source == key.source,
        resources.c.kind == key.ref.kind,
        resources.c.external_id == key.ref.external_id,
    )


def attempt_list(session: Session, wanted: AttemptFilter, *, limit: int) -> list[Record]:
    """Attempts, newest first."""
    equal = {
        unindexed(resources.c.source): wanted.source,
        attempts.c.outcome: wanted.outcome,
        attempts.c.error: wanted.error,
    }
    query = select(*_ATTEMPT).join(resources, resources.c.id == attempts.c.resource_id)
    conditions = [column == value for column, value in equal.items() if value is not None]
    return records(session, query.where(*conditions).order_by(attempts.c.id.desc()).limit(limit))


def attempts_of(session: Session, key: ResourceKey, *, limit: int) -> list[Record]:
    """One resource's attempts, newest first."""
    query = select(*_ATTEMPT).join(resources, resources.c.id == attempts.c.resource_id).where(*_is(key))
    return records(session, query.order_by(attempts.c.number.desc()).limit(limit))


def delivery_list(session: Session, wanted: DeliveryFilter, *, limit: int) -> list[Record]:
    """Deliveries, newest first; their bodies stay where they are."""
    equal = {
        unindexed(deliveries.c.source): wanted.source,
        deliveries.c.state: wanted.state,
        deliveries.c.event_type: wanted.event_type,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    query = select(*_DELIVERY).where(*conditions)
    return records(session, query.order_by(deliveries.c.received_at.desc(), deliveries.c.id.desc()).limit(limit))


def deliveries_of(session: Session, key: ResourceKey, *, limit: int) -> list[Record]:
    """The deliveries that told of one resource, newest first."""
    query = (
        select(*_DELIVERY)
        .join(delivery_resources, delivery_resources.c.delivery_id == deliveries.c.id)
        .join(resources, resources.c.id == delivery_resources.c.resource_id)
        .where(*_is(key))
    )
    return records(session, query.order_by(deliveries.c.received_at.desc(), deliveries.c.id.desc()).limit(limit))


def event_list(session: Session, *, after: int, limit: int) -> list[Record]:
    """The numbered events behind `after`, in order, as `v1_events` shows them."""
    query = select(*_EVENT).where(events.c.sequence > after)
    return records(session, query.order_by(events.c.sequence).limit(limit))


def newest_events(session: Session, *, limit: int) -> list[Record]:
    """The last numbered events, in order."""
    query = select(*_EVENT).where(events.c.sequence.is_not(None))
    return records(session, query.order_by(events.c.sequence.desc()).limit(limit))[::-1]


def events_of(session: Session, key: ResourceKey, *, limit: int) -> list[Record]:
    """The last numbered events of one resource, in order."""
    query = select(*_EVENT).where(
        events.c.source == key.source,
        events.c.kind == key.ref.kind,
        events.c.external_id == key.ref.external_id,
        events.c.sequence.is_not(None),
    )
    return records(session, query.order_by(events.c.sequence.desc()).limit(limit))[::-1]
