"""Stored deliveries, to be read again: their bytes, and what becomes of their rows. The delivery key never changes."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update

from worker.domain.model import Notification, ResourceKey
from worker.domain.states import DeliveryState
from worker.store.engine import Session, insert
from worker.store.resources import Want, mark_wanted
from worker.store.tables import deliveries, delivery_bodies, delivery_resources


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A delivery as it was received. `body` is None once it was erased."""

    id: uuid.UUID
    source: str
    state: DeliveryState
    reason: str | None
    body: bytes | None
    headers: Mapping[str, str]


def load(session: Session, delivery_id: uuid.UUID) -> StoredDelivery | None:
    """A delivery with its bytes; None if it is gone."""
    row = session.execute(
        select(deliveries.c.source, deliveries.c.state, deliveries.c.reason, delivery_bodies.c.body,
               delivery_bodies.c.headers)
        .outerjoin(delivery_bodies, delivery_bodies.c.delivery_id == deliveries.c.id)
        .where(deliveries.c.id == delivery_id)
    ).one_or_none()  # fmt: skip
    if row is None:
        return None
    return StoredDelivery(delivery_id, row.source, DeliveryState(row.state), row.reason, row.body, row.headers or {})


def locked_state(session: Session, delivery_id: uuid.UUID) -> DeliveryState | None:
    """What the delivery is held for now, locked until the transaction ends; None if it is gone."""
    query = select(deliveries.c.state).where(deliveries.c.id == delivery_id).with_for_update()
    state = session.execute(query).scalar_one_or_none()
    return None if state is None else DeliveryState(state)


def reread(
    session: Session, delivery_id: uuid.UUID, state: DeliveryState, reason: str | None, notification: Notification
) -> None:
    """Note what a locked delivery is found to say now."""
    session.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(
            state=state,
            reason=reason,
            event_id=notification.event_id,
            event_type=notification.event_type,
            occurred_at=notification.occurred_at,
        )
    )


def set_reason(session: Session, delivery_id: uuid.UUID, reason: str | None) -> None:
    """A locked delivery still cannot be read, for this reason."""
    session.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(reason=reason))


def want_named(
    session: Session, delivery_id: uuid.UUID, keys: Sequence[ResourceKey], want: Want, now: datetime
) -> None:
    """Want the resources that a delivery names, and link them to it."""
    ids = mark_wanted(session, {key: want for key in keys}, now, revive=True)
    rows = [{"resource_id": resource_id, "delivery_id": delivery_id} for resource_id in ids.values()]
    if rows:
        session.execute(insert(session, delivery_resources).on_conflict_do_nothing(), rows)
