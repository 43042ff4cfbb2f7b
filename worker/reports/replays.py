"""Replays as operators see them: how far each is and how its items ended; and the lanes of parked work."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from worker.domain.replays import ReplayLevel
from worker.reports.build import each
from worker.store import leases, query_lanes, query_replays, query_status, replays
from worker.store.engine import Session, database_time
from worker.store.query import Record
from worker.store.query_lanes import LaneRecord
from worker.store.query_replays import ItemFilter

__all__ = ["Item", "ItemFilter", "LaneRow", "Replay", "idle_seconds", "items", "lanes", "replay", "replays_made"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A replay, and how far it is. `outcomes` counts the items that are `done`; `asked` are on their way."""

    id: UUID
    level: str
    selection: Mapping[str, object]
    actor: str
    reason: str | None
    state: str
    created_at: datetime
    finished_at: datetime | None
    total: int
    done: int
    asked: int
    waiting: int
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of a replay: a resource, or for `reingest` a delivery."""

    position: int
    source: str
    kind: str | None
    external_id: str | None
    delivery_id: UUID | None
    event_type: str | None
    state: str
    outcome: str | None
    detail: str | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow:
    """Parked work that stopped in the same way. `lane` is its name in selections, `level` how it is replayed."""

    lane: str
    source: str
    step: str
    fingerprint: str
    level: str
    count: int
    first_at: datetime
    last_at: datetime
    sample: str | None


def replays_made(session: Session, *, limit: int) -> tuple[Replay, ...]:
    """Replays, the newest first."""
    return tuple(_replay(session, record) for record in query_replays.replay_list(session, limit=limit))


def replay(session: Session, replay_id: UUID) -> Replay | None:
    """One replay; None if there is none of this id."""
    record = query_replays.replay(session, replay_id)
    return None if record is None else _replay(session, record)


def _replay(session: Session, record: Record) -> Replay:
    found = Replay(**record, done=0, asked=0, waiting=0)  # type: ignore[arg-type]
    done = sum(found.outcomes.values())
    asked = 0 if found.finished_at else sum(replays.asked(session, found.id).values())
    values = {name: getattr(found, name) for name in record}
    return Replay(**values, done=done, asked=asked, waiting=found.total - done - asked)


def items(session: Session, replay_id: UUID, wanted: ItemFilter, *, limit: int) -> tuple[Item, ...]:
    """Items of a replay, in order, behind a position."""
    return each(Item, query_replays.item_list(session, replay_id, wanted, limit=limit))


def lanes(session: Session) -> tuple[LaneRow, ...]:
    """All lanes: those of parked resources, then those of deliveries that nobody could read; the largest first."""
    parked = [_lane(item, ReplayLevel.RETRIEVE) for item in query_lanes.parked_lanes(session)]
    unreadable = [_lane(item, ReplayLevel.REINGEST) for item in query_lanes.unreadable_lanes(session)]
    return (*parked, *unreadable)


def _lane(found: LaneRecord, level: ReplayLevel) -> LaneRow:
    return LaneRow(
        lane=str(found.lane),
        source=found.lane.source,
        step=found.lane.step,
        fingerprint=found.lane.fingerprint,
        level=level,
        count=found.count,
        first_at=found.first_at,
        last_at=found.last_at,
        sample=found.sample,
    )


def idle_seconds(session: Session) -> float | None:
    """How long ago a worker swept last; None if none ever did. Replays move with the sweep."""
    sweep_ends = query_status.lease_end(session, leases.SWEEP)
    if sweep_ends is None:
        return None
    return max(0.0, (database_time(session) - (sweep_ends - leases.SWEEP_LASTING)).total_seconds())
