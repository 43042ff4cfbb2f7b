"""Settle: write down what became of a stretch of events that was handed to a sink, in one transaction.

This is for sinks in trouble. A sink that takes everything costs what moving its cursor costs, and that is elsewhere.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.domain.events import EVERYTHING, EventFilter
from worker.pipeline.hand_over import HandOver, error_text
from worker.sinks.base import SinkDisabled, TryLater
from worker.store import audit, outbox, sinks, undelivered
from worker.store.audit import Deed
from worker.store.engine import Session, database_time
from worker.store.outbox import NumberedEvent, Taken
from worker.store.sinks import Away, Standing
from worker.store.undelivered import Refused

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
"""Between two tries of a sink that is away: a random share of a time that doubles from the first to the longest. A
minute is what a sink that is back may be unaware of it, and a try costs a server that is in trouble little."""

FIRST_REFUSED_PAUSE = 5.0
LONGEST_REFUSED_PAUSE = 3600.0
"""Between two tries of an event that is refused, in the same way. Somebody must mend something before it is taken, and
that takes longer than a restart."""

LONGEST_ASKED = 3600.0
"""A sink may ask for a pause, and gets no longer one than this, because a mistaken answer must not stop it for days."""

TRIES_BEFORE_GIVING_UP = 5
"""Nothing is given up after fewer: a worker that was stopped for days, and comes back before the sink does, has only
begun to try."""

GIVEN_UP_IN_A_ROW = 20
"""After so many with none taken behind them, the sink is held instead of losing more: a receiver that is gone for good
is no reason to give up every event that ever happens, and rows of them nobody reads."""

ACTOR = "verisink"
"""Who holds a sink that asked for it, or that is gone."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is configured about delivering to a sink: which events it wants, for how long one of them is tried, and
    whether a new sink begins with what happens from now on."""

    wanted: EventFilter = EVERYTHING
    retry: timedelta = timedelta(hours=72)
    from_now: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of it: how long the sink is left alone in seconds, how many events were given up, and why the sink is
    held, if it is."""

    rest_seconds: float = 0.0
    given_up: int = 0
    held: str | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A sink in trouble: how it stood before the stretch, its whole stretch, and what ended it, if it did not end by
    itself."""

    standing: Standing
    batch: Sequence[NumberedEvent]
    failure: Exception | None
    own_failures: int


def share() -> float:
    """A random share, which spreads the tries of many."""
    return random.random()  # noqa: S311 - it spreads retries, and keeps no secret


def pause(count: int, first: float, longest: float) -> float:
    """How long to wait after so many failures in a row, in seconds (exponential backoff with full jitter)."""
    return float(min(longest, first * 2.0 ** min(max(count - 1, 0), 30)) * share())


def settle(session: Session, sink: str, done: HandOver, trouble: Trouble, terms: Terms) -> Settled:
    """Settle a stretch that was not simply taken, by a sink that was not in trouble: for that there is `turns.end`."""
    now = database_time(session)
    standing = trouble.standing
    taken = [_taken(item, standing) for item in done.taken]
    taken += [Taken(item.item.sequence, item.attempts + 1, item.last_error) for item in done.arrived]
    gone = not (done.taken or done.arrived) and undelivered.last_were_given_up(session, sink, GIVEN_UP_IN_A_ROW)
    too_old = _settle_refused(session, sink, done, now, terms, gone)
    passed = _too_old(done, trouble, now, terms)
    too_old += len(passed.given_up)
    if gone and passed.given_up:
        passed = _Passed(done.reached)
    undelivered.give_up(session, sink, passed.given_up, now)
    undelivered.wait_behind(session, sink, [*done.followers, *passed.followers], now)
    outbox.delivered(session, sink, taken, position=passed.reached)
    if done.arrived:
        undelivered.arrived(session, sink, [item.item.sequence for item in done.arrived])
    moved = {item.resource for item in done.arrived} | {item.event.resource for item in done.followers}
    moved |= {item.event.resource for item in passed.followers} | {item.resource for item, _ in done.refused}
    undelivered.wake_first(session, sink, moved, now)
    settled = _settle_sink(session, sink, done, trouble, now)
    if not (gone and too_old):
        return Settled(settled.rest_seconds, too_old, settled.held)
    error = error_text(trouble.failure) if trouble.failure is not None else done.refused[-1][1]
    return settled if settled.held else _hold(session, sink, f"{GIVEN_UP_IN_A_ROW} given up in a row: {error}", now)


def _taken(item: NumberedEvent, standing: Standing) -> Taken:
    if standing.failures and item.sequence <= standing.tried:
        return Taken(item.sequence, standing.failures + 1, standing.last_error)
    return Taken(item.sequence)


def _settle_refused(session: Session, sink: str, done: HandOver, now: datetime, terms: Terms, gone: bool) -> int:
    """Note what was refused, and return how many of it are too old. They are given up, unless the sink is gone."""
    too_old = 0
    for item, error in done.refused:
        since = item.since or now
        attempts = item.attempts + 1
        seconds = pause(attempts, FIRST_REFUSED_PAUSE, LONGEST_REFUSED_PAUSE)
        refused = Refused(item.item, attempts, error, since, now + timedelta(seconds=seconds))
        old = now - since >= terms.retry and attempts >= TRIES_BEFORE_GIVING_UP
        too_old += old
        if old and not gone:
            undelivered.give_up_waiting(session, sink, refused, now)
        else:
            undelivered.refuse(session, sink, refused)
    return too_old


@dataclass(frozen=True, slots=True)
class _Passed:
    """Up to where the cursor may go, and what that passes over."""

    reached: int
    given_up: Sequence[tuple[NumberedEvent, int, str]] = ()
    followers: Sequence[NumberedEvent] = ()


def _too_old(done: HandOver, trouble: Trouble, now: datetime, terms: Terms) -> _Passed:
    """What the sink could not be given for so long that it is given up: from the first event that it has not got, as
    far as they are old enough and were offered to it. What it was never offered may be what it takes."""
    standing, failure = trouble.standing, trouble.failure
    away = failure is not None and not isinstance(failure, SinkDisabled) and standing.away_since is not None
    # The database's count begins anew with a release, and this worker's own with its start.
    tries = min(trouble.own_failures, standing.failures)
    if not away or done.taken or done.arrived or tries < TRIES_BEFORE_GIVING_UP:
        return _Passed(done.reached)
    offered = max(done.offered, standing.tried)
    reached = done.reached
    given_up: list[tuple[NumberedEvent, int, str]] = []
    followers: list[NumberedEvent] = []
    for item in trouble.batch:
        if item.sequence <= done.reached:
            continue
        if item.sequence > offered:
            break
        if terms.wanted.passes(item.event):
            if now - max(item.occurred_at, standing.away_since or now) < terms.retry:
                break
            if item.event.resource in done.blocked:
                followers.append(item)
            else:
                given_up.append((item, standing.failures + 1, standing.last_error or "unknown"))
        reached = item.sequence
    return _Passed(reached, given_up, followers)


def _hold(session: Session, sink: str, reason: str, now: datetime) -> Settled:
    if sinks.hold(session, sink, reason, now):
        audit.note(session, Deed(ACTOR, "sink.hold", sink, reason), now)
    return Settled(held=reason)


def _settle_sink(session: Session, sink: str, done: HandOver, trouble: Trouble, now: datetime) -> Settled:
    """Note how the sink itself stands: back, away, or held by its own wish."""
    failure = trouble.failure
    if failure is None:
        if trouble.standing.failures and (done.taken or done.arrived or done.refused):
            sinks.note_back(session, sink)
        return Settled()
    if isinstance(failure, SinkDisabled):
        return _hold(session, sink, error_text(failure), now)
    if trouble.standing.failures and (done.taken or done.arrived):
        # It was back for a while, so this is another outage.
        sinks.note_back(session, sink)
    count = 1 if done.taken or done.arrived else trouble.standing.failures + 1
    seconds = pause(count, FIRST_PAUSE, LONGEST_PAUSE)
    if isinstance(failure, TryLater) and math.isfinite(failure.seconds):
        seconds = max(seconds, min(failure.seconds, LONGEST_ASKED))
    away = Away(error_text(failure), done.offered, now + timedelta(seconds=seconds))
    sinks.note_away(session, sink, away, now)
    return Settled(rest_seconds=seconds)
