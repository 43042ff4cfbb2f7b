"""`POST /webhooks/<source>`: from an HTTP request to a delivery, and from its receipt to an answer.

The body is counted here, whatever the server in front did: some servers pass truncated or cut bodies on as if whole.
"""

from collections.abc import Iterable
from functools import lru_cache
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Blueprint, Request, Response, request

from web.security import HEADERS
from worker.errors import BodyIncomplete, BodyTooLarge
from worker.providers.base import InboundRequest
from worker.runtime import Runtime


def blueprint(runtime: Runtime) -> Blueprint:
    """The receiver's routes."""
    routes = Blueprint("receiver", __name__)

    def receive(source: str, token: str | None = None) -> Response:
        limit = runtime.receiver.source(source).max_body_bytes
        delivery = InboundRequest(body=read_body(request, limit), headers=headers(request.environ), token=token)
        receipt = runtime.receiver.receive(source, delivery)
        return Acknowledgement(receipt.status, str(receipt.delivery_id))

    routes.add_url_rule("/webhooks/<source>", view_func=receive, methods=["POST"])
    routes.add_url_rule("/webhooks/<source>/<token>", view_func=receive, methods=["POST"])
    return routes


def read_body(incoming: Request, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge before reading more than `limit`, and BodyIncomplete."""
    announced, stream = incoming.content_length, incoming.environ["wsgi.input"]
    if "wsgi.input_terminated" not in incoming.environ:
        # A server that says nothing of the end may wait for more than was announced.
        stream = incoming.stream
    if announced is not None and announced > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    if announced is not None and len(body) < announced:
        raise BodyIncomplete("the body is shorter than its Content-Length")
    return body


def headers(environ: WSGIEnvironment) -> dict[str, str]:
    """Lower-case names. A header sent twice was joined by the server, and so cannot hide a second value."""
    return {_name(key): value for key, value in environ.items() if _is_header(key)}


@lru_cache(maxsize=256)
def _is_header(key: str) -> bool:
    if key in _ONLY_WITHOUT_PREFIX:
        return False
    return key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")


@lru_cache(maxsize=256)
def _name(key: str) -> str:
    return key.removeprefix("HTTP_").replace("_", "-").lower()


_ONLY_WITHOUT_PREFIX = frozenset({"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"})


class Acknowledgement(Response):
    """The answer that almost every request gets. It is built as it is sent, because building it as any answer is built
    takes a tenth of a request's time. Its words need no escaping."""

    def __init__(self, status: str, delivery: str) -> None:
        # Nothing of the base class is set up: what it keeps is not used.
        self._body = f'{{"delivery":"{delivery}","status":"{status}"}}\n'.encode("ascii")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, whatever was done to this object meanwhile."""
        start_response("200 OK", [*_ACKNOWLEDGED, ("Content-Length", str(len(self._body)))])
        return [self._body]


_ACKNOWLEDGED = [("Content-Type", "application/json"), *HEADERS]
