"""What is known of a source at run time: held, throttled, and values that its mapping does not know."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, and_, select, update
from sqlalchemy.orm import Session

from worker.domain.model import Drift
from worker.store.engine import among, insert
from worker.store.tables import drift_issues, resources, source_states

MOST_DRIFT_VALUES = 100
"""Unknown values kept for a field. A provider that changed shows with one; a hostile document has thousands."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source's row. `probe_at` is when a held source is tried with one call; None: when an operator releases it."""

    source: str
    held_at: datetime | None = None
    hold_reason: str | None = None
    probe_at: datetime | None = None
    holds: int = 0
    throttled_until: datetime | None = None

    def may_call(self, now: datetime) -> int | None:
        """How many calls may be made now: None is as many as the budget gives, 1 is a probe, 0 is none."""
        if self.held_at is not None:
            return 1 if self.probe_at is not None and self.probe_at <= now else 0
        return 0 if self.throttled_until is not None and self.throttled_until > now else None


def state(session: Session, source: str, *, lock: bool = False) -> SourceState:
    """The source's state; a source that was never in trouble has no row."""
    query = select(*source_states.c).where(source_states.c.source == source)
    row = session.execute(query.with_for_update() if lock else query).one_or_none()
    return _state(row) if row else SourceState(source)


def states(session: Session) -> dict[str, SourceState]:
    """The state of every source that has one."""
    return {row.source: _state(row) for row in session.execute(select(*source_states.c))}


def _state(row: Row[tuple[object, ...]]) -> SourceState:
    return SourceState(row.source, row.held_at, row.hold_reason, row.probe_at, row.holds, row.throttled_until)


def hold(session: Session, source: str, reason: str, *, now: datetime, probe_at: datetime | None) -> int | None:
    """Hold the source. Returns how often it has been held by now, or None if it was held already."""
    ensure_row(session, source)
    before = state(session, source, lock=True)
    if before.held_at is not None:
        if before.probe_at is None and probe_at is not None:
            # Calls that were in flight when an operator held the source do not turn it into a hold that ends by itself.
            return None
        session.execute(
            update(source_states).where(source_states.c.source == source).values(probe_at=probe_at, hold_reason=reason)
        )
        return None
    session.execute(
        update(source_states)
        .where(source_states.c.source == source)
        .values(held_at=now, hold_reason=reason, probe_at=probe_at, holds=before.holds + 1)
    )
    return before.holds + 1


def release(session: Session, source: str) -> int | None:
    """End the hold. Returns which hold it was, counted from 1, or None if the source was not held."""
    row = session.execute(
        update(source_states)
        .where(source_states.c.source == source, source_states.c.held_at.is_not(None))
        .values(held_at=None, hold_reason=None, probe_at=None)
        .returning(source_states.c.holds)
    ).one_or_none()
    return row.holds if row else None


def postpone_probe(session: Session, source: str, probe_at: datetime) -> bool:
    """Take the right to probe a held source, by moving the next probe away; false if somebody else just did."""
    taken = session.execute(
        update(source_states)
        .where(source_states.c.source == source, source_states.c.probe_at < probe_at)
        .values(probe_at=probe_at)
        .returning(source_states.c.source)
    )
    return taken.first() is not None


def throttle(session: Session, source: str, until: datetime) -> None:
    """Let the source wait; a later end that is already set stays."""
    ensure_row(session, source)
    session.execute(
        update(source_states)
        .where(
            source_states.c.source == source,
            (source_states.c.throttled_until.is_(None)) | (source_states.c.throttled_until < until),
        )
        .values(throttled_until=until)
    )


def end_throttle(session: Session, source: str, now: datetime) -> bool:
    """Let the source be called again; false if it was not waiting."""
    ended = session.execute(
        update(source_states)
        .where(source_states.c.source == source, source_states.c.throttled_until > now)
        .values(throttled_until=None)
        .returning(source_states.c.source)
    )
    return ended.first() is not None


def wake_work(session: Session, source: str, now: datetime, limit: int) -> int:
    """Make up to `limit` of the source's waiting resources due now, the soonest first; returns how many.

    Those that somebody else has locked are left alone: whoever it is gives them a due time of their own, and waiting
    for rows in this order could deadlock with those who lock them in another.
    """
    waiting = and_(resources.c.source == source, resources.c.due_at > now, resources.c.claim_token.is_(None))
    some = (
        select(resources.c.id)
        .where(waiting)
        .order_by(resources.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
        .cte("some")
    )
    woken = session.execute(
        update(resources)
        .where(among(session, resources.c.id, select(some.c.id)), waiting)
        .values(due_at=now)
        .returning(resources.c.id)
    )
    return len(woken.all())


def ensure_row(session: Session, source: str) -> None:
    """Make sure that there is a row to lock."""
    session.execute(insert(session, source_states).values(source=source, holds=0).on_conflict_do_nothing())


def note_drift(session: Session, source: str, kind: str, drift: Iterable[Drift], now: datetime) -> None:
    """Count values that the mapping does not know, one row for each, and only so many rows for a field."""
    for issue, times in sorted(Counter(drift).items(), key=lambda item: (item[0].field, item[0].value)):
        field = and_(drift_issues.c.source == source, drift_issues.c.kind == kind, drift_issues.c.field == issue.field)
        value = issue.value[:200]
        counted = session.execute(
            update(drift_issues)
            .where(field, drift_issues.c.value == value)
            .values(seen=drift_issues.c.seen + times, last_seen_at=now)
            .returning(drift_issues.c.seen)
        )
        if counted.first() is not None:
            continue
        known = session.execute(select(drift_issues.c.value).where(field).limit(MOST_DRIFT_VALUES)).all()
        if len(known) < MOST_DRIFT_VALUES:
            values = {"source": source, "kind": kind, "field": issue.field, "value": value}
            statement = insert(session, drift_issues).values(**values, seen=times, first_seen_at=now, last_seen_at=now)
            session.execute(statement.on_conflict_do_nothing())
