"""The port that every provider module implements, and the little that they share.

A provider module turns bytes and settings into values and back. It makes no call, opens no connection, writes no row
and reads no clock: those are the pipeline's. Each fact about a vendor carries its source in a docstring or in
`docs/providers/`.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from pydantic import SecretStr

from worker.domain.documents import Paths
from worker.domain.model import Notification, Reading, ResourceRef
from worker.domain.retry import Failure
from worker.domain.states import FailureKind
from worker.domain.strict_json import Json
from worker.errors import AuthenticationFailed
from worker.settings import Source


@dataclass(frozen=True, slots=True)
class InboundRequest:
    """A webhook request as it arrived. Header names are lower-case; `token` is the last segment of the URL, if any."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """A retrieve call, ready to send: the URL must be sent exactly as it stands, because it may be signed."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An answer that is not a document. Header names are lower-case; `body` is cut to a few kilobytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Provider(Protocol):
    """One vendor. Instances are stateless; everything that differs between accounts comes in with `source`."""

    @property
    def name(self) -> str:
        """The provider's name in the settings."""

    @property
    def mapping_version(self) -> int:
        """Grows whenever `read` would read a stored document differently."""

    @property
    def token_in_url(self) -> bool:
        """Whether webhooks carry a secret as the last segment of the URL (`/webhooks/<source>/<token>`)."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that can be asked for by hand; a provider may know more through its notifications."""

    def authenticate(self, source: Source, request: InboundRequest, now: int) -> None:
        """Return if the provider sent this, else raise AuthenticationFailed. `now` is in Unix seconds."""

    def parse(self, source: Source, body: bytes) -> Notification:
        """What an authentic body says. Raises UnreadableJson or UnreadableNotification."""

    def request(self, source: Source, ref: ResourceRef, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """The retrieve call for `ref`. Raises ValueError for a kind that cannot be retrieved."""

    def classify(self, response: ErrorResponse) -> FailureKind:
        """What an answer that is not a document means."""

    def paths(self, ref: ResourceRef) -> Paths:
        """The secrets and volatile parts of this kind's documents, and the parts that are not personal."""

    def api_version(self, source: Source) -> str | None:
        """The API version that is asked for, kept with every version as evidence."""

    def read(self, source: Source, ref: ResourceRef, document: dict[str, Json]) -> Reading:
        """The normalised reading. Tolerant: raises UnexpectedDocument only if this is not the resource asked for."""

    def probe(self, source: Source, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """A harmless call that shows whether the credential works: for `doctor`. A 404 counts as working."""


def body_digest(body: bytes) -> str:
    """The delivery key of a provider that sends no event ids."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def hmac_sha256(secret: str, message: bytes) -> bytes:
    """The 32 raw bytes of HMAC-SHA256, keyed with the secret's UTF-8 bytes."""
    keyed = _keyed(secret).copy()
    keyed.update(message)
    return keyed.digest()


@lru_cache(maxsize=64)
def _keyed(secret: str) -> hmac.HMAC:
    """To begin with a key takes longer than to hash a notification."""
    return hmac.new(secret.encode("utf-8"), digestmod="sha256")


def matches_any(presented: bytes, expected: Iterable[bytes]) -> bool:
    """Whether `presented` equals one of `expected`, in a time that tells nothing about which or how much."""
    found = False
    for candidate in expected:
        found |= hmac.compare_digest(presented, candidate)
    return found


def require_secrets(secrets: Iterable[str], setting: str) -> tuple[str, ...]:
    """The configured secrets. Without any, nobody can prove anything, so every request is refused."""
    configured = tuple(secrets)
    if not configured:
        raise AuthenticationFailed(f"no {setting} configured for this source")
    return configured


def bearer(credential: SecretStr | None) -> dict[str, str]:
    """The Authorization header. Without a credential none is sent: the provider's refusal then holds the source."""
    return {} if credential is None else {"Authorization": f"Bearer {credential.get_secret_value()}"}


def ref_or_none(kind: str | None, external_id: str | None) -> ResourceRef | None:
    """The resource that a document or a body names, or None where the kind or the id is missing or unusable."""
    if kind is None or external_id is None:
        return None
    try:
        return ResourceRef(kind, external_id)
    except ValueError:
        return None


def decode_base64(text: str) -> bytes | None:
    """The bytes, or None if `text` is not base64."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None


def default_classification(status: int) -> FailureKind:
    """What a status means where a vendor says nothing special. Anything unknown keeps the work."""
    if status == 404:
        return FailureKind.NOT_FOUND
    if status == 429:
        return FailureKind.RATE_LIMITED
    if status == 409:
        return FailureKind.CONFLICT
    if status in (401, 402):
        return FailureKind.CREDENTIAL
    if status in (408, 425) or status >= 500:
        return FailureKind.SERVER_ERROR
    if 400 <= status < 500:
        return FailureKind.REJECTED
    return FailureKind.UNREADABLE


__all__ = [
    "ErrorResponse",
    "Failure",
    "InboundRequest",
    "OutboundRequest",
    "Provider",
    "bearer",
    "body_digest",
    "decode_base64",
    "default_classification",
    "hmac_sha256",
    "matches_any",
    "ref_or_none",
    "require_secrets",
]
