"""Tokens of the database at the API: who is let in, what is limited, and what a stranger can learn or break."""

import secrets
from datetime import timedelta

import pytest
from flask import g

from tests.api.problems import assert_problem
from tests.support.results import SOURCE, TOKEN, settings
from web.app import create_app
from worker.domain.scopes import MARK, Scope
from worker.pipeline import api_tokens
from worker.pipeline.api_limits import WRONG_PER_MINUTE
from worker.pipeline.api_tokens import KNOWN_SECONDS, Order
from worker.runtime import Runtime
from worker.settings import ApiToken, token_digest
from worker.store.query import records
from worker.store.tables import audit_entries

RESULTS = "/api/v1/results"


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def invented():
    return MARK + secrets.token_urlsafe(32)


def make(runtime, *scopes, name="reader", lifetime=None):
    order = Order(name, frozenset(scopes or {Scope.RESULTS_READ}), "cli:ada", lifetime)
    with runtime.database.write() as session:
        return api_tokens.create(session, order)


@pytest.fixture
def limited(database_url):
    """Makes clients of an API with a limit of requests."""
    made = []

    def build(most, **changes):
        runtime = Runtime(settings(database_url, api_rate_limit_per_minute=most, **changes))
        made.append(runtime)
        return runtime, create_app(runtime).test_client()

    yield build
    for runtime in made:
        runtime.tokens.close()
        runtime.database.dispose()


def test_a_token_that_was_made_is_good_until_it_is_revoked(runtime):
    token = make(runtime)
    client = create_app(runtime).test_client()
    assert client.get(RESULTS, headers=bearer(token)).status_code == 200

    with runtime.database.write() as session:
        api_tokens.revoke(session, "reader", actor="cli:ada")
    runtime.tokens._read_at -= KNOWN_SECONDS

    assert_problem(client.get(RESULTS, headers=bearer(token)), 401, words="not known")


def test_a_token_that_has_expired_is_not_known(runtime):
    client = create_app(runtime).test_client()
    token = make(runtime, lifetime=timedelta(microseconds=1))

    assert_problem(client.get(RESULTS, headers=bearer(token)), 401, words="not known")


def test_its_name_is_the_actor(runtime, database):
    token = make(runtime, Scope.OPS_WRITE, name="on-call")
    client = create_app(runtime).test_client()

    client.post(f"/api/v1/sources/{SOURCE}/hold", json={"reason": "why"}, headers=bearer(token))

    with database.read() as session:
        entries = records(session, audit_entries.select().where(audit_entries.c.action == "hold"))
    assert [entry["actor"] for entry in entries] == ["api:on-call"]


def test_the_caller_is_known_to_the_views(runtime):
    token = make(runtime, Scope.RESULTS_READ)
    app = create_app(runtime)
    with app.test_client() as client:
        client.get(RESULTS, headers=bearer(token))
        assert (g.caller.name, g.caller.scopes) == ("reader", {Scope.RESULTS_READ})
        assert g.caller.may(Scope.RESULTS_PII) is False
        client.get(RESULTS, headers=bearer(TOKEN))
        assert (g.caller.name, g.caller.may(Scope.RESULTS_PII)) == ("tests", True)


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "bearer", "Authorization"])
def test_a_token_in_the_url_opens_nothing(runtime, name):
    """URLs end in logs, histories and referrers."""
    client = create_app(runtime).test_client()

    assert_problem(client.get(f"{RESULTS}?{name}={TOKEN}"), 401)
    assert_problem(client.get(f"{RESULTS}?{name}={TOKEN}", headers={"Cookie": f"token={TOKEN}"}), 401)


@pytest.mark.parametrize(
    "token",
    [
        MARK, MARK + "x" * 42, MARK + "x" * 44, MARK + "é" * 43, MARK + "x" * 42 + "\x00", "x" * 15_000,
        MARK + "x" * 43 + ", Bearer " + TOKEN, "\xff\xfe", "'; DROP TABLE api_tokens; --", token_digest(TOKEN),
    ],
)  # fmt: skip
def test_what_cannot_be_a_token_is_never_looked_for(token):
    """There is no database here to look in; and nothing of what was sent comes back."""
    client = create_app(Runtime(settings("sqlite:////nonexistent/verisink.db"))).test_client()

    answer = client.get(RESULTS, environ_base={"HTTP_AUTHORIZATION": f"Bearer {token}"})

    assert_problem(answer, 401, words="not known")
    assert token not in answer.text


def test_the_stored_digest_is_no_token(runtime):
    token = make(runtime)
    client = create_app(runtime).test_client()

    assert_problem(client.get(RESULTS, headers=bearer(token_digest(token))), 401)
    assert_problem(client.get(RESULTS, headers=bearer(MARK + token_digest(token)[:43])), 401)


def test_without_its_database_tokens_of_the_settings_are_known_and_others_may_come_again():
    client = create_app(Runtime(settings("sqlite:////nonexistent/verisink.db"))).test_client()

    assert_problem(client.get(RESULTS + "?limit=0", headers=bearer(TOKEN)), 400)
    answer = client.get(RESULTS, headers=bearer(invented()))
    assert_problem(answer, 503, words="database")
    assert int(answer.headers["Retry-After"]) > 0


def test_every_answer_says_how_many_are_left(limited):
    _, client = limited(3)
    answers = [client.get(path, headers=bearer(TOKEN)) for path in (RESULTS, RESULTS + "?limit=0")]

    assert [answer.status_code for answer in answers] == [200, 400]
    assert [answer.headers["RateLimit-Policy"] for answer in answers] == ['"token";q=3;w=60'] * 2
    assert answers[0].headers["RateLimit"] == '"token";r=2;t=60'
    assert answers[1].headers["RateLimit"].startswith('"token";r=1;t=')


def test_beyond_its_limit_a_token_waits_and_the_others_do_not(limited):
    runtime, client = limited(2)
    token = make(runtime)
    for _ in range(2):
        assert client.get(RESULTS, headers=bearer(token)).status_code == 200

    answer = client.get(RESULTS, headers=bearer(token))

    assert_problem(answer, 429, words="2 times a minute")
    assert 50 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["RateLimit"] == f'"token";r=0;t={answer.headers["Retry-After"]}'
    assert client.get(RESULTS, headers=bearer(TOKEN)).status_code == 200


def test_what_is_forbidden_counts_too(limited):
    runtime, client = limited(1)
    token = make(runtime, Scope.OPS_READ)

    assert [client.get(RESULTS, headers=bearer(token)).status_code for _ in range(2)] == [403, 429]


def test_without_a_limit_nothing_is_said_of_one(limited):
    _, client = limited(0)

    assert "RateLimit" not in client.get(RESULTS, headers=bearer(TOKEN)).headers


def test_guessing_is_limited_and_locks_nobody_out(limited, capsys):
    runtime, client = limited(0)
    token = make(runtime)

    answers = [client.get(RESULTS, headers=bearer(invented())).status_code for _ in range(WRONG_PER_MINUTE)]
    assert set(answers) == {401}
    wrong = (invented(), "wrong-token", TOKEN + "x")
    for text in wrong:
        answer = client.get(RESULTS, headers=bearer(text))
        assert_problem(answer, 429, words="wrong tokens")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert "RateLimit" not in answer.headers

    runtime.tokens._read_at = float("-inf")
    assert client.get(RESULTS, headers=bearer(token)).status_code == 200
    assert client.get(RESULTS, headers=bearer(TOKEN)).status_code == 200
    # Who sends no token guesses nothing.
    assert_problem(client.get(RESULTS), 401)
    said = capsys.readouterr().out
    assert said.count("api_tokens_guessed") == 1
    for secret in (token, token_digest(token), TOKEN, *wrong):
        assert secret not in said


def test_tokens_of_one_name_share_a_limit(limited):
    """While one is replaced by the other; only the settings can have two of a name."""
    two = tuple(ApiToken(name="ci", sha256=token_digest(text)) for text in ("old", "new"))
    _, client = limited(2, api_tokens=two)

    assert [client.get(RESULTS, headers=bearer(text)).status_code for text in ("old", "new", "old")] == [200, 200, 429]
