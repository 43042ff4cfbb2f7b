"""Deliveries: recorded once each, byte for byte, together with the resources that they make wanted."""

import hashlib
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.orm import Session

from worker.domain.model import Notification, ResourceKey
from worker.domain.states import Cause, DeliveryState, Priority, ReceiptStatus
from worker.store.arrays import Array, binaries, texts, times, uuids
from worker.store.engine import Database, database_time, insert, is_sqlite, unless_crossed
from worker.store.resources import NOT_AT_ALL, Want, mark_wanted
from worker.store.tables import deliveries, delivery_bodies, delivery_resources, quarantined_deliveries
from worker.store.types import json_text, packed, storable
from worker.store.wanted import marking, pause_values

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


def record_group(
    database: Database, arrivals: Sequence[Arrival], coalesce: Mapping[str, timedelta] = NOT_AT_ALL
) -> list[Receipt]:
    """Record a group of deliveries that have just come; the answers are in the same order. On PostgreSQL, those that
    are new and those that are repeats are a transaction each."""

    def write_new() -> Sequence[Arrival]:
        if database.is_sqlite:
            return arrivals
        with database.at_once() as connection:
            return record_new(connection, arrivals, coalesce)

    def write_rest() -> list[Receipt]:
        with database.write() as session:
            return record(session, rest, coalesce)

    # A writer that holds one resource and wants another may cross a group of deliveries that holds the other.
    rest = unless_crossed(write_new)
    if not rest:
        return [Receipt(item.id, _RECORDED[item.state]) for item in arrivals]
    others = {id(item): receipt for item, receipt in zip(rest, unless_crossed(write_rest), strict=True)}
    return [others.get(id(item)) or Receipt(item.id, _RECORDED[item.state]) for item in arrivals]


_RECORDED = {state: ReceiptStatus(state) for state in DeliveryState}


def record(
    session: Session,
    arrivals: Sequence[Arrival],
    coalesce: Mapping[str, timedelta] = NOT_AT_ALL,
    *,
    already: frozenset[uuid.UUID] = frozenset(),
) -> list[Receipt]:
    """Record a group of deliveries in one go; the answers are in the same order. All or none, with the transaction.

    `coalesce` is how long to wait, by source, with what was read a moment ago.
    """
    if not arrivals:
        return []
    firsts: dict[tuple[str, str], Arrival] = {}
    for arrival in arrivals:
        firsts.setdefault(arrival.key, arrival)
    # Those who bring the same delivery take its place in the index in one order, so none waits for the other's second.
    candidates = sorted(firsts.values(), key=lambda arrival: arrival.key)
    now, inserted = _insert_each(session, candidates) if is_sqlite(session) else _insert_all(session, candidates)
    inserted |= already
    created = {item.key for item in candidates if item.id in inserted}
    others = [item for item in arrivals if item is not firsts[item.key] or item.key not in created]
    known = _recorded_before(session, others)
    repeats = Counter(item.key for item in others if item.id not in known)
    earlier = _count_repeats(session, repeats, now)
    if len(earlier) < len(repeats):
        # It was there a moment ago, and was pruned: what repeated it is the first again.
        return record(session, arrivals, coalesce, already=frozenset(inserted))
    told = [item for item in arrivals if item.id not in known]
    resource_ids = mark_wanted(session, _wants(told, firsts, created), now, coalesce=coalesce)
    _link(session, [firsts[key] for key in created], resource_ids)
    return [_receipt(item, firsts, created, earlier) for item in arrivals]


def record_new(
    connection: Connection, arrivals: Sequence[Arrival], coalesce: Mapping[str, timedelta] = NOT_AT_ALL
) -> list[Arrival]:
    """Record, in one statement of PostgreSQL's, those deliveries of a group that nobody has brought before; returns
    the others, which are for `record`, and come after them."""
    firsts = {arrival.key: arrival for arrival in reversed(arrivals)}
    candidates = [firsts[key] for key in sorted(firsts)]
    names = [(item, ref) for item in candidates for ref in dict.fromkeys(item.notification.resources)]
    told = {item.source for item in candidates}
    pauses = {source: pause for source, pause in sorted(coalesce.items()) if pause and source in told}
    values: dict[str, object] = {
        **_arrays(candidates),
        "told": uuids([item.id for item, _ in names]),
        "told_source": texts([item.source for item, _ in names]),
        "told_provider": texts([item.provider for item, _ in names]),
        "told_environment": texts([item.environment for item, _ in names]),
        "told_kind": texts([ref.kind for _, ref in names]),
        "told_external_id": texts([ref.external_id for _, ref in names]),
        **pause_values(pauses),
    }
    new = connection.exec_driver_sql(_record_new_text(len(pauses)), values).rowcount
    if new == len(arrivals):
        return []
    here = set(connection.exec_driver_sql(_HERE, {"id": values["id"]}).scalars())
    return [item for item in arrivals if item.id not in here]


_HERE = "SELECT id FROM deliveries WHERE id = ANY(%(id)b)"
"""Of a group that was recorded in part: those whose own rows are there. Ids are made for each delivery that comes."""


@lru_cache(maxsize=128)
def _record_new_text(pauses: int) -> str:
    # It returns no rows, because even to look at none takes as long as to send ten. How many bodies it keeps is enough.
    # Each part waits for the one before, because it takes its rows from it, so rows are locked as `record` locks them:
    # all deliveries before any resource, and those in the order of their keys.
    text = f"""
{_RECORDING},
told AS MATERIALIZED (
    SELECT t.* FROM unnest(
        %(told)b::uuid[], %(told_source)s::text[], %(told_provider)s::text[], %(told_environment)s::text[],
        %(told_kind)s::text[], %(told_external_id)s::text[]
    ) AS t (delivery, source, provider, environment, kind, external_id)
    JOIN created ON created.id = t.delivery
),
wants AS MATERIALIZED (
    SELECT source, provider, environment, kind, external_id,
        '{Cause.WEBHOOK}' AS cause, {int(Priority.LIVE)} AS priority, count(*)::int AS wanted
    FROM told GROUP BY source, provider, environment, kind, external_id
    ORDER BY source COLLATE "C", kind COLLATE "C", external_id COLLATE "C"
),
marked AS ({marking("wants", "(TABLE clock)", pauses)}),
linked AS (
    INSERT INTO delivery_resources (resource_id, delivery_id)
    SELECT marked.id, told.delivery FROM told JOIN marked USING (source, kind, external_id)
)
{_KEEPING}
"""  # noqa: S608 - made of our own constants
    # psycopg remembers how it reads a text, but only one of up to 4,096 characters.
    return " ".join(text.split())


def _insert_each(session: Session, candidates: Sequence[Arrival]) -> tuple[datetime, set[uuid.UUID]]:
    """The database's time, and the ids of those that were not there."""
    now = database_time(session)
    # Whatever it conflicts with: by its key it is a repeat, and by its id it was recorded before.
    statement = insert(session, deliveries).on_conflict_do_nothing()
    # A host's clock may be ahead, and nothing is received in the future.
    rows = [{**_row(item), "received_at": min(item.received_at or now, now)} for item in candidates]
    inserted = set(session.execute(statement.returning(deliveries.c.id), rows).scalars())
    bodies = [
        {"delivery_id": item.id, "body": item.body, "headers": dict(item.headers)}
        for item in candidates
        if item.id in inserted
    ]
    if bodies:
        session.execute(insert(session, delivery_bodies), bodies)
    return now, inserted


def _row(item: Arrival) -> dict[str, object]:
    return {
        "id": item.id,
        "source": item.source,
        "delivery_key": item.notification.delivery_key,
        "event_id": item.notification.event_id,
        "event_type": item.notification.event_type,
        "state": item.state.value,
        "reason": item.reason,
        "body_sha256": hashlib.sha256(item.body).hexdigest(),
        "occurred_at": item.notification.occurred_at,
        "received_at": item.received_at,
    }


_RECORDING = """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
arrived AS MATERIALIZED (
    SELECT * FROM unnest(
        %(id)b::uuid[], %(source)s::text[], %(delivery_key)s::text[], %(event_id)s::text[], %(event_type)s::text[],
        %(state)s::text[], %(reason)s::text[], %(body_sha256)s::text[], %(occurred_at)s::timestamptz[],
        %(received_at)s::timestamptz[], %(body)b::bytea[], %(headers)s::text[]
    ) AS a (
        id, source, delivery_key, event_id, event_type,
        state, reason, body_sha256, occurred_at, received_at, body, headers
    )
),
created AS (
    INSERT INTO deliveries
        (id, source, delivery_key, event_id, event_type, state, reason, body_sha256, occurred_at, received_at)
    SELECT id, source, delivery_key, event_id, event_type, state, reason, body_sha256, occurred_at,
        least(received_at, clock.now)
    FROM arrived, clock
    ON CONFLICT DO NOTHING
    RETURNING id
)"""
"""All rows in one statement, from arrays: PostgreSQL spends half the time on it that it spends on a statement a row."""

_KEEPING = """
INSERT INTO delivery_bodies (delivery_id, body, headers)
SELECT id, body, headers::jsonb FROM arrived JOIN created USING (id)
"""

_INSERT_ALL = f"{_RECORDING}, kept AS ({_KEEPING}) SELECT clock.now, created.id FROM clock LEFT JOIN created ON true"  # noqa: S608


def _insert_all(session: Session, candidates: Sequence[Arrival]) -> tuple[datetime, set[uuid.UUID]]:
    """`_insert_each`, for PostgreSQL."""
    found = session.connection().exec_driver_sql(_INSERT_ALL, _arrays(candidates)).all()
    return found[0].now, {row.id for row in found if row.id is not None}


def _arrays(items: Sequence[Arrival]) -> dict[str, Array]:
    told = [item.notification for item in items]
    return {
        "id": uuids([item.id for item in items]),
        "source": texts([item.source for item in items]),
        "delivery_key": texts([storable(each.delivery_key) for each in told]),
        "event_id": texts([_storable(each.event_id) for each in told]),
        "event_type": texts([_storable(each.event_type) for each in told]),
        "state": texts([item.state for item in items]),
        "reason": texts([_storable(item.reason) for item in items]),
        "body_sha256": texts([hashlib.sha256(item.body).hexdigest() for item in items]),
        "occurred_at": times([each.occurred_at for each in told]),
        "received_at": times([item.received_at for item in items]),
        "body": binaries([packed(item.body) for item in items]),
        "headers": texts([json_text(dict(item.headers)) for item in items]),
    }


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)


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
        counted = session.execute(statement, {"count": count}).scalar_one_or_none()
        if counted is not None:
            found[source, key] = counted
    return found


def _wants(
    arrivals: Sequence[Arrival], firsts: Mapping[tuple[str, str], Arrival], created: set[tuple[str, str]]
) -> dict[ResourceKey, Want]:
    wants: dict[ResourceKey, Want] = {}
    for item in arrivals:
        is_new = item is firsts[item.key] and item.key in created
        count = 1 if is_new or item.notification.repeat_looks_again else 0
        for ref in dict.fromkeys(item.notification.resources):
            key = ResourceKey(item.source, ref)
            before = wants[key].count if key in wants else 0
            wants[key] = Want(item.provider, item.environment, Cause.WEBHOOK, count=before + count)
    return wants


def _link(session: Session, new: Sequence[Arrival], resource_ids: Mapping[ResourceKey, int]) -> None:
    links = sorted(
        {(resource_ids[ResourceKey(item.source, ref)], item.id) for item in new for ref in item.notification.resources}
    )
    if not links:
        return
    if is_sqlite(session):
        rows = [{"resource_id": resource, "delivery_id": delivery} for resource, delivery in links]
        session.execute(insert(session, delivery_resources), rows)
    else:
        values = {"resource": [resource for resource, _ in links], "delivery": [delivery for _, delivery in links]}
        session.connection().exec_driver_sql(_LINK_ALL, values)


_LINK_ALL = """
INSERT INTO delivery_resources (resource_id, delivery_id)
SELECT * FROM unnest(%(resource)b::bigint[], %(delivery)b::uuid[])
"""


def _receipt(
    item: Arrival,
    firsts: Mapping[tuple[str, str], Arrival],
    created: set[tuple[str, str]],
    earlier: Mapping[tuple[str, str], uuid.UUID],
) -> Receipt:
    if item is firsts[item.key] and item.key in created:
        return Receipt(item.id, _RECORDED[item.state])
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
