"""The OpenAPI 3.1 document of the API, made of the declarations by which its requests are checked and answered.

Nothing imports this module by its name in code: it is loaded when somebody first asks for the document.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import TypeAlias

from openapi_pydantic.v3.v3_1 import (
    Components,
    Header,
    Info,
    MediaType,
    OpenAPI,
    Parameter,
    PathItem,
    Reference,
    RequestBody,
    Response,
    Schema,
    SecurityScheme,
    Server,
    Tag,
)
from openapi_pydantic.v3.v3_1 import Operation as Described
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from web.api.operation import Operation
from web.api.problems import Problem
from worker.reports.build import json_text

JsonSchema: TypeAlias = dict[str, object]
Model: TypeAlias = type[BaseModel]
Said: TypeAlias = tuple[str, str, JsonSchema]

REF = "#/components/schemas/"
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
SECURITY = "token"

ABOUT = """Results, their history, the event log, and what operators do, as JSON.

Times are ISO 8601 in UTC. Every error is an RFC 9457 problem document. Fields and further values of `stage`, `outcome`,
`type` and the like may be added at any time, so ignore what you do not know. To follow changes, poll `/events`; lists
have cursors, which are opaque. An answer with an `ETag` need not be sent again: ask with `If-None-Match`.
"""

TAGS = {
    "results": "What is known of each verification, now and at any time before.",
    "events": "What happened, in one order that never changes.",
    "retrievals": "Asking providers now.",
    "expectations": "Results that have to be there by a time.",
    "replays": "Doing it again: from the provider, from what is stored, or from the webhooks.",
    "lanes": "Parked work by how it stopped.",
    "sinks": "Where events go.",
    "sources": "The accounts at the providers.",
}
"""By the first part of a path."""

REASONS = {
    HTTPStatus.BAD_REQUEST: "Something in the request is wrong; `errors` says what and where",
    HTTPStatus.UNAUTHORIZED: "No token, or one that is not known here",
    HTTPStatus.FORBIDDEN: "The token lacks a scope",
    HTTPStatus.NOT_FOUND: "There is nothing of this name",
    HTTPStatus.CONFLICT: "It is over, and cannot be changed any more",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too long",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not announced as JSON",
    HTTPStatus.TOO_MANY_REQUESTS: "The token has asked too often",
    HTTPStatus.SERVICE_UNAVAILABLE: "Our trouble, such as a database that is away; the same request may succeed soon",
}

GOOD = {
    HTTPStatus.OK: "Here it is",
    HTTPStatus.CREATED: "It was made",
    HTTPStatus.ACCEPTED: "It was taken on, and is done from now on",
}

RETRY_AFTER: Said = ("Retry-After", "Seconds to wait", {"type": "integer"})
HEADERS: Mapping[HTTPStatus, Said] = {
    HTTPStatus.CREATED: ("Location", "Where to read it", {"type": "string"}),
    HTTPStatus.ACCEPTED: ("Location", "Where to read it", {"type": "string"}),
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate", "What to send", {"type": "string"}),
    HTTPStatus.TOO_MANY_REQUESTS: RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: RETRY_AFTER,
}
ETAG: Said = ("ETag", "For If-None-Match", {"type": "string"})


def document(prefix: str, operations: Iterable[Operation]) -> bytes:
    """The OpenAPI document of these operations, whose paths are below `prefix`, as JSON."""
    declared = tuple(operations)
    schemas = _schemas(declared)
    paths: dict[str, PathItem] = {}
    for operation in declared:
        setattr(paths.setdefault(operation.path, PathItem()), operation.method.lower(), _described(operation))
    token = SecurityScheme(type="http", scheme="bearer", description="A token of this API")
    made = OpenAPI(
        openapi="3.1.1",
        info=Info(title="Verisink", version=version("verisink"), description=ABOUT),
        servers=[Server(url=prefix)],
        tags=[Tag(name=name, description=text) for name, text in TAGS.items()],
        paths=paths,
        components=Components(securitySchemes={SECURITY: token}),
    )
    whole = made.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    # The library takes every bound for a float, and would round the largest cursor; so schemas are put in as they are.
    whole["components"]["schemas"] = {name: schemas[name] for name in _shown(declared, schemas)}
    for operation in declared:
        described = whole["paths"][operation.path][operation.method.lower()]
        for parameter, schema in zip(described.get("parameters", ()), _fields(operation, schemas), strict=True):
            parameter["schema"] = schema
    return json_text(whole).encode("ascii")


class _Untitled(GenerateJsonSchema):
    """Schemas without a title for each field, which would say its name once more."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """Never."""
        return False


def _schemas(operations: Iterable[Operation]) -> dict[str, JsonSchema]:
    """The JSON Schema of every model, by its name: of what is asked as it is checked, of answers as they are made."""
    modes: dict[Model, JsonSchemaMode] = {Problem: "serialization"}
    for operation in operations:
        modes |= {model: "validation" for model in (operation.place, operation.query, operation.body) if model}
        modes |= dict.fromkeys(operation.answers.values(), "serialization")
    _, found = models_json_schema(list(modes.items()), ref_template=REF + "{model}", schema_generator=_Untitled)
    return dict(found["$defs"])


def _shown(operations: Iterable[Operation], schemas: Mapping[str, JsonSchema]) -> list[str]:
    """The names of all schemas but those whose fields stand in the document as parameters."""
    taken_apart = {model.__name__ for operation in operations for model in (operation.place, operation.query) if model}
    return sorted(set(schemas) - taken_apart)


def _described(operation: Operation) -> Described:
    good = {status: _answer(status, model, operation) for status, model in operation.answers.items()}
    if operation.kept:
        good[HTTPStatus.NOT_MODIFIED] = Response(
            description="You have it already: it is what `If-None-Match` names", headers=_headers([ETAG])
        )
    refused = {status: _refusal(status) for status in sorted(operation.problems)}
    return Described(
        operationId=operation.name,
        summary=operation.summary,
        description=f"Needs the scope `{operation.scope}`.",
        tags=[operation.path.split("/")[1]],
        parameters=_parameters(operation) or None,
        requestBody=_body(operation),
        responses={str(status.value): answer for status, answer in (good | refused).items()},
        security=[{SECURITY: [operation.scope]}],
    )


def _answer(status: HTTPStatus, model: Model, operation: Operation) -> Response:
    headers = [HEADERS[status]] if status in HEADERS else []
    return Response(
        description=GOOD[status],
        content={JSON: MediaType(schema=_reference(model))},
        headers=_headers([*headers, ETAG] if operation.kept else headers),
    )


def _refusal(status: HTTPStatus) -> Response:
    return Response(
        description=REASONS[status],
        content={PROBLEM_JSON: MediaType(schema=_reference(Problem))},
        headers=_headers([HEADERS[status]] if status in HEADERS else []),
    )


def _headers(said: Iterable[Said]) -> dict[str, Header | Reference] | None:
    found: dict[str, Header | Reference] = {
        name: Header(description=text, schema=Schema.model_validate(schema), required=True)
        for name, text, schema in said
    }
    return found or None


def _reference(model: Model) -> Reference:
    return Reference.model_validate({"$ref": REF + model.__name__})


def _body(operation: Operation) -> RequestBody | None:
    if operation.body is None:
        return None
    return RequestBody(content={JSON: MediaType(schema=_reference(operation.body))}, required=not operation.may_be_bare)


def _parameters(operation: Operation) -> list[Parameter | Reference]:
    """The parameters, whose schemas are in the order of `_fields`."""
    found = [{"in": "path", "name": name, "required": True} for name in _names(operation.place)]
    found += [{"in": "query", "name": name} for name in _names(operation.query)]
    if operation.kept:
        found.append({"in": "header", "name": "If-None-Match"})
    return [Parameter.model_validate(item) for item in found]


def _names(model: Model | None) -> Iterable[str]:
    return () if model is None else model.model_fields


def _fields(operation: Operation, schemas: Mapping[str, JsonSchema]) -> list[JsonSchema]:
    found: list[JsonSchema] = []
    for model in (operation.place, operation.query):
        properties = schemas[model.__name__].get("properties") if model is not None else None
        if isinstance(properties, dict):
            found += [_without_null(schema) for schema in properties.values()]
    return [*found, {"type": "string"}] if operation.kept else found


def _without_null(schema: JsonSchema) -> JsonSchema:
    """What may stand in a URL: a parameter is there or not, and is never null."""
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    choices = schema.get("anyOf")
    if not isinstance(choices, list):
        return rest
    [real] = [choice for choice in choices if choice != {"type": "null"}]
    return {**real, **rest}
