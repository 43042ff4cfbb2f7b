"""Errors of the API as RFC 9457 problem documents: what is wrong with a request, without quoting it."""

from collections.abc import Sequence
from http import HTTPStatus

from flask import Blueprint, Response, request

from worker.errors import ReceiveError
from worker.reports.build import json_text
from worker.store.engine import UNAVAILABLE

RETRY_AFTER_SECONDS = "5"


class Refused(Exception):
    """A request that the API does not serve. `errors` says where each mistake is, if there are several places."""

    def __init__(self, status: HTTPStatus, detail: str, errors: Sequence[dict[str, str]] = ()) -> None:
        self.status = status
        self.detail = detail
        self.errors = errors
        super().__init__(detail)


def problem(status: int, detail: str, *, errors: Sequence[dict[str, str]] = ()) -> Response:
    """A problem document about the request that is being answered."""
    document: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.path,
    }
    if errors:
        document["errors"] = list(errors)
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
