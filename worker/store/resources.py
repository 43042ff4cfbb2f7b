"""Resources: what is wanted, who may work on it, and when. All times come from the database's clock.

To claim is to move `due_at` past the lease and to stamp a token; an expired lease is the retry. There is no
'processing' state to get stuck in.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from sqlalchemy import ColumnElement, Row, and_, case, false, func, literal, or_, select, update
from sqlalchemy.orm import Session

from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import AttemptOutcome, Cause, FailureKind, Priority, Step
from worker.errors import ClaimLost
from worker.store.engine import database_time, insert
from worker.store.tables import attempts, resources

POISON = "poison"
LONGEST_PAUSES = 6
"""Pauses after which work is not put off again. Without an end, news that never ceases would hide a decision."""

NOT_AT_ALL: Mapping[str, timedelta] = {}


@dataclass(frozen=True, slots=True)
class Want:
    """Somebody wants a newer document. `count` 0 only wakes work that is still open."""

    provider: str
    environment: str
    cause: Cause
    priority: Priority = Priority.LIVE
    count: int = 1


@dataclass(frozen=True, slots=True)
class Claim:
    """A time-limited right to work on a resource. `started_at` is the database's time of the claim."""

    resource_id: int
    key: ResourceKey
    provider: str
    environment: str
    token: uuid.UUID
    attempt: int
    wanted: int
    cause: Cause
    priority: Priority
    failures: int
    crashes: int
    wanted_since: datetime
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Parked:
    """Why a resource is parked: `reason` for people, `step` and `fingerprint` for its lane, `error` as it was said."""

    reason: str
    step: Step
    fingerprint: str
    error: str


def mark_wanted(
    session: Session,
    wants: Mapping[ResourceKey, Want],
    now: datetime,
    *,
    revive: bool = False,
    coalesce: Mapping[str, timedelta] = NOT_AT_ALL,
) -> dict[ResourceKey, int]:
    """Note that each resource is wanted, creating those not known yet; returns their row ids.

    Work in flight is left alone: whoever holds the claim sees at the end that more was wanted meanwhile. Everything
    else that is open becomes due now, parked work too, except poison: that would only crash the next worker. With
    `revive`, for an operator who knows better, poison is tried again as well.

    `coalesce` is how long to wait for silence, by source, with what was read a moment ago: providers send several
    notifications within seconds, and one more call answers them all.
    """
    if not wants:
        return {}
    rows = [_new_row(key, wants[key], now) for key in sorted(wants)]
    statement = insert(session, resources)
    new = statement.excluded
    open_work = or_(new.wanted > 0, resources.c.wanted > resources.c.retrieved)
    in_flight = and_(resources.c.claim_token.is_not(None), resources.c.due_at > now)
    spared = false() if revive else func.coalesce(resources.c.park_reason, "") == POISON
    untouched = or_(in_flight, ~open_work, spared)
    starts_over = and_(resources.c.parked_at.is_not(None), ~untouched)
    upsert = statement.on_conflict_do_update(
        index_elements=[resources.c.source, resources.c.kind, resources.c.external_id],
        set_={
            "wanted": resources.c.wanted + new.wanted,
            # Work that was parked starts over: it gets the whole horizon again.
            "wanted_since": case(
                (
                    and_(open_work, resources.c.parked_at.is_(None)),
                    func.coalesce(resources.c.wanted_since, now),
                ),
                (open_work, now),
            ),
            # What is due already keeps its place among what waits for the budget, however often it is told of.
            "due_at": case(
                (or_(untouched, resources.c.due_at <= now), resources.c.due_at),
                *_after_a_pause(coalesce, now),
                else_=now,
            ),
            "parked_at": case((untouched, resources.c.parked_at)),
            "park_reason": case((untouched, resources.c.park_reason)),
            "park_step": case((untouched, resources.c.park_step)),
            "park_fingerprint": case((untouched, resources.c.park_fingerprint)),
            "failures": case((starts_over, 0), else_=resources.c.failures),
            "crashes": case((starts_over, 0), else_=resources.c.crashes),
            "priority": case(
                (or_(resources.c.due_at.is_(None), new.priority < resources.c.priority), new.priority),
                else_=resources.c.priority,
            ),
            "cause": case((new.wanted > 0, new.cause), else_=resources.c.cause),
        },
    ).returning(resources.c.id, resources.c.source, resources.c.kind, resources.c.external_id)
    found = session.execute(upsert, rows)
    return {ResourceKey(row.source, ResourceRef(row.kind, row.external_id)): row.id for row in found}


def _after_a_pause(coalesce: Mapping[str, timedelta], now: datetime) -> list[tuple[ColumnElement[bool], object]]:
    """When to read again what was read a moment ago, or waits because it was: once nothing was told for a pause, and
    without more delay where it has waited for several."""
    waiting = and_(resources.c.read_started_at.is_not(None), resources.c.due_at > now, resources.c.failures == 0)
    cases: list[tuple[ColumnElement[bool], object]] = []
    for source, pause in coalesce.items():
        if pause:
            read_just_now = resources.c.read_started_at > now - pause
            pausing = and_(resources.c.source == source, or_(read_just_now, waiting))
            patient = resources.c.wanted_since <= now - LONGEST_PAUSES * pause
            cases.append((and_(pausing, patient), func.coalesce(resources.c.due_at, now)))
            cases.append((pausing, literal(now + pause, resources.c.due_at.type)))
    return cases


def _new_row(key: ResourceKey, want: Want, now: datetime) -> dict[str, object]:
    return {
        "source": key.source,
        "kind": key.ref.kind,
        "external_id": key.ref.external_id,
        "provider": want.provider,
        "environment": want.environment,
        "created_at": now,
        "cause": want.cause,
        "priority": int(want.priority),
        "wanted": want.count,
        "wanted_since": now if want.count else None,
        "due_at": now if want.count else None,
    }


def claim(session: Session, source: str, *, limit: int, lease: timedelta, live: bool | None = None) -> list[Claim]:
    """Claim up to `limit` of the source's most urgent due resources and book an attempt on each: of all, of the `live`
    ones, or of all but those.

    A resource whose last claim ran out without an answer counts one crash more.
    """
    now = database_time(session)
    due = and_(resources.c.source == source, resources.c.due_at <= now, *_of_class(live))
    candidates = (
        select(resources.c.id)
        .where(due)
        .order_by(resources.c.priority, resources.c.due_at)
        .limit(limit)
        # With `key_share`, rows that somebody refers to are not taken for locked: a large replay is being written, say.
        .with_for_update(skip_locked=True, key_share=True)
        # PostgreSQL may run a sub-select once for each row, and the limit would count anew; a locking CTE runs once.
        .cte("candidates")
    )
    token = uuid.uuid4()
    taken = session.execute(
        update(resources)
        .where(resources.c.id.in_(select(candidates.c.id)), due)
        .values(
            due_at=now + lease,
            claim_token=token,
            attempts=resources.c.attempts + 1,
            crashes=resources.c.crashes + case((resources.c.claim_token.is_not(None), 1), else_=0),
        )
        .returning(*resources.c)
    ).all()
    claims = [_claim(row, token, now) for row in taken]
    _book_attempts(session, claims)
    return sorted(claims, key=lambda item: (item.priority, item.wanted_since))


def _of_class(live: bool | None) -> tuple[ColumnElement[bool], ...]:
    if live is None:
        return ()
    return (resources.c.priority == Priority.LIVE if live else resources.c.priority > Priority.LIVE,)


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


def _book_attempts(session: Session, claims: Sequence[Claim]) -> None:
    if not claims:
        return
    crashed = [item.resource_id for item in claims if item.crashes]
    if crashed:
        session.execute(
            update(attempts)
            .where(attempts.c.resource_id.in_(crashed), attempts.c.outcome.is_(None))
            .values(outcome=AttemptOutcome.CRASHED, finished_at=claims[0].started_at)
        )
    session.execute(
        insert(session, attempts),
        [
            {
                "resource_id": item.resource_id,
                "number": item.attempt,
                "cause": item.cause,
                "started_at": item.started_at,
            }
            for item in claims
        ],
    )


def lock_claimed(session: Session, claim: Claim) -> Row[tuple[object, ...]]:
    """The claimed resource's row, locked until the transaction ends. Raises ClaimLost if the claim is no longer
    ours."""
    row = session.execute(
        select(*resources.c)
        .where(resources.c.id == claim.resource_id, resources.c.claim_token == claim.token)
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise ClaimLost(f"attempt {claim.attempt} of resource {claim.resource_id} came back after its claim had ended")
    return row


def settle(
    session: Session, claim: Claim, now: datetime, *, pause: timedelta = timedelta(0), **changes: object
) -> None:
    """End a claim with success. What was wanted meanwhile makes the resource due again after `pause`."""
    more = resources.c.wanted > claim.wanted
    _end_claim(
        session,
        claim,
        retrieved=claim.wanted,
        due_at=case((more, literal(now + pause, resources.c.due_at.type))),
        wanted_since=case((more, literal(now, resources.c.due_at.type))),
        failures=0,
        crashes=0,
        last_error=None,
        **changes,
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


def finish_attempt(session: Session, claim: Claim, now: datetime, outcome: AttemptOutcome, **values: object) -> None:
    """Write down how the attempt ended; `values` are further columns of `attempts`."""
    session.execute(
        update(attempts)
        .where(attempts.c.resource_id == claim.resource_id, attempts.c.number == claim.attempt)
        .values(outcome=outcome, finished_at=now, **values)
    )


def failed_in_a_row(session: Session, claim: Claim, kind: FailureKind) -> int:
    """How many attempts before this one ended with `kind`, with no other end in between; counted up to ten."""
    earlier = (
        select(attempts.c.error)
        .where(attempts.c.resource_id == claim.resource_id, attempts.c.number < claim.attempt)
        .order_by(attempts.c.number.desc())
        .limit(10)
    )
    return sum(1 for _ in takewhile(lambda error: error == kind, session.execute(earlier).scalars()))


def note_fenced(session: Session, claim: Claim, now: datetime) -> None:
    """A worker has come back after its claim had ended. It was slow and not dead, so the crash is taken back.

    An attempt that is written already stays so: its commit had arrived, and only the word of it was lost.
    """
    unwritten = or_(attempts.c.outcome.is_(None), attempts.c.outcome == AttemptOutcome.CRASHED)
    fenced = session.execute(
        update(attempts)
        .where(attempts.c.resource_id == claim.resource_id, attempts.c.number == claim.attempt, unwritten)
        .values(outcome=AttemptOutcome.FENCED, finished_at=now)
        .returning(attempts.c.id)
    )
    if fenced.first() is None or _answered_after(session, claim):
        return
    session.execute(
        update(resources)
        .where(resources.c.id == claim.resource_id, resources.c.crashes > 0)
        .values(crashes=resources.c.crashes - 1)
    )


def _answered_after(session: Session, claim: Claim) -> bool:
    """Whether a later attempt got an answer: crashes are counted anew from there, and this one is no longer among
    them."""
    silent = (AttemptOutcome.CRASHED, AttemptOutcome.FENCED)
    later = (
        select(attempts.c.id)
        .where(attempts.c.resource_id == claim.resource_id, attempts.c.number > claim.attempt)
        .where(attempts.c.outcome.not_in(silent))
        .limit(1)
    )
    return session.execute(later).first() is not None


def sources_due(session: Session, sources: Iterable[str], *, late_by: timedelta = timedelta()) -> list[str]:
    """Those of `sources` that have work due now, or that had it due so long ago."""
    latest = database_time(session) - late_by
    return [slug for slug in sources if _any_due(session, slug, latest)]


def _any_due(session: Session, source: str, now: datetime) -> bool:
    found = select(resources.c.id).where(resources.c.source == source, resources.c.due_at <= now).limit(1)
    return session.execute(found).first() is not None
