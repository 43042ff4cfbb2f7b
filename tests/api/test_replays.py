"""`/api/v1/replays` and `/api/v1/lanes`: planned, started, followed and stopped; on both databases."""

import uuid

import pytest

from tests.api.problems import assert_problem
from tests.support.results import KIND, SOURCE, fail, key, receive, store
from worker.domain.states import DeliveryState, FailureKind
from worker.pipeline.replay_run import Replayer
from worker.store.query import records
from worker.store.tables import audit_entries, replays, resources

PARKED = {"level": "retrieve", "parked": True, "reason": "the provider is mended"}


@pytest.fixture
def parked(database):
    """Three parked resources in two lanes, and a settled one."""
    for external_id in ("ver_1", "ver_2"):
        fail(database, key(external_id))
    fail(database, key("ver_3"), FailureKind.BUG, None)
    store(database, key("ver_4"))


@pytest.fixture
def leader(runtime):
    """Advances replays, as the leader of the sweep does."""
    return Replayer(runtime.database, runtime.settings.sources, runtime.providers, lambda _source: None)


def start(api, **body):
    answer = api.post("/api/v1/replays", json={**PARKED, **body})
    assert answer.status_code == 202, answer.text
    return answer


def read(database, table):
    with database.read() as session:
        return records(session, table.select())


def test_a_plan_is_answered_and_nothing_is_changed(api, database, parked):
    before = read(database, resources)

    answer = api.post("/api/v1/replays", json={**PARKED, "plan": True})

    assert answer.status_code == 200
    plan = answer.get_json()
    assert (plan["level"], plan["count"], plan["calls"], plan["complete"]) == ("retrieve", 3, 3, True)
    assert plan["selection"] == {"parked": True}
    [share] = plan["sources"]
    assert (share["source"], share["configured"], share["count"]) == (SOURCE, True, 3)
    assert 0 < plan["seconds"] == share["seconds"]
    assert read(database, resources) == before
    assert read(database, replays) == read(database, audit_entries) == []


def test_a_plan_of_reprojecting_says_which_way(api, parked):
    plan = api.post("/api/v1/replays", json={"level": "reproject", "all": True, "plan": True}).get_json()

    # What the tests store is no document of Persona's, which is a thing that a plan tells.
    assert plan["outcomes"] == {"skipped": 3, "unreadable": 1}
    assert (plan["calls"], plan["examined"], plan["changes"]) == (0, 4, [])


def test_a_replay_is_started_followed_and_paged(api, database, parked, leader):
    answer = start(api)

    location = answer.headers["Location"]
    made = answer.get_json()
    assert location == f"/api/v1/replays/{made['id']}"
    assert (made["state"], made["total"], made["done"], made["waiting"]) == ("running", 3, 0, 3)
    assert (made["actor"], made["reason"]) == ("api:tests", "the provider is mended")
    assert api.get(location).get_json() == made
    assert [item["id"] for item in api.get("/api/v1/replays").get_json()["items"]] == [made["id"]]
    [entry] = read(database, audit_entries)
    assert (entry["actor"], entry["action"], entry["subject"]) == ("api:tests", "replay", made["id"])

    leader.advance()
    assert api.get(location).get_json()["asked"] == 3

    first = api.get(f"{location}/items?limit=2").get_json()
    second = api.get(f"{location}/items?limit=2&cursor={first['next_cursor']}").get_json()
    assert second["next_cursor"] is None
    items = first["items"] + second["items"]
    assert [item["external_id"] for item in items] == ["ver_1", "ver_2", "ver_3"]
    assert {(item["kind"], item["state"], item["outcome"]) for item in items} == {(KIND, "asked", None)}


def test_items_are_filtered_by_how_they_ended(api, database, parked, leader):
    location = start(api, level="reproject", parked=False, all=True).headers["Location"]
    leader.advance()

    found = api.get(location).get_json()
    assert (found["state"], found["outcomes"]) == ("finished", {"skipped": 3, "unreadable": 1})
    [item] = api.get(f"{location}/items?outcome=unreadable").get_json()["items"]
    assert (item["external_id"], item["state"]) == ("ver_4", "done")
    assert api.get(f"{location}/items?outcome=stored").get_json() == {"items": [], "next_cursor": None}


def test_pausing_resuming_and_cancelling_are_answered_with_where_it_stands(api, database, parked):
    location = start(api).headers["Location"]

    for deed, state in (("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        answer = api.post(f"{location}/{deed}")
        assert (answer.status_code, answer.get_json()["state"]) == (200, state)

    assert api.post(f"{location}/cancel").get_json()["outcomes"] == {"cancelled": 3}
    assert_problem(api.post(f"{location}/pause"), 409, words="cancelled already")
    assert_problem(api.post(f"{location}/resume"), 409, words="cancelled already")
    deeds = [entry["action"] for entry in read(database, audit_entries)]
    assert deeds == ["replay", "replay-pause", "replay-resume", "replay-cancel"]


def test_lanes_are_listed_and_replayed_by_their_names(api, database, parked):
    receive(database, state=DeliveryState.UNREADABLE)
    lanes = api.get("/api/v1/lanes").get_json()["items"]

    assert [(lane["count"], lane["step"], lane["level"]) for lane in lanes] == [
        (2, "call", "retrieve"), (1, "write", "retrieve"), (1, "receive", "reingest"),
    ]  # fmt: skip
    assert lanes[0]["lane"] == f"{SOURCE}/call/{lanes[0]['fingerprint']}"
    assert lanes[0]["sample"] == "the provider answered 400"
    assert lanes[0]["first_at"] <= lanes[0]["last_at"]
    made = start(api, parked=False, lane=lanes[0]["lane"]).get_json()
    assert (made["total"], made["selection"]) == (2, {"lane": lanes[0]["lane"]})


def test_a_selection_without_anything_in_it_is_a_finished_replay(api):
    made = start(api).get_json()

    assert (made["state"], made["total"]) == ("finished", 0)
    assert made["finished_at"] is not None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "say which"),
        ({"level": "again", "all": True}, "level"),
        ({"ids": ["a/b"]}, "ids"),
        ({"ids": ["x"] * 1001}, "ids"),
        ({"source": "NOT A SLUG"}, "source"),
        ({"lane": "nonsense"}, "source/step/fingerprint"),
        ({"error": "no-such"}, "error is"),
        ({"state": "unreadable"}, "state is one of"),
        ({"parked": True, "state": "settled"}, "leaves nothing"),
        ({"since": "yesterday"}, "ISO 8601"),
        ({"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "not before"),
        ({"level": "reingest", "error": "gone"}, "fingerprint"),
        ({"all": True, "reason": " "}, "reason"),
        ({"all": True, "actor": "somebody"}, "actor"),
    ],
)
def test_a_bad_selection_is_the_callers_mistake(detached, body, words):
    assert_problem(detached.post("/api/v1/replays", json=body), 400, words=words)


def test_a_replay_that_does_not_exist_is_not_found(api):
    nowhere = f"/api/v1/replays/{uuid.uuid4()}"

    for answer in (api.get(nowhere), api.get(f"{nowhere}/items"), api.post(f"{nowhere}/cancel")):
        assert_problem(answer, 404, words="no such replay")
    assert api.get("/api/v1/replays/nonsense").status_code == 404


def test_nobody_replays_without_a_token(api):
    for answer in (
        api.post("/api/v1/replays", json=PARKED, headers={"Authorization": ""}),
        api.get("/api/v1/lanes", headers={"Authorization": "Bearer nonsense"}),
    ):
        assert answer.status_code == 401
