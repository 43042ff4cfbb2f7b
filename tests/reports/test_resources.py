"""Operators see where every resource stands, and all about one of them."""

from datetime import timedelta

import pytest

from tests.support.results import (
    APPROVED,
    KIND,
    REJECTED,
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
from worker.domain.states import Cause, DeliveryState, FailureKind, ResourceState
from worker.reports import events, resources
from worker.reports.resources import AttemptFilter, DeliveryFilter, ResourceFilter
from worker.store import query_work


def listed(database, wanted=None, limit=50):
    with database.read() as session:
        return resources.resources(session, wanted or ResourceFilter(), limit=limit)


def standing(database, wanted):
    with database.read() as session:
        found = resources.resource(session, wanted)
    return found and ResourceState(found.state)


def story(database, wanted):
    with database.read() as session:
        return resources.story(session, wanted)


def test_a_resource_waits_is_claimed_and_settles(database):
    assert standing(database, key("ver_1")) is None

    want(database, key("ver_1"))
    assert standing(database, key("ver_1")) is ResourceState.WAITING
    claim(database, key("ver_1"))
    assert standing(database, key("ver_1")) is ResourceState.CLAIMED

    store(database, key("ver_2"))
    assert standing(database, key("ver_2")) is ResourceState.SETTLED


def test_a_claim_that_ran_out_waits_again(database):
    want(database, key("ver_1"))
    claim(database, key("ver_1"), lease=timedelta(0))

    assert standing(database, key("ver_1")) is ResourceState.WAITING


def test_work_that_is_retried_later_waits(database):
    fail(database, key("ver_1"), FailureKind.SERVER_ERROR, 503)

    [found] = listed(database)
    assert (found.state, found.failures, found.last_error) == ("waiting", 1, "the provider answered 503")


def test_parked_work_says_why(database):
    fail(database, key("ver_1"), FailureKind.REJECTED, 422)

    [found] = listed(database, ResourceFilter(state=ResourceState.PARKED))
    assert (found.state, found.park_reason, found.parks, found.due_at) == ("parked", "rejected", 1, None)
    assert found.last_error == "the provider answered 422"
    assert found.wanted_since is not None


@pytest.fixture
def one_of_each(database):
    store(database, key("ver_settled"))
    fail(database, key("ver_parked"))
    want(database, key("fm_claimed", "face-match", "gu1-test"))
    claim(database, key("fm_claimed", "face-match", "gu1-test"))
    want(database, key("ver_waiting"))
    return database


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ResourceFilter(), ["ver_waiting", "fm_claimed", "ver_parked", "ver_settled"]),
        (ResourceFilter(state=ResourceState.SETTLED), ["ver_settled"]),
        (ResourceFilter(state=ResourceState.PARKED), ["ver_parked"]),
        (ResourceFilter(state=ResourceState.CLAIMED), ["fm_claimed"]),
        (ResourceFilter(state=ResourceState.WAITING), ["ver_waiting"]),
        (ResourceFilter(source="gu1-test"), ["fm_claimed"]),
        (ResourceFilter(provider="persona", kind=KIND), ["ver_waiting", "ver_parked", "ver_settled"]),
        (ResourceFilter(reason="rejected"), ["ver_parked"]),
        (ResourceFilter(reason="gone"), []),
    ],
)
def test_resources_can_be_filtered(one_of_each, wanted, expected):
    assert [item.external_id for item in listed(one_of_each, wanted)] == expected


def test_each_resource_is_in_exactly_one_state(one_of_each):
    everywhere = [
        item.external_id for state in ResourceState for item in listed(one_of_each, ResourceFilter(state=state))
    ]

    assert sorted(everywhere) == sorted(item.external_id for item in listed(one_of_each))


def test_open_work_is_listed_longest_waiting_first(database):
    for number in range(3):
        want(database, key(f"ver_{number}"))

    waiting = listed(database, ResourceFilter(state=ResourceState.WAITING), limit=2)
    assert [item.wanted_since for item in waiting] == sorted(item.wanted_since for item in waiting)
    assert len(waiting) == 2


def test_attempts_say_how_each_call_ended(database):
    store(database, key("ver_1"))
    fail(database, key("ver_2"), FailureKind.SERVER_ERROR, 503)

    with database.read() as session:
        failed, stored = resources.attempts(session, AttemptFilter(), limit=50)
        of_failures = resources.attempts(session, AttemptFilter(outcome="failed", error="server_error"), limit=50)
        elsewhere = resources.attempts(session, AttemptFilter(source="gu1-test"), limit=50)

    assert (stored.external_id, stored.outcome, stored.cause, stored.number) == ("ver_1", "stored", "webhook", 1)
    assert (failed.outcome, failed.error, failed.http_status) == ("failed", "server_error", 503)
    assert of_failures == (failed,)
    assert elsewhere == ()


def test_deliveries_are_listed_without_their_bodies(database):
    first = receive(database, key("ver_1"))
    unread = receive(database, state=DeliveryState.UNREADABLE)

    with database.read() as session:
        everything = resources.deliveries(session, DeliveryFilter(), limit=50)
        unreadable = resources.deliveries(session, DeliveryFilter(state="unreadable"), limit=50)
        by_type = resources.deliveries(session, DeliveryFilter(SOURCE, event_type="verification.passed"), limit=1)

    assert sorted(str(item.id) for item in everything) == sorted([first, unread])
    assert [str(item.id) for item in unreadable] == [unread]
    assert len(by_type) == 1


def test_the_story_of_a_resource_is_whole(database):
    delivery = receive(database, key("ver_1"))
    store(database, key("ver_1"), reading(APPROVED))
    store(database, key("ver_1"), reading(REJECTED))
    store(database, key("ver_2"))
    number_events(database)

    found = story(database, key("ver_1"))

    assert (found.resource.state, found.resource.attempts, found.result.outcome) == ("settled", 2, "rejected")
    assert [item.version for item in found.versions] == [2, 1]
    assert [item.number for item in found.attempts] == [2, 1]
    assert [str(item.id) for item in found.deliveries] == [delivery]
    assert [item.type.rpartition(".")[2] for item in found.events] == ["created", "decided", "reversed"]
    assert story(database, key("ver_unknown")) is None


def test_a_parked_resource_without_a_result_has_a_story(database):
    fail(database, key("ver_1"))
    number_events(database)

    found = story(database, key("ver_1"))

    assert found.result is None
    assert [item.type for item in found.events] == ["verification.retrieval.parked"]


def test_events_are_read_on_from_the_last_one_seen(database):
    store(database, key("ver_1"))
    number_events(database)
    store(database, key("ver_2"))

    with database.read() as session:
        before = events.events(session, after=0, limit=50).items
        newest = events.newest_events(session, limit=1).items
    number_events(database)
    with database.read() as session:
        more = events.events(session, after=before[-1].sequence, limit=50).items

    assert [item.sequence for item in before] == [1, 2]
    assert newest == before[-1:]
    assert [item.sequence for item in more] == [3, 4]
    assert {item.external_id for item in more} == {"ver_2"}
    assert more[0].data["version"] == 1
    assert more[0].occurred_at.tzinfo is not None


def test_what_an_operator_asked_for_has_its_own_cause(database):
    want(database, key("ver_1"), cause=Cause.RETRIEVAL)

    [found] = listed(database)
    assert (found.cause, found.wanted, found.retrieved) == ("retrieval", 1, 0)


@pytest.fixture
def short_looks(monkeypatch):
    """Lists that look at the newest three rows where they take only some: one, and two more."""
    monkeypatch.setattr(query_work, "LOOKED_AT_ONCE", 1)
    monkeypatch.setattr(query_work, "MOST_LOOKS", 3)


def test_lists_look_for_what_is_rare_among_the_newest(database, short_looks):
    """Else looking for an error that nobody had would read every attempt there ever was."""
    for number in range(5):
        receive(database, key(f"ver_{number}"))
        store(database, key(f"ver_{number}"))

    with database.read() as session:
        attempts = resources.attempts(session, AttemptFilter(outcome="stored"), limit=50)
        deliveries = resources.deliveries(session, DeliveryFilter(state=DeliveryState.ACCEPTED), limit=50)
        every_attempt = resources.attempts(session, AttemptFilter(), limit=50)
    assert [item.external_id for item in attempts] == ["ver_4", "ver_3", "ver_2"]
    assert len(deliveries) == 3
    assert len(every_attempt) == len(listed(database)) == 5
    assert [item.external_id for item in listed(database, ResourceFilter(kind=KIND))] == ["ver_4", "ver_3", "ver_2"]


def test_what_is_parked_is_found_however_old(database, short_looks):
    fail(database, key("ver_old"), FailureKind.REJECTED)
    for number in range(5):
        store(database, key(f"ver_{number}"))

    [parked] = listed(database, ResourceFilter(state=ResourceState.PARKED, source=SOURCE))
    assert parked.external_id == "ver_old"
    assert listed(database, ResourceFilter(reason=parked.park_reason)) == (parked,)
