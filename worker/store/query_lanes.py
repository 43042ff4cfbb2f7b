"""Reading the lanes: parked work by where and how it stopped, and deliveries that could not be read by why."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, literal_column, select

from worker.domain.lanes import fingerprint
from worker.domain.replays import UNKNOWN, Lane
from worker.domain.retry import Failure
from worker.domain.states import DeliveryState, FailureKind, Step
from worker.store.engine import Session
from worker.store.query import unindexed
from worker.store.tables import deliveries, resources

MOST_UNREADABLE = 10_000
"""Deliveries looked at, newest first. More of them in lanes tell nobody anything new."""

STEP = func.coalesce(resources.c.park_step, UNKNOWN)
FINGERPRINT = func.coalesce(resources.c.park_fingerprint, UNKNOWN)

# The state stands in the statement itself, because that is how the index of such deliveries is recognised.
IS_UNREADABLE: ColumnElement[bool] = deliveries.c.state == literal_column(f"'{DeliveryState.UNREADABLE}'")


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """How much is in a lane, when the first and the last of it stopped, and what was said of one of them."""

    lane: Lane
    count: int
    first_at: datetime
    last_at: datetime
    sample: str | None


def parked_lanes(session: Session) -> list[LaneRecord]:
    """The lanes of parked resources, the largest first."""
    source = unindexed(resources.c.source)
    found = session.execute(
        select(
            source.label("source"),
            STEP.label("step"),
            FINGERPRINT.label("fingerprint"),
            func.count().label("size"),
            func.min(resources.c.parked_at).label("first_at"),
            func.max(resources.c.parked_at).label("last_at"),
            func.max(resources.c.last_error).label("sample"),
        )
        .where(resources.c.parked_at.is_not(None))
        .group_by(source, STEP, FINGERPRINT)
    )
    return _largest_first(
        LaneRecord(Lane(row.source, row.step, row.fingerprint), row.size, row.first_at, row.last_at, row.sample)
        for row in found
    )


def unreadable_lanes(session: Session) -> list[LaneRecord]:
    """The lanes of the newest unreadable deliveries, the largest first."""
    newest = (
        select(deliveries.c.source, deliveries.c.reason, deliveries.c.received_at)
        .where(IS_UNREADABLE)
        .order_by(deliveries.c.received_at.desc())
        .limit(MOST_UNREADABLE)
        .subquery()
    )
    found = session.execute(
        select(
            newest.c.source,
            newest.c.reason,
            func.count().label("size"),
            func.min(newest.c.received_at).label("first_at"),
            func.max(newest.c.received_at).label("last_at"),
        ).group_by(newest.c.source, newest.c.reason)
    )
    lanes: dict[Lane, LaneRecord] = {}
    for row in found:
        lane = Lane(row.source, Step.RECEIVE, reason_fingerprint(row.reason))
        part = LaneRecord(lane, row.size, row.first_at, row.last_at, row.reason)
        lanes[lane] = _joined(lanes[lane], part) if lane in lanes else part
    return _largest_first(lanes.values())


def unreadable_reasons(session: Session, wanted: str) -> list[str]:
    """The reasons, among those of unreadable deliveries, that have this fingerprint."""
    found = session.execute(select(deliveries.c.reason).where(IS_UNREADABLE).distinct()).scalars()
    return [reason for reason in found if reason is not None and reason_fingerprint(reason) == wanted]


def reason_fingerprint(reason: str | None) -> str:
    """The fingerprint of a delivery that could not be read for this reason."""
    return fingerprint(Failure(FailureKind.UNREADABLE, reason or UNKNOWN))


def _joined(one: LaneRecord, other: LaneRecord) -> LaneRecord:
    first, last = min(one.first_at, other.first_at), max(one.last_at, other.last_at)
    return LaneRecord(one.lane, one.count + other.count, first, last, one.sample)


def _largest_first(found: Iterable[LaneRecord]) -> list[LaneRecord]:
    return sorted(found, key=lambda item: (-item.count, item.lane))
