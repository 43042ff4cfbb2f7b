"""Expected results: what is there in time, what is asked for first, and what is told to be overdue, once."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.store import play
from tests.support.results import (
    APPROVED,
    KIND,
    PENDING,
    REJECTED,
    SITUATION,
    SOURCE,
    claim,
    document,
    fail,
    key,
    reading,
    settings,
    store,
)
from tests.support.writing import write_document, write_failure
from worker.domain.expectations import EARLIER_MATCH, GIVEN_UP_AFTER, TRYING_LASTS
from worker.domain.model import Verdict
from worker.domain.retry import Failure
from worker.domain.states import EventType, ExpectationState, FailureKind, Outcome, Stage
from worker.errors import UnknownSource
from worker.pipeline import expect, operate
from worker.pipeline.expect import BadExpectation, Expectations
from worker.store import resources, sources
from worker.store.engine import database_time
from worker.store.expectations import Wanted
from worker.store.tables import audit_entries, events, expectations, results
from worker.store.tables import resources as resources_table

SETTINGS = settings("sqlite:///nobody-connects.db")
EXPIRED = Verdict(Stage.EXPIRED, Outcome.NONE, final=True)


class Desk:
    """A leader of the sweep, and what was expected of it."""

    def __init__(self, database, chosen=SETTINGS):
        self.database = database
        self.settings = chosen
        self.nudges: list[str] = []
        self.leader = Expectations(database, chosen, self.nudges.append)

    def expect(self, external_id="ver_1", *, reference=None, source=SOURCE, kind=KIND, within=0.0):
        """Expect a result `within` seconds from now."""
        with self.database.write() as session:
            deadline = database_time(session) + timedelta(seconds=within)
            wanted = Wanted(source, kind, None if reference else external_id, reference, deadline)
            return expect.add(session, self.settings, wanted, actor="tests")[0]

    def pass_time(self, **columns):
        """Let every next look be due; `columns` shift further times into the past."""
        past = play.now(self.database) - timedelta(seconds=1)
        values = {name: past - shift for name, shift in columns.items()}
        with self.database.write() as session:
            due = update(expectations).where(expectations.c.check_at.is_not(None))
            session.execute(due.values(check_at=past, **values))

    def look(self, **columns):
        """One sweep, after whatever time it takes until the next look is due."""
        self.pass_time(**columns)
        self.leader.check()

    def row(self, expectation_id):
        [found] = play.rows(self.database, expectations, id=expectation_id)
        return found

    def state(self, expectation_id):
        return self.row(expectation_id).state

    def overdue(self):
        """The data of the events that told of overdue results."""
        return [event.data for event in play.rows(self.database, events, type=EventType.OVERDUE)]

    def wanted(self, external_id="ver_1"):
        return play.resource(self.database, external_id)

    def retrieve(self, verdict=APPROVED, external_id="ver_1"):
        """A worker does what is due."""
        taken = claim(self.database, key(external_id))
        with self.database.write() as session:
            write_document(session, taken, reading(verdict), document({"verdict": str(verdict)}), SITUATION)


@pytest.fixture
def desk(database):
    return Desk(database)


# In time.


def test_nothing_is_looked_at_before_its_deadline(desk):
    expected = desk.expect(within=3600)

    desk.leader.check()

    assert desk.state(expected) == ExpectationState.OPEN
    assert play.rows(desk.database, resources_table) == []


@pytest.mark.parametrize("verdict", [APPROVED, REJECTED, EXPIRED])
def test_a_settled_result_meets_it_without_a_call(desk, verdict):
    store(desk.database, key("ver_1"), reading(verdict))
    expected = desk.expect()

    desk.look()

    row = desk.row(expected)
    assert (row.state, row.check_at, row.tried_at) == (ExpectationState.MET, None, None)
    assert row.closed_at is not None
    assert row.resource_id == desk.wanted().id
    assert (desk.wanted().wanted, desk.overdue(), desk.nudges) == (1, [], [])


@pytest.mark.parametrize("known", [True, False])
def test_what_is_missing_at_the_deadline_is_retrieved_first(desk, known):
    if known:
        store(desk.database, key("ver_1"), reading(PENDING))
    expected = desk.expect()

    desk.look()

    assert desk.state(expected) == ExpectationState.TRYING
    wanted = desk.wanted()
    assert (wanted.cause, wanted.priority, wanted.due_at is not None) == ("retrieval", 0, True)
    assert desk.nudges == [SOURCE]

    desk.retrieve()
    desk.look()

    assert desk.state(expected) == ExpectationState.MET
    assert desk.overdue() == []


def test_a_try_that_is_under_way_is_waited_for(desk):
    expected = desk.expect()
    desk.look()
    desk.look()
    assert (desk.state(expected), desk.wanted().wanted) == (ExpectationState.TRYING, 1)
    taken = claim(desk.database, key("ver_1"))

    desk.look()

    assert desk.state(expected) == ExpectationState.TRYING
    with desk.database.write() as session:
        write_document(session, taken, reading(), document({"a": 1}), SITUATION)
    desk.look()
    assert desk.state(expected) == ExpectationState.MET


# Overdue.


def test_a_retrieve_that_brings_no_decision_makes_it_overdue_once(desk):
    expected = desk.expect()
    desk.look()
    desk.retrieve(PENDING)
    for _ in range(3):
        desk.look()

    assert desk.state(expected) == ExpectationState.OVERDUE
    [told] = desk.overdue()
    row = desk.row(expected)
    assert told == {
        "expectation": str(expected),
        "source": SOURCE,
        "provider": "persona",
        "environment": "live",
        "kind": KIND,
        "external_id": "ver_1",
        "deadline": row.deadline.isoformat(),
        "reason": "undecided",
    }
    assert row.check_at > play.now(desk.database)


def test_a_retrieve_that_takes_too_long_makes_it_overdue(desk):
    expected = desk.expect()
    desk.look()

    desk.look(tried_at=TRYING_LASTS)

    assert desk.state(expected) == ExpectationState.OVERDUE
    assert [told["reason"] for told in desk.overdue()] == ["not_retrieved"]


def test_a_retrieve_that_parks_makes_it_overdue(desk):
    expected = desk.expect()
    desk.look()
    taken = claim(desk.database, key("ver_1"))
    with desk.database.write() as session:
        write_failure(session, taken, Failure(FailureKind.REJECTED, "422", http_status=422), SITUATION)

    desk.look()

    assert desk.state(expected) == ExpectationState.OVERDUE
    assert [told["reason"] for told in desk.overdue()] == ["parked"]


def test_parked_work_is_tried_again_at_the_deadline(desk):
    fail(desk.database, key("ver_1"))
    expected = desk.expect()

    desk.look()

    assert desk.wanted().parked_at is None
    desk.retrieve()
    desk.look()
    assert desk.state(expected) == ExpectationState.MET


def test_poison_is_not_tried_again(desk):
    fail(desk.database, key("ver_1"))
    play.set_resource(desk.database, "ver_1", park_reason=resources.POISON)
    desk.expect()

    desk.look()
    desk.look()

    assert desk.wanted().park_reason == resources.POISON
    assert [told["reason"] for told in desk.overdue()] == ["parked"]


def test_a_held_source_makes_it_overdue_and_the_retrieve_waits(desk):
    with desk.database.write() as session:
        operate.hold(session, desk.settings, SOURCE, actor="tests", reason="why")
    expected = desk.expect()

    desk.look()
    desk.look()

    assert [told["reason"] for told in desk.overdue()] == ["held"]
    assert desk.wanted().due_at is not None
    with desk.database.write() as session:
        operate.release(session, desk.settings, SOURCE, actor="tests")
    desk.retrieve()
    desk.look()
    assert desk.state(expected) == ExpectationState.MET_LATE


def test_a_throttled_source_is_waited_for_and_then_named(desk):
    with desk.database.write() as session:
        sources.throttle(session, SOURCE, database_time(session) + timedelta(hours=1))
    expected = desk.expect()
    desk.look()
    desk.look()
    assert desk.state(expected) == ExpectationState.TRYING

    desk.look(tried_at=TRYING_LASTS)

    assert [told["reason"] for told in desk.overdue()] == ["throttled"]


def test_a_source_that_is_configured_no_longer_is_not_asked(desk, database):
    expected = desk.expect("fm_1", source="gu1-test", kind="face-match")
    left = Desk(database, settings("sqlite:///nobody-connects.db", sources={}))

    left.look()

    assert left.state(expected) == ExpectationState.OVERDUE
    assert [(told["reason"], told["provider"]) for told in left.overdue()] == [("not_configured", None)]
    assert play.rows(database, resources_table) == []


def test_a_late_result_is_met_late_and_told_no_more(desk):
    expected = desk.expect()
    desk.look()
    desk.look(tried_at=TRYING_LASTS)
    desk.retrieve()

    desk.look()
    desk.look()

    row = desk.row(expected)
    assert (row.state, row.check_at) == (ExpectationState.MET_LATE, None)
    assert row.closed_at is not None
    assert len(desk.overdue()) == 1


def test_what_never_comes_is_given_up_and_stays_overdue(desk):
    expected = desk.expect()
    desk.look()
    desk.look(tried_at=TRYING_LASTS)

    desk.look(deadline=GIVEN_UP_AFTER, created_at=GIVEN_UP_AFTER)

    row = desk.row(expected)
    assert (row.state, row.check_at) == (ExpectationState.OVERDUE, None)
    assert row.closed_at is not None
    assert len(desk.overdue()) == 1


# By reference.


def test_an_unknown_reference_is_overdue_at_once_and_is_never_told(desk):
    expected = desk.expect(reference="Jane Doe")

    desk.look()

    assert desk.state(expected) == ExpectationState.OVERDUE
    [event] = play.rows(desk.database, events, type=EventType.OVERDUE)
    assert (event.kind, event.external_id, event.data["reason"]) == (KIND, None, "unknown")
    assert "Jane" not in repr(event)


def test_a_reference_that_becomes_known_is_met_late(desk):
    expected = desk.expect(reference="customer-1")
    desk.look()
    store(desk.database, key("ver_9"))

    desk.look()

    assert desk.state(expected) == ExpectationState.MET_LATE


def test_a_reference_is_tried_by_its_stored_result(desk):
    store(desk.database, key("ver_9"), reading(PENDING))
    expected = desk.expect(reference="customer-1")

    desk.look()
    assert desk.state(expected) == ExpectationState.TRYING
    desk.retrieve(APPROVED, "ver_9")
    desk.look()

    assert desk.state(expected) == ExpectationState.MET
    assert desk.row(expected).resource_id == desk.wanted("ver_9").id


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ((EXPIRED, APPROVED), ExpectationState.MET),
        ((PENDING, APPROVED), ExpectationState.MET),
        ((APPROVED, PENDING), ExpectationState.TRYING),
    ],
)
def test_of_several_with_one_reference_the_newest_counts(desk, verdicts, state):
    for number, verdict in enumerate(verdicts):
        store(desk.database, key(f"ver_{number}"), reading(verdict))
    store(desk.database, key("ver_other"), reading(APPROVED, reference="customer-2"))
    store(desk.database, key("fm_1", "inquiry"), reading(APPROVED))
    expected = desk.expect(reference="customer-1")

    desk.look()

    assert desk.state(expected) == state
    assert desk.wanted("ver_1").wanted == (2 if state is ExpectationState.TRYING else 1)
    assert desk.wanted("ver_0").wanted == 1


@pytest.mark.parametrize(("verdict", "state"), [(APPROVED, "overdue"), (PENDING, "trying")])
def test_what_was_settled_long_before_belongs_to_an_earlier_verification(desk, verdict, state):
    store(desk.database, key("ver_1"), reading(verdict))
    before = play.now(desk.database) - EARLIER_MATCH - timedelta(minutes=1)
    with desk.database.write() as session:
        session.execute(update(results).values(updated_at=before))
    expected = desk.expect(reference="customer-1")

    desk.look()

    assert desk.state(expected) == state


# Who says what.


def test_the_same_is_expected_once_until_it_is_cancelled(desk):
    def add(**changes):
        named = {"external_id": "ver_1", "reference": None, **changes}
        with desk.database.write() as session:
            return expect.add(session, desk.settings, Wanted(SOURCE, KIND, deadline=deadline, **named), actor="tests")

    deadline = play.now(desk.database) + timedelta(hours=1)
    first, new = add()
    assert new
    assert add() == (first, False)
    assert add(external_id="ver_2")[1]
    assert add(external_id=None, reference="ver_1")[1]
    with desk.database.write() as session:
        assert expect.cancel(session, first, actor="tests")
        assert not expect.cancel(session, first, actor="tests")
    again, new = add()
    assert new
    assert again != first
    assert [entry.subject for entry in play.rows(desk.database, audit_entries)] == [str(first)]


def test_what_is_cancelled_is_looked_at_no_more(desk):
    expected = desk.expect()
    with desk.database.write() as session:
        expect.cancel(session, expected, actor="tests")

    desk.look()

    assert desk.state(expected) == ExpectationState.CANCELLED
    assert (desk.overdue(), play.rows(desk.database, resources_table)) == ([], [])


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"external_id": None}, "external_id"),
        ({"reference": "customer-1"}, "external_id"),
        ({"external_id": "ver/1"}, "external_id"),
        ({"kind": "A/B"}, "kind"),
        ({"kind": "no-such-kind"}, "kind"),
        ({"kind": "no-such-kind", "external_id": None, "reference": "customer-1"}, "kind"),
        ({"external_id": None, "reference": "nul\x00"}, "reference"),
        ({"days": -1.1}, "deadline"),
        ({"days": 400}, "deadline"),
    ],
)
def test_what_makes_no_sense_is_not_expected(desk, changes, where):
    named = {"kind": KIND, "external_id": "ver_1", "reference": None, **changes}
    deadline = play.now(desk.database) + timedelta(days=named.pop("days", 1))

    with desk.database.write() as session, pytest.raises(BadExpectation) as refused:
        expect.add(session, desk.settings, Wanted(SOURCE, deadline=deadline, **named), actor="tests")

    assert refused.value.where == where
    assert play.rows(desk.database, expectations) == []


def test_an_unknown_source_is_not_waited_for(desk):
    with pytest.raises(UnknownSource):
        desk.expect(source="nowhere")


# Races.


def test_many_are_looked_at_in_one_sweep_and_each_is_told_once_by_several_leaders(desk):
    """Two processes may both believe that they lead."""
    count = 90
    for number in range(count):
        desk.expect(reference=f"unknown-{number}")
    desk.pass_time()
    leaders = [Expectations(desk.database, desk.settings, desk.nudges.append) for _ in range(3)]
    threads = [threading.Thread(target=leader.check) for leader in leaders]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while expectations_due(desk):
        desk.leader.check()

    assert {row.state for row in play.rows(desk.database, expectations)} == {ExpectationState.OVERDUE}
    told = [data["expectation"] for data in desk.overdue()]
    assert (len(told), len(set(told))) == (count, count)


def expectations_due(desk):
    return [row for row in play.rows(desk.database, expectations) if row.state == ExpectationState.OPEN]


def test_two_leaders_ask_for_a_missing_result_once(desk):
    expected = desk.expect()
    desk.pass_time()
    others = [Expectations(desk.database, desk.settings, desk.nudges.append) for _ in range(2)]
    threads = [threading.Thread(target=leader.check) for leader in others]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (desk.state(expected), desk.wanted().wanted) == (ExpectationState.TRYING, 1)
    assert desk.nudges == [SOURCE]


def test_a_result_that_arrives_with_the_last_look_of_a_try_meets_it(desk):
    """A slow retrieve and the end of its time meet: what is stored counts, whatever the clock says."""
    expected = desk.expect()
    desk.look()
    desk.retrieve()

    desk.look(tried_at=TRYING_LASTS)

    assert desk.state(expected) == ExpectationState.MET
    assert desk.overdue() == []
