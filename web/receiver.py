"""`POST /webhooks/<source>`: from an HTTP request to a delivery, and from its receipt to an answer.

The body is counted here, whatever the server in front did: some servers pass truncated or cut bodies on as if whole.
"""

from flask import Blueprint, Request, Response, jsonify, request

from worker.errors import BodyIncomplete, BodyTooLarge
from worker.providers.base import InboundRequest
from worker.runtime import Runtime


def blueprint(runtime: Runtime) -> Blueprint:
    """The receiver's routes."""
    routes = Blueprint("receiver", __name__)

    def receive(source: str, token: str | None = None) -> Response:
        limit = runtime.receiver.source(source).max_body_bytes
        delivery = InboundRequest(body=read_body(request, limit), headers=_headers(request), token=token)
        receipt = runtime.receiver.receive(source, delivery)
        return jsonify(status=receipt.status, delivery=str(receipt.delivery_id))

    routes.add_url_rule("/webhooks/<source>", view_func=receive, methods=["POST"])
    routes.add_url_rule("/webhooks/<source>/<token>", view_func=receive, methods=["POST"])
    return routes


def read_body(incoming: Request, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge before reading more than `limit`, and BodyIncomplete."""
    announced = incoming.content_length
    if announced is not None and announced > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    body = incoming.stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")
    if announced is not None and len(body) < announced:
        raise BodyIncomplete("the body is shorter than its Content-Length")
    return body


def _headers(incoming: Request) -> dict[str, str]:
    """Lower-case names; a header sent twice is joined, as a proxy would, and so cannot hide a second value."""
    headers: dict[str, str] = {}
    for name, value in incoming.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
