"""Selections: what is refused, what they are at each level, and how they are stored."""

from datetime import UTC, datetime

import pytest

from worker.domain.replays import MOST_IDS, UNKNOWN, Lane, ReplayLevel, Selection
from worker.domain.states import ResourceState
from worker.errors import BadSelection

RETRIEVE, REPROJECT, REINGEST = ReplayLevel.RETRIEVE, ReplayLevel.REPROJECT, ReplayLevel.REINGEST
MARK = "0123456789abcdef"
EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("level", ReplayLevel)
def test_an_empty_selection_is_refused_unless_everything_is_meant(level):
    with pytest.raises(BadSelection, match="say which"):
        Selection().checked(level)

    assert Selection(everything=True).checked(level).everything


@pytest.mark.parametrize(
    ("level", "selection", "words"),
    [
        (RETRIEVE, Selection(ids=("../x",)), "an id is"),
        (RETRIEVE, Selection(ids=("a",) * (MOST_IDS + 1)), "more than"),
        (RETRIEVE, Selection(since=LATE, until=EARLY), "not before"),
        (RETRIEVE, Selection(since=EARLY, until=EARLY), "not before"),
        (RETRIEVE, Selection(state="unreadable"), "state is one of"),
        (RETRIEVE, Selection(error="no-such"), "error is"),
        (RETRIEVE, Selection(error="gone", state="settled"), "leaves nothing"),
        (REPROJECT, Selection(parked=True, state="waiting"), "leaves nothing"),
        (RETRIEVE, Selection(lane=Lane("a", "receive", MARK)), "level reingest"),
        (REINGEST, Selection(lane=Lane("a", "call", MARK)), "level retrieve"),
        (REINGEST, Selection(state="settled"), "state is one of"),
        (REINGEST, Selection(error="gone"), "fingerprint"),
        (REINGEST, Selection(parked=True, state="accepted"), "leaves nothing"),
    ],
)
def test_what_chooses_nothing_is_refused_with_what_to_change(level, selection, words):
    with pytest.raises(BadSelection, match=words):
        selection.checked(level)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(source="a"),
        Selection(ids=("ver_1", "3f0c7a52-90aa-4d8e-9c5f-2a0f7c0b7d11")),
        Selection(error="gone"),
        Selection(error="not_found"),
        Selection(error="poison"),
        Selection(error=MARK, state="parked"),
        Selection(lane=Lane("a", UNKNOWN, UNKNOWN)),
        Selection(state="settled", since=EARLY, until=LATE),
    ],
)
@pytest.mark.parametrize("level", [RETRIEVE, REPROJECT])
def test_what_makes_sense_is_taken_as_it_is(level, selection):
    assert selection.checked(level) == selection


@pytest.mark.parametrize(
    "selection", [Selection(parked=True), Selection(error=MARK), Selection(lane=Lane("a", "receive", MARK))]
)
def test_parked_deliveries_are_those_that_nobody_could_read(selection):
    assert selection.checked(REINGEST).state == "unreadable"


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(parked=True), True),
        (Selection(error="gone"), True),
        (Selection(lane=Lane("a", "call", MARK)), True),
        (Selection(state=ResourceState.PARKED), True),
        (Selection(state=ResourceState.WAITING), False),
        (Selection(source="a"), False),
    ],
)
def test_whether_only_parked_work_can_be_chosen(selection, expected):
    assert selection.only_parked is expected


def test_a_lane_is_read_from_its_own_name():
    lane = Lane("persona-live", "call", MARK)

    assert Lane.parse(str(lane)) == lane
    assert Lane.parse(f"a/{UNKNOWN}/{UNKNOWN}").step == UNKNOWN


@pytest.mark.parametrize(
    "text", ["", "a", "a/call", "a/call/", "a/nowhere/" + MARK, "/call/" + MARK, "a\x00b/call/" + MARK, "a/call/xyz"]
)
def test_what_is_no_lane_is_refused(text):
    with pytest.raises(BadSelection, match="source/step/fingerprint"):
        Lane.parse(text)


def test_what_is_stored_are_the_conditions_that_were_set():
    selection = Selection(
        ids=("a",), source="s", lane=Lane("s", "call", MARK), parked=True, since=EARLY, everything=True
    )

    assert Selection().to_json() == {}
    assert selection.to_json() == {
        "ids": ["a"],
        "source": "s",
        "lane": f"s/call/{MARK}",
        "parked": True,
        "since": "2026-01-01T00:00:00+00:00",
        "all": True,
    }
