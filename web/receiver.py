"""`POST /webhooks/<source>`: from an HTTP request to a delivery, and from its receipt to an answer.

The body is counted here, whatever the server in front did: some servers pass truncated or cut bodies on as if whole.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Blueprint, request
from werkzeug.wsgi import get_content_length, get_input_stream

from web.security import HEADERS
from worker.errors import BodyIncomplete, BodyTooLarge, IntakeUnavailable
from worker.providers.base import InboundRequest
from worker.runtime import Runtime

PREFIX = "/webhooks/"

_PLACE = re.compile(rf"{PREFIX}([!-.0-~]+)(?:/([!-.0-~]+))?")
"""What the routes below match, as far as it is plain text."""

_FAILED = "verisink.failed"
"""Where an error of the short way waits in the environment for Flask, which answers for it."""


class Acknowledgement:
    """The answer that almost every request gets. It is built as it is sent, because building it as any answer is built
    takes a tenth of a request's time. Its words need no escaping."""

    def __init__(self, status: str, delivery: str) -> None:
        self._body = f'{{"delivery":"{delivery}","status":"{status}"}}\n'.encode("ascii")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, as a WSGI application of one answer."""
        start_response("200 OK", [*_ACKNOWLEDGED, ("Content-Length", str(len(self._body)))])
        return [self._body]


_ACKNOWLEDGED = [("Content-Type", "application/json"), *HEADERS]

ShortWay = Callable[[WSGIEnvironment], Acknowledgement | None]


def blueprint(runtime: Runtime) -> Blueprint:
    """The receiver's routes."""
    routes = Blueprint("receiver", __name__)

    def receive(source: str, token: str | None = None) -> Acknowledgement:
        failed: Exception | None = request.environ.pop(_FAILED, None)
        if failed is not None:
            try:
                raise failed
            finally:
                # Its traceback holds this frame: it must not hold the error, or nobody frees the body that both hold.
                del failed
        return _take(runtime, request.environ, source, token)

    routes.add_url_rule(f"{PREFIX}<source>", view_func=receive, methods=["POST"])
    routes.add_url_rule(f"{PREFIX}<source>/<token>", view_func=receive, methods=["POST"])
    return routes


def closed_blueprint() -> Blueprint:
    """The receiver's routes where no webhooks are taken. One that was sent here by mistake comes again: 404 would tell
    the provider that its address is wrong, and some stop sending then."""
    routes = Blueprint("receiver", __name__)

    def refuse(**_place: str) -> Acknowledgement:
        raise IntakeUnavailable("this process takes no webhooks: it was started with --no-receive")

    routes.add_url_rule(f"{PREFIX}<source>", view_func=refuse, methods=["POST"])
    routes.add_url_rule(f"{PREFIX}<source>/<token>", view_func=refuse, methods=["POST"])
    return routes


def no_short_way(_environ: WSGIEnvironment) -> None:
    """Leaves everything to Flask."""


def short_way(runtime: Runtime) -> ShortWay:
    """Acknowledges what Flask's routes of the receiver would, without what Flask does for every request, which takes
    longer than everything else together. None is for Flask to answer: what is no webhook, and whatever went wrong."""

    def acknowledge(environ: WSGIEnvironment) -> Acknowledgement | None:
        place = _PLACE.fullmatch(environ["PATH_INFO"])
        if place is None or environ["REQUEST_METHOD"] != "POST" or "wsgi.input_terminated" not in environ:
            return None
        source, token = place.groups()
        try:
            return _take(runtime, environ, source, token)
        except Exception as error:  # noqa: BLE001 - Flask has an answer for each
            environ[_FAILED] = error
            return None

    return acknowledge


def _take(runtime: Runtime, environ: WSGIEnvironment, source: str, token: str | None) -> Acknowledgement:
    limit = runtime.receiver.source(source).max_body_bytes
    delivery = InboundRequest(body=read_body(environ, limit), headers=headers(environ), token=token)
    receipt = runtime.receiver.receive(source, delivery)
    return Acknowledgement(receipt.status, str(receipt.delivery_id))


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge before reading more than `limit`, and BodyIncomplete."""
    announced = _announced(environ)
    if announced is not None and announced > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    # A server that says nothing of the end may wait for more than was announced.
    stream = environ["wsgi.input"] if environ.get("wsgi.input_terminated") else get_input_stream(environ)
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    if announced is not None and len(body) < announced:
        raise BodyIncomplete("the body is shorter than its Content-Length")
    return body


def _announced(environ: WSGIEnvironment) -> int | None:
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdecimal() and length.isascii() and "HTTP_TRANSFER_ENCODING" not in environ:
        return int(length)
    return get_content_length(environ)


def headers(environ: WSGIEnvironment) -> dict[str, str]:
    """Lower-case names. A header sent twice was joined by the server, and so cannot hide a second value."""
    return {name: value for key, value in environ.items() if (name := _name(key))}


@lru_cache(maxsize=256)
def _name(key: str) -> str:
    """The header's name, or none where it is no header."""
    is_header = key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")
    if not is_header or key in _ONLY_WITHOUT_PREFIX:
        return ""
    return key.removeprefix("HTTP_").replace("_", "-").lower()


_ONLY_WITHOUT_PREFIX = frozenset({"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"})
