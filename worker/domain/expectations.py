"""What follows for an expected result from what is known of it. Pure: no clock and no database; tested as a table."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.domain.states import ExpectationState, OverdueReason, ResourceState, Stage

EARLIEST_DEADLINE = timedelta(days=1)
"""How long ago a deadline may be. Who was late to say what is expected still learns of it; older ones are mistakes."""

LATEST_DEADLINE = timedelta(days=366)
"""How far away a deadline may be. No provider keeps a verification open for longer."""

EARLIER_MATCH = timedelta(days=1)
"""A reference names a person, who may have been verified before. What was decided this long before it was expected
belongs to that earlier time."""

TRYING_LASTS = timedelta(seconds=60)
"""How long the retrieve after a deadline may take before the result is called overdue. A call takes seconds, and a
provider that needs longer is not answering."""

TRYING_LOOK = timedelta(seconds=2)
"""How often a retrieve that was asked for is looked at."""

FIRST_LATE_LOOK = timedelta(seconds=5)
LONGEST_LATE_LOOK = timedelta(days=1)
LATE_LOOK_SHARE = 4
"""An overdue result is looked for again after a quarter of the time that has passed: often at first, and some eighty
times in all."""

GIVEN_UP_AFTER = timedelta(days=30)
"""After that an overdue result is no longer looked for; it stays overdue."""


@dataclass(frozen=True, slots=True)
class Expected:
    """An expectation as far as decisions need it. `since` is when somebody could first miss the result."""

    state: ExpectationState
    since: datetime
    tried_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the resource. `retrievable` says that there is an id, and a configured source to ask;
    `obstacle` why the source is not called now."""

    settled: bool = False
    retrievable: bool = False
    configured: bool = True
    work: ResourceState | None = None
    obstacle: OverdueReason | None = None


@dataclass(frozen=True, slots=True)
class Met:
    """The result is there."""


@dataclass(frozen=True, slots=True)
class Try:
    """Ask the provider, and look again then."""

    look_at: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """Nothing is known yet; look again then. None is never."""

    look_at: datetime | None


@dataclass(frozen=True, slots=True)
class Overdue:
    """The result is not there in time. Tell it once, and look again then."""

    reason: OverdueReason
    look_at: datetime


Decision = Met | Try | Look | Overdue


def is_settled(stage: Stage, final: bool) -> bool:
    """Whether a result says what it was expected to say: a decision, or that there will be none."""
    return stage is Stage.DECIDED or final


def decide(expected: Expected, standing: Standing, now: datetime) -> Decision:
    """What to do about an expectation whose time to be looked at has come."""
    if standing.settled:
        return Met()
    match expected.state:
        case ExpectationState.OPEN:
            if standing.retrievable:
                return Try(now + TRYING_LOOK)
            reason = OverdueReason.UNKNOWN if standing.configured else OverdueReason.NOT_CONFIGURED
            return Overdue(reason, next_late_look(expected.since, now))
        case ExpectationState.TRYING:
            return _trying(expected, standing, now)
    over = now - expected.since > GIVEN_UP_AFTER
    return Look(None if over else next_late_look(expected.since, now))


def _trying(expected: Expected, standing: Standing, now: datetime) -> Decision:
    """The retrieve ended, cannot begin, or goes on."""
    late = next_late_look(expected.since, now)
    if not standing.configured:
        return Overdue(OverdueReason.NOT_CONFIGURED, late)
    if standing.work is ResourceState.PARKED:
        return Overdue(OverdueReason.PARKED, late)
    if standing.work is ResourceState.SETTLED:
        return Overdue(OverdueReason.UNDECIDED, late)
    if standing.obstacle is OverdueReason.HELD:
        return Overdue(OverdueReason.HELD, late)
    if expected.tried_at is not None and now - expected.tried_at < TRYING_LASTS:
        return Look(now + TRYING_LOOK)
    return Overdue(standing.obstacle or OverdueReason.NOT_RETRIEVED, late)


def next_late_look(since: datetime, now: datetime) -> datetime:
    """When to look again for a result that has been missing since then."""
    return now + min(max((now - since) / LATE_LOOK_SHARE, FIRST_LATE_LOOK), LONGEST_LATE_LOOK)
