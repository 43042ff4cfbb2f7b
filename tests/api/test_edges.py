"""Who may ask, and what an answer says when something is wrong."""

import pytest

from tests.api.problems import assert_problem
from tests.support.results import SOURCE, TOKEN, settings
from web.app import create_app
from worker.reports import results
from worker.runtime import Runtime
from worker.settings import ApiToken, token_digest

PATHS = [
    ("GET", "/api/v1/results"),
    ("GET", f"/api/v1/results/{SOURCE}/inquiry/inq_1"),
    ("GET", f"/api/v1/results/{SOURCE}/inquiry/inq_1/versions"),
    ("GET", "/api/v1/events"),
    ("POST", "/api/v1/retrievals"),
    ("GET", "/api/v1/sources"),
    ("POST", f"/api/v1/sources/{SOURCE}/release"),
    ("GET", "/api/v1/expectations"),
    ("GET", "/api/v1/expectations/00000000-0000-0000-0000-000000000000"),
    ("DELETE", "/api/v1/expectations/00000000-0000-0000-0000-000000000000"),
]


def client(**changes):
    """A client of an API whose database nobody needs."""
    return create_app(Runtime(settings("sqlite:////nonexistent/verisink.db", **changes))).test_client()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_a_token_nothing_is_told(method, path):
    answer = client().open(path, method=method)

    assert_problem(answer, 401, words="Authorization: Bearer")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer tokén",
     f"Bearer {token_digest(TOKEN)}", f"Bearer x {TOKEN}"],
)  # fmt: skip
def test_a_wrong_token_is_refused(header):
    assert_problem(client().get("/api/v1/results", headers={"Authorization": header}), 401)


def test_without_configured_tokens_the_answer_says_how_to_configure_one():
    answer = client(api_tokens=()).get("/api/v1/results", headers=bearer(TOKEN))

    assert_problem(answer, 401, words="VERISINK_API_TOKENS")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("token", ["one", "two", "drei-ß"])
def test_any_of_the_tokens_is_good(scheme, token):
    tokens = tuple(ApiToken(name=name, sha256=token_digest(name)) for name in ("one", "two", "drei-ß"))
    header = f"{scheme} {token}".encode().decode("latin-1")

    answer = client(api_tokens=tokens).get("/api/v1/results?limit=0", environ_base={"HTTP_AUTHORIZATION": header})

    assert_problem(answer, 400)


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1", "/api/v1/", "/api/v2/results", "/api/v1/results/x"])
def test_unknown_paths_are_problems_too(api, path):
    assert_problem(api.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("POST", "/api/v1/results", "GET"), ("GET", "/api/v1/retrievals", "POST")]
)
def test_wrong_methods_are_problems_too(api, method, path, allowed):
    answer = api.open(path, method=method)

    assert_problem(answer, 405)
    assert allowed in answer.headers["Allow"]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nonexistent/verisink.db",
        pytest.param("postgresql+psycopg://127.0.0.1:1/verisink", marks=pytest.mark.postgres),
    ],
)
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_database_that_is_away_is_our_trouble_and_may_pass(url, method, path):
    app = create_app(Runtime(settings(url)))
    body = {"source": SOURCE, "kind": "inquiry", "external_id": "inq_1"} if path.endswith("retrievals") else None

    answer = app.test_client().open(path, method=method, json=body, headers=bearer(TOKEN))

    assert_problem(answer, 503, words="database")
    assert int(answer.headers["Retry-After"]) > 0


def test_bad_input_is_refused_without_asking_the_database():
    assert_problem(client().get("/api/v1/results?limit=abc", headers=bearer(TOKEN)), 400)


def test_no_answer_is_kept_by_caches(api):
    assert api.get("/api/v1/results").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "LINK"])
@pytest.mark.parametrize("path", ["/api/v1/results", "/api/v1/sources", "/api/v1/openapi.json", "/api/v1/docs"])
def test_other_methods_are_problems(api, method, path):
    answer = api.open(path, method=method)

    assert_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/api/v1/results", {"GET", "HEAD", "OPTIONS"}), ("/api/v1/retrievals", {"POST", "OPTIONS"}),
     ("/api/v1/expectations", {"GET", "HEAD", "POST", "OPTIONS"}), ("/api/v1/docs", {"GET", "HEAD", "OPTIONS"})],
)  # fmt: skip
def test_options_say_what_may_be_done(api, path, allowed):
    answer = api.options(path)

    assert (answer.status_code, answer.data) == (204, b"")
    assert set(answer.headers["Allow"].split(", ")) == allowed
    # A page of somebody else's may not send requests with a token from a browser.
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/retrievals"])
def test_a_head_of_a_problem_has_its_headers(api, path):
    answer = api.head(path)

    assert answer.status_code in (404, 405)
    assert (answer.content_type, answer.data) == ("application/problem+json", b"")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/v1/sources?x=1"), ("GET", "/api/v1/lanes?limit=1"),
     ("POST", f"/api/v1/sources/{SOURCE}/release?force=1"),
     ("DELETE", "/api/v1/expectations/00000000-0000-0000-0000-000000000000?really=")],
)  # fmt: skip
def test_what_nobody_reads_is_refused_everywhere(detached, method, path):
    assert_problem(detached.open(path, method=method), 400, words="is not known here")


def test_a_bug_of_ours_is_a_problem_too(runtime, monkeypatch):
    monkeypatch.setattr(results, "page", lambda *_, **__: 1 / 0)
    app = create_app(runtime)

    answer = app.test_client().get("/api/v1/results", headers=bearer(TOKEN))

    problem = assert_problem(answer, 503, words="internal trouble")
    assert "division" not in str(problem)
