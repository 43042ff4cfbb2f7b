"""What follows from a failed retrieve call. Pure: no clock, no dice, no database; tested as a table."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.domain.states import FailureKind

FIRST_DELAY = timedelta(seconds=1)
"""Most outages last seconds. A longer first step only makes people wait; a shorter one hammers a provider that is
down."""

LONGEST_DELAY = timedelta(hours=1)
"""With a longer step, work would stay unfinished for hours after a long outage has ended."""

NOT_FOUND_HORIZON = timedelta(minutes=15)
"""Providers' reads lag their webhooks by seconds. What is still missing after minutes is gone."""

FEWEST_TRIES = 5
"""However late it is. The time that a source was held, or no worker ran, is not the work's fault."""

STALE_TRIES = 6
CONFLICT_TRIES = 2
CONFLICT_DELAY = timedelta(seconds=5)

DEFAULT_THROTTLE = timedelta(seconds=30)
"""How long a source waits after a 429 that names no time."""

LONGEST_THROTTLE = timedelta(minutes=15)
"""A provider that asks for more is asked again after this, because a wrong header must not stop a source for days."""

PROBE_AFTER = timedelta(minutes=2)
"""How often a held source is tried with one call, to see whether its credential works again."""

POISON_CRASHES = 5
"""A worker that dies this often on one resource dies because of it. Fewer would park innocent work in a bad deploy."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call gave no document. `detail` is scrubbed text for operators, never a body or a URL."""

    kind: FailureKind
    detail: str
    http_status: int | None = None
    retry_after: timedelta | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Effort:
    """What was spent on a resource so far: `failures` in a row, this one included, since `wanted_since`."""

    failures: int
    wanted_since: datetime
    horizon: timedelta


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again then."""

    when: datetime


@dataclass(frozen=True, slots=True)
class Throttle:
    """The whole source waits until then; the attempt is no failure."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Park:
    """Stop until an operator acts."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Stop calling the whole source; try one call at `probe_at`."""

    reason: str
    probe_at: datetime


Decision = RetryAt | Throttle | Park | Hold


def decide(failure: Failure, effort: Effort, now: datetime, jitter: float) -> Decision:
    """What to do after `failure`. `jitter` is a fresh random number in [0, 1), which spreads the retries (full
    jitter)."""
    match failure.kind:
        case FailureKind.RATE_LIMITED:
            wait = min(failure.retry_after or DEFAULT_THROTTLE, LONGEST_THROTTLE)
            return Throttle(now + wait + timedelta(seconds=jitter))
        case FailureKind.CREDENTIAL:
            return Hold(failure.detail, now + PROBE_AFTER)
        case FailureKind.REJECTED | FailureKind.BUG:
            return Park(failure.kind)
        case FailureKind.CRASHED:
            return RetryAt(now) if effort.failures < POISON_CRASHES else Park("poison")
        case FailureKind.CONFLICT:
            again = effort.failures < CONFLICT_TRIES
            return RetryAt(now + CONFLICT_DELAY) if again else Park(failure.kind)
        case FailureKind.STALE if effort.failures >= STALE_TRIES:
            return Park(failure.kind)
        case FailureKind.NOT_FOUND:
            return _retry_within(min(NOT_FOUND_HORIZON, effort.horizon), "gone", (failure, effort, now, jitter))
    return _retry_within(effort.horizon, failure.kind, (failure, effort, now, jitter))


def backoff(failures: int, jitter: float) -> timedelta:
    """A random share of an exponentially growing step: 1 s, 2 s, 4 s, … up to an hour."""
    doublings = min(max(failures - 1, 0), 20)
    step = FIRST_DELAY * (1 << doublings)
    return min(step, LONGEST_DELAY) * jitter


def _retry_within(
    horizon: timedelta, reason: str, situation: tuple[Failure, Effort, datetime, float]
) -> RetryAt | Park:
    failure, effort, now, jitter = situation
    asked = min(failure.retry_after or timedelta(0), LONGEST_THROTTLE)
    when = now + max(backoff(effort.failures, jitter), asked)
    if when - effort.wanted_since > horizon and effort.failures >= FEWEST_TRIES:
        return Park(reason)
    return RetryAt(when)
