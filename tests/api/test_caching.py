"""ETags, 304 and gzip: who has an answer is not sent it again, and nobody is told that an old one is new."""

import gzip
import json

import pytest
from flask import g

from tests.api.test_scopes import client_with
from tests.support.results import ERASED, KIND, PENDING, REJECTED, SOURCE, key, reading, store
from web.api import caching, coding
from worker.domain.documents import MASK
from worker.domain.scopes import Scope
from worker.reports import results

ONE = f"/api/v1/results/{SOURCE}/{KIND}/ver_1"
BIG: dict[str, object] = {"text": "word " * 1000}
PATHS = [ONE, f"{ONE}?version=1", f"{ONE}/versions", "/api/v1/openapi.json", "/api/v1/docs/swagger-ui.css"]


def tag(api, path=ONE, **headers):
    answer = api.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["ETag"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("said", ["{}", "W/{}", '"other", {}', "*"])
def test_who_has_it_is_told_so(api, database, path, said):
    store(database, key("ver_1"), content=BIG)
    first = api.get(path)

    again = api.get(path, headers={"If-None-Match": said.format(first.headers["ETag"])})

    assert (again.status_code, again.data) == (304, b"")
    assert "Content-Type" not in again.headers
    for name in ("ETag", "Cache-Control", "Vary"):
        assert again.headers[name] == first.headers[name]
    assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_each_coding_has_a_tag_of_its_own(api, database, path):
    store(database, key("ver_1"), content=BIG)
    for number in range(9):
        store(database, key("ver_1"), content={"number": number} | BIG)
    plain = api.get(path)
    packed = api.get(path, headers={"Accept-Encoding": "gzip"})

    def asked(known, accepted):
        headers = {"If-None-Match": known.headers["ETag"], "Accept-Encoding": accepted}
        return api.get(path, headers=headers)

    assert gzip.decompress(packed.data) == plain.data
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert asked(packed, "gzip").status_code == 304
    assert asked(packed, "gzip").headers["ETag"] == packed.headers["ETag"]
    assert asked(plain, "gzip").status_code == 304
    # It may have lost what could unpack it.
    assert asked(packed, "identity").status_code == 200


def test_every_change_makes_another_tag(api, database):
    store(database, key("ver_1"), reading(PENDING), {"number": 1})
    first, old = tag(api), tag(api, f"{ONE}?version=1")
    history = tag(api, f"{ONE}/versions")
    store(database, key("ver_1"), reading(PENDING), {"number": 2})
    second = tag(api)

    assert first != second
    assert tag(api, f"{ONE}/versions") != history
    # It has lost its reference, which only the current one knows.
    assert tag(api, f"{ONE}?version=1") != old
    old = tag(api, f"{ONE}?version=1")
    store(database, key("ver_1"), reading(ERASED, checks=()), {"redacted": True})
    assert tag(api, f"{ONE}?version=1") != old, "it was erased"


def test_another_result_that_says_the_same_has_another_tag(api, database):
    store(database, key("ver_1"), content={"a": 1})
    store(database, key("ver_2"), content={"a": 1})

    assert tag(api) != tag(api, ONE.replace("ver_1", "ver_2"))


def test_scopes_are_part_of_the_tag(api):
    class Caller:
        def __init__(self, *scopes):
            self.scopes = frozenset(scopes)

    def made(caller):
        with api.application.test_request_context():
            g.caller = caller
            return caching.tag("same")

    assert made(Caller("results:read")) != made(Caller("results:read", "results:pii"))
    assert made(Caller("a", "b")) == made(Caller("b", "a"))


def test_what_is_not_for_everybody_is_kept_by_its_owner_only(api, database):
    store(database, key("ver_1"))

    for path in (ONE, f"{ONE}/versions"):
        assert api.get(path).headers["Cache-Control"] == "private, no-cache"
        assert "Authorization" in api.get(path).headers["Vary"]
    assert api.get("/api/v1/openapi.json").headers["Cache-Control"] == "public, no-cache"
    for path in ("/api/v1/results", "/api/v1/events", f"{ONE}?version=9", ONE + "x"):
        assert api.get(path).headers["Cache-Control"] == "no-store"
        assert "ETag" not in api.get(path).headers


def test_without_a_token_no_tag_is_good(api, database):
    store(database, key("ver_1"))
    known = tag(api)

    answer = api.get(ONE, headers={"If-None-Match": known, "Authorization": "Bearer other"})

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("gzip, deflate, br, zstd", True),
        ("gzip;q=0.001", True),
        ("*", True),
        ("identity;q=0.5, gzip;q=1.0", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=0.5, identity", False),
        ("br", False),
        ("", False),
        ("identity", False),
        (";q=", False),
        ("gzip;q=nonsense", False),
    ],
)
def test_gzip_is_for_those_who_want_it(api, database, accepted, packed):
    store(database, key("ver_1"), content=BIG)

    answer = api.get(ONE, headers={"Accept-Encoding": accepted})

    assert answer.status_code == 200
    assert answer.headers.get("Content-Encoding") == ("gzip" if packed else None)
    body = gzip.decompress(answer.data) if packed else answer.data
    assert json.loads(body)["document"] == BIG
    assert answer.content_length == len(answer.data)


def test_what_is_short_is_not_compressed_unless_nothing_else_is_taken(api):
    for accepted, packed in (("gzip", None), ("gzip, identity;q=0", "gzip"), ("gzip, *;q=0", "gzip")):
        answer = api.get("/api/v1/results", headers={"Accept-Encoding": accepted})
        assert answer.headers.get("Content-Encoding") == packed


def test_a_problem_is_never_compressed(api):
    """It quotes the request, beside nothing that is secret today."""
    long = f"/api/v1/{'x' * 2 * coding.SHORTEST}"

    answer = api.get(long, headers={"Accept-Encoding": "gzip"})

    assert (answer.status_code, answer.headers.get("Content-Encoding")) == (404, None)
    assert (
        "Content-Encoding" not in api.get(f"/api/v1/results?{'x' * 4000}=", headers={"Accept-Encoding": "gzip"}).headers
    )


def test_a_head_says_what_a_get_would(api, database):
    store(database, key("ver_1"), content=BIG)
    for accepted in ("gzip", "identity"):
        get, head = (api.open(ONE, method=name, headers={"Accept-Encoding": accepted}) for name in ("GET", "HEAD"))
        assert head.data == b""
        for name in ("ETag", "Content-Length", "Content-Type", "Vary", "Cache-Control"):
            assert head.headers[name] == get.headers[name]
        assert head.headers.get("Content-Encoding") == get.headers.get("Content-Encoding")


def test_a_decision_that_is_reversed_is_never_taken_for_the_old_one(api, database):
    store(database, key("ver_1"))
    known = tag(api)
    store(database, key("ver_1"), reading(REJECTED))

    answer = api.get(ONE, headers={"If-None-Match": known})

    assert (answer.status_code, answer.get_json()["outcome"]) == (200, "rejected")


@pytest.mark.parametrize("path", ["openapi.json", "docs/swagger-ui.css", "docs/swagger-ui-bundle.js"])
def test_what_is_the_same_for_everybody_is_compressed_and_named_once(detached, monkeypatch, path):
    """Nobody needs a token for it, so that it must cost next to nothing."""
    made: list[str] = []

    def counted(name, real):
        def make(body):
            made.append(name)
            return real(body)

        return make

    monkeypatch.setattr(coding, "compressed", counted("compressed", coding.compressed))
    monkeypatch.setattr(caching, "digest", counted("digest", caching.digest))

    answers = [detached.get(f"/api/v1/{path}", headers={"Accept-Encoding": "gzip"}) for _ in range(3)]

    assert {answer.headers["Content-Encoding"] for answer in answers} == {"gzip"}
    assert len({answer.data for answer in answers}) == len({answer.headers["ETag"] for answer in answers}) == 1
    assert sorted(made) == ["compressed", "digest"]


def test_a_release_that_hides_more_makes_another_tag(runtime, database, monkeypatch):
    """Else a caller would keep what it must not see any more, and be told that nothing has changed."""
    store(database, key("ver_1"), reading(checks=()), content={"data": {"id": "ver_1"}})
    stranger = client_with(runtime, Scope.RESULTS_READ)
    before = tag(stranger)
    assert tag(stranger) == before

    monkeypatch.setattr(results, "mask", lambda *_: MASK)

    assert tag(stranger) != before
