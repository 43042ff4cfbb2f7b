"""The Flask application: blueprints, and one answer for each error that Verisink knows."""

from collections.abc import Iterable, Mapping
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from web import health, receiver
from web.api.problems import problem
from web.api.routes import blueprints as api_blueprints
from web.security import HEADERS
from worker.errors import IntakeUnavailable, ReceiveError
from worker.runtime import Runtime

RETRY_AFTER_SECONDS = "5"

log = structlog.get_logger(__name__)


def create_app(runtime: Runtime, checks: Mapping[str, health.Check] | None = None, *, receives: bool = True) -> Flask:
    """The application of one web process. `checks` are further conditions of readiness; without `receives` providers
    are told to come again."""
    app = _Application(receiver.short_way(runtime) if receives else receiver.no_short_way)
    app.url_map.merge_slashes = False
    app.register_blueprint(receiver.blueprint(runtime) if receives else receiver.closed_blueprint())
    app.register_blueprint(health.blueprint(runtime, dict(checks or {})))
    for routes in api_blueprints(runtime):
        app.register_blueprint(routes)
    app.register_error_handler(ReceiveError, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _our_bug)
    app.after_request(_harden)
    return app


def _refused(error: ReceiveError) -> Response:
    answer = jsonify(error=str(error))
    answer.status_code = error.status
    if isinstance(error, IntakeUnavailable):
        answer.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return answer


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if request.path.startswith("/api/"):
        answer = problem(status, error.description or error.name)
    else:
        answer = jsonify(error=error.name.lower())
        answer.status_code = status
    for name, value in error.get_headers():
        if name in ("Allow", "Location", "Retry-After"):
            answer.headers[name] = value
    return answer


def _our_bug(error: Exception) -> Response:
    # Our own trouble: the sender should come again, and by then somebody may have mended it.
    log.exception("request_failed", endpoint=request.endpoint, error=type(error).__name__)
    if request.path.startswith("/api/"):
        return problem(503, "internal trouble; nothing was changed")
    answer = jsonify(error="internal trouble; nothing was stored")
    answer.status_code = 503
    answer.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return answer


def _harden(answer: Response) -> Response:
    for name, value in HEADERS:
        answer.headers.setdefault(name, value)
    return answer


class _Application(Flask):
    """Flask, with a short way for what almost every request is."""

    def __init__(self, short_way: receiver.ShortWay) -> None:
        super().__init__("verisink", static_folder=None)
        self._acknowledge = short_way

    def make_default_options_response(self) -> Response:
        """What may be done with a path, and not a word more."""
        answer = super().make_default_options_response()
        answer.status_code = 204
        del answer.headers["Content-Type"]
        return answer

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        # An offer that is not taken up. Flask would look for a route of a WebSocket.
        environ.pop("HTTP_UPGRADE", None)
        return (self._acknowledge(environ) or super().wsgi_app)(environ, start_response)
