"""The claim protocol as plain Python says it: what every row must look like after a step.

The model knows no SQL. It is told what a step did, and between which two readings of the database's clock.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.store.play import EARLY
from worker.domain import retry
from worker.domain.events import types_for
from worker.domain.model import ResourceKey, Verdict
from worker.domain.retry import POISON_CRASHES, Effort, Failure, Hold, Park, RetryAt, Throttle
from worker.domain.states import AttemptOutcome, Cause, EventType, FailureKind, Priority
from worker.domain.strict_json import Json
from worker.pipeline.write import Situation
from worker.store.resources import POISON, Claim

LONGEST_COALESCING = timedelta(seconds=10)
"""How much later than at once a want may become due, so that a burst of notifications costs few calls."""

ANSWERS = (AttemptOutcome.STORED, AttemptOutcome.UNCHANGED, AttemptOutcome.STALE, AttemptOutcome.FAILED)

ANSWERLESS = (FailureKind.CREDENTIAL, FailureKind.TIMEOUT, FailureKind.NETWORK, FailureKind.SERVER_ERROR)
"""After these a probe has not shown that the credential works."""


@dataclass(frozen=True)
class Span:
    """Between these two readings of the clock lies the moment that a step took for its own."""

    first: datetime
    last: datetime

    def later(self, least: timedelta, most: timedelta | None = None) -> "Span":
        return Span(self.first + least, self.last + (least if most is None else most))

    def holds(self, moment: datetime | None) -> bool:
        return moment is not None and self.first <= moment <= self.last


Moment = Span | datetime | None
"""A time that a row must have: exactly, within a span, or none at all."""


@dataclass(frozen=True)
class Revision:
    """What the provider said of a resource from some moment on."""

    number: int
    verdict: Verdict
    note: int
    dated: bool

    @property
    def updated(self) -> datetime | None:
        return EARLY + timedelta(minutes=self.number) if self.dated else None

    @property
    def content(self) -> dict[str, Json]:
        """Two revisions may say the same, for the provider's time is a volatile part of the document."""
        return {"stage": self.verdict.stage, "outcome": self.verdict.outcome, "note": self.note}


@dataclass
class Work:
    """One resource, as its rows must be."""

    key: ResourceKey
    known: bool = False
    wanted: int = 0
    retrieved: int = 0
    failures: int = 0
    token: uuid.UUID | None = None
    due: Moment = None
    wanted_since: Moment = None
    park_reason: str | None = None
    parks: int = 0
    priority: Priority = Priority.LIVE
    cause: Cause = Cause.WEBHOOK
    read_started: datetime | None = None
    updated: datetime | None = None
    unanswered: set[int] = field(default_factory=set)
    """The attempts that make up the count of crashes: each ran out since the last answer."""
    ends: list[AttemptOutcome | None] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    versions: list[tuple[Revision, int]] = field(default_factory=list)
    """What was stored, and by which attempt."""
    events: list[tuple[int | None, EventType]] = field(default_factory=list)
    told: int = 0
    """The provider's newest revision when somebody last told us to look."""
    seen: int = 0
    """The newest revision that was read and written."""

    @property
    def crashes(self) -> int:
        return len(self.unanswered)

    def is_due(self, now: datetime) -> bool:
        return isinstance(self.due, datetime) and self.due <= now

    def want(self, count: int, priority: Priority, cause: Cause, span: Span, *, revive: bool = False) -> None:
        """Somebody wants it `count` times more; 0 only wakes what is still open."""
        if not self.known:
            self.known, self.priority, self.cause = True, priority, cause
            self.wanted = count
            self.due = span.later(timedelta(0), LONGEST_COALESCING) if count else None
            self.wanted_since = span if count else None
            return
        is_open = count > 0 or self.wanted > self.retrieved
        in_flight = self.token is not None and not self.is_due(span.last)
        if self.due is None or priority < self.priority:
            self.priority = priority
        self.wanted += count
        self.cause = cause if count else self.cause
        if is_open and (self.park_reason or self.wanted_since is None):
            self.wanted_since = span
        if not is_open or in_flight or (self.park_reason == POISON and not revive):
            return
        if not self.is_due(span.first):
            # What is due already keeps its place.
            self.due = span.later(timedelta(0), LONGEST_COALESCING)
        if self.park_reason:
            self.failures, self.park_reason = 0, None
            self.unanswered.clear()

    def claimed(self, claim: Claim, span: Span, lease: timedelta) -> None:
        """Somebody has claimed it, and this is what was handed out."""
        if self.token is not None:
            self.unanswered.add(len(self.ends))
            self.ends[-1] = AttemptOutcome.CRASHED
        self.ends.append(None)
        self.errors.append(None)
        assert span.holds(claim.started_at)
        assert claim.token != self.token
        assert (claim.attempt, claim.wanted) == (len(self.ends), self.wanted)
        assert (claim.failures, claim.crashes) == (self.failures, self.crashes)
        assert (claim.priority, claim.cause) == (self.priority, self.cause)
        assert claim.wanted_since == self.wanted_since
        self.token, self.due = claim.token, claim.started_at + lease

    def fenced(self, claim: Claim) -> None:
        """A late worker says that it was not dead. What it managed to write stays written."""
        if self.ends[claim.attempt - 1] in (None, AttemptOutcome.CRASHED):
            self.ends[claim.attempt - 1] = AttemptOutcome.FENCED
            if not self._answered_after(claim):
                self.unanswered.discard(claim.attempt)

    def _answered_after(self, claim: Claim) -> bool:
        """Whether the count of crashes has ended since; for work that is parked it stays to be seen."""
        return any(end in ANSWERS for end in self.ends[claim.attempt :])

    def is_stale(self, claim: Claim, found: Revision) -> bool:
        if self.read_started is not None and claim.started_at <= self.read_started:
            return True
        return self.updated is not None and found.updated is not None and found.updated < self.updated

    def stored(self, claim: Claim, found: Revision, span: Span) -> AttemptOutcome:
        """A document that is not stale was written."""
        newest = self.versions[-1][0] if self.versions else None
        outcome = AttemptOutcome.UNCHANGED
        if newest is None or newest.content != found.content:
            outcome = AttemptOutcome.STORED
            self.versions.append((found, claim.attempt))
            previous = newest.verdict if newest else None
            self.events += [(len(self.versions), kind) for kind in types_for(previous, found.verdict)]
        more = self.wanted > claim.wanted
        self.retrieved, self.failures, self.token = claim.wanted, 0, None
        self.due = self.wanted_since = span if more else None
        self.read_started, self.updated = claim.started_at, found.updated
        self.seen = max(self.seen, found.number)
        self.unanswered.clear()
        self._end(claim, outcome, None)
        return outcome

    def tries(self, claim: Claim, kind: FailureKind) -> int:
        """How many failures count against it, this one included."""
        if kind is FailureKind.CRASHED:
            return claim.crashes
        if kind not in (FailureKind.CONFLICT, FailureKind.STALE):
            return claim.failures + 1
        earlier, in_a_row = self.errors[: claim.attempt - 1], 0
        while earlier and earlier.pop() == kind:
            in_a_row += 1
        return min(in_a_row, claim.failures) + 1

    def postponed(self, claim: Claim, due: Span, *, failed: bool) -> None:
        self.token, self.due = None, due
        self.failures = claim.failures + failed
        self.unanswered.clear()

    def parked(self, reason: str) -> None:
        self.token = self.due = None
        self.park_reason = reason
        self.parks += 1
        self.events.append((None, EventType.PARKED))

    def _end(self, claim: Claim, outcome: AttemptOutcome, error: str | None) -> None:
        self.ends[claim.attempt - 1], self.errors[claim.attempt - 1] = outcome, error

    def failed(self, claim: Claim, failure: Failure, outcome: AttemptOutcome) -> None:
        self._end(claim, outcome, failure.kind)


@dataclass
class Account:
    """One source, as its row must be."""

    holds: int = 0
    held: bool = False
    throttled: bool = False


class Model:
    """All resources and sources."""

    def __init__(self, works: Sequence[Work]) -> None:
        self.works = {work.key: work for work in works}
        self.accounts = {key.source: Account() for key in self.works}

    def of(self, source: str) -> list[Work]:
        return [work for work in self.works.values() if work.key.source == source]

    def claimed(self, source: str, limit: int, claims: Sequence[Claim], span: Span, lease: timedelta) -> None:
        """The most urgent of what was due has been claimed, and nothing else."""
        surely = [work for work in self.of(source) if work.is_due(span.first)]
        perhaps = [work for work in self.of(source) if work.is_due(span.last)]
        taken = [self.works[claim.key] for claim in claims]
        assert all(work in perhaps for work in taken)
        assert min(limit, len(surely)) <= len(taken) <= min(limit, len(perhaps))
        if len(surely) == len(perhaps):
            assert sorted(map(_urgency, taken)) == sorted(map(_urgency, surely))[:limit]
        assert len({claim.resource_id for claim in claims}) == len(claims)
        for claim, work in zip(claims, taken, strict=True):
            work.claimed(claim, span, lease)

    def written(self, claim: Claim, answer: Revision | Failure, situation: Situation, span: Span) -> AttemptOutcome:
        """The holder of the claim has written its answer; returns what it must have been told."""
        work, account = self.works[claim.key], self.accounts[claim.key.source]
        if isinstance(answer, Revision):
            account.held = account.held and not situation.probing
            if not work.is_stale(claim, answer):
                return work.stored(claim, answer, span)
            return self._failed(claim, Failure(FailureKind.STALE, ""), AttemptOutcome.STALE, situation, span)
        if answer.http_status and answer.kind not in ANSWERLESS:
            account.held = account.held and not situation.probing
        return self._failed(claim, answer, AttemptOutcome.FAILED, situation, span)

    def _failed(
        self, claim: Claim, failure: Failure, outcome: AttemptOutcome, situation: Situation, span: Span
    ) -> AttemptOutcome:
        work, account = self.works[claim.key], self.accounts[claim.key.source]
        effort = Effort(work.tries(claim, failure.kind), claim.wanted_since, situation.horizon)
        decision = retry.decide(failure, effort, span.first, situation.jitter)
        asked_again = work.wanted > claim.wanted and failure.kind is not FailureKind.CRASHED
        if failure.kind is FailureKind.CRASHED:
            assert (claim.crashes >= POISON_CRASHES, decision) == (True, Park(POISON))
        match decision:
            case RetryAt() | Park() if asked_again:
                work.postponed(claim, span, failed=True)
            case RetryAt(when):
                work.postponed(claim, span.later(when - span.first), failed=True)
            case Throttle(until):
                work.postponed(claim, span.later(until - span.first), failed=False)
                account.throttled = True
            case Hold():
                work.postponed(claim, span, failed=False)
                account.holds += not account.held
                account.held = True
            case Park(reason):
                work.parked(reason)
        work.failed(claim, failure, outcome)
        return outcome

    def pass_time(self, by: timedelta) -> None:
        """What has been written down so far lies further in the past."""
        for work in self.works.values():
            work.due = _earlier(work.due, by)
            work.wanted_since = _earlier(work.wanted_since, by)
            work.read_started = work.read_started and work.read_started - by


def aged(claim: Claim, by: timedelta) -> Claim:
    """A claim in a worker's hands, after so much time."""
    return replace(claim, started_at=claim.started_at - by, wanted_since=claim.wanted_since - by)


def _earlier(moment: Moment, by: timedelta) -> Moment:
    return moment - by if isinstance(moment, datetime) else moment


def _urgency(work: Work) -> tuple[Priority, datetime]:
    assert isinstance(work.due, datetime)
    return work.priority, work.due
