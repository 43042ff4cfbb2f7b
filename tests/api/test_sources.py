"""`/api/v1/sources`: how the sources stand, and holding and releasing them."""

import pytest

from tests.api.problems import assert_problem
from tests.support.results import SOURCE, claim, fail, key, want
from worker.store.engine import database_time
from worker.store.query import records
from worker.store.sources import throttle
from worker.store.tables import audit_entries, source_states

HOLD, RELEASE = f"/api/v1/sources/{SOURCE}/hold", f"/api/v1/sources/{SOURCE}/release"


def audits(database):
    with database.read() as session:
        return [
            (entry["actor"], entry["action"], entry["reason"]) for entry in records(session, audit_entries.select())
        ]


def test_every_source_is_listed_with_its_work(api, database):
    fail(database, key("ver_parked"))
    want(database, key("ver_claimed"))
    claim(database, key("ver_claimed"))
    want(database, key("ver_1"))

    [other, mine] = api.get("/api/v1/sources").get_json()["items"]

    assert (other["source"], other["state"], other["waiting"]) == ("gu1-test", "active", 0)
    assert (mine["source"], mine["configured"]) == (SOURCE, True)
    assert (mine["waiting"], mine["claimed"], mine["parked"]) == (1, 1, 1)
    assert mine["oldest_seconds"] >= 0


def test_a_hold_says_who_and_why(api, database, rung):
    answer = api.post(HOLD, json={"reason": "  the key is rotated "})

    assert answer.status_code == 200
    held = answer.get_json()
    assert held["changed"] is True
    assert (held["source"]["state"], held["source"]["until"]) == ("held", None)
    assert held["source"]["reason"] == "the key is rotated (by api:tests)"
    assert api.get("/api/v1/sources").get_json()["items"][1] == held["source"]
    assert audits(database) == [("api:tests", "hold", "the key is rotated (by api:tests)")]
    assert api.post(HOLD, json={"reason": "again"}).get_json() == {"changed": False, "source": held["source"]}


@pytest.mark.parametrize("body", [None, {}, {"reason": "rotated"}])
def test_a_release_ends_the_hold_and_rings(api, database, runtime, rung, body):
    runtime.nudger.start()
    api.post(HOLD, json={"reason": "why"})

    released = api.post(RELEASE, json=body) if body is not None else api.post(RELEASE)
    again = api.post(RELEASE)
    runtime.nudger.stop()

    document = released.get_json()
    assert (released.status_code, document["changed"], document["hold_ended"]) == (200, True, True)
    assert (document["throttle_ended"], document["source"]["state"]) == (False, "active")
    assert again.get_json()["changed"] is False
    assert rung == [SOURCE]
    assert audits(database)[1:] == [("api:tests", "release", (body or {}).get("reason"))]


def test_a_release_says_that_it_ended_a_throttle(api, database):
    with database.write() as session:
        throttle(session, SOURCE, database_time(session).replace(year=2100))
    assert api.get("/api/v1/sources").get_json()["items"][1]["state"] == "throttled"

    document = api.post(RELEASE).get_json()

    assert (document["hold_ended"], document["throttle_ended"]) == (False, True)
    assert document["source"]["state"] == "active"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (HOLD, {}, "reason"),
        (HOLD, {"reason": " "}, "reason"),
        (HOLD, {"reason": "x" * 501}, "reason"),
        (HOLD, {"reason": 7}, "reason"),
        (HOLD, {"reason": "why", "until": "tomorrow"}, "until"),
        (RELEASE, {"reason": ""}, "reason"),
        (RELEASE, {"force": True}, "force"),
        (RELEASE, [], "not an object"),
    ],
)
def test_a_bad_body_is_the_callers_mistake(detached, path, body, words):
    assert_problem(detached.post(path, json=body), 400, words=words)


@pytest.mark.parametrize("path", [HOLD, RELEASE])
def test_only_json_is_taken(detached, path):
    assert_problem(detached.post(path, data="reason=why", content_type="text/plain"), 415)


@pytest.mark.parametrize("slug", ["nowhere", "A", "%00"])
def test_an_unknown_source_is_not_found(api, database, slug):
    assert_problem(api.post(f"/api/v1/sources/{slug}/hold", json={"reason": "why"}), 404)
    assert_problem(api.post(f"/api/v1/sources/{slug}/release"), 404)
    with database.read() as session:
        assert records(session, source_states.select()) == []
