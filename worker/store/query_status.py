"""Reading how things stand. Each query is bounded by open work or by a limit, never by what was ever stored."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, select, text

from worker.domain.states import DeliveryState, ResourceState
from worker.store.engine import Session
from worker.store.query import Record, records
from worker.store.query_work import state_conditions
from worker.store.tables import cursors, deliveries, drift_issues, leases, resources


def open_work(session: Session, now: datetime) -> list[Record]:
    """For each source with open work: how much is `waiting`, `claimed` and `parked`, and how old the `oldest` is."""
    conditions = state_conditions(now)
    counts = [
        func.count().filter(conditions[state]).label(str(state))
        for state in (ResourceState.WAITING, ResourceState.CLAIMED, ResourceState.PARKED)
    ]
    query = select(resources.c.source, *counts, func.min(resources.c.wanted_since).label("oldest"))
    open_rows = query.where(resources.c.wanted_since.is_not(None))
    return records(session, open_rows.group_by(resources.c.source).order_by(resources.c.source))


def parked_reasons(session: Session) -> list[Record]:
    """How many resources of each source are parked, by reason."""
    query = select(resources.c.source, resources.c.park_reason.label("reason"), func.count().label("count"))
    parked = query.where(resources.c.parked_at.is_not(None))
    return records(session, parked.group_by(resources.c.source, resources.c.park_reason).order_by("source", "reason"))


def count_unreadable(session: Session, limit: int) -> int:
    """How many deliveries could not be read; counting stops at `limit`."""
    some = select(deliveries.c.id).where(deliveries.c.state == DeliveryState.UNREADABLE).limit(limit)
    return session.execute(select(func.count()).select_from(some.subquery())).scalar_one()


def drift(session: Session, limit: int) -> list[Record]:
    """Values that a mapping does not know, last seen first."""
    query = select(*drift_issues.c).order_by(drift_issues.c.last_seen_at.desc(), drift_issues.c.value)
    return records(session, query.limit(limit))


def cursor_values(session: Session) -> Mapping[str, int]:
    """Every cursor: `events` is the last numbered event, `sink:<name>` the last one that the sink got."""
    return {row.name: row.value for row in session.execute(select(cursors.c.name, cursors.c.value))}


def lease_end(session: Session, name: str) -> datetime | None:
    """When the lease runs out, or ran out; None if nobody ever held it."""
    return session.execute(select(leases.c.expires_at).where(leases.c.name == name)).scalar_one_or_none()


def durability(session: Session) -> Mapping[str, str]:
    """The database's settings that decide whether a commit survives a power cut, by their own names."""
    if session.get_bind().dialect.name == "postgresql":
        settings = ("server_version", "fsync", "synchronous_commit")
        return {name: str(session.execute(select(func.current_setting(name))).scalar_one()) for name in settings}
    pragmas = ("journal_mode", "synchronous")
    return {name: str(session.execute(text(f"PRAGMA {name}")).scalar_one()) for name in pragmas}
