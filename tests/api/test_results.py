"""`/api/v1/results`: lists, one result, and its past."""

from datetime import datetime, timedelta
from urllib.parse import quote

import pytest

from tests.api.problems import assert_problem
from tests.support.results import APPROVED, ERASED, KIND, PENDING, REJECTED, SOURCE, fail, key, reading, store

MICROSECOND = timedelta(microseconds=1)
ONE = f"/api/v1/results/{SOURCE}/{KIND}/ver_1"

RESULT_FIELDS = {
    "source", "provider", "environment", "kind", "external_id", "reference", "stage", "outcome", "final", "derived",
    "provider_status", "score", "version", "mapping_version", "provider_created_at", "provider_updated_at",
    "completed_at", "first_seen_at", "retrieved_at", "updated_at",
}  # fmt: skip


def items(answer):
    assert answer.status_code == 200, answer.text
    assert answer.content_type == "application/json"
    return answer.get_json()["items"]


def test_results_are_listed(api, database):
    assert api.get("/api/v1/results").get_json() == {"items": [], "next_cursor": None}
    store(database, key("ver_1"), reading(PENDING, reference="Zoë 🔑"))

    [item] = items(api.get("/api/v1/results"))

    assert item.keys() == RESULT_FIELDS
    assert (item["source"], item["kind"], item["external_id"]) == (SOURCE, KIND, "ver_1")
    assert (item["stage"], item["outcome"], item["final"]) == ("in_progress", "none", False)
    assert item["reference"] == "Zoë 🔑"
    assert item["provider_created_at"] == "2026-01-02T03:04:05Z"
    assert item["provider_updated_at"] is None
    assert item["updated_at"].endswith("Z")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("source=persona-live", ["ver_1", "ver_2"]),
        ("provider=gu1", ["fm_1"]),
        ("kind=verification/selfie", ["ver_1", "ver_2"]),
        ("kind=verification%2Fselfie&stage=decided", ["ver_1"]),
        ("outcome=rejected", ["fm_1"]),
        ("reference=customer%20%26%20co", ["ver_2"]),
        ("reference=a%00b", []),
        ("reference=%F0%9F%94%91", []),
        ("reference=%ff%fe", []),
        ("updated_after=2020-01-01", ["ver_1", "ver_2", "fm_1"]),
        ("updated_after=2020-01-01T00:00:00%2B02:00", ["ver_1", "ver_2", "fm_1"]),
        ("updated_after=9999-12-31T23:59:59Z", []),
        ("limit=200", ["ver_1", "ver_2", "fm_1"]),
    ],
)
def test_lists_can_be_filtered(api, database, query, expected):
    store(database, key("ver_1"))
    store(database, key("ver_2"), reading(PENDING, reference="customer & co"))
    store(database, key("fm_1", "face-match", "gu1-test"), reading(REJECTED))

    assert [item["external_id"] for item in items(api.get(f"/api/v1/results?{query}"))] == expected


def test_pages_are_stable_while_results_change(api, database):
    for number in range(5):
        store(database, key(f"ver_{number}"))
    first = api.get("/api/v1/results?limit=2").get_json()

    store(database, key("ver_0"), reading(REJECTED))
    store(database, key("ver_9"))
    seen, cursor = [], first["next_cursor"]
    while cursor is not None:
        page = api.get(f"/api/v1/results?limit=2&cursor={cursor}").get_json()
        seen += [item["external_id"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert [item["external_id"] for item in first["items"]] == ["ver_0", "ver_1"]
    assert seen == ["ver_2", "ver_3", "ver_4", "ver_0", "ver_9"]


def test_one_result_has_its_checks_and_document(api, database):
    store(database, key("ver_1"), content={"name": "Zoë", "list": [1, {"a": None}]})

    found = api.get(ONE).get_json()

    assert found.keys() == RESULT_FIELDS | {"checks", "document"}
    assert found["document"] == {"name": "Zoë", "list": [1, {"a": None}]}
    [check] = found["checks"]
    assert check == {
        "name": "liveness",
        "outcome": "passed",
        "provider_outcome": "passed",
        "score": 0.98,
        "threshold": 0.5,
        "required": True,
        "reasons": ["clear"],
        "details": {"frames": 3},
    }


def test_a_kind_without_a_slash_is_a_path_too(api, database):
    store(database, key("fm_1", "face-match", "gu1-test"))

    assert api.get("/api/v1/results/gu1-test/face-match/fm_1").get_json()["external_id"] == "fm_1"
    assert len(items(api.get("/api/v1/results/gu1-test/face-match/fm_1/versions"))) == 1


def test_a_resource_may_be_called_versions(api, database):
    store(database, key("versions", "face-match", "gu1-test"))

    assert api.get("/api/v1/results/gu1-test/face-match/versions").get_json()["external_id"] == "versions"


def test_the_past_can_be_asked_for_by_number_and_by_time(api, database):
    store(database, key("ver_1"), reading(PENDING), {"number": 1})
    store(database, key("ver_1"), reading(APPROVED), {"number": 2})
    first, second = items(api.get(f"{ONE}/versions"))

    def number(query):
        return api.get(f"{ONE}?{query}").get_json().get("document", {}).get("number")

    assert number("") == number("version=2") == number(f"as_of={second['retrieved_at']}") == 2
    assert number("version=1") == number(f"as_of={first['retrieved_at']}") == 1
    assert api.get(f"{ONE}?version=1").get_json()["stage"] == "in_progress"
    assert_problem(api.get(f"{ONE}?version=3"), 404)
    assert_problem(api.get(f"{ONE}?as_of=2020-01-01T00:00:00Z"), 404)


def test_nothing_was_known_before_the_first_version(api, database):
    store(database, key("ver_1"), reading(PENDING))
    store(database, key("ver_1"), reading(APPROVED))
    first, second = (datetime.fromisoformat(item["retrieved_at"]) for item in items(api.get(f"{ONE}/versions")))

    def known(moment):
        return api.get(ONE, query_string={"as_of": moment.isoformat()})

    assert_problem(known(first - MICROSECOND), 404, words="no such result")
    assert known(first).get_json()["version"] == known(second - MICROSECOND).get_json()["version"] == 1
    assert known(second).get_json()["version"] == 2
    assert_problem(api.get(f"{ONE}?version=2&as_of=2026-01-01"), 400, words="not both")
    assert_problem(api.get(f"{ONE.replace('ver_1', 'ver_2')}?as_of=2099-01-01"), 404)


def test_an_erased_version_has_no_document(api, database):
    store(database, key("ver_1"), content={"name": "Ada"})
    store(database, key("ver_1"), reading(ERASED, checks=()), {"redacted": True})

    old = api.get(f"{ONE}?version=1").get_json()

    assert (old["document"], old["outcome"]) == (None, "approved")
    assert [check["reasons"] for check in old["checks"]] == [[]]
    assert api.get(ONE).get_json()["document"] == {"redacted": True}
    assert [item["erased_at"] is None for item in items(api.get(f"{ONE}/versions"))] == [False, True]


def test_history_has_pages(api, database):
    for number in range(3):
        store(database, key("ver_1"), content={"number": number})

    first = api.get(f"{ONE}/versions?limit=2").get_json()
    rest = api.get(f"{ONE}/versions?limit=2&cursor={first['next_cursor']}").get_json()

    assert [item["version"] for item in first["items"]] == [1, 2]
    assert [item["version"] for item in rest["items"]] == [3]
    assert rest["next_cursor"] is None
    assert first["items"][0]["cause"] == "webhook"


def test_what_is_only_wanted_has_no_result(api, database):
    fail(database, key("ver_1"))

    assert_problem(api.get(ONE), 404, words="no such result")
    assert_problem(api.get(f"{ONE}/versions"), 404)


@pytest.mark.parametrize(
    "path",
    [
        "persona-live/verification/selfie/ver_2",
        "nowhere/verification/selfie/ver_1",
        "persona-live/verification/selfie/ver%00_1",
        "persona-live/verification/selfie/" + "v" * 129,
        "persona-live/verification/selfie/ver_1%0a",
        "persona-live/verification/selfie/..%2f..%2fver_1",
        "persona-live/VERIFICATION/selfie/ver_1",
        "persona-live/verification//ver_1",
        "persona-live/a/b/c/d/ver_1",
        "persona%00live/verification/selfie/ver_1",
        quote("pérsona/verification/selfie/ver_1"),
        "%ff%fe/verification/selfie/ver_1",
        "persona-live/verification/selfie/%F0%9F%94%91",
    ],
)
def test_what_cannot_be_a_result_is_not_found(api, database, path):
    store(database, key("ver_1"))

    assert_problem(api.get(f"/api/v1/results/{path}"), 404)
    assert_problem(api.get(f"/api/v1/results/{path}/versions"), 404)


BAD_INTEGERS = ["", "abc", "-1", "0x1", "1.5", "1e3", "NaN", "9" * 400, str(2**63), "%00", "1%00", "None", "[]"]
BAD_TIMES = ["", "yesterday", "2026-13-01", "2026-01-01T25:00:00Z", "0001-01-01T00:00:00%2B14:00", "1767225600", "%00",
             "2026-01-01T00:00:00 02:00", "9999-12-31T23:59:59-14:00", "9" * 400]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        *[("/results", "limit", value) for value in [*BAD_INTEGERS, "0", "201"]],
        *[("/results", "updated_after", value) for value in BAD_TIMES],
        *[("/results", "cursor", value) for value in ["", "x", "%00", "MS4x", "A" * 101, "%F0%9F%94%91"]],
        *[("/results", "source", value) for value in ["", "UPPER", "a b", "a%00b", "x" * 64, "%F0%9F%94%91"]],
        *[("/results", "provider", value) for value in ["", "UPPER", "a%00b"]],
        *[("/results", "kind", value) for value in ["", "/", "a/b/c/d", "a%00", "../x", "a%0a"]],
        *[("/results", "stage", value) for value in ["", "DECIDED", "done", "decided%00"]],
        *[("/results", "outcome", value) for value in ["", "yes"]],
        *[("/results", "reference", value) for value in ["", "x" * 1001]],
        *[("/results", "surprise", value) for value in ["", "1"]],
        *[(ONE.removeprefix("/api/v1"), "version", value) for value in [*BAD_INTEGERS, "0", str(2**31)]],
        *[(ONE.removeprefix("/api/v1"), "as_of", value) for value in BAD_TIMES],
        *[(ONE.removeprefix("/api/v1") + "/versions", "cursor", value) for value in [*BAD_INTEGERS, str(2**31)]],
        *[("/events", "after", value) for value in BAD_INTEGERS],
        *[("/events", "limit", value) for value in [*BAD_INTEGERS, "0", "201"]],
    ],
)
def test_bad_parameters_are_the_callers_mistake(detached, path, name, value):
    answer = detached.get(f"/api/v1{path}?{name}={value}")

    document = assert_problem(answer, 400, words=name)
    assert [error["where"] for error in document["errors"]] == [name]


def test_every_mistake_is_named_at_once(detached):
    document = assert_problem(detached.get("/api/v1/results?limit=0&stage=x&wrong=1"), 400)

    assert sorted(error["where"] for error in document["errors"]) == ["limit", "stage", "wrong"]


@pytest.mark.parametrize("query", ["limit=1&limit=2", "source=a&source=a"])
def test_a_parameter_given_twice_is_refused(detached, query):
    assert_problem(detached.get(f"/api/v1/results?{query}"), 400, words="more than once")


def test_version_and_time_exclude_each_other(detached):
    assert_problem(detached.get(f"{ONE}?version=1&as_of=2026-01-01T00:00:00Z"), 400, words="not both")
