"""What a selection chooses, as SQL: resources by their rows, and for `reingest` deliveries by theirs."""

import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, literal_column, null, or_, select

from worker.domain.replays import PARK_REASONS, Lane, ReplayLevel, Selection
from worker.domain.states import DeliveryState, ResourceState
from worker.store.engine import Session, database_time
from worker.store.query import unindexed
from worker.store.query_lanes import FINGERPRINT, IS_UNREADABLE, STEP, unreadable_reasons
from worker.store.query_work import state_conditions
from worker.store.tables import deliveries, delivery_resources, resources, results

_OPEN = (ResourceState.WAITING, ResourceState.CLAIMED)


@dataclass(frozen=True, slots=True)
class Chosen:
    """One thing that a selection chose: a resource, or a delivery."""

    source: str
    resource_id: int | None
    delivery_id: uuid.UUID | None


def chosen(session: Session, level: ReplayLevel, selection: Selection) -> "Select[tuple[object, ...]]":
    """The rows that are chosen now, as `source`, `resource_id` and `delivery_id`; no order."""
    if level is ReplayLevel.REINGEST:
        columns = (deliveries.c.source, null().label("resource_id"), deliveries.c.id.label("delivery_id"))
        return select(*columns).where(*_delivery_conditions(session, selection))
    columns = (resources.c.source, resources.c.id.label("resource_id"), null().label("delivery_id"))
    query = select(*columns).where(*_resource_conditions(session, selection))
    if _moment_needs_results(selection):
        query = query.select_from(resources.outerjoin(results, results.c.resource_id == resources.c.id))
    return query


def count_by_source(session: Session, level: ReplayLevel, selection: Selection) -> dict[str, int]:
    """How many things are chosen, by source."""
    found = chosen(session, level, selection).subquery()
    # SQLite would group along the index of all resources, and look into each of them.
    source = unindexed(found.c.source)
    rows = session.execute(select(source.label("source"), func.count().label("size")).group_by(source))
    return {row.source: row.size for row in sorted(rows, key=lambda row: row.source)}


def chunk(
    session: Session, level: ReplayLevel, selection: Selection, *, after: Chosen | None, limit: int
) -> list[Chosen]:
    """The next things that are chosen, behind `after`, in the order of their ids."""
    query = chosen(session, level, selection)
    if level is ReplayLevel.REINGEST:
        query = query.order_by(deliveries.c.id)
        if after is not None:
            query = query.where(deliveries.c.id > after.delivery_id)
    else:
        query = query.order_by(resources.c.id)
        if after is not None:
            query = query.where(resources.c.id > after.resource_id)
    rows = session.execute(query.limit(limit))
    return [Chosen(row.source, row.resource_id, row.delivery_id) for row in rows]


def _resource_conditions(session: Session, selection: Selection) -> list[ColumnElement[bool]]:
    # Where little is parked or open, the index of that is the way, and not the one of a source's resources.
    narrow = selection.only_parked or selection.state in _OPEN
    source = unindexed(resources.c.source) if narrow else resources.c.source
    conditions = [
        *_equal((source, selection.source), (resources.c.kind, selection.kind)),
        *_between(_moment(selection), selection.since, selection.until),
    ]
    if selection.ids:
        conditions.append(resources.c.external_id.in_(selection.ids))
    if selection.only_parked:
        conditions.append(resources.c.parked_at.is_not(None))
    elif selection.state is not None:
        state = ResourceState(selection.state)
        conditions.append(state_conditions(database_time(session))[state])
        if state in _OPEN:
            conditions.append(resources.c.wanted_since.is_not(None))
    if selection.error is not None:
        reason = PARK_REASONS.get(selection.error, selection.error)
        conditions.append(or_(resources.c.park_reason == reason, resources.c.park_fingerprint == selection.error))
    if selection.lane is not None:
        conditions += _in_lane(source, selection.lane)
    return conditions


def _in_lane(source: ColumnElement[str], lane: Lane) -> list[ColumnElement[bool]]:
    return _equal((source, lane.source), (STEP, lane.step), (FINGERPRINT, lane.fingerprint))


def _moment(selection: Selection) -> ColumnElement[datetime]:
    if selection.only_parked:
        return resources.c.parked_at
    moment: ColumnElement[datetime] = func.coalesce(
        resources.c.parked_at, results.c.updated_at, resources.c.created_at, type_=resources.c.created_at.type
    )
    return moment


def _moment_needs_results(selection: Selection) -> bool:
    return not selection.only_parked and (selection.since is not None or selection.until is not None)


def _delivery_conditions(session: Session, selection: Selection) -> list[ColumnElement[bool]]:
    conditions = [
        *_equal((unindexed(deliveries.c.source), selection.source)),
        *_between(deliveries.c.received_at, selection.since, selection.until),
    ]
    if selection.state == DeliveryState.UNREADABLE:
        conditions.append(IS_UNREADABLE)
    elif selection.state is not None:
        conditions.append(deliveries.c.state == literal_column(f"'{DeliveryState(selection.state)}'"))
    if selection.ids:
        own = deliveries.c.id.in_(_uuids(selection.ids))
        conditions.append(or_(own, _names_resource(resources.c.external_id.in_(selection.ids))))
    if selection.kind is not None:
        conditions.append(_names_resource(resources.c.kind == selection.kind))
    if selection.error is not None:
        conditions.append(deliveries.c.reason.in_(unreadable_reasons(session, selection.error)))
    if selection.lane is not None:
        reasons = unreadable_reasons(session, selection.lane.fingerprint)
        conditions.append(unindexed(deliveries.c.source) == selection.lane.source)
        conditions.append(deliveries.c.reason.in_(reasons))
    return conditions


def _names_resource(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    named = (
        select(delivery_resources.c.delivery_id)
        .join(resources, resources.c.id == delivery_resources.c.resource_id)
        .where(condition)
    )
    return deliveries.c.id.in_(named)


def _uuids(ids: Iterable[str]) -> list[uuid.UUID]:
    found = []
    for text in ids:
        with suppress(ValueError):
            found.append(uuid.UUID(text))
    return found


def _equal(*pairs: tuple[ColumnElement[str], str | None]) -> list[ColumnElement[bool]]:
    return [column == value for column, value in pairs if value is not None]


def _between(
    moment: ColumnElement[datetime], since: datetime | None, until: datetime | None
) -> list[ColumnElement[bool]]:
    conditions = []
    if since is not None:
        conditions.append(moment >= since)
    if until is not None:
        conditions.append(moment < until)
    return conditions
