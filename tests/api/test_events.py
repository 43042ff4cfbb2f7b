"""`/api/v1/events`: the log, gap-free and in order."""

import pytest

from tests.api.problems import assert_problem
from tests.support.results import KIND, REJECTED, SOURCE, key, number_events, reading, store
from worker.store import query_events


def test_events_are_polled_with_the_last_sequence(api, database):
    assert api.get("/api/v1/events").get_json() == {"items": [], "next_after": 0}
    store(database, key("ver_1"))
    store(database, key("ver_1"), reading(REJECTED))
    number_events(database)

    first = api.get("/api/v1/events?limit=2").get_json()
    rest = api.get(f"/api/v1/events?after={first['next_after']}").get_json()
    nothing = api.get(f"/api/v1/events?after={rest['next_after']}").get_json()

    assert [item["sequence"] for item in first["items"]] == [1, 2]
    assert [item["type"] for item in rest["items"]] == ["verification.result.reversed"]
    assert nothing == {"items": [], "next_after": 3}


def test_an_event_is_as_in_the_view(api, database):
    store(database, key("ver_1"))
    number_events(database)

    [created, decided] = api.get("/api/v1/events").get_json()["items"]

    assert list(created) == [
        "sequence", "id", "type", "source", "kind", "external_id", "version", "stage", "outcome", "occurred_at", "data",
    ]  # fmt: skip
    assert (decided["source"], decided["kind"], decided["external_id"]) == (SOURCE, KIND, "ver_1")
    assert (decided["version"], decided["stage"], decided["outcome"]) == (1, "decided", "approved")
    assert decided["occurred_at"].endswith("Z")
    assert decided["data"]["previous"] is None


def test_what_is_not_numbered_yet_is_not_shown(api, database):
    store(database, key("ver_1"))

    assert api.get("/api/v1/events").get_json()["items"] == []


def test_the_largest_cursor_is_the_end(api, database):
    store(database, key("ver_1"))
    number_events(database)

    assert api.get(f"/api/v1/events?after={2**63 - 1}").get_json()["items"] == []


def sequences(answer):
    return [item["sequence"] for item in answer["items"]], answer["next_after"]


@pytest.fixture
def mixed(database):
    """Events 1 to 8: two each of ver_1, fm_1, ver_2 and fm_2."""
    for number in (1, 2):
        store(database, key(f"ver_{number}"))
        store(database, key(f"fm_{number}", "face-match", "gu1-test"))
        number_events(database)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("source=gu1-test", ([3, 4, 7, 8], 8)),
        ("source=gu1-test&limit=3", ([3, 4, 7], 7)),
        ("source=gu1-test&limit=2&after=4", ([7, 8], 8)),
        ("source=persona-live&after=3", ([5, 6], 8)),
        ("source=persona-live&after=6", ([], 8)),
        ("kind=face-match&type=verification.result.decided", ([4, 8], 8)),
        ("kind=no-such-kind", ([], 8)),
        ("source=nowhere&after=99", ([], 99)),
    ],
)
def test_a_filter_passes_over_the_rest(api, mixed, query, expected):
    assert sequences(api.get(f"/api/v1/events?{query}").get_json()) == expected


def test_what_is_passed_over_is_limited_and_read_once(api, mixed, monkeypatch):
    monkeypatch.setattr(query_events, "MOST_LOOKED_AT", 3)

    pages, after = [], 0
    for _ in range(4):
        page = api.get(f"/api/v1/events?kind=face-match&after={after}").get_json()
        pages.append(sequences(page))
        after = page["next_after"]

    assert pages == [([3], 3), ([4], 6), ([7, 8], 8), ([], 8)]


@pytest.mark.parametrize(
    "query", ["type=verification", "source=UPPER", "kind=%00", "wait=-1", "wait=31", "wait=1.5", "wait=nan", "types=x"]
)
def test_a_bad_filter_is_the_callers_mistake(detached, query):
    assert_problem(detached.get(f"/api/v1/events?{query}"), 400)
