"""The status says what is open, what is held, and what lags."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.support.results import (
    PENDING,
    SOURCE,
    claim,
    fail,
    key,
    number_events,
    reading,
    receive,
    store,
    want,
)
from worker.domain.model import Drift
from worker.domain.states import DeliveryState, ExpectationState
from worker.pipeline import write
from worker.pipeline.sweep import Sweeper
from worker.reports import status as reports_status
from worker.reports.status import status
from worker.store import expectations, outbox, query_status, sources
from worker.store.engine import database_time
from worker.store.expectations import Wanted
from worker.store.outbox import Taken
from worker.store.tables import resources


def read(database, configured=(SOURCE,)):
    with database.read() as session:
        return status(session, configured)


def source_of(found, slug=SOURCE):
    [item] = [item for item in found.sources if item.source == slug]
    return item


def test_an_idle_system_has_nothing_open(database):
    store(database, key("ver_1"))

    found = read(database)

    assert (found.waiting, found.claimed, found.parked) == (0, 0, 0)
    assert found.oldest_unfinished_seconds is None
    assert (source_of(found).state, source_of(found).configured) == ("active", True)
    assert (found.unreadable, found.drift, found.parked_reasons, found.last_sweep_at) == (0, (), (), None)


def test_open_work_is_counted_by_state_and_source(database):
    fail(database, key("ver_parked"))
    want(database, key("ver_claimed"))
    claim(database, key("ver_claimed"))
    want(database, key("ver_1"), key("ver_2"), key("fm_1", "face-match", "gu1-test"))

    found = read(database)

    assert (found.waiting, found.claimed, found.parked) == (3, 1, 1)
    mine, stranded = source_of(found), source_of(found, "gu1-test")
    assert (mine.waiting, mine.claimed, mine.parked) == (2, 1, 1)
    assert (stranded.waiting, stranded.configured) == (1, False)
    [reason] = found.parked_reasons
    assert (reason.source, reason.reason, reason.count) == (SOURCE, "rejected", 1)


@pytest.mark.parametrize("trouble", ["parked", "held", "throttled"])
def test_the_age_of_the_oldest_counts_what_is_stopped_too(database, trouble):
    if trouble == "parked":
        fail(database, key("ver_1"))
    else:
        want(database, key("ver_1"))
    with database.write() as session:
        now = database_time(session)
        if trouble == "held":
            write.hold(session, SOURCE, "401", now=now, probe_at=None, actor="worker")
        elif trouble == "throttled":
            sources.throttle(session, SOURCE, now + timedelta(minutes=1))

    first = read(database).oldest_unfinished_seconds
    second = read(database).oldest_unfinished_seconds

    assert 0 <= first <= second < 60
    assert source_of(read(database)).state == ("active" if trouble == "parked" else trouble)


def test_held_and_throttled_sources_say_why_and_until_when(database):
    with database.write() as session:
        now = database_time(session)
        write.hold(session, SOURCE, "the provider answered 401", now=now, probe_at=now, actor="worker")
        sources.throttle(session, "gu1-test", now + timedelta(minutes=5))
        sources.throttle(session, "over", now - timedelta(minutes=5))

    found = read(database)

    held, throttled = source_of(found), source_of(found, "gu1-test")
    assert (held.state, held.reason, held.since, held.until) == ("held", "the provider answered 401", now, now)
    assert (throttled.state, throttled.until) == ("throttled", now + timedelta(minutes=5))
    assert "over" not in [item.source for item in found.sources]


def test_the_age_of_the_oldest_is_that_of_what_is_stopped(database):
    """Held, throttled and parked work is older here than what is worked on, and is not forgotten for it."""
    want(database, key("fm_1", "face-match", "gu1-test"))
    fail(database, key("ver_parked"))
    want(database, key("ver_held"))
    with database.write() as session:
        now = database_time(session)
        write.hold(session, SOURCE, "why", now=now, probe_at=None, actor="alice")
        for name, days in (("ver_held", 3), ("ver_parked", 5), ("fm_1", 1)):
            aged = update(resources).where(resources.c.external_id == name)
            session.execute(aged.values(wanted_since=now - timedelta(days=days)))

    found = read(database, (SOURCE, "gu1-test"))

    assert round(found.oldest_unfinished_seconds / 86_400, 2) == 5
    assert round(source_of(found).oldest_seconds / 86_400, 2) == 5
    assert round(source_of(found, "gu1-test").oldest_seconds / 86_400, 2) == 1


def test_overdue_expectations_are_counted_up_to_a_limit(database):
    with database.write() as session:
        now = database_time(session)
        for number, days in enumerate((1, 2, 40)):
            wanted = Wanted(SOURCE, "inquiry", f"inq_{number}", None, now - timedelta(days=days))
            made, _ = expectations.add(session, wanted, "tests", now)
            expectations.change(session, made, state=ExpectationState.OVERDUE)
        expectations.add(session, Wanted(SOURCE, "inquiry", "inq_open", None, now), "tests", now)

    assert read(database).overdue == 2
    with database.read() as session:
        assert expectations.count_overdue(session, now - timedelta(days=30), 1) == 1


def test_unreadable_deliveries_are_counted_up_to_a_limit(database):
    for _ in range(3):
        receive(database, state=DeliveryState.UNREADABLE)

    assert read(database).unreadable == 3
    with database.read() as session:
        assert query_status.count_unreadable(session, 2) == 2
    assert reports_status.MOST_UNREADABLE >= 1000


def test_unknown_values_are_issues(database):
    store(database, key("ver_1"), reading(PENDING, drift=(Drift("status", "brand-new"),)))

    [issue] = read(database).drift
    assert (issue.source, issue.field, issue.value, issue.seen) == (SOURCE, "status", "brand-new", 1)


def test_a_sink_lags_by_the_events_that_it_has_not_got(database):
    store(database, key("ver_1"))
    store(database, key("ver_2"))
    assert number_events(database) == 4
    with database.write() as session:
        outbox.delivered(session, "log", map(Taken, (1, 2, 3)), position=3)

    found = read(database)

    assert found.last_sequence == 4
    assert [(item.sink, item.position, item.lag) for item in found.sinks] == [("log", 3, 1)]


def test_the_last_sweep_is_known(database):
    Sweeper(database, [SOURCE], lambda _: None, lambda: None).sweep()

    found = read(database)

    assert abs(found.at - found.last_sweep_at) < timedelta(seconds=10)
