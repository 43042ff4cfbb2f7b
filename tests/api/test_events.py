"""`/api/v1/events`: the log, gap-free and in order."""

from tests.support.results import KIND, REJECTED, SOURCE, key, number_events, reading, store


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
