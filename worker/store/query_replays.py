"""Reading replays and their items. Nothing here writes."""

import uuid
from dataclasses import dataclass

from sqlalchemy import select

from worker.domain.replays import ItemOutcome
from worker.store.engine import Session
from worker.store.query import Record, record, records
from worker.store.tables import deliveries, replay_items, replays, resources

_ITEM = tuple(
    replay_items.c[name] for name in ("position", "source", "state", "outcome", "detail", "finished_at", "delivery_id")
)


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items of a replay: those behind a position, and with this outcome; None is any."""

    after: int = 0
    outcome: ItemOutcome | None = None


def replay_list(session: Session, *, limit: int) -> list[Record]:
    """Replays, the newest first."""
    return records(session, select(*replays.c).order_by(replays.c.created_at.desc(), replays.c.id).limit(limit))


def replay(session: Session, replay_id: uuid.UUID) -> Record | None:
    """One replay; None if there is none of this id."""
    return record(session, select(*replays.c).where(replays.c.id == replay_id))


def item_list(session: Session, replay_id: uuid.UUID, wanted: ItemFilter, *, limit: int) -> list[Record]:
    """Items of a replay in their order, with the names of what they are about."""
    query = (
        select(*_ITEM, resources.c.kind, resources.c.external_id, deliveries.c.event_type)
        .outerjoin(resources, resources.c.id == replay_items.c.resource_id)
        .outerjoin(deliveries, deliveries.c.id == replay_items.c.delivery_id)
        .where(replay_items.c.replay_id == replay_id, replay_items.c.position > wanted.after)
    )
    if wanted.outcome is not None:
        query = query.where(replay_items.c.outcome == wanted.outcome)
    return records(session, query.order_by(replay_items.c.position).limit(limit))
