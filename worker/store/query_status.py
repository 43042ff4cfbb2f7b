"""Reading how things stand. Each query is bounded by open work or by a limit, never by what was ever stored."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, func, literal_column, select, text

from worker.domain.states import DeliveryState, ResourceState
from worker.store.engine import Session
from worker.store.query import Record, records, unindexed
from worker.store.query_work import state_conditions
from worker.store.tables import cursors, deliveries, drift_issues, leases, resources

_SOURCE = unindexed(resources.c.source).label("source")


def open_work(session: Session, now: datetime) -> list[Record]:
    """For each source with open work: how much is `waiting`, `claimed` and `parked`, and how old the `oldest` is."""
    conditions = state_conditions(now)
    counts = [
        func.count().filter(conditions[state]).label(str(state))
        for state in (ResourceState.WAITING, ResourceState.CLAIMED, ResourceState.PARKED)
    ]
    query = select(_SOURCE, *counts, func.min(resources.c.wanted_since).label("oldest"))
    return records(session, query.where(resources.c.wanted_since.is_not(None)).group_by(_SOURCE).order_by(_SOURCE))


def parked_reasons(session: Session) -> list[Record]:
    """How many resources of each source are parked, by reason."""
    query = select(_SOURCE, resources.c.park_reason.label("reason"), func.count().label("count"))
    parked = query.where(resources.c.parked_at.is_not(None))
    return records(session, parked.group_by(_SOURCE, resources.c.park_reason).order_by(_SOURCE, "reason"))


def count_unreadable(session: Session, limit: int) -> int:
    """How many deliveries could not be read; counting stops at `limit`."""
    # The state stands in the statement itself, because that is how the index of such deliveries is recognised.
    unreadable: ColumnElement[str] = literal_column(f"'{DeliveryState.UNREADABLE}'")
    some = select(deliveries.c.id).where(deliveries.c.state == unreadable).limit(limit)
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
