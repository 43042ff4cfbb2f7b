"""Origins: which delivery asked for an attempt, and which attempt brought an event. Asked for traces only."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from worker.store.tables import deliveries, delivery_resources, events, resources, versions

MOST_DELIVERIES = 9
"""Looked at for one resource. A burst has four notifications, and a trace needs only the last before an attempt."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What brought an event: the attempt of a resource, where it was one, and when that began; else only the time."""

    resource_id: int | None
    attempt: int | None
    at: datetime


def askers(session: Session, wanted: Mapping[int, datetime]) -> dict[int, Sequence[UUID]]:
    """The deliveries that named each resource before that time, newest first and at most some.

    Ids of deliveries are in order of time, so an index has the newest of a resource at its end.
    """
    found: dict[int, Sequence[UUID]] = {}
    for resource_id, before in wanted.items():
        newest = (
            select(delivery_resources.c.delivery_id)
            .where(delivery_resources.c.resource_id == resource_id)
            .order_by(delivery_resources.c.delivery_id.desc())
            .limit(MOST_DELIVERIES)
            .subquery()
        )
        query = (
            select(deliveries.c.id)
            .join(newest, newest.c.delivery_id == deliveries.c.id)
            .where(deliveries.c.received_at <= before)
            .order_by(deliveries.c.id.desc())
        )
        found[resource_id] = session.execute(query).scalars().all()
    return found


def brought(session: Session, sequences: Collection[int]) -> dict[int, Brought]:
    """By the sequences of events, what brought them."""
    query = (
        select(events.c.sequence, events.c.occurred_at, resources.c.id, versions.c.attempt, versions.c.read_started_at)
        .outerjoin(
            resources,
            and_(
                resources.c.source == events.c.source,
                resources.c.kind == events.c.kind,
                resources.c.external_id == events.c.external_id,
            ),
        )
        .outerjoin(versions, and_(versions.c.resource_id == resources.c.id, versions.c.number == events.c.version))
        .where(events.c.sequence.in_(sequences))
    )
    return {
        row.sequence: Brought(row.id, row.attempt, row.read_started_at or row.occurred_at)
        for row in session.execute(query)
    }
