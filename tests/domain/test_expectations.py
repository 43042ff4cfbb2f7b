"""What follows for an expected result, as a table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.domain.expectations import (
    FIRST_LATE_LOOK,
    GIVEN_UP_AFTER,
    LONGEST_LATE_LOOK,
    TRYING_LASTS,
    TRYING_LOOK,
    Expected,
    Look,
    Met,
    Overdue,
    Standing,
    Try,
    decide,
    is_settled,
    next_late_look,
)
from worker.domain.states import ExpectationState, OverdueReason, ResourceState, Stage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPEN = Expected(ExpectationState.OPEN, NOW, None)
TRYING = Expected(ExpectationState.TRYING, NOW, NOW - TRYING_LOOK)
TRIED_LONG = replace(TRYING, tried_at=NOW - TRYING_LASTS)
MISSING = Expected(ExpectationState.OVERDUE, NOW - timedelta(hours=1), NOW)
WAITING = Standing(retrievable=True, work=ResourceState.WAITING)
LATE = NOW + FIRST_LATE_LOOK


@pytest.mark.parametrize("expected", [OPEN, TRYING, TRIED_LONG, MISSING])
def test_what_is_there_is_met_whatever_was_before(expected):
    stopped = Standing(settled=True, configured=False, work=ResourceState.PARKED, obstacle=OverdueReason.HELD)

    assert decide(expected, stopped, NOW) == Met()


@pytest.mark.parametrize(
    ("standing", "decision"),
    [
        (Standing(retrievable=True), Try(NOW + TRYING_LOOK)),
        (WAITING, Try(NOW + TRYING_LOOK)),
        (Standing(retrievable=True, work=ResourceState.PARKED), Try(NOW + TRYING_LOOK)),
        (Standing(retrievable=True, obstacle=OverdueReason.HELD), Try(NOW + TRYING_LOOK)),
        (Standing(), Overdue(OverdueReason.UNKNOWN, LATE)),
        (Standing(configured=False), Overdue(OverdueReason.NOT_CONFIGURED, LATE)),
    ],
)
def test_at_the_deadline_the_provider_is_asked_first(standing, decision):
    assert decide(OPEN, standing, NOW) == decision


@pytest.mark.parametrize(
    ("expected", "standing", "decision"),
    [
        (TRYING, WAITING, Look(NOW + TRYING_LOOK)),
        (TRYING, replace(WAITING, work=ResourceState.CLAIMED), Look(NOW + TRYING_LOOK)),
        (TRYING, replace(WAITING, obstacle=OverdueReason.THROTTLED), Look(NOW + TRYING_LOOK)),
        (TRYING, replace(WAITING, obstacle=OverdueReason.HELD), Overdue(OverdueReason.HELD, LATE)),
        (TRYING, replace(WAITING, configured=False), Overdue(OverdueReason.NOT_CONFIGURED, LATE)),
        (TRYING, replace(WAITING, work=ResourceState.PARKED), Overdue(OverdueReason.PARKED, LATE)),
        (TRYING, replace(WAITING, work=ResourceState.SETTLED), Overdue(OverdueReason.UNDECIDED, LATE)),
        (TRIED_LONG, WAITING, Overdue(OverdueReason.NOT_RETRIEVED, LATE)),
        (TRIED_LONG, replace(WAITING, obstacle=OverdueReason.THROTTLED), Overdue(OverdueReason.THROTTLED, LATE)),
    ],
)
def test_a_try_ends_with_the_retrieve_or_with_its_time(expected, standing, decision):
    assert decide(expected, standing, NOW) == decision


def test_what_is_overdue_is_looked_for_until_it_is_given_up():
    assert decide(MISSING, WAITING, NOW) == Look(NOW + timedelta(minutes=15))
    almost = replace(MISSING, since=NOW - GIVEN_UP_AFTER)
    assert decide(almost, WAITING, NOW) == Look(NOW + LONGEST_LATE_LOOK)
    assert decide(replace(MISSING, since=NOW - GIVEN_UP_AFTER - TRYING_LOOK), WAITING, NOW) == Look(None)


def test_the_looks_at_what_is_overdue_are_few():
    """However many results never come, each costs no more than this."""
    now, looks = NOW, 0
    while now - NOW <= GIVEN_UP_AFTER:
        after = next_late_look(NOW, now)
        assert after >= now + FIRST_LATE_LOOK
        now, looks = after, looks + 1

    assert 50 < looks < 100


@pytest.mark.parametrize("stage", list(Stage))
def test_a_result_is_settled_once_it_is_decided_or_final(stage):
    assert is_settled(stage, final=True)
    assert is_settled(stage, final=False) is (stage is Stage.DECIDED)
