"""`POST /api/v1/retrievals`: anything may be asked for, and only what makes sense is wanted."""

import json

import pytest

from tests.api.problems import assert_problem
from tests.support.results import KIND, SOURCE, fail, key, store
from worker.domain.states import FailureKind
from worker.reports.resources import ResourceFilter, resources
from worker.store.engine import Session
from worker.store.query import records
from worker.store.tables import audit_entries

GOOD = {"source": SOURCE, "kind": KIND, "external_id": "ver_1"}


def wanted(database):
    with database.read() as session:
        return resources(session, ResourceFilter(), limit=50)


def audits(session: Session):
    return records(session, audit_entries.select())


def test_a_retrieval_is_wanted_audited_and_nudged(api, database, runtime, rung):
    runtime.nudger.start()

    answer = api.post("/api/v1/retrievals", json=GOOD)
    runtime.nudger.stop()

    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/results/{SOURCE}/{KIND}/ver_1"
    assert answer.get_json() == {**GOOD, "state": "waiting", "result": answer.headers["Location"]}
    [resource] = wanted(database)
    assert (resource.external_id, resource.cause, resource.environment) == ("ver_1", "retrieval", "live")
    assert rung == [SOURCE]
    with database.read() as session:
        [entry] = audits(session)
    assert (entry["actor"], entry["action"]) == ("api:tests", "retrieve")
    assert entry["subject"] == f"{SOURCE}/{KIND}/ver_1"


def test_the_location_is_where_the_result_will_be(api, database):
    location = api.post("/api/v1/retrievals", json=GOOD).headers["Location"]
    assert_problem(api.get(location), 404)

    store(database, key("ver_1"))

    assert api.get(location).get_json()["external_id"] == "ver_1"


def test_asking_twice_is_two_wishes_for_one_resource(api, database):
    for _ in range(2):
        assert api.post("/api/v1/retrievals", json=GOOD).status_code == 202

    [resource] = wanted(database)
    assert resource.wanted == 2


def test_parked_work_starts_again(api, database):
    fail(database, key("ver_1"), FailureKind.REJECTED)

    assert api.post("/api/v1/retrievals", json=GOOD).get_json()["state"] == "waiting"


def test_a_kind_that_only_webhooks_know_can_be_asked_for_again(api, database):
    strange = {**GOOD, "kind": "inquiry-session"}
    assert_problem(api.post("/api/v1/retrievals", json=strange), 400, words="has no kind")

    store(database, key("ver_1", "inquiry-session"))

    assert api.post("/api/v1/retrievals", json=strange).status_code == 202


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b"[1,2]", "not an object"),
        (b"null", "not an object"),
        (b'"text"', "not an object"),
        (b"\xff\xfe", "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"source": 1, "source": 2}', "twice"),
        (b'{"source": NaN}', "NaN"),
        (b"[" * 5000, "deep"),
        (b"{}", "required"),
        (json.dumps({**GOOD, "source": 7}).encode(), "source"),
        (json.dumps({**GOOD, "kind": None}).encode(), "kind"),
        (json.dumps({**GOOD, "kind": "a/../b"}).encode(), "kind"),
        (json.dumps({**GOOD, "external_id": "ver/1"}).encode(), "external_id"),
        (json.dumps({**GOOD, "external_id": "ver\x00"}).encode(), "external_id"),
        (json.dumps({**GOOD, "external_id": "v" * 129}).encode(), "external_id"),
        (json.dumps({**GOOD, "external_id": ["ver_1"]}).encode(), "external_id"),
        (json.dumps({**GOOD, "external_id": "ver_1\n"}).encode(), "external_id"),
        (json.dumps({**GOOD, "extra": 1}).encode(), "extra"),
        (json.dumps({**GOOD, "\ud800": 1}).encode(), "valid string"),
        (json.dumps({**GOOD, "external_id": "\ud800"}).encode(), "external_id"),
    ],
)
def test_a_bad_body_is_the_callers_mistake(detached, body, words):
    answer = detached.post("/api/v1/retrievals", data=body, content_type="application/json")

    assert_problem(answer, 400, words=words)


def test_a_kind_that_the_provider_does_not_have_is_not_wanted(api, database):
    answer = api.post("/api/v1/retrievals", json={**GOOD, "kind": "no-such-kind"})

    assert_problem(answer, 400, words="verification/selfie")
    assert wanted(database) == ()


def test_an_unknown_source_is_not_found(api, database):
    assert_problem(api.post("/api/v1/retrievals", json={**GOOD, "source": "nowhere"}), 404, words="no source")
    assert wanted(database) == ()


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/xml", "é"]
)
def test_only_json_is_taken(detached, content_type):
    answer = detached.post("/api/v1/retrievals", data=json.dumps(GOOD), content_type=content_type)

    assert_problem(answer, 415)


def test_a_charset_beside_the_type_is_fine(api):
    answer = api.post("/api/v1/retrievals", data=json.dumps(GOOD), content_type="application/json; charset=utf-8")

    assert answer.status_code == 202


def test_a_large_body_is_refused(detached):
    body = json.dumps({**GOOD, "extra": "x" * 70_000})

    assert_problem(detached.post("/api/v1/retrievals", data=body, content_type="application/json"), 413)
