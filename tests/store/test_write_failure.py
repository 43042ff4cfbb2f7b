"""What one failed attempt changes, decision by decision."""

from datetime import timedelta

import pytest

from tests.store.play import (
    EARLY,
    PROBING,
    SITUATION,
    SOURCE,
    claim,
    claim_one,
    event_types,
    fail,
    make_due,
    now,
    resource,
    rows,
    set_resource,
    store,
    want,
    wanted_and_claimed,
)
from worker.domain.retry import CONFLICT_TRIES, FEWEST_TRIES, POISON_CRASHES, PROBE_AFTER, STALE_TRIES, Failure
from worker.domain.states import FailureKind
from worker.pipeline import write
from worker.store import sources
from worker.store.tables import attempts, audit_entries, events

UNAUTHORIZED = Failure(FailureKind.CREDENTIAL, "the provider answered 401", http_status=401)


def state(database, source=SOURCE):
    with database.read() as session:
        return sources.state(session, source)


def hold(database, *, probe_at=None, actor="alice"):
    with database.write() as session:
        return write.hold(session, SOURCE, "why", now=EARLY, probe_at=probe_at, actor=actor)


def test_a_retry_comes_later_and_is_counted(database):
    held = wanted_and_claimed(database)

    fail(database, held, Failure(FailureKind.SERVER_ERROR, "503", 503, request_id="r-1"))

    after = resource(database)
    assert (after.failures, after.claim_token, after.last_error, after.parked_at) == (1, None, "503", None)
    assert after.due_at > held.started_at
    assert (after.wanted, after.retrieved, after.wanted_since) == (1, 0, held.wanted_since)
    [attempt] = rows(database, attempts)
    assert (attempt.outcome, attempt.error, attempt.detail) == ("failed", "server_error", "503")
    assert (attempt.http_status, attempt.request_id) == (503, "r-1")
    assert event_types(database) == []


def test_the_horizon_counts_from_when_it_was_wanted(database):
    want(database)
    set_resource(database, wanted_since=now(database) - SITUATION.horizon, failures=FEWEST_TRIES - 2)

    fail(database, claim_one(database), FailureKind.TIMEOUT)
    assert resource(database).parked_at is None, "the time alone does not park it"
    make_due(database)
    fail(database, claim_one(database), FailureKind.TIMEOUT)

    after = resource(database)
    assert (after.park_reason, after.due_at, after.parks) == ("timeout", None, 1)


def fail_again(database, *kinds):
    """One whole attempt after another, each as soon as it may be."""
    for kind in kinds:
        make_due(database)
        fail(database, claim_one(database), kind)


@pytest.mark.parametrize(("kind", "tries"), [(FailureKind.CONFLICT, CONFLICT_TRIES), (FailureKind.STALE, STALE_TRIES)])
def test_tries_of_a_kind_are_counted_without_the_failures_before(database, kind, tries):
    want(database)
    fail_again(database, *[FailureKind.TIMEOUT] * 3, *[kind] * (tries - 1))
    assert resource(database).parked_at is None
    assert resource(database).failures == 3 + tries - 1

    fail_again(database, kind)

    assert resource(database).park_reason == kind


def test_another_failure_in_between_starts_the_count_over(database):
    want(database)

    fail_again(database, FailureKind.CONFLICT, FailureKind.TIMEOUT, FailureKind.CONFLICT)
    assert resource(database).parked_at is None

    fail_again(database, FailureKind.CONFLICT)
    assert resource(database).park_reason == "conflict"


@pytest.mark.parametrize(("kind", "tries"), [(FailureKind.CONFLICT, CONFLICT_TRIES), (FailureKind.STALE, STALE_TRIES)])
def test_what_was_parked_and_is_wanted_again_has_all_its_tries(database, kind, tries):
    for _ in range(2):
        want(database)
        fail_again(database, *[kind] * (tries - 1))
        assert resource(database).parked_at is None
        fail_again(database, kind)
        assert resource(database).park_reason == kind


@pytest.mark.parametrize(
    "kind", [FailureKind.REJECTED, FailureKind.TIMEOUT, FailureKind.NOT_FOUND, FailureKind.CONFLICT, FailureKind.BUG]
)
def test_who_asks_during_a_call_that_fails_gets_a_call_of_their_own(database, kind):
    held = wanted_and_claimed(database)
    want(database)

    fail(database, held, kind)

    after = resource(database)
    assert (after.parked_at, after.failures, after.claim_token) == (None, 1, None)
    assert after.due_at <= now(database)
    assert claim_one(database).wanted == 2
    assert event_types(database) == []


def test_what_kills_workers_is_parked_whoever_asks_meanwhile(database):
    want(database)
    set_resource(database, crashes=POISON_CRASHES)
    held = claim_one(database)
    want(database)

    fail(database, held, FailureKind.CRASHED)

    assert resource(database).park_reason == "poison"


def test_who_asks_during_a_throttled_call_waits_with_the_source(database):
    held = wanted_and_claimed(database)
    want(database)

    fail(database, held, Failure(FailureKind.RATE_LIMITED, "429", 429, timedelta(seconds=40)))

    assert resource(database).due_at == state(database).throttled_until


def test_a_crash_that_is_answered_is_no_crash_any_more(database):
    wanted_and_claimed(database)
    make_due(database)
    fail(database, claim_one(database), FailureKind.TIMEOUT)

    assert (resource(database).crashes, resource(database).failures) == (0, 1)


def test_poison_is_parked(database):
    want(database)
    set_resource(database, crashes=POISON_CRASHES)

    fail(database, claim_one(database), FailureKind.CRASHED)

    assert resource(database).park_reason == "poison"
    assert rows(database, events)[0].data["reason"] == "poison"


def test_a_throttled_attempt_is_no_failure_and_lets_the_source_wait(database):
    fail(database, wanted_and_claimed(database), FailureKind.TIMEOUT)
    make_due(database)
    before = now(database)

    fail(database, claim_one(database), Failure(FailureKind.RATE_LIMITED, "429", 429, timedelta(seconds=40)))

    after = resource(database)
    assert (after.failures, after.parked_at) == (1, None)
    assert after.due_at == state(database).throttled_until
    assert timedelta(seconds=40) <= after.due_at - before < timedelta(seconds=60)


def test_a_bad_credential_holds_the_source_once(database):
    want(database, "inq_1", "inq_2")
    first, second = claim(database)
    before = now(database)

    fail(database, first, UNAUTHORIZED)
    fail(database, second, UNAUTHORIZED)

    found = state(database)
    assert (found.hold_reason, found.holds) == ("the provider answered 401", 1)
    assert found.probe_at is not None
    assert PROBE_AFTER <= found.probe_at - before < PROBE_AFTER + timedelta(minutes=1)
    assert event_types(database, None) == ["held"]
    [entry] = rows(database, audit_entries)
    assert (entry.actor, entry.action, entry.subject) == ("worker", "hold", SOURCE)
    after = resource(database)
    assert (after.failures, after.parked_at) == (0, None)
    assert after.due_at <= now(database)


def test_a_held_source_may_be_probed_with_one_call_when_it_is_time(database):
    hold(database, probe_at=EARLY)

    found = state(database)
    assert (found.may_call(EARLY), found.may_call(EARLY - timedelta(seconds=1))) == (1, 0)


def test_a_probe_that_is_refused_again_keeps_the_hold_quietly(database):
    hold(database, probe_at=EARLY)

    fail(database, wanted_and_claimed(database), UNAUTHORIZED, PROBING)

    found = state(database)
    assert found.probe_at is not None
    assert found.probe_at > EARLY
    assert found.holds == 1
    assert event_types(database, None) == ["held"]


@pytest.mark.parametrize(
    ("kind", "status", "released"),
    [
        (FailureKind.NOT_FOUND, 404, True),
        (FailureKind.REJECTED, 422, True),
        (FailureKind.CONFLICT, 409, True),
        (FailureKind.RATE_LIMITED, 429, True),
        (FailureKind.UNREADABLE, 200, True),
        (FailureKind.CREDENTIAL, 401, False),
        (FailureKind.SERVER_ERROR, 503, False),
        (FailureKind.TIMEOUT, None, False),
        (FailureKind.NETWORK, None, False),
        (FailureKind.BUG, None, False),
    ],
)
def test_a_probe_releases_the_source_when_the_provider_accepts_the_credential(database, kind, status, released):
    hold(database, probe_at=EARLY)

    fail(database, wanted_and_claimed(database), Failure(kind, "why", status), PROBING)

    assert (state(database).held_at is None) is released
    assert event_types(database, None) == (["held", "released"] if released else ["held"])


def test_an_operators_hold_is_not_made_a_probing_one_by_calls_still_in_flight(database):
    held = wanted_and_claimed(database)
    hold(database, probe_at=None)

    fail(database, held, UNAUTHORIZED)

    assert state(database).probe_at is None
    assert state(database).hold_reason == "why"


def test_an_operators_hold_replaces_a_probing_one(database):
    hold(database, probe_at=EARLY, actor="worker")

    assert hold(database, probe_at=None) is False
    assert state(database).probe_at is None


def test_a_probe_in_flight_does_not_release_an_operators_hold(database):
    hold(database, probe_at=EARLY, actor="worker")
    held = wanted_and_claimed(database)
    hold(database, probe_at=None)

    store(database, held, {"a": 1}, situation=PROBING)

    assert state(database).held_at is not None
    assert event_types(database, None) == ["held"]


def test_every_hold_and_every_release_is_an_event_of_its_own(database):
    for _ in range(2):
        assert hold(database) is True
        assert hold(database) is False
        with database.write() as session:
            assert write.release(session, SOURCE, EARLY, actor="alice") is True
            assert write.release(session, SOURCE, EARLY, actor="alice") is False

    assert event_types(database, None) == ["held", "released"] * 2
    assert [entry.action for entry in rows(database, audit_entries)] == ["hold", "release"] * 2


def test_every_parking_is_an_event_of_its_own(database):
    for _ in range(3):
        want(database)
        fail(database, claim_one(database), FailureKind.REJECTED)

    assert event_types(database) == ["parked"] * 3
    assert len({row.id for row in rows(database, events)}) == 3
    event = rows(database, events)[0]
    assert event.data == {
        "source": SOURCE, "provider": "persona", "environment": "sandbox", "kind": "inquiry", "external_id": "inq_1",
        "reason": "rejected", "error": "rejected", "attempts": 1,
    }  # fmt: skip
    after = resource(database)
    assert (after.parks, after.park_reason, after.last_error) == (3, "rejected", "because of rejected")
    assert after.due_at is None


def test_text_of_failures_may_hold_anything(database):
    fail(database, wanted_and_claimed(database), Failure(FailureKind.REJECTED, "x\x00\ud800", 400, None, "r\x00"))

    assert resource(database).last_error == "x\ufffd\ufffd"
    [attempt] = rows(database, attempts)
    assert (attempt.detail, attempt.request_id) == ("x\ufffd\ufffd", "r\ufffd")
