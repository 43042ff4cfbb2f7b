"""Yoti's API: every request is signed with the application's RSA key over the exact path and query that were sent."""

import base64
import binascii
import re
import threading
from collections import OrderedDict
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from flask import Blueprint, Response, request

from web.simulator.credentials import BASE_PATHS
from web.simulator.gate import Site, guard, json_response
from web.simulator.records import JsonObject

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
REMEMBERED_NONCES = 10_000
ERRORS = {
    400: ("MALFORMED_REQUEST", None),
    401: ("MESSAGE_SIGNING", "The request was not signed correctly"),
    403: ("INSUFFICIENT_PERMISSION", "The application may not do this"),
    404: ("SESSION_NOT_FOUND", "Session not found"),
    409: ("SESSION_LOCKED", "The session is locked"),
    429: ("TOO_MANY_REQUESTS", "Too many requests"),
    500: ("SERVER_ERROR", "Internal server error"),
    503: ("TEMPORARILY_UNAVAILABLE", "The service is temporarily unavailable"),
}


class YotiDialect:
    """Yoti's refusals and its request check. The real service is lax about nonces; this one wants a new one each time,
    as documented, because a retry that was not signed again is a mistake."""

    default_limit: int | None = None

    def __init__(self, site: Site) -> None:
        self._key = site.credentials.public_key()
        self._nonces: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def error(self, status: int) -> Response:
        code, message = ERRORS[status]
        return json_response({"code": code, "message": message} if message else {"code": code}, status)

    def authenticate(self, site: Site) -> Response | None:
        digest = request.headers.get("X-Yoti-Auth-Digest")
        if digest is None:
            return _malformed("MALFORMED_REQUEST", "header.X-Yoti-Auth-Digest")
        signed_path = _raw_target().partition(BASE_PATHS["yoti"])[2]
        query = dict(parse_qsl(signed_path.partition("?")[2]))
        for name, shape in (("sdkId", re.compile(r".+")), ("nonce", UUID), ("timestamp", re.compile(r"\d{9,}"))):
            if not shape.fullmatch(query.get(name, "")):
                return _malformed("PAYLOAD_VALIDATION", f"query.{name}")
        if query["sdkId"] != site.credentials.yoti_sdk_id:
            message = "Cannot authorize your request for the session with the given sdkId"
            return json_response({"code": "BAD_SDK_ID", "message": message}, 401)
        if not self._signed(f"{request.method}&{signed_path}", digest) or not self._is_new(query["nonce"]):
            return self.error(401)
        return None

    def headers(self, limit: int, remaining: int, reset: int) -> dict[str, str]:
        return {}

    def _signed(self, text: str, digest: str) -> bool:
        try:
            signature = base64.b64decode(digest, validate=True)
            self._key.verify(signature, text.encode("latin-1"), padding.PKCS1v15(), hashes.SHA256())
        except (binascii.Error, ValueError, InvalidSignature):
            return False
        return True

    def _is_new(self, nonce: str) -> bool:
        with self._lock:
            if nonce in self._nonces:
                return False
            self._nonces[nonce] = None
            if len(self._nonces) > REMEMBERED_NONCES:
                self._nonces.popitem(last=False)
            return True


def blueprint(site: Site) -> Blueprint:
    yoti = Blueprint("yoti", __name__)
    dialect = YotiDialect(site)

    @yoti.get("/sessions/<external_id>")
    def session(external_id: str) -> Response:
        record = site.world.by_id("yoti", external_id)
        return json_response(site.world.serve(record)) if record else dialect.error(404)

    guard(yoti, "yoti", site, dialect)

    @yoti.after_request
    def name_the_request(response: Response) -> Response:
        response.headers["x-request-id"] = f"yoti-{site.world.reading().number}"
        return response

    return yoti


def _raw_target() -> str:
    """The request's path and query exactly as they came over the wire, before any decoding."""
    return str(request.environ["REQUEST_URI"])


def _malformed(code: str, where: str) -> Response:
    error: JsonObject = {"property": where, "message": "is missing or malformed"}
    return json_response({"code": code, "errors": [error]}, 400)
