"""What follows from a failure, as one table."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.retry import (
    CONFLICT_DELAY,
    DEFAULT_THROTTLE,
    FEWEST_TRIES,
    LONGEST_DELAY,
    LONGEST_THROTTLE,
    NOT_FOUND_HORIZON,
    POISON_CRASHES,
    PROBE_AFTER,
    STALE_TRIES,
    Effort,
    Failure,
    Hold,
    Park,
    RetryAt,
    Throttle,
    backoff,
    decide,
)
from worker.domain.states import FailureKind as Kind

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAYS = timedelta(days=3)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
HALF = 0.5
"""The jitter of the table: each wait is half its step."""


def in_(wait):
    return RetryAt(NOW + wait)


TABLE = [
    # kind, failures so far, time since wanted, Retry-After, horizon, decision
    (Kind.TIMEOUT, 1, SECOND, None, DAYS, in_(0.5 * SECOND)),
    (Kind.NETWORK, 2, SECOND, None, DAYS, in_(1 * SECOND)),
    (Kind.SERVER_ERROR, 5, MINUTE, None, DAYS, in_(8 * SECOND)),
    (Kind.UNREADABLE, 12, HOUR, None, DAYS, in_(1024 * SECOND)),
    (Kind.SERVER_ERROR, 13, HOUR, None, DAYS, in_(0.5 * HOUR)),
    (Kind.SERVER_ERROR, 10**6, HOUR, None, DAYS, in_(0.5 * HOUR)),
    (Kind.TIMEOUT, 0, SECOND, None, DAYS, in_(0.5 * SECOND)),
    # the horizon: the last try may lie exactly on it
    (Kind.TIMEOUT, FEWEST_TRIES, DAYS - 8 * SECOND, None, DAYS, in_(8 * SECOND)),
    (Kind.TIMEOUT, FEWEST_TRIES, DAYS - 7.9 * SECOND, None, DAYS, Park("timeout")),
    (Kind.NETWORK, FEWEST_TRIES, DAYS, None, DAYS, Park("network")),
    (Kind.SERVER_ERROR, 99, 2 * DAYS, None, DAYS, Park("server_error")),
    (Kind.UNREADABLE, 99, DAYS, None, DAYS, Park("unreadable")),
    (Kind.TIMEOUT, FEWEST_TRIES, 2 * MINUTE, None, MINUTE, Park("timeout")),
    # however late it is, it was tried a few times: a hold, or an outage of our own, does not eat the horizon
    (Kind.TIMEOUT, 1, DAYS, None, DAYS, in_(0.5 * SECOND)),
    (Kind.NETWORK, FEWEST_TRIES - 1, 99 * DAYS, None, DAYS, in_(4 * SECOND)),
    (Kind.SERVER_ERROR, 1, 2 * DAYS, timedelta(days=7), DAYS, in_(LONGEST_THROTTLE)),
    # Retry-After only ever lengthens a wait, and never for days
    (Kind.SERVER_ERROR, 1, SECOND, 5 * MINUTE, DAYS, in_(5 * MINUTE)),
    (Kind.SERVER_ERROR, 12, SECOND, SECOND, DAYS, in_(1024 * SECOND)),
    (Kind.SERVER_ERROR, 1, SECOND, timedelta(0), DAYS, in_(0.5 * SECOND)),
    (Kind.SERVER_ERROR, 1, SECOND, timedelta(days=7), DAYS, in_(LONGEST_THROTTLE)),
    # 404: bounded short, then gone
    (Kind.NOT_FOUND, 1, SECOND, None, DAYS, in_(0.5 * SECOND)),
    (Kind.NOT_FOUND, 8, 10 * MINUTE, None, DAYS, in_(64 * SECOND)),
    (Kind.NOT_FOUND, 9, NOT_FOUND_HORIZON, None, DAYS, Park("gone")),
    (Kind.NOT_FOUND, FEWEST_TRIES, 2 * MINUTE, None, MINUTE, Park("gone")),
    (Kind.NOT_FOUND, FEWEST_TRIES - 1, DAYS, None, DAYS, in_(4 * SECOND)),
    # 409: once more
    (Kind.CONFLICT, 1, SECOND, None, DAYS, in_(CONFLICT_DELAY)),
    (Kind.CONFLICT, 2, SECOND, None, DAYS, Park("conflict")),
    # 429: the source waits, whatever the horizon says
    (Kind.RATE_LIMITED, 1, SECOND, None, DAYS, Throttle(NOW + DEFAULT_THROTTLE + HALF * SECOND)),
    (Kind.RATE_LIMITED, 1, SECOND, 7 * SECOND, DAYS, Throttle(NOW + 7.5 * SECOND)),
    (Kind.RATE_LIMITED, 1, SECOND, timedelta(0), DAYS, Throttle(NOW + DEFAULT_THROTTLE + HALF * SECOND)),
    (Kind.RATE_LIMITED, 1, SECOND, timedelta(days=2), DAYS, Throttle(NOW + LONGEST_THROTTLE + HALF * SECOND)),
    (Kind.RATE_LIMITED, 99, 2 * DAYS, SECOND, DAYS, Throttle(NOW + 1.5 * SECOND)),
    # 401, 402, 403 about the credential
    (Kind.CREDENTIAL, 1, SECOND, None, DAYS, Hold("why", NOW + PROBE_AFTER)),
    (Kind.CREDENTIAL, 99, 2 * DAYS, None, DAYS, Hold("why", NOW + PROBE_AFTER)),
    # what will not get better
    (Kind.REJECTED, 1, SECOND, None, DAYS, Park("rejected")),
    (Kind.BUG, 1, SECOND, None, DAYS, Park("bug")),
    # crashes and stale documents are counted
    (Kind.CRASHED, 1, SECOND, None, DAYS, in_(timedelta(0))),
    (Kind.CRASHED, POISON_CRASHES - 1, 2 * DAYS, None, DAYS, in_(timedelta(0))),
    (Kind.CRASHED, POISON_CRASHES, SECOND, None, DAYS, Park("poison")),
    (Kind.STALE, STALE_TRIES - 1, SECOND, None, DAYS, in_(8 * SECOND)),
    (Kind.STALE, STALE_TRIES, SECOND, None, DAYS, Park("stale")),
    (Kind.STALE, 1, DAYS, None, DAYS, in_(0.5 * SECOND)),
    (Kind.STALE, FEWEST_TRIES, DAYS, None, DAYS, Park("stale")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "failures", "age", "retry_after", "horizon", "decision"), TABLE)
def test_decisions(kind, failures, age, retry_after, horizon, decision):
    failure = Failure(kind, "why", retry_after=retry_after)

    assert decide(failure, Effort(failures, NOW - age, horizon), NOW, HALF) == decision


def test_the_table_knows_every_kind_of_failure():
    assert {row[0] for row in TABLE} == set(Kind)


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_a_share_of_its_step(failures, jitter):
    step = backoff(failures, 1)

    assert timedelta(seconds=1) <= step <= LONGEST_DELAY
    assert timedelta(0) <= backoff(failures, jitter) <= step
    assert backoff(failures + 1, 1) >= step


@given(st.sampled_from(Kind), st.integers(0, 10**6), st.floats(0, 1, exclude_max=True), st.integers(0, 10**9))
def test_nothing_is_due_in_the_past_or_for_ever(kind, failures, jitter, age):
    effort = Effort(failures, NOW - timedelta(seconds=age), DAYS)
    match decide(Failure(kind, "why"), effort, NOW, jitter):
        case RetryAt(when) | Throttle(when) | Hold(_, when):
            assert NOW <= when <= NOW + LONGEST_DELAY
        case Park(reason):
            assert reason
