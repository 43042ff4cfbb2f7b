"""Replays and their items: chosen once, worked on in short steps, and counted where they end.

Whoever works on a replay locks its row first, so that of two leaders one steps back, and pausing waits for no more than
one step. The counts lie in that row, because progress must not scan the items.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    String,
    Uuid,
    and_,
    bindparam,
    cast,
    func,
    insert,
    literal,
    select,
    update,
)

from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.replays import Ended, ItemOutcome, ItemState, ReplayLevel, ReplayState, Selection
from worker.domain.states import AttemptOutcome, Cause, Priority
from worker.errors import BadSelection
from worker.store.engine import Session
from worker.store.resources import Want, mark_wanted
from worker.store.selection import chosen
from worker.store.tables import attempts, replay_items, replays, resources

MOST_ITEMS = 100_000
"""Items of one replay. They are chosen in one transaction, and on SQLite everybody else waits for its end: these take
a second there. A larger replay is better cut by time or source anyway, so that one can look at the first part."""


@dataclass(frozen=True, slots=True)
class Order:
    """A replay to be made: what to do, of what, on whose behalf and why."""

    level: ReplayLevel
    selection: Selection
    actor: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay's row, as far as those who work on it need it."""

    id: uuid.UUID
    level: ReplayLevel
    state: ReplayState
    total: int
    outcomes: Mapping[str, int]
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Item:
    """One item that waits for its turn."""

    position: int
    source: str
    resource_id: int | None
    delivery_id: uuid.UUID | None


def create(session: Session, order: Order, now: datetime) -> tuple[uuid.UUID, int]:
    """Write a replay and its items; returns its id and how many there are. One without items has finished.

    Raises BadSelection for more items than a replay may have.
    """
    replay_id = uuid.uuid4()
    session.execute(
        insert(replays).values(
            id=replay_id,
            level=order.level,
            selection=order.selection.to_json(),
            actor=order.actor,
            reason=order.reason,
            state=ReplayState.RUNNING,
            created_at=now,
            total=0,
            outcomes={},
        )
    )
    names = ("replay_id", "position", "source", "resource_id", "delivery_id", "state")
    session.execute(insert(replay_items).from_select(names, _numbered(session, order, replay_id)))
    total: int = session.execute(
        select(func.coalesce(func.max(replay_items.c.position), 0)).where(replay_items.c.replay_id == replay_id)
    ).scalar_one()
    if total > MOST_ITEMS:
        raise BadSelection(f"more than {MOST_ITEMS} items: choose a part of them by source or time")
    ended = {} if total else {"state": ReplayState.FINISHED, "finished_at": now}
    session.execute(update(replays).where(replays.c.id == replay_id).values(total=total, **ended))
    return replay_id, total


def _numbered(session: Session, order: Order, replay_id: uuid.UUID) -> "Select[tuple[object, ...]]":
    some = chosen(session, order.level, order.selection).limit(MOST_ITEMS + 1).subquery()
    # Nulls without a type are text to PostgreSQL.
    resource_id, delivery_id = cast(some.c.resource_id, resources.c.id.type), cast(some.c.delivery_id, Uuid())
    return select(
        literal(replay_id, Uuid()),
        func.row_number().over(order_by=(some.c.resource_id, some.c.delivery_id)),
        some.c.source,
        resource_id,
        delivery_id,
        literal(ItemState.WAITING, String()),
    )


def lock(session: Session, replay_id: uuid.UUID, *, wait: bool = False) -> Replay | None:
    """The replay, locked until the transaction ends; None if there is none, or, unless we `wait`, if somebody else
    has it."""
    query = select(*replays.c).where(replays.c.id == replay_id).with_for_update(skip_locked=not wait)
    row = session.execute(query).one_or_none()
    return None if row is None else _replay(row)


def unfinished(session: Session) -> list[Replay]:
    """The replays that are not finished, the oldest first."""
    query = select(*replays.c).where(replays.c.finished_at.is_(None)).order_by(replays.c.created_at)
    return [_replay(row) for row in session.execute(query)]


def _replay(row: Row[tuple[object, ...]]) -> Replay:
    return Replay(row.id, ReplayLevel(row.level), ReplayState(row.state), row.total, row.outcomes, row.finished_at)


def set_state(session: Session, replay_id: uuid.UUID, state: ReplayState) -> None:
    """Let a locked replay run, pause, or be cancelled."""
    session.execute(update(replays).where(replays.c.id == replay_id).values(state=state))


def end(session: Session, replay: Replay, now: datetime) -> None:
    """Nothing is left to do: a locked replay has finished, or its cancelling has."""
    state = ReplayState.CANCELLED if replay.state is ReplayState.CANCELLED else ReplayState.FINISHED
    session.execute(update(replays).where(replays.c.id == replay.id).values(state=state, finished_at=now))


def waiting(session: Session, replay_id: uuid.UUID, limit: int) -> list[Item]:
    """The next items whose turn has not come."""
    query = select(*replay_items.c).where(_in_state(replay_id, ItemState.WAITING))
    rows = session.execute(query.order_by(replay_items.c.source, replay_items.c.position).limit(limit))
    return [Item(row.position, row.source, row.resource_id, row.delivery_id) for row in rows]


def waiting_sources(session: Session, replay_id: uuid.UUID) -> set[str]:
    """The sources of the items whose turn has not come."""
    query = select(replay_items.c.source).where(_in_state(replay_id, ItemState.WAITING)).distinct()
    return set(session.execute(query).scalars())


def still_waiting(session: Session, replay_id: uuid.UUID, positions: Sequence[int]) -> set[int]:
    """Those of the items whose turn has still not come. The replay is locked, so that this stays true."""
    query = select(replay_items.c.position).where(
        _in_state(replay_id, ItemState.WAITING), replay_items.c.position.in_(positions)
    )
    return set(session.execute(query).scalars())


def any_left(session: Session, replay_id: uuid.UUID) -> bool:
    """Whether any item waits for its turn or for its end."""
    return any(
        session.execute(select(replay_items.c.position).where(_in_state(replay_id, state)).limit(1)).first()
        for state in (ItemState.WAITING, ItemState.ASKED)
    )


def _in_state(replay_id: uuid.UUID, state: ItemState) -> ColumnElement[bool]:
    return and_(replay_items.c.replay_id == replay_id, replay_items.c.state == state)


def asked(session: Session, replay_id: uuid.UUID) -> dict[str, int]:
    """How many items of each source are asked for and not here yet."""
    query = select(replay_items.c.source, func.count().label("size")).where(_in_state(replay_id, ItemState.ASKED))
    return {row.source: row.size for row in session.execute(query.group_by(replay_items.c.source))}


def ask(session: Session, replay_id: uuid.UUID, source: str, limit: int, now: datetime) -> int:
    """Want the resources of up to `limit` items of this source, at replay priority; returns how many.

    Parked work is tried again, poison too: whoever replays it knows better.
    """
    names = (resources.c.kind, resources.c.external_id, resources.c.provider, resources.c.environment)
    chosen_items = session.execute(
        select(replay_items.c.position, resources.c.id, *names)
        .join(resources, resources.c.id == replay_items.c.resource_id)
        .where(_in_state(replay_id, ItemState.WAITING), replay_items.c.source == source)
        .order_by(replay_items.c.position)
        .limit(limit)
    ).all()
    if not chosen_items:
        return 0
    wants = {
        ResourceKey(source, ResourceRef(row.kind, row.external_id)): Want(
            row.provider, row.environment, Cause.REPLAY, Priority.REPLAY
        )
        for row in chosen_items
    }
    mark_wanted(session, wants, now, revive=True)
    asked_for = {row.id: row.position for row in chosen_items}
    counts = session.execute(
        select(resources.c.id, resources.c.wanted, resources.c.attempts).where(resources.c.id.in_(asked_for))
    )
    changes = [{"place": asked_for[row.id], "now_wanted": row.wanted, "had_attempts": row.attempts} for row in counts]
    statement = (
        update(replay_items)
        .where(replay_items.c.replay_id == replay_id, replay_items.c.position == bindparam("place"))
        .values(state=ItemState.ASKED, wanted=bindparam("now_wanted"), attempts=bindparam("had_attempts"))
    )
    session.connection().execute(statement, changes)
    return len(changes)


def arrived(session: Session, replay_id: uuid.UUID) -> dict[int, Ended]:
    """The items, by their positions, whose resources were retrieved or parked since they were asked for, and which of
    the two."""
    newer = and_(
        attempts.c.resource_id == replay_items.c.resource_id,
        attempts.c.number > replay_items.c.attempts,
        attempts.c.outcome == AttemptOutcome.STORED,
    )
    stored = select(attempts.c.id).where(newer).exists()
    rows = session.execute(
        select(
            replay_items.c.position,
            (resources.c.retrieved >= replay_items.c.wanted).label("retrieved"),
            resources.c.park_reason,
            stored.label("stored"),
        )
        .join(resources, resources.c.id == replay_items.c.resource_id)
        .where(
            _in_state(replay_id, ItemState.ASKED),
            (resources.c.retrieved >= replay_items.c.wanted) | resources.c.parked_at.is_not(None),
        )
    )
    return {row.position: _ended(row) for row in rows}


def _ended(row: Row[tuple[object, ...]]) -> Ended:
    if row.retrieved:
        return Ended(ItemOutcome.STORED if row.stored else ItemOutcome.UNCHANGED)
    stale = row.park_reason == AttemptOutcome.STALE
    return Ended(ItemOutcome.STALE if stale else ItemOutcome.PARKED, row.park_reason)


def finish(session: Session, replay: Replay, endings: Mapping[int, Ended], now: datetime) -> Replay:
    """Write down how items of a locked replay ended, and count them; returns the replay as it is then."""
    if not endings:
        return replay
    statement = (
        update(replay_items)
        .where(replay_items.c.replay_id == replay.id, replay_items.c.position == bindparam("place"))
        .values(state=ItemState.DONE, outcome=bindparam("ended"), detail=bindparam("because"), finished_at=now)
    )
    rows = [{"place": position, "ended": item.outcome, "because": item.detail} for position, item in endings.items()]
    session.connection().execute(statement, rows)
    return _count(session, replay, Counter(str(item.outcome) for item in endings.values()))


def finish_all(
    session: Session,
    replay: Replay,
    how: Ended,
    now: datetime,
    *,
    state: ItemState = ItemState.WAITING,
    sources: Collection[str] | None = None,
) -> Replay:
    """End every item of a locked replay in this state, by default whose turn has not come, or those of some `sources`,
    in the same way."""
    some = _in_state(replay.id, state)
    if sources is not None:
        some = and_(some, replay_items.c.source.in_(sources))
    ended = session.connection().execute(
        update(replay_items)
        .where(some)
        .values(state=ItemState.DONE, outcome=how.outcome, detail=how.detail, finished_at=now)
    )
    return _count(session, replay, Counter({str(how.outcome): ended.rowcount}))


def _count(session: Session, replay: Replay, more: Counter[str]) -> Replay:
    outcomes = {name: count for name, count in (Counter(replay.outcomes) + more).items() if count}
    session.execute(update(replays).where(replays.c.id == replay.id).values(outcomes=outcomes))
    return Replay(replay.id, replay.level, replay.state, replay.total, outcomes, replay.finished_at)
