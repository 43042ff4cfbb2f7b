"""Resources: what is wanted, who may work on it, and when. All times come from the database's clock.

To claim is to move `due_at` past the lease and to stamp a token; an expired lease is the retry. There is no
'processing' state to get stuck in.
"""

import uuid
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ColumnElement,
    Integer,
    Interval,
    Row,
    Select,
    Text,
    Update,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    collate,
    exists,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import Cause, Priority, Step
from worker.errors import ClaimLost
from worker.store.bulk import Change, Value, postgresql_text
from worker.store.bulk import Step as BulkStep
from worker.store.claims import Claim as Claim
from worker.store.claims import book_attempts, note_crashes
from worker.store.engine import UNAVAILABLE, among, database_time, is_sqlite
from worker.store.tables import attempts, resources, source_states
from worker.store.types import UtcDateTime, db_now
from worker.store.wanted import LONGEST_PAUSES as LONGEST_PAUSES
from worker.store.wanted import NOT_AT_ALL as NOT_AT_ALL
from worker.store.wanted import POISON as POISON
from worker.store.wanted import Want as Want
from worker.store.wanted import mark_wanted as mark_wanted


@dataclass(frozen=True, slots=True)
class Parked:
    """Why a resource is parked: `reason` for people, `step` and `fingerprint` for its lane, `error` as it was said."""

    reason: str
    step: Step
    fingerprint: str
    error: str


def claim(
    session: Session,
    source: str,
    *,
    limit: int,
    lease: timedelta,
    low: int | None = None,
    undisturbed: bool = False,
) -> list[Claim]:
    """Claim up to `limit` of the source's most urgent due resources and book an attempt on each. At most `low` of them
    are others than live ones; with `undisturbed`, there are none while the source is held or throttled.

    A resource whose last claim ran out without an answer counts one crash more. The commit does not wait for the disk:
    a claim that a power cut takes back is made again, and what it would have brought is fenced by its token.
    """
    token = uuid.uuid4()
    values: dict[str, object] = {"of": source, "lease": lease, "token": token}
    most_low = limit if low is None else min(low, limit)
    if is_sqlite(session):
        rows: Sequence[Row[Any]] = _claim_in_sqlite(session, values, limit, most_low, undisturbed=undisturbed)
    else:
        values |= {"most": limit, "low": most_low}
        rows = session.connection().exec_driver_sql(_taking_in_postgresql(undisturbed), values).all()
    claims = [_claim(row, token, row.now) for row in rows]
    if is_sqlite(session):
        book_attempts(session, claims)
        note_crashes(session, claims)
    else:
        # They are claimed by now, whatever becomes of the books; who writes what they bring looks at those again.
        with suppress(*UNAVAILABLE):
            note_crashes(session, claims)
    return sorted(claims, key=lambda item: (item.priority, item.wanted_since))


def _claim_in_sqlite(
    session: Session, values: dict[str, object], limit: int, low: int, *, undisturbed: bool
) -> list[Row[Any]]:
    now = database_time(session)
    values |= {"now": now, "until": now + cast("timedelta", values["lease"])}
    rows: list[Row[Any]] = []
    for live, most in ((True, limit), (False, low)):
        left = min(most, limit - len(rows))
        if left > 0:
            taking = _taking_in_sqlite(live, undisturbed)
            rows += session.connection().execute(taking, {**values, "most": left}).all()
    return rows


@lru_cache
def _taking_in_sqlite(live: bool, undisturbed: bool) -> ReturningUpdate[Any]:
    now = bindparam("now", type_=UtcDateTime())
    most = bindparam("most", type_=Integer())
    candidates = _candidates("candidates", now, most, live=live, undisturbed=undisturbed)
    taking = _taking(bindparam("until", type_=UtcDateTime()))
    return taking.where(resources.c.id.in_(select(candidates.c.id))).returning(*_CLAIMED, now.label("now"))


@lru_cache
def _taking_in_postgresql(undisturbed: bool) -> str:
    """Both classes, with their attempts, in one statement, by the database's own clock."""
    clock = select(db_now().label("now")).cte("clock")
    now = select(clock.c.now).scalar_subquery()
    most, low = bindparam("most", type_=Integer()), bindparam("low", type_=Integer())
    live = _candidates("live", now, most, live=True, undisturbed=undisturbed)
    room = most - select(func.count()).select_from(live).scalar_subquery()
    others = _candidates("others", now, func.least(low, room), live=False, undisturbed=undisturbed)
    chosen = func.array(union_all(select(live.c.id), select(others.c.id)).scalar_subquery())
    taking = _taking(now + bindparam("lease", type_=Interval()))
    taken = taking.where(resources.c.id == any_(chosen)).returning(*_CLAIMED).cte("taken")
    booked = insert(attempts).from_select(
        ["resource_id", "number", "cause", "started_at"], select(taken.c.id, taken.c.attempts, taken.c.cause, now)
    )
    # For each row, and so only where anything is to be committed.
    unhurried: ColumnElement[str] = literal_column("set_config('synchronous_commit', 'off', true)", Text())
    return postgresql_text(select(taken, now.label("now"), unhurried).add_cte(booked.cte("booked")))


_CLAIMED = tuple(
    resources.c[name]
    for name in (
        "id", "source", "kind", "external_id", "provider", "environment", "attempts", "wanted", "cause", "priority",
        "failures", "crashes", "wanted_since",
    )
)  # fmt: skip
"""What a claim is made of."""


def _taking(until: ColumnElement[datetime]) -> Update:
    """To move rows past a lease; which rows is still to be said, and only that: were it said again that they are due,
    PostgreSQL might look through all that are to find them."""
    nothing: ColumnElement[int] = literal_column("0", Integer())
    one: ColumnElement[int] = literal_column("1", Integer())
    return update(resources).values(
        due_at=until,
        claim_token=bindparam("token", type_=Uuid()),
        attempts=resources.c.attempts + one,
        crashes=resources.c.crashes + case((resources.c.claim_token.is_not(None), one), else_=nothing),
    )


def _candidates(
    name: str, now: ColumnElement[datetime], most: ColumnElement[int], *, live: bool, undisturbed: bool
) -> CTE:
    """The most urgent rows that are due, of the `live` ones or of all others."""
    live_only: ColumnElement[int] = literal_column(str(int(Priority.LIVE)), Integer())
    of_class = resources.c.priority == live_only if live else resources.c.priority > live_only
    disturbed = exists(
        select(source_states.c.source).where(
            source_states.c.source == bindparam("of", type_=Text()),
            or_(source_states.c.held_at.is_not(None), source_states.c.throttled_until > now),
        )
    )
    return (
        select(resources.c.id)
        .where(_due(now), of_class, *([~disturbed] if undisturbed else []))
        .order_by(resources.c.priority, resources.c.due_at)
        .limit(most)
        # With `key_share`, rows that somebody refers to are not taken for locked: a large replay is being written, say.
        .with_for_update(skip_locked=True, key_share=True)
        # PostgreSQL may run a sub-select once for each row, and the limit would count anew; a locking CTE runs once.
        .cte(name)
    )


def _due(now: ColumnElement[datetime]) -> ColumnElement[bool]:
    return and_(resources.c.source == bindparam("of", type_=Text()), resources.c.due_at <= now)


def _claim(row: Row[tuple[object, ...]], token: uuid.UUID, now: datetime) -> Claim:
    return Claim(
        resource_id=row.id,
        key=ResourceKey(row.source, ResourceRef(row.kind, row.external_id)),
        provider=row.provider,
        environment=row.environment,
        token=token,
        attempt=row.attempts,
        wanted=row.wanted,
        cause=Cause(row.cause),
        priority=Priority(row.priority),
        failures=row.failures,
        crashes=row.crashes,
        wanted_since=row.wanted_since or now,
        started_at=now,
    )


def lock_claimed(
    session: Session, claims: Sequence[Claim], related: Collection[ResourceKey] = ()
) -> dict[int, Row[Any]]:
    """What is to be known of those claims that are still ours, by resource id, their rows locked until the transaction
    ends; each with the database's time as `now`.

    Rows of `related` resources, as far as they exist, are locked with them: everybody who takes several takes them in
    one go and in the order of their keys, so that two who take the same ones cannot wait for each other.
    """
    ids = [item.resource_id for item in claims]
    rows: Sequence[Row[Any]]
    if related or is_sqlite(session):
        rows = session.execute(_locking(_any_of(session, ids, related), in_key_order(session))).all()
    else:
        rows = session.connection().exec_driver_sql(_locking_in_postgresql(), {"ids": ids}).all()
    tokens = {(item.resource_id, item.token) for item in claims}
    return {row.id: row for row in rows if (row.id, row.claim_token) in tokens}


def _any_of(session: Session, ids: list[int], related: Collection[ResourceKey]) -> ColumnElement[bool]:
    held: ColumnElement[bool] = resources.c.id.in_(ids)
    if not related:
        return held
    names = tuple_(resources.c.source, resources.c.kind, resources.c.external_id)
    wanted = sorted((key.source, key.ref.kind, key.ref.external_id) for key in related)
    named = select(resources.c.id).where(names.in_(wanted))
    return or_(held, among(session, resources.c.id, named))


def _locking(chosen: ColumnElement[bool], order: Iterable[ColumnElement[str]]) -> Select[*tuple[Any, ...]]:
    row = resources.c
    told = (row.id, row.claim_token, row.wanted, row.version, row.read_started_at, row.provider_updated_at)
    query = select(*told, db_now().label("now")).where(chosen)
    return query.order_by(*order).with_for_update(key_share=True)


@lru_cache
def _locking_in_postgresql() -> str:
    """The statement for what most documents are, which name no other: to make it takes longer than to ask it."""
    chosen = resources.c.id == any_(bindparam("ids", type_=ARRAY(BigInteger())))
    return postgresql_text(_locking(chosen, _collated("C")))


def in_key_order(session: Session) -> tuple[ColumnElement[str], ...]:
    """The order of `ResourceKey`, in which rows are locked."""
    # Texts are compared by code point, as Python does; a database's own collation is another order.
    return _collated("BINARY" if is_sqlite(session) else "C")


def _collated(binary: str) -> tuple[ColumnElement[str], ...]:
    return tuple(collate(column, binary) for column in (resources.c.source, resources.c.kind, resources.c.external_id))


@dataclass(frozen=True, slots=True)
class Settled:
    """What a claim ended with: the version that is current now, and what tells whether an answer is older than it."""

    claim: Claim
    version: int
    read_started_at: datetime
    provider_updated_at: datetime | None


def require_all(settled: int, changed: int) -> None:
    """Raises ClaimLost unless as many claims were ended as should be."""
    if changed != settled:
        raise ClaimLost(f"{settled - changed} of {settled} attempts came back after their claims had ended")


def settling(settled: Sequence[Settled], now: datetime, *, pause: timedelta) -> BulkStep:
    """To end claims with success, as a step to be written with more; whoever does must see that all rows were there.

    What was wanted meanwhile makes a resource due again after `pause`.
    """
    return _SETTLE, [
        {
            "row": item.claim.resource_id,
            "token": item.claim.token,
            "told": item.claim.wanted,
            "current": item.version,
            "read_at": item.read_started_at,
            "changed_at": item.provider_updated_at,
            "ended_at": now,
            "again_at": now + pause,
        }
        for item in settled
    ]


def _settle(value: Value) -> Update:
    more = resources.c.wanted > value("told")
    return (
        update(resources)
        .where(resources.c.id == value("row"), resources.c.claim_token == value("token"))
        .values(
            claim_token=null(),
            retrieved=value("told"),
            due_at=case((more, value("again_at"))),
            wanted_since=case((more, value("ended_at"))),
            failures=literal_column("0"),
            crashes=literal_column("0"),
            last_error=null(),
            version=value("current"),
            read_started_at=value("read_at"),
            provider_updated_at=value("changed_at"),
        )
    )


_SETTLE = Change(
    (
        ("row", resources.c.id),
        ("token", resources.c.claim_token),
        ("told", resources.c.wanted),
        ("current", resources.c.version),
        ("read_at", resources.c.read_started_at),
        ("changed_at", resources.c.provider_updated_at),
        ("ended_at", resources.c.wanted_since),
        ("again_at", resources.c.due_at),
    ),
    _settle,
)


def postpone(session: Session, claim: Claim, due_at: datetime, **changes: object) -> None:
    """End a claim without a document and try again at `due_at`."""
    _end_claim(session, claim, due_at=due_at, crashes=0, **changes)


def park(session: Session, claim: Claim, now: datetime, why: Parked) -> int:
    """End a claim and stop until an operator, or a new notification, asks again. Returns how often it was parked."""
    _end_claim(
        session,
        claim,
        due_at=None,
        parked_at=now,
        park_reason=why.reason,
        park_step=why.step,
        park_fingerprint=why.fingerprint,
        parks=resources.c.parks + 1,
        last_error=why.error,
    )
    parks: int = session.execute(select(resources.c.parks).where(resources.c.id == claim.resource_id)).scalar_one()
    return parks


def _end_claim(session: Session, claim: Claim, **values: object) -> None:
    changed = session.execute(
        update(resources)
        .where(resources.c.id == claim.resource_id, resources.c.claim_token == claim.token)
        .values(claim_token=None, **values)
        .returning(resources.c.id)
    ).all()
    if len(changed) != 1:
        raise ClaimLost(f"attempt {claim.attempt} of resource {claim.resource_id} came back after its claim had ended")


def sources_due(session: Session, sources: Iterable[str], *, late_by: timedelta = timedelta()) -> list[str]:
    """Those of `sources` that have work due now, or that had it due so long ago."""
    latest = database_time(session) - late_by
    looks = [select(literal(slug)).where(_any_due(slug, latest)) for slug in sources]
    return list(session.execute(union_all(*looks)).scalars()) if looks else []


def _any_due(source: str, now: datetime) -> ColumnElement[bool]:
    return exists(select(resources.c.id).where(resources.c.source == source, resources.c.due_at <= now))
