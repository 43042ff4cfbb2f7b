"""How a sink stands that does not take everything at once: held, or away until a time.

A hold is written twice, in one transaction: as a row for whoever asks, and as the sink's lease, taken by nobody for
ever. Delivering begins with that lease, so a hold costs those who deliver no question of their own, and is respected by
processes of the release before.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, exists, func, literal, select, update

from worker.domain.states import UndeliveredState
from worker.store.engine import Session, insert
from worker.store.outbox import sink_cursor
from worker.store.sink_tables import sink_states, undelivered_events
from worker.store.tables import cursors, event_deliveries, leases
from worker.store.types import db_now

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
HOLDER = "hold"


@dataclass(frozen=True, slots=True)
class Standing:
    """What those who deliver need to know of a sink in trouble, by the database's clock. Without `position` it never
    began; `waiting` says whether events wait before its cursor; `tried` is the last event of the call that failed."""

    now: datetime
    position: int | None
    waiting: bool
    held: bool = False
    away_since: datetime | None = None
    due_at: datetime | None = None
    failures: int = 0
    tried: int = 0
    last_error: str | None = None

    @property
    def rest_seconds(self) -> float:
        """How long it is still left alone."""
        return max((self.due_at - self.now).total_seconds(), 0.0) if self.due_at is not None else 0.0


@dataclass(frozen=True, slots=True)
class Away:
    """A failure of the whole sink: its error, the last event that was offered, and for how long it is left alone."""

    error: str
    tried: int
    due_at: datetime


def lease_name(sink: str) -> str:
    """The name of the lease on delivering to a sink."""
    return f"sink:{sink}"


def standing(session: Session, sink: str) -> Standing:
    """How the sink stands."""
    position = select(cursors.c.value).where(cursors.c.name == sink_cursor(sink)).scalar_subquery()
    waiting = exists(
        select(undelivered_events.c.sequence).where(
            undelivered_events.c.sink == sink, undelivered_events.c.state == UndeliveredState.WAITING
        )
    )
    known = select(db_now().label("now"), position.label("position"), waiting.label("waiting")).subquery()
    state = sink_states.c
    query = select(*known.c, state.held_at, state.away_since, state.due_at, state.failures, state.tried)
    query = query.add_columns(state.last_error)
    row = session.execute(query.select_from(known.outerjoin(sink_states, state.sink == sink))).one()
    return Standing(
        now=row.now,
        position=row.position,
        waiting=bool(row.waiting),
        held=row.held_at is not None,
        away_since=row.away_since,
        due_at=row.due_at,
        failures=row.failures or 0,
        tried=row.tried or 0,
        last_error=row.last_error,
    )


def begin_now(session: Session, sink: str) -> None:
    """Let a sink that never began begin behind the last event that is numbered."""
    last = select(literal(sink_cursor(sink)), cursors.c.value).where(cursors.c.name == "events")
    statement = insert(session, cursors).from_select(["name", "value"], last)
    session.execute(statement.on_conflict_do_nothing(index_elements=[cursors.c.name]))


def held(session: Session, sink: str) -> bool:
    """Whether the sink is held."""
    query = select(sink_states.c.sink).where(sink_states.c.sink == sink, sink_states.c.held_at.is_not(None))
    return session.execute(query).first() is not None


def hold(session: Session, sink: str, reason: str, now: datetime) -> bool:
    """Hold the sink; false if it was held already, and then its reason stays."""
    _ensure_row(session, sink)
    changed = session.execute(
        update(sink_states)
        .where(sink_states.c.sink == sink, sink_states.c.held_at.is_(None))
        # What it could not be given while it was held is nobody's failure, so that is counted anew afterwards.
        .values(held_at=now, hold_reason=reason, **_NOT_AWAY)
        .returning(sink_states.c.sink)
    ).first()
    if changed is None:
        return False
    statement = insert(session, leases).values(name=lease_name(sink), holder=HOLDER, expires_at=FOREVER)
    session.execute(
        statement.on_conflict_do_update(index_elements=[leases.c.name], set_={"holder": HOLDER, "expires_at": FOREVER})
    )
    return True


def release(session: Session, sink: str, now: datetime) -> bool:
    """End the hold, and the pauses of a sink that is away and of events that it refused; false if there was nothing to
    end. What waits for it is due at once, because whoever releases a sink has mended what failed.

    Tables are written in the order in which those who deliver write them, so that the two do not wait for each other.
    """
    waiting = (undelivered_events.c.sink == sink, undelivered_events.c.state == UndeliveredState.WAITING)
    if held(session, sink):
        # The time of a hold does not count towards giving up.
        session.execute(update(undelivered_events).where(*waiting).values(since=now))
    woken = session.execute(
        update(undelivered_events)
        .where(*waiting, undelivered_events.c.due_at > now)
        .values(due_at=now)
        .returning(undelivered_events.c.sequence)
    ).all()
    was_held = session.execute(
        update(sink_states)
        .where(sink_states.c.sink == sink, sink_states.c.held_at.is_not(None))
        # A call that was under way when the hold began may have failed after it, and that is no outage since then.
        .values(held_at=None, hold_reason=None, **_NOT_AWAY)
        .returning(sink_states.c.sink)
    ).first()
    rested = session.execute(
        update(sink_states)
        .where(sink_states.c.sink == sink, sink_states.c.due_at > now)
        .values(due_at=None)
        .returning(sink_states.c.sink)
    ).first()
    if was_held is not None:
        session.execute(delete(leases).where(leases.c.name == lease_name(sink), leases.c.holder == HOLDER))
    return was_held is not None or rested is not None or bool(woken)


_NOT_AWAY = {"away_since": None, "due_at": None, "failures": 0, "tried": None, "last_error": None}


def note_away(session: Session, sink: str, away: Away, now: datetime) -> None:
    """Count a failure of the whole sink, and leave it alone until its time. One that was held meanwhile is left alone
    anyway, and the time of its hold is no outage."""
    _ensure_row(session, sink)
    session.execute(
        update(sink_states)
        .where(sink_states.c.sink == sink, sink_states.c.held_at.is_(None))
        .values(
            away_since=func.coalesce(sink_states.c.away_since, literal(now, sink_states.c.away_since.type)),
            due_at=away.due_at,
            failures=sink_states.c.failures + 1,
            tried=away.tried,
            last_error=away.error,
        )
    )


def note_back(session: Session, sink: str) -> None:
    """The sink takes events again."""
    session.execute(update(sink_states).where(sink_states.c.sink == sink).values(**_NOT_AWAY))


def forget(session: Session, sink: str) -> bool:
    """Delete what is known of a sink: its cursor, its log, what waits for it. False if nothing was known."""
    known = session.execute(delete(cursors).where(cursors.c.name == sink_cursor(sink)).returning(cursors.c.name))
    found = known.first() is not None
    for table in (sink_states, undelivered_events):
        gone = session.execute(delete(table).where(table.c.sink == sink).returning(table.c.sink)).first()
        found = found or gone is not None
    session.execute(delete(leases).where(leases.c.name == lease_name(sink)))
    return found


def forget_log(session: Session, sink: str, limit: int) -> int:
    """Delete some of the log of a sink; returns how many lines."""
    some = select(event_deliveries.c.sequence).where(event_deliveries.c.sink == sink).limit(limit)
    gone = delete(event_deliveries).where(event_deliveries.c.sink == sink, event_deliveries.c.sequence.in_(some))
    return len(session.execute(gone.returning(event_deliveries.c.sequence)).all())


def _ensure_row(session: Session, sink: str) -> None:
    for table, values in ((cursors, {"name": sink_cursor(sink), "value": 0}), (sink_states, {"sink": sink})):
        session.execute(insert(session, table).values(**values).on_conflict_do_nothing())
