"""`/api/v1/sinks`: how the sinks stand, and holding and releasing them."""

import pytest

from tests.api.problems import assert_problem
from tests.support.results import key, number_events, store
from worker.store.query import records
from worker.store.sink_tables import sink_states
from worker.store.tables import audit_entries

HOLD, RELEASE = "/api/v1/sinks/log/hold", "/api/v1/sinks/log/release"


def test_every_sink_is_listed(api, database):
    store(database, key("ver_1"))
    number_events(database)

    [log] = api.get("/api/v1/sinks").get_json()["items"]

    assert (log["sink"], log["state"], log["position"], log["lag"]) == ("log", "active", 0, 2)
    assert log["oldest_seconds"] >= 0
    assert (log["waiting"], log["given_up"], log["held_at"], log["hold_reason"]) == (0, 0, None, None)


@pytest.mark.parametrize("body", [None, {}, {"reason": "done"}])
def test_a_sink_is_held_and_released(api, database, body):
    held = api.post(HOLD, json={"reason": " their release "})
    assert held.status_code == 200
    document = held.get_json()
    assert (document["changed"], document["sink"]["state"]) == (True, "held")
    assert document["sink"]["hold_reason"] == "their release (by api:tests)"
    assert api.post(HOLD, json={"reason": "again"}).get_json()["changed"] is False

    released = api.post(RELEASE, json=body) if body is not None else api.post(RELEASE)

    assert released.status_code == 200
    assert (released.get_json()["changed"], released.get_json()["sink"]["state"]) == (True, "active")
    assert api.post(RELEASE).get_json()["changed"] is False
    with database.read() as session:
        deeds = [(entry["actor"], entry["action"]) for entry in records(session, audit_entries.select())]
    assert deeds == [("api:tests", "sink.hold"), ("api:tests", "sink.release")]


@pytest.mark.parametrize(("path", "body"), [(HOLD, {}), (HOLD, {"reason": ""}), (RELEASE, {"force": True})])
def test_a_bad_body_is_the_callers_mistake(detached, path, body):
    assert_problem(detached.post(path, json=body), 400)


@pytest.mark.parametrize("name", ["nowhere", "A", "%00"])
def test_an_unknown_sink_is_not_found(api, database, name):
    assert_problem(api.post(f"/api/v1/sinks/{name}/hold", json={"reason": "why"}), 404)
    assert_problem(api.post(f"/api/v1/sinks/{name}/release"), 404)
    with database.read() as session:
        assert records(session, sink_states.select()) == []
