"""Deliveries: recorded once each, byte for byte, together with the resources that they make wanted."""

import hashlib
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from worker.domain.model import Notification, ResourceKey
from worker.domain.states import Cause, DeliveryState, ReceiptStatus
from worker.store.engine import database_time, insert
from worker.store.resources import NOT_AT_ALL, Want, mark_wanted
from worker.store.tables import deliveries, delivery_bodies, delivery_resources, quarantined_deliveries

QUARANTINE_ROWS = 100
"""Refused requests kept per source. Enough to see what goes wrong; anybody can fill it, so never more."""

QUARANTINE_BODY_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Arrival:
    """One authenticated delivery, on its way into the database.

    `received_at` is set where that was not just now, because it waited in a spool; it may be in the database already.
    """

    id: uuid.UUID
    source: str
    provider: str
    environment: str
    state: DeliveryState
    reason: str | None
    notification: Notification
    body: bytes
    headers: Mapping[str, str]
    received_at: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What makes it unique."""
        return self.source, self.notification.delivery_key


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a delivery: the id of its row, which a repeat shares with the first, and the answer to give.

    `spooled` is true while it is in this host's spool only.
    """

    delivery_id: uuid.UUID
    status: ReceiptStatus
    spooled: bool = False


def record(
    session: Session, arrivals: Sequence[Arrival], coalesce: Mapping[str, timedelta] = NOT_AT_ALL
) -> list[Receipt]:
    """Record a group of deliveries in one go; the answers are in the same order. All or none, with the transaction.

    `coalesce` is how long to wait, by source, with what was read a moment ago.
    """
    now = database_time(session)
    firsts: dict[tuple[str, str], Arrival] = {}
    for arrival in arrivals:
        firsts.setdefault(arrival.key, arrival)
    created = _insert_new(session, list(firsts.values()), now)
    others = [item for item in arrivals if item is not firsts[item.key] or item.key not in created]
    known = _recorded_before(session, others)
    earlier = _count_repeats(session, Counter(item.key for item in others if item.id not in known), now)
    told = [item for item in arrivals if item.id not in known]
    resource_ids = mark_wanted(session, _wants(told, firsts, created), now, coalesce=coalesce)
    _link(session, [firsts[key] for key in created], resource_ids)
    return [_receipt(item, firsts, created, earlier) for item in arrivals]


def _insert_new(session: Session, candidates: Sequence[Arrival], now: datetime) -> set[tuple[str, str]]:
    # Whatever it conflicts with: by its key it is a repeat, and by its id it was recorded before.
    statement = insert(session, deliveries).on_conflict_do_nothing()
    rows = [
        {
            "id": item.id,
            "source": item.source,
            "delivery_key": item.notification.delivery_key,
            "event_id": item.notification.event_id,
            "event_type": item.notification.event_type,
            "state": item.state,
            "reason": item.reason,
            "body_sha256": hashlib.sha256(item.body).hexdigest(),
            "occurred_at": item.notification.occurred_at,
            # A host's clock may be ahead, and nothing is received in the future.
            "received_at": min(item.received_at or now, now),
        }
        for item in sorted(candidates, key=lambda candidate: candidate.key)
    ]
    inserted = set(session.execute(statement.returning(deliveries.c.id), rows).scalars())
    new = [item for item in candidates if item.id in inserted]
    if new:
        session.execute(
            insert(session, delivery_bodies),
            [{"delivery_id": item.id, "body": item.body, "headers": dict(item.headers)} for item in new],
        )
    return {item.key for item in new}


def _recorded_before(session: Session, arrivals: Sequence[Arrival]) -> set[uuid.UUID]:
    """Those whose own row is there already: they went into a spool because their commit seemed to have failed."""
    ids = [item.id for item in arrivals if item.received_at is not None]
    if not ids:
        return set()
    return set(session.execute(select(deliveries.c.id).where(deliveries.c.id.in_(ids))).scalars())


def _count_repeats(
    session: Session, repeats: Mapping[tuple[str, str], int], now: datetime
) -> dict[tuple[str, str], uuid.UUID]:
    found: dict[tuple[str, str], uuid.UUID] = {}
    for (source, key), count in sorted(repeats.items()):
        statement = (
            update(deliveries)
            .where(deliveries.c.source == source, deliveries.c.delivery_key == key)
            .values(repeats=deliveries.c.repeats + bindparam("count"), last_repeat_at=now)
            .returning(deliveries.c.id)
        )
        found[source, key] = session.execute(statement, {"count": count}).scalar_one()
    return found


def _wants(
    arrivals: Sequence[Arrival], firsts: Mapping[tuple[str, str], Arrival], created: set[tuple[str, str]]
) -> dict[ResourceKey, Want]:
    wants: dict[ResourceKey, Want] = {}
    for item in arrivals:
        is_new = item is firsts[item.key] and item.key in created
        count = 1 if is_new or item.notification.repeat_looks_again else 0
        for ref in item.notification.resources:
            key = ResourceKey(item.source, ref)
            before = wants[key].count if key in wants else 0
            wants[key] = Want(item.provider, item.environment, Cause.WEBHOOK, count=before + count)
    return wants


def _link(session: Session, new: Sequence[Arrival], resource_ids: Mapping[ResourceKey, int]) -> None:
    rows = [
        {"resource_id": resource_ids[ResourceKey(item.source, ref)], "delivery_id": item.id}
        for item in new
        for ref in set(item.notification.resources)
    ]
    if rows:
        session.execute(insert(session, delivery_resources), rows)


def _receipt(
    item: Arrival,
    firsts: Mapping[tuple[str, str], Arrival],
    created: set[tuple[str, str]],
    earlier: Mapping[tuple[str, str], uuid.UUID],
) -> Receipt:
    if item is firsts[item.key] and item.key in created:
        return Receipt(item.id, ReceiptStatus(item.state))
    return Receipt(earlier.get(item.key, item.id), ReceiptStatus.DUPLICATE)


def quarantine(session: Session, source: str, reason: str, body: bytes, header_names: Sequence[str]) -> None:
    """Keep what a refused request looked like, for whoever has to find out why. Header values could be secrets."""
    now = database_time(session)
    session.execute(
        insert(session, quarantined_deliveries).values(
            source=source,
            received_at=now,
            reason=reason,
            body_sha256=hashlib.sha256(body).hexdigest(),
            body_bytes=len(body),
            body_start=body[:QUARANTINE_BODY_BYTES],
            header_names=sorted(header_names),
        )
    )
    oldest_kept = (
        select(quarantined_deliveries.c.id)
        .where(quarantined_deliveries.c.source == source)
        .order_by(quarantined_deliveries.c.id.desc())
        .offset(QUARANTINE_ROWS - 1)
        .limit(1)
    )
    session.execute(
        delete(quarantined_deliveries).where(
            quarantined_deliveries.c.source == source,
            quarantined_deliveries.c.id < oldest_kept.scalar_subquery(),
        )
    )


def erase_bodies(session: Session, resource_id: int, now: datetime) -> None:
    """Forget what the deliveries of an erased resource said; their digests and times stay as evidence."""
    told = select(delivery_resources.c.delivery_id).where(delivery_resources.c.resource_id == resource_id)
    session.execute(
        update(delivery_bodies)
        .where(delivery_bodies.c.delivery_id.in_(told), delivery_bodies.c.erased_at.is_(None))
        .values(body=None, erased_at=now)
    )
