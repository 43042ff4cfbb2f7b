"""The Flask application: blueprints, and one answer for each error that Verisink knows."""

from collections.abc import Callable, Mapping

import structlog
from flask import Flask, Request, Response, jsonify, request
from flask.sessions import NullSession, SessionInterface
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from web import health, receiver
from web.api.problems import problem
from web.api.routes import blueprint as api_blueprint
from web.security import HEADERS
from worker.errors import IntakeUnavailable, ReceiveError
from worker.runtime import Runtime

RETRY_AFTER_SECONDS = "5"

log = structlog.get_logger(__name__)


def create_app(runtime: Runtime, checks: Mapping[str, health.Check] | None = None) -> Flask:
    """The application of one web process. `checks` are further conditions of readiness."""
    app = _Application("verisink", static_folder=None)
    app.url_map.merge_slashes = False
    app.register_blueprint(receiver.blueprint(runtime))
    app.register_blueprint(health.blueprint(runtime, dict(checks or {})))
    app.register_blueprint(api_blueprint(runtime))
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
    answer = jsonify(error="internal trouble; nothing was stored")
    answer.status_code = 503
    answer.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return answer


def _harden(answer: Response) -> Response:
    if not isinstance(answer, receiver.Acknowledgement):
        for name, value in HEADERS:
            answer.headers.setdefault(name, value)
    return answer


_NO_SESSION = NullSession()
"""Shared by all requests, which is safe because it takes nothing."""


class _NoSessions(SessionInterface):
    """Nobody logs in here; Flask's own sessions would be looked for in every request."""

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return _NO_SESSION

    def is_null_session(self, obj: object) -> bool:
        return True


class _Application(Flask):
    """Flask without what it does for applications unlike this one, for each request."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., object]) -> Callable[..., object]:
        """No view here is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Webhooks are told apart by their path alone; working out the host takes longer than finding the view."""
        path = "" if request is None else request.environ["PATH_INFO"]
        if request is None or not path.startswith("/webhooks/") or not path.isascii():
            return super().create_url_adapter(request)
        return MapAdapter(self.url_map, "localhost", "/", "", "http", path, request.method)
