"""Reading the work: resources and where they stand, attempts, deliveries and events. Nothing here writes."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, and_, case, literal_column, not_, select

from worker.domain.model import ResourceKey
from worker.domain.states import DeliveryState, ResourceState
from worker.store.engine import Session, database_time
from worker.store.query import Record, record, records, unindexed
from worker.store.tables import attempts, deliveries, delivery_resources, events, resources

Found = TypeVar("Found")

LOOKED_AT_ONCE = 10_000
MOST_LOOKS = 10
"""Where a list takes only some rows, it looks at the newest so many, so many times. Of what is rare it would look at
every row there is; these are read within a tenth of a second."""


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
    """Resources with their `state`: the open ones longest waiting first, all others newest first, and of these, if only
    some are wanted, those among the newest LOOKED_AT_ONCE * MOST_LOOKS."""
    now = database_time(session)
    query = select(*_RESOURCE, _state(now)).where(*_equal(wanted))
    if wanted.state is not None:
        query = query.where(state_conditions(now)[wanted.state])
    if wanted.state in (ResourceState.WAITING, ResourceState.CLAIMED):
        # Said twice, because the index of open work is chosen by these words.
        query = query.where(resources.c.wanted_since.is_not(None)).order_by(resources.c.wanted_since)
    elif wanted.state is ResourceState.PARKED or (wanted.state is None and wanted.reason is not None):
        query = query.where(resources.c.parked_at.is_not(None)).order_by(resources.c.parked_at.desc())
    elif _equal(wanted):
        return _sift(session, query.order_by(resources.c.id.desc()), resources.c.id, limit)
    return records(session, query.order_by(resources.c.id.desc()).limit(limit))


def _sift(
    session: Session, query: "Select[tuple[object, ...]]", order: ColumnElement[Found], limit: int
) -> list[Record]:
    """Rows of a query that takes only some, newest first by `order`, which has an index: a stretch at a time, because
    most lists are full after the first."""
    found: list[Record] = []
    behind: Found | None = None
    for _ in range(MOST_LOOKS):
        here = query if behind is None else query.where(order < behind)
        until = _reach(session, order, behind)
        if until is not None:
            here = here.where(order >= until)
        found += records(session, here.limit(limit - len(found)))
        if until is None or len(found) >= limit:
            break
        behind = until
    return found


def _reach(session: Session, order: ColumnElement[Found], behind: Found | None) -> Found | None:
    """How far the next LOOKED_AT_ONCE rows go; None if there are fewer."""
    query = select(order).order_by(order.desc()).offset(LOOKED_AT_ONCE - 1).limit(1)
    if behind is not None:
        query = query.where(order < behind)
    return session.execute(query).scalar_one_or_none()


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
    """Attempts, newest first; if only some are wanted, those among the newest LOOKED_AT_ONCE * MOST_LOOKS."""
    equal = {
        unindexed(resources.c.source): wanted.source,
        attempts.c.outcome: wanted.outcome,
        attempts.c.error: wanted.error,
    }
    query = select(*_ATTEMPT).join(resources, resources.c.id == attempts.c.resource_id)
    conditions = [column == value for column, value in equal.items() if value is not None]
    query = query.where(*conditions).order_by(attempts.c.id.desc())
    return _sift(session, query, attempts.c.id, limit) if conditions else records(session, query.limit(limit))


def attempts_of(session: Session, key: ResourceKey, *, limit: int) -> list[Record]:
    """One resource's attempts, newest first."""
    query = select(*_ATTEMPT).join(resources, resources.c.id == attempts.c.resource_id).where(*_is(key))
    return records(session, query.order_by(attempts.c.number.desc()).limit(limit))


def delivery_list(session: Session, wanted: DeliveryFilter, *, limit: int) -> list[Record]:
    """Deliveries, newest first; if only some are wanted, those among the newest LOOKED_AT_ONCE * MOST_LOOKS, but all
    that could not be read. Their bodies stay where they are."""
    equal = {
        unindexed(deliveries.c.source): wanted.source,
        deliveries.c.state: wanted.state,
        deliveries.c.event_type: wanted.event_type,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    query = select(*_DELIVERY).order_by(deliveries.c.received_at.desc(), deliveries.c.id.desc()).where(*conditions)
    if wanted.state == DeliveryState.UNREADABLE:
        # The state stands in the statement itself, because that is how the index of such deliveries is recognised.
        query = query.where(deliveries.c.state == literal_column(f"'{DeliveryState.UNREADABLE}'"))
    elif conditions:
        return _sift(session, query, deliveries.c.received_at, limit)
    return records(session, query.limit(limit))


def deliveries_of(session: Session, key: ResourceKey, *, limit: int) -> list[Record]:
    """The deliveries that told of one resource, newest first."""
    query = (
        select(*_DELIVERY)
        .join(delivery_resources, delivery_resources.c.delivery_id == deliveries.c.id)
        .join(resources, resources.c.id == delivery_resources.c.resource_id)
        .where(*_is(key))
    )
    return records(session, query.order_by(deliveries.c.received_at.desc(), deliveries.c.id.desc()).limit(limit))


def events_of(session: Session, key: ResourceKey, *, limit: int) -> list[Record]:
    """The last numbered events of one resource, in order."""
    query = select(*_EVENT).where(
        events.c.source == key.source,
        events.c.kind == key.ref.kind,
        events.c.external_id == key.ref.external_id,
        events.c.sequence.is_not(None),
    )
    return records(session, query.order_by(events.c.sequence.desc()).limit(limit))[::-1]
