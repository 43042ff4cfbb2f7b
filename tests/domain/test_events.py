"""Which events a change calls for, and what they look like from outside."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat

from worker.domain.events import EVERYTHING, Event, EventFilter, cloud_event, types_for
from worker.domain.model import Verdict
from worker.domain.states import EventType, Outcome, Stage

NOW = datetime(2026, 3, 1, 12, 30, 1, 250_000, tzinfo=UTC)

NOTHING = None
CREATED = Verdict(Stage.CREATED, Outcome.NONE, final=False)
REVIEW = Verdict(Stage.IN_REVIEW, Outcome.NONE, final=False)
APPROVED = Verdict(Stage.DECIDED, Outcome.APPROVED, final=True)
APPROVED_FOR_NOW = Verdict(Stage.DECIDED, Outcome.APPROVED, final=False)
REJECTED = Verdict(Stage.DECIDED, Outcome.REJECTED, final=True)
RESUBMIT = Verdict(Stage.DECIDED, Outcome.RESUBMIT, final=True)
EXPIRED = Verdict(Stage.EXPIRED, Outcome.NONE, final=True)
ERASED = Verdict(Stage.ERASED, Outcome.NONE, final=True)
UNMAPPED = Verdict(Stage.UNMAPPED, Outcome.NONE, final=False)

C, D, U = EventType.CREATED, EventType.DECIDED, EventType.UPDATED
REVISED, REVERSED, GONE = EventType.REVISED, EventType.REVERSED, EventType.ERASED

TABLE = [
    (NOTHING, CREATED, (C,)),
    (NOTHING, APPROVED, (C, D)),
    (NOTHING, EXPIRED, (C,)),
    (NOTHING, ERASED, (C,)),
    (CREATED, CREATED, (U,)),
    (CREATED, REVIEW, (U,)),
    (CREATED, APPROVED, (D,)),
    (REVIEW, REJECTED, (D,)),
    (CREATED, EXPIRED, (U,)),
    (UNMAPPED, REJECTED, (D,)),
    (REVIEW, UNMAPPED, (U,)),
    (EXPIRED, APPROVED, (D,)),
    (APPROVED, APPROVED, (U,)),
    (APPROVED_FOR_NOW, APPROVED, (U,)),
    (APPROVED, REJECTED, (REVERSED,)),
    (REJECTED, APPROVED, (REVERSED,)),
    (APPROVED, RESUBMIT, (REVISED,)),
    (RESUBMIT, REJECTED, (REVISED,)),
    (APPROVED, REVIEW, (REVISED,)),
    (REJECTED, EXPIRED, (REVISED,)),
    (APPROVED, UNMAPPED, (REVISED,)),
    (CREATED, ERASED, (GONE,)),
    (APPROVED, ERASED, (GONE,)),
    (ERASED, ERASED, (U,)),
    (ERASED, APPROVED, (D,)),
]


@pytest.mark.parametrize(("previous", "current", "types"), TABLE)
def test_types(previous, current, types):
    assert types_for(previous, current) == types


def test_every_change_has_events_and_none_twice():
    verdicts = [Verdict(stage, outcome, final) for stage in Stage for outcome in Outcome for final in (True, False)]
    for previous, current in itertools.product([None, *verdicts], verdicts):
        types = types_for(previous, current)
        assert types
        assert len(set(types)) == len(types)
        assert (EventType.CREATED in types) == (previous is None)


DECIDED = Event(
    EventType.DECIDED,
    "persona-live",
    "inquiry",
    "inq_1",
    2,
    Stage.DECIDED,
    Outcome.APPROVED,
    data={"source": "persona-live", "version": 2, "stage": Stage.DECIDED},
)


def test_an_id_is_that_of_what_happened():
    again = replace(DECIDED, data={}, stage=None, outcome=None)

    assert again.id == DECIDED.id
    assert len(DECIDED.id) == 36


def test_different_happenings_have_different_ids():
    others = [
        replace(DECIDED, type=EventType.CREATED),
        replace(DECIDED, source="persona-test"),
        replace(DECIDED, kind="inquiry/x"),
        replace(DECIDED, external_id="inq_2"),
        replace(DECIDED, version=3),
        replace(DECIDED, occasion="park-1"),
        replace(DECIDED, occasion="park-2"),
        replace(DECIDED, kind="inquiry", external_id="1", version=21),
        replace(DECIDED, kind="inquiry", external_id="12", version=1),
    ]

    assert len({event.id for event in (DECIDED, *others)}) == len(others) + 1


def test_a_cloud_event_is_one_to_others():
    envelope = cloud_event(DECIDED, DECIDED.id, 7, NOW)
    message = HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(envelope).encode())

    seen = from_structured_event(message, JSONFormat())

    assert seen.get_id() == DECIDED.id
    assert seen.get_type() == "verification.result.decided"
    assert seen.get_source() == "/verisink/sources/persona-live"
    assert seen.get_subject() == "inquiry/inq_1"
    assert seen.get_time() == NOW
    assert seen.get_datacontenttype() == "application/json"
    assert seen.get_extension("sequence") == "7"
    assert seen.get_data() == {"source": "persona-live", "version": 2, "stage": "decided"}


def test_an_event_about_what_was_never_found_has_no_subject():
    """A result that was expected by a reference has a kind and no id."""
    overdue = Event(EventType.OVERDUE, "persona-live", "inquiry", occasion="expectation-1")

    assert "subject" not in cloud_event(overdue, overdue.id, 1, NOW)


def test_an_event_about_a_source_has_no_subject():
    held = Event(EventType.HELD, "persona-live", occasion="hold-1", data={"source": "persona-live"})

    assert "subject" not in cloud_event(held, held.id, 1, NOW)


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (EVERYTHING, True),
        (EventFilter(types=frozenset({C, D})), True),
        (EventFilter(types=frozenset({D})), False),
        (EventFilter(sources=frozenset({"persona-live"}), kinds=frozenset({"inquiry"})), True),
        (EventFilter(sources=frozenset({"persona-live"}), kinds=frozenset({"report"})), False),
        (EventFilter(sources=frozenset({"persona"})), False),
    ],
)
def test_a_filter_lets_through_what_it_names(wanted, passes):
    assert wanted.passes(Event(C, "persona-live", "inquiry", "inq_1", 1)) is passes


def test_a_filter_on_kinds_lets_nothing_through_that_has_none():
    assert not EventFilter(kinds=frozenset({"inquiry"})).passes(Event(EventType.HELD, "persona-live"))
