"""A caller who may not see personal data gets verdicts, scores and times, and nothing that says who somebody is."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from flask import g

from tests.support.results import KIND, LIVENESS, SOURCE, key, reading, store
from worker.clock import utc_now
from worker.domain.documents import MASK
from worker.domain.states import CheckOutcome

ONE = f"/api/v1/results/{SOURCE}/{KIND}/ver_1"
CANARY = "Zacharias Quilfeather"
DOCUMENT: dict[str, object] = {
    "data": {
        "type": KIND,
        "id": "ver_1",
        "attributes": {
            "status": "passed",
            "name-first": CANARY,
            "birthdate": "1990-01-01",
            "fields": {"a": {"value": CANARY}},
            "checks": [{"name": "liveness", "status": "passed", "reasons": ["clear"], "metadata": {"who": CANARY}}],
        },
    }
}
CHECK = replace(LIVENESS, details={"requirement": "required", "metadata": {"who": CANARY}}, reasons=("clear", CANARY))


@dataclass
class Caller:
    """Somebody whose token has these scopes."""

    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        return scope in self.scopes


@pytest.fixture
def seen_by(api):
    """Lets the client be somebody with these scopes."""

    def become(*scopes):
        def set_caller():
            g.caller = Caller(frozenset(scopes))

        # After the API's own, which knows no scopes of this token.
        api.application.before_request_funcs.setdefault("api", []).append(set_caller)
        return api

    return become


@pytest.fixture
def stored(database):
    store(database, key("ver_1"), reading(reference=CANARY, checks=(CHECK,)), content=DOCUMENT)


@pytest.mark.usefixtures("stored")
def test_without_the_scope_nobody_is_named(seen_by):
    api = seen_by("results:read")

    for path in ("/api/v1/results", ONE, f"{ONE}?version=1", f"{ONE}?as_of=2100-01-01", f"{ONE}/versions"):
        answer = api.get(path)
        assert answer.status_code == 200
        assert CANARY not in answer.text
        assert "1990-01-01" not in answer.text


@pytest.mark.usefixtures("stored")
def test_what_is_not_personal_is_still_there(seen_by):
    found = seen_by("results:read").get(ONE).get_json()

    assert (found["reference"], found["provider_status"], found["score"], found["stage"]) == (
        MASK, "passed", 0.98, "decided",
    )  # fmt: skip
    [check] = found["checks"]
    assert (check["name"], check["outcome"], check["provider_outcome"], check["score"]) == (
        "liveness", CheckOutcome.PASSED, "passed", 0.98,
    )  # fmt: skip
    assert check["reasons"] == ["clear", MASK]
    assert check["details"] == {"requirement": "required", "metadata": MASK}
    attributes = found["document"]["data"]["attributes"]
    assert attributes == {
        "status": "passed", "name-first": MASK, "birthdate": MASK, "fields": MASK,
        "checks": [{"name": "liveness", "status": "passed", "reasons": ["clear"], "metadata": {"who": MASK}}],
    }  # fmt: skip


@pytest.mark.usefixtures("stored")
def test_with_the_scope_everything_is_as_the_provider_said(seen_by):
    api = seen_by("results:read", "results:pii")

    found = api.get(ONE).get_json()
    assert found["document"] == DOCUMENT
    assert (found["reference"], found["checks"][0]["reasons"]) == (CANARY, ["clear", CANARY])
    assert api.get("/api/v1/results", query_string={"reference": CANARY}).get_json()["items"][0]["reference"] == CANARY


@pytest.mark.usefixtures("stored")
def test_no_guess_of_a_document_can_be_confirmed(seen_by):
    [mine] = seen_by("results:read", "results:pii").get(f"{ONE}/versions").get_json()["items"]
    [shown] = seen_by("results:read").get(f"{ONE}/versions").get_json()["items"]

    assert len(mine["document_sha256"]) == 64
    assert shown == {**mine, "document_sha256": MASK}


@pytest.mark.usefixtures("stored")
def test_nobody_can_try_references_who_may_not_see_them(seen_by):
    answer = seen_by("results:read").get("/api/v1/results", query_string={"reference": CANARY})

    assert (answer.status_code, CANARY in answer.text) == (403, False)


def test_a_provider_that_is_gone_declares_nothing(seen_by, runtime, database):
    store(database, key("ver_1"), reading(checks=(CHECK,), reference=None), content=DOCUMENT)
    runtime.providers = {}

    found = seen_by().get(ONE).get_json()

    assert (found["document"], found["reference"]) == (MASK, None)
    [check] = found["checks"]
    assert (check["reasons"], check["provider_outcome"]) == ([MASK, MASK], MASK)
    assert check["details"] == {"requirement": MASK, "metadata": MASK}


def test_references_of_expected_results_are_hidden(seen_by, api):
    deadline = (utc_now() + timedelta(hours=1)).isoformat()
    wanted = {"source": SOURCE, "kind": KIND, "reference": CANARY, "deadline": deadline}
    made = api.post("/api/v1/expectations", json=wanted)
    assert (made.status_code, made.get_json()["reference"]) == (201, CANARY)

    seen_by("results:read")
    for path in ("/api/v1/expectations", made.headers["Location"]):
        answer = api.get(path)
        assert MASK in answer.text
        assert CANARY not in answer.text
