"""What a route of the API is: declared once, and by that declaration checked, answered and described.

`Routes` makes Flask's views of operations; `web.api.openapi` makes the OpenAPI document of the same ones.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

from flask import Blueprint, Response
from pydantic import BaseModel

from web.api import caching, models, wire
from web.api.wire import Reply
from worker.domain.scopes import Scope

EVERYWHERE = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
"""Refusals that every operation may answer with: each checks its query, its token and its scope, and asks a database
that may be away."""

OF_BODIES = frozenset({HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE})

_BRACES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `name` is its operation id, and `path` is as OpenAPI writes it, below the API's prefix.

    `place` says what the braces of the path stand for; what cannot be there is not found. `answers` are its good ones,
    by status, and `refusals` the problems that it has besides those of every operation. With `may_be_bare`, nothing at
    all passes for an empty body. What is `kept` has an ETag, and need not be sent again.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    name: str
    summary: str
    scope: Scope
    answers: Mapping[HTTPStatus, type[BaseModel]]
    place: type[models.Place] | None = None
    query: type[BaseModel] = models.NoQuery
    body: type[BaseModel] | None = None
    may_be_bare: bool = False
    refusals: frozenset[HTTPStatus] = field(default_factory=frozenset)
    kept: bool = False

    @property
    def problems(self) -> frozenset[HTTPStatus]:
        """Every status that it may answer with a problem document."""
        found = EVERYWHERE | self.refusals
        if self.place is not None:
            found |= {HTTPStatus.NOT_FOUND}
        return found | OF_BODIES if self.body is not None else found


class Routes:
    """The routes of a blueprint, each made of an operation and of what does it."""

    def __init__(self, blueprint: Blueprint) -> None:
        self.operations: dict[str, Operation] = {}
        self.needed: dict[str, Scope] = {}
        """The scope that each needs, by the name of Flask's endpoint."""
        self._blueprint = blueprint

    def add(self, operation: Operation, handler: Callable[..., Reply]) -> None:
        """Serve `operation` with `handler`, which gets the parts of the path by name, and `query` and `body` where the
        operation has them. Each is checked before."""
        self.operations[operation.name] = operation
        self.needed[f"{self._blueprint.name}.{operation.name}"] = operation.scope

        def view(**place: str) -> Response:
            return _answer(operation, handler(**_asked(operation, place)))

        self._blueprint.add_url_rule(_rule(operation.path), operation.name, view, methods=[operation.method])


def _asked(operation: Operation, place: Mapping[str, str]) -> dict[str, object]:
    asked: dict[str, object] = {}
    query = wire.query(operation.query)
    if operation.query is not models.NoQuery:
        asked["query"] = query
    if operation.place is not None:
        found = wire.place(operation.place, place)
        asked |= {name: getattr(found, name) for name in operation.place.model_fields}
    if operation.body is not None:
        asked["body"] = wire.body(operation.body, may_be_bare=operation.may_be_bare)
    return asked


def _answer(operation: Operation, reply: Reply) -> Response:
    """The reply as it is sent. Raises TypeError for one that the operation does not declare."""
    if operation.answers.get(reply.status) is not type(reply.model):
        raise TypeError(f"{operation.name} does not declare {reply.status:d} with {type(reply.model).__name__}")
    answer = reply.response()
    return caching.validated(answer, reply.tag) if reply.tag is not None else answer


def _rule(path: str) -> str:
    # The only part that may hold slashes: `verification/selfie` is one kind.
    return _BRACES.sub(lambda found: "<path:kind>" if found[1] == "kind" else f"<{found[1]}>", path)
