"""Claims, and the attempts that they book: each attempt is counted before its call, so that a crash counts too."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from sqlalchemy import Update, or_, select, update
from sqlalchemy.orm import Session

from worker.domain.model import ResourceKey
from worker.domain.states import AttemptOutcome, Cause, FailureKind, Priority
from worker.log import trail
from worker.store.bulk import Change, Insertion, Step, Value, insert_rows
from worker.store.tables import attempts, resources

_BOOKED = Insertion(attempts)


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

    @property
    def token_of_attempt(self) -> tuple[int, uuid.UUID]:
        """What tells it from every other claim: those that were made together share their token."""
        return self.resource_id, self.token

    @property
    def names(self) -> dict[str, object]:
        """What every line of the log about it carries. The trail joins them to those of its webhooks and events."""
        ref = self.key.ref
        return {
            "source": self.key.source,
            "trail": trail(self.key.source, f"{ref.kind}/{ref.external_id}"),
            "kind": ref.kind,
            "resource": self.resource_id,
            "attempt": self.attempt,
        }


def book_attempts(session: Session, claims: Sequence[Claim]) -> None:
    """Count an attempt for each claim."""
    rows = [
        {"resource_id": item.resource_id, "number": item.attempt, "cause": item.cause, "started_at": item.started_at}
        for item in claims
    ]
    insert_rows(session, _BOOKED, rows)


def note_crashes(session: Session, claims: Sequence[Claim]) -> None:
    """Where the attempt before these had no answer, say so."""
    crashed = [item.resource_id for item in claims if item.crashes]
    if not crashed:
        return
    before = attempts.c.started_at < claims[0].started_at
    session.execute(
        update(attempts)
        .where(attempts.c.resource_id.in_(crashed), attempts.c.outcome.is_(None), before)
        .values(outcome=AttemptOutcome.CRASHED, finished_at=claims[0].started_at)
    )


def finish_attempt(session: Session, claim: Claim, now: datetime, outcome: AttemptOutcome, **values: object) -> None:
    """Write down how the attempt ended; `values` are further columns of `attempts`."""
    session.execute(
        update(attempts)
        .where(attempts.c.resource_id == claim.resource_id, attempts.c.number == claim.attempt)
        .values(outcome=outcome, finished_at=now, **values)
    )


def finishing(ended: Sequence[tuple[Claim, AttemptOutcome]], now: datetime) -> Step:
    """How attempts ended of which there is no more to say, to be written with more."""
    return _FINISH, [
        {"row": claim.resource_id, "attempt": claim.attempt, "how": outcome, "ended_at": now}
        for claim, outcome in ended
    ]


def _finish(value: Value) -> Update:
    return (
        update(attempts)
        .where(attempts.c.resource_id == value("row"), attempts.c.number == value("attempt"))
        .values(outcome=value("how"), finished_at=value("ended_at"))
    )


_FINISH = Change(
    (
        ("row", resources.c.id),
        ("attempt", attempts.c.number),
        ("how", attempts.c.outcome),
        ("ended_at", attempts.c.finished_at),
    ),
    _finish,
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
