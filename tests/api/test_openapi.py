"""`/api/v1/openapi.json`: the document says what is there, all of it, and nothing else."""

import re
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest
from flask import Blueprint, Flask
from pydantic import BaseModel

from tests.support.results import settings
from web.api.operation import Operation, Routes
from web.api.wire import Reply
from web.app import create_app
from worker.domain.scopes import Scope
from worker.runtime import Runtime

PREFIX = "/api/v1"
EVERYWHERE = {"400", "401", "403", "429", "503"}
SCOPES = {scope.value for scope in Scope}
ROOT = Path(__file__).resolve().parents[2]


def make():
    return create_app(Runtime(settings("sqlite:////nonexistent/verisink.db")))


@pytest.fixture(scope="module")
def app():
    return make()


@pytest.fixture(scope="module")
def document(app):
    answer = app.test_client().get(f"{PREFIX}/openapi.json")
    assert answer.content_type == "application/json"
    return answer.get_json()


def operations(document):
    return [(method, path, operation) for path, item in document["paths"].items() for method, operation in item.items()]


def test_every_route_is_described_and_every_described_one_is_there(app, document):
    served = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(PREFIX) and rule.endpoint.startswith("api.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    described = {(method, document["servers"][0]["url"] + path) for method, path, _ in operations(document)}

    assert described == served
    others = {rule.rule for rule in app.url_map.iter_rules() if rule.rule.startswith(PREFIX)} - {
        rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("api.")
    }
    assert others == {f"{PREFIX}/openapi.json", f"{PREFIX}/docs", f"{PREFIX}/docs/<name>"}


def test_every_operation_has_a_name_a_scope_and_its_problems(document):
    assert document["openapi"].startswith("3.1.")
    found = operations(document)
    assert len({operation["operationId"] for *_, operation in found}) == len(found)
    for _, path, operation in found:
        [needed] = operation["security"]
        assert set(needed["token"]) < SCOPES
        assert operation["summary"]
        assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}
        assert set(operation["responses"]) >= EVERYWHERE
        for status, answer in operation["responses"].items():
            kind = "application/problem+json" if int(status) >= 400 else "application/json"
            assert set(answer.get("content", {})) == (set() if status == "304" else {kind})
        assert re.findall(r"{(\w+)}", path) == [
            item["name"] for item in operation.get("parameters", []) if item["in"] == "path"
        ]


def references(node):
    if isinstance(node, dict):
        yield from [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from references(part)


def test_every_schema_is_used_and_every_used_one_is_there(document):
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

    assert set(references(document)) == names
    # Two models of one name would get longer ones, of which nobody could say which is which.
    assert not [name for name in names if "__" in name]


def test_numbers_are_exact(document):
    [after] = [item for item in document["paths"]["/events"]["get"]["parameters"] if item["name"] == "after"]

    assert after["schema"]["maximum"] == 2**63 - 1


def test_a_process_that_is_not_asked_does_not_load_what_makes_the_document():
    names = ("openapi_pydantic", "web.api.openapi", "flask_swagger_ui")
    program = f"import sys\nfrom tests.api.test_openapi import make\nmake()\nprint({{*sys.modules}} & {{*{names}}})"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert run.stdout == "set()\n"


class Yes(BaseModel):
    yes: bool = True


class No(BaseModel):
    no: bool = True


@pytest.mark.parametrize(
    ("reply", "word"), [(Reply(No()), "200 with No"), (Reply(Yes(), HTTPStatus.CREATED), "201 with Yes")]
)
def test_an_answer_that_is_not_declared_is_a_bug(reply, word):
    blueprint = Blueprint("small", __name__)
    declared = Operation(
        method="GET", path="/small", name="small", summary="Small", scope=Scope.OPS_READ, answers={HTTPStatus.OK: Yes}
    )
    Routes(blueprint).add(declared, lambda: reply)
    app = Flask("small")
    app.testing = True
    app.register_blueprint(blueprint)

    with pytest.raises(TypeError, match=word):
        app.test_client().get("/small")
