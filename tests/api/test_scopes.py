"""What each token may do: every route says which scope it needs, and nothing is open by being forgotten."""

import pytest
from flask import Blueprint

from tests.api.problems import assert_problem
from tests.support.results import SOURCE, TOKEN, settings
from web.api import auth, problems
from web.app import create_app
from worker.domain.scopes import ALL_SCOPES, Scope
from worker.pipeline import api_tokens
from worker.pipeline.api_tokens import Order
from worker.runtime import Runtime

OPEN = {"description.openapi", "description.docs", "description.asset"}
"""The API's description, which holds no data, needs no token."""

REPLAY = "/api/v1/replays/00000000-0000-0000-0000-000000000000"
EXPECTATION = "/api/v1/expectations/00000000-0000-0000-0000-000000000000"
NEEDS = [
    ("GET", "/api/v1/results", Scope.RESULTS_READ),
    ("GET", f"/api/v1/results/{SOURCE}/inquiry/inq_1", Scope.RESULTS_READ),
    ("GET", f"/api/v1/results/{SOURCE}/inquiry/inq_1/versions", Scope.RESULTS_READ),
    ("GET", "/api/v1/events", Scope.RESULTS_READ),
    ("POST", "/api/v1/retrievals", Scope.RETRIEVALS_WRITE),
    ("POST", "/api/v1/expectations", Scope.RETRIEVALS_WRITE),
    ("DELETE", EXPECTATION, Scope.RETRIEVALS_WRITE),
    ("GET", "/api/v1/expectations", Scope.OPS_READ),
    ("GET", EXPECTATION, Scope.OPS_READ),
    ("GET", "/api/v1/sources", Scope.OPS_READ),
    ("POST", f"/api/v1/sources/{SOURCE}/hold", Scope.OPS_WRITE),
    ("POST", f"/api/v1/sources/{SOURCE}/release", Scope.OPS_WRITE),
    ("GET", "/api/v1/sinks", Scope.OPS_READ),
    ("POST", "/api/v1/sinks/log/hold", Scope.OPS_WRITE),
    ("POST", "/api/v1/sinks/log/release", Scope.OPS_WRITE),
    ("GET", "/api/v1/lanes", Scope.OPS_READ),
    ("GET", "/api/v1/replays", Scope.OPS_READ),
    ("GET", REPLAY, Scope.OPS_READ),
    ("GET", REPLAY + "/items", Scope.OPS_READ),
    ("POST", "/api/v1/replays", Scope.REPLAYS_WRITE),
    ("POST", REPLAY + "/pause", Scope.REPLAYS_WRITE),
    ("POST", REPLAY + "/resume", Scope.REPLAYS_WRITE),
    ("POST", REPLAY + "/cancel", Scope.REPLAYS_WRITE),
]


@pytest.fixture(scope="module")
def app():
    """An application whose routes are looked at; nobody asks its database."""
    return create_app(Runtime(settings("sqlite:////nonexistent/verisink.db")))


def api_rules(app):
    """All but the description, which holds no data."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/")]
    return [rule for rule in rules if not rule.endpoint.startswith("description.")]


def needed(app):
    """What the gate was told."""
    [enter] = app.before_request_funcs["api"]
    return enter.__self__._needed


def client_with(runtime, *granted):
    """A client with a token of these scopes."""
    with runtime.database.write() as session:
        token = api_tokens.create(session, Order("scoped", frozenset(granted), "cli:ada"))
    client = create_app(runtime).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


def declared(app):
    """The scope of each endpoint, as the API's description says it."""
    document = app.test_client().get("/api/v1/openapi.json").get_json()
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    return {f"api.{item['operationId']}": Scope(item["security"][0]["token"][0]) for item in operations}


def test_every_route_says_what_it_needs_and_nothing_else_is_listed(app):
    endpoints = {rule.endpoint for rule in api_rules(app)}

    assert endpoints - OPEN == declared(app).keys()


def test_every_route_is_behind_the_gate(app):
    """A route that another blueprint put below /api would be asked by anybody."""
    for rule in api_rules(app):
        if rule.endpoint in OPEN:
            continue
        path = rule.rule.replace("<replay_id>", REPLAY.rpartition("/")[2])
        for method in (rule.methods or set()) - {"OPTIONS"}:
            assert app.test_client().open(path, method=method).status_code == 401, rule


def test_a_route_that_was_forgotten_is_refused_to_everybody(runtime):
    app = create_app(runtime)
    forgotten = Blueprint("forgotten", __name__)
    auth.register(forgotten, runtime, {})
    problems.register(forgotten)
    forgotten.get("/forgotten")(lambda: "secret")
    app.register_blueprint(forgotten)

    answer = app.test_client().get("/forgotten", headers={"Authorization": f"Bearer {TOKEN}"})

    assert_problem(answer, 403, words="no scope is declared")


def test_a_token_opens_what_its_scopes_say_and_nothing_else(runtime, database):
    """Each route with all scopes but its own, and with its own alone."""
    for needed in set(dict.fromkeys(scope for _, _, scope in NEEDS)):
        without = client_with(runtime, *(ALL_SCOPES - {needed}))
        for method, path, scope in NEEDS:
            answer = without.open(path, method=method)
            if scope is needed:
                assert_problem(answer, 403, words=f"a token with the scope {scope}")
                assert f'error="insufficient_scope", scope="{scope}"' in answer.headers["WWW-Authenticate"]
            else:
                assert answer.status_code not in (401, 403, 500), (method, path)
        with database.write() as session:
            api_tokens.revoke(session, "scoped", actor="cli:ada")
        # The next token has the same name, and what is known of the last one is forgotten.
        runtime.tokens._read_at = float("-inf")


def test_all_routes_are_in_the_table_above(app):
    with app.test_request_context():
        adapter = app.url_map.bind("localhost")
        matched = {(adapter.match(path, method)[0], scope) for method, path, scope in NEEDS}

    assert matched == set(declared(app).items())


def test_personal_data_alone_reads_nothing(runtime):
    client = client_with(runtime, Scope.RESULTS_PII)

    assert {client.open(path, method=method).status_code for method, path, _ in NEEDS} == {403}


def test_tokens_of_the_settings_may_do_everything(api):
    answers = {api.open(path, method=method).status_code for method, path, _ in NEEDS}
    assert answers.isdisjoint({401, 403, 500, 503})
