"""Yoti Identity Verification: its notifications, its signed retrieve calls and its errors.

`yoti_mapping` reads the sessions; `docs/providers/yoti.md` says where each fact comes from.
"""

import base64
import re
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from worker.domain.documents import Paths
from worker.domain.model import Notification, Reading, ResourceRef
from worker.domain.states import FailureKind
from worker.domain.strict_json import Json, parse, parse_object, text
from worker.errors import AuthenticationFailed, ConfigurationError, UnreadableJson, UnreadableNotification
from worker.providers.base import (
    ErrorResponse,
    InboundRequest,
    OutboundRequest,
    body_digest,
    default_classification,
    matches_any,
    require_secrets,
)
from worker.providers.yoti_mapping import read_session
from worker.providers.yoti_plain import PLAIN, PLAIN_CHECKS
from worker.rsa_key import load_key
from worker.settings import Source

SESSION = "session"

NIL_SESSION = "00000000-0000-0000-0000-000000000000"
"""A session that cannot exist: asking for it shows whether Yoti accepts the signature, and reads nobody's data."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

_MEANING_OF_CODES = {
    # The signature was accepted, so the credential is fine and this one session is another application's. Holding
    # the source would let a single stray id stop every other session.
    (401, "BAD_SDK_ID"): FailureKind.REJECTED,
    # The application is switched off, or does not exist: no call can succeed until somebody acts.
    (403, "INSUFFICIENT_PERMISSION"): FailureKind.CREDENTIAL,
    (404, "APP_NOT_FOUND"): FailureKind.CREDENTIAL,
}

_PATHS = Paths(
    # The token lets whoever holds it act as the end user; the key is the customer's own, at ComplyAdvantage.
    secrets=(("**", "client_session_token"), ("**", "search_config", "api_key")),
    volatile=(("client_session_token_ttl",),),
    plain=PLAIN,
    plain_checks=PLAIN_CHECKS,
)


class YotiProvider:
    """Yoti Identity Verification, whose only resource is the session."""

    name = "yoti"
    mapping_version = 1
    token_in_url = False
    kinds = (SESSION,)

    def authenticate(self, source: Source, request: InboundRequest, now: int) -> None:
        """Compare the whole Authorization header: Yoti signs nothing, so the shared token is all the proof there is."""
        secrets = (secret.get_secret_value() for secret in source.notification_tokens)
        tokens = require_secrets(secrets, "notification_tokens")
        header = request.headers.get("authorization")
        if not header:
            raise AuthenticationFailed("no Authorization header")
        expected = [_authorization(token, source.notification_auth) for token in tokens]
        if not matches_any(_header_bytes(header), expected):
            raise AuthenticationFailed(f"the Authorization header is not {source.notification_auth} with a known token")

    def parse(self, source: Source, body: bytes) -> Notification:
        """Any topic makes the session wanted: the body is a pointer, calls are coalesced, and topics may be lost."""
        message = parse_object(body)
        session_id = (text(message, "session_id") or "").lower()
        if not _UUID.match(session_id):
            raise UnreadableNotification("session_id is missing or not a UUID")
        topic = text(message, "topic")
        return Notification(
            delivery_key=body_digest(body),
            event_type=topic.lower() if topic else None,
            resources=(ResourceRef(SESSION, session_id),),
            repeat_looks_again=True,
        )

    def request(self, source: Source, ref: ResourceRef, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """The signed call for a session. Raises ConfigurationError if the source cannot sign."""
        if ref.kind != SESSION:
            raise ValueError("yoti has no resource of this kind")
        target = signed_target(f"/sessions/{ref.external_id}", _sdk_id(source), nonce=nonce, unix_ms=unix_ms)
        headers = {"X-Yoti-Auth-Digest": signature(_private_key(source), "GET", target), "Accept": "application/json"}
        return OutboundRequest(source.base_url + target, headers)

    def classify(self, response: ErrorResponse) -> FailureKind:
        """What an error means; the code in the body counts where a status alone would mislead."""
        known = _MEANING_OF_CODES.get((response.status, _error_code(response.body) or ""))
        return known or default_classification(response.status)

    def paths(self, ref: ResourceRef) -> Paths:
        """The end user's token and a third party's key are secret; the token's remaining seconds mean nothing."""
        return _PATHS

    def api_version(self, source: Source) -> str | None:
        """Yoti's version is part of the base URL, and nothing is asked for by header."""
        return None

    def read(self, source: Source, ref: ResourceRef, document: dict[str, Json]) -> Reading:
        """The session's reading; its verdict is derived, because Yoti gives none."""
        return read_session(ref.external_id, document)

    def probe(self, source: Source, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """Ask for a session that cannot exist. Raises ConfigurationError if the source cannot sign."""
        return self.request(source, ResourceRef(SESSION, NIL_SESSION), nonce=nonce, unix_ms=unix_ms)


def signed_target(endpoint: str, sdk_id: str, *, nonce: str, unix_ms: int) -> str:
    """Path and query as they are both signed and sent, byte for byte. The base URL is not part of what is signed."""
    return f"{endpoint}?{urlencode({'sdkId': sdk_id, 'nonce': nonce, 'timestamp': unix_ms})}"


def signature(key: RSAPrivateKey, method: str, target: str, body: bytes = b"") -> str:
    """The value of X-Yoti-Auth-Digest: RSA PKCS#1 v1.5 with SHA-256, in base64."""
    parts = [method, target]
    if body:
        parts.append(base64.b64encode(body).decode("ascii"))
    return base64.b64encode(key.sign("&".join(parts).encode("utf-8"), PKCS1v15(), SHA256())).decode("ascii")


def _private_key(source: Source) -> RSAPrivateKey:
    if source.private_key is None:
        raise ConfigurationError([f"source {source.slug}: private_key is not set, so nothing can be retrieved"])
    return load_key(source.private_key.get_secret_value())


def _sdk_id(source: Source) -> str:
    if source.sdk_id is None:
        raise ConfigurationError([f"source {source.slug}: sdk_id is not set, so nothing can be retrieved"])
    return source.sdk_id


def _authorization(token: str, scheme: str) -> bytes:
    raw = token.encode("utf-8")
    return b"Bearer " + raw if scheme == "bearer" else b"Basic " + base64.b64encode(raw)


def _header_bytes(header: str) -> bytes:
    """The bytes that were sent: WSGI servers hand headers over as Latin-1."""
    try:
        return header.encode("latin-1")
    except UnicodeEncodeError:
        raise AuthenticationFailed("the Authorization header holds characters that no header can") from None


def _error_code(body: bytes) -> str | None:
    try:
        return text(parse(body), "code")
    except UnreadableJson:
        return None
