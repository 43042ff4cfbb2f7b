"""Errors of the API as RFC 9457 problem documents: what is wrong with a request, without quoting it."""

from collections.abc import Sequence
from http import HTTPStatus

from flask import Blueprint, Response, request
from pydantic import BaseModel, Field

from worker.errors import ReceiveError
from worker.reports.build import json_text
from worker.store.engine import UNAVAILABLE

RETRY_AFTER_SECONDS = "5"


class Mistake(BaseModel):
    """One thing that is wrong with a request, and where."""

    where: str
    detail: str


class Problem(BaseModel):
    """What is wrong, as RFC 9457 has it. `errors` lists the mistakes where they have places."""

    type: str = Field("about:blank", json_schema_extra={"format": "uri-reference"})
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str
    errors: list[Mistake] = Field(default_factory=list)


class Refused(Exception):
    """A request that the API does not serve. `errors` says where each mistake is, if there are several places."""

    def __init__(self, status: HTTPStatus, detail: str, errors: Sequence[dict[str, str]] = ()) -> None:
        self.status = status
        self.detail = detail
        self.errors = errors
        super().__init__(detail)


def problem(status: int, detail: str, *, errors: Sequence[dict[str, str]] = ()) -> Response:
    """A problem document about the request that is being answered."""
    document = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.path,
        errors=[Mistake.model_validate(item) for item in errors],
    ).model_dump(exclude=None if errors else {"errors"})
    answer = Response(json_text(document), status=status, content_type="application/problem+json")
    if status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="verisink"'
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return answer


def register(routes: Blueprint) -> None:
    """Make every error of these routes a problem document."""
    routes.register_error_handler(Refused, lambda error: problem(error.status, error.detail, errors=error.errors))
    routes.register_error_handler(ReceiveError, lambda error: problem(error.status, str(error)))
    for kind in UNAVAILABLE:
        routes.register_error_handler(kind, _unavailable)


def _unavailable(error: Exception) -> Response:
    detail = "the database is not available; try again in a few seconds"
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
