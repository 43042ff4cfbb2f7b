"""gu1 (Gueno): its webhooks, retrieve calls and errors.

`gu1_mapping` reads the rows; `docs/providers/gu1.md` says where each fact comes from, and which are still unknown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from worker.domain.documents import Path, Paths
from worker.domain.model import Notification, Reading, ResourceRef
from worker.domain.states import FailureKind
from worker.domain.strict_json import Json, member, parse, parse_object, text
from worker.domain.times import read_time
from worker.errors import (
    AuthenticationFailed,
    UnexpectedDocument,
    UnreadableJson,
    UnreadableNotification,
)
from worker.providers.base import (
    ErrorResponse,
    InboundRequest,
    OutboundRequest,
    bearer,
    body_digest,
    decode_base64,
    default_classification,
    hmac_sha256,
    matches_any,
    ref_or_none,
    require_secrets,
)
from worker.providers.gu1_mapping import (
    BIOMETRIC_SESSION,
    ENTITY,
    FACE_MATCH,
    ID_VERIFICATION,
    KYC_VALIDATION,
    UUID,
    named_verifications,
    read_row,
    squeezed,
)
from worker.providers.gu1_plain import PLAIN, PLAIN_CHECKS
from worker.settings import Source

NIL = "00000000-0000-0000-0000-000000000000"
"""A verification that cannot exist: asking for it shows whether the key works, and reads nobody's data."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where a kind is retrieved, and how its documents name it: the members of its id, and a wrapper it may come in."""

    path: str
    ids: tuple[str, ...]
    wrapper: str


_KINDS: Mapping[str, _Kind] = {
    FACE_MATCH: _Kind("/api/kyc/face-match/verifications/", ("id", "verificationId"), "verification"),
    KYC_VALIDATION: _Kind("/api/kyc/validations/", ("id", "validationId"), "validation"),
    BIOMETRIC_SESSION: _Kind("/api/kyc/biometric/sessions/", ("id", "sessionId"), "session"),
    ID_VERIFICATION: _Kind("/api/kyc/id-verification/verifications/", ("id", "verificationId"), "verification"),
    ENTITY: _Kind("/entities/", ("id", "entityId"), "entity"),
}

_SUBJECTS: Mapping[str, tuple[str, tuple[Path, ...]]] = {
    "kyc": (KYC_VALIDATION, (("validationId",), ("id",))),
    "biometric": (BIOMETRIC_SESSION, (("id",), ("sessionId",))),
    "entity": (ENTITY, (("entity", "id"), ("id",), ("entityId",))),
}
"""What events are about, by their first word, and where the id lies in the two generations of payloads."""

_HEX = re.compile(r"[0-9a-fA-F]{64}\Z")
_PREFIX = re.compile(r"\Asha256=", re.IGNORECASE)


class Gu1Provider:
    """gu1: session KYC, embedded biometrics, face match, ID verification and entities."""

    name = "gu1"
    mapping_version = 1
    token_in_url = False
    kinds = tuple(_KINDS)

    def authenticate(self, source: Source, request: InboundRequest, now: int) -> None:
        """HMAC-SHA256 of the raw body. It carries no time: an old delivery can only make us look again."""
        secrets = require_secrets((item.get_secret_value() for item in source.webhook_secrets), "webhook_secrets")
        header = request.headers.get("x-webhook-signature")
        if not header:
            raise AuthenticationFailed("no X-Webhook-Signature header")
        presented = _signature(header, source.signature_encoding)
        if not matches_any(presented, [hmac_sha256(secret, request.body) for secret in secrets]):
            raise AuthenticationFailed("X-Webhook-Signature matches no configured secret")

    def parse(self, source: Source, body: bytes) -> Notification:
        """Every envelope that gu1's pages show: `event` or `type`, `payload` or `data`, organization or none."""
        envelope = parse_object(body)
        event = text(envelope, "event") or text(envelope, "type")
        if event is None:
            raise UnreadableNotification("neither event nor type says what this is about")
        payload = _payload(envelope)
        for holder in (envelope, payload):
            if not same_organization(source, member(holder, "organizationId")):
                raise UnreadableNotification("the event belongs to another organization than organization_id")
        resources = _resources(event, payload)
        return Notification(
            delivery_key=body_digest(body),
            event_type=event,
            resources=resources,
            occurred_at=read_time(member(envelope, "timestamp")),
            repeat_looks_again=True,
            ignored_because=None if resources else "the event names no verification that could be retrieved",
        )

    def request(self, source: Source, ref: ResourceRef, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """The GET of one row. The organization is named only where the account is scoped to several."""
        if ref.kind not in _KINDS:
            raise ValueError("gu1 has no resource of this kind")
        return get_request(source, f"{_KINDS[ref.kind].path}{ref.external_id}")

    def classify(self, response: ErrorResponse) -> FailureKind:
        """A 403 is about one product or permission (NOT_ENABLED, NOT_CONFIGURED), unless it says UNAUTHORIZED.

        Holding the source for it would stop the products that do work, so the resource is parked instead.
        """
        if response.status == 403 and _error_code(response.body) == "UNAUTHORIZED":
            return FailureKind.CREDENTIAL
        return default_classification(response.status)

    def paths(self, ref: ResourceRef) -> Paths:
        """Rows hold no secrets, and the links in them differ only in queries, which are left out everywhere."""
        return Paths(plain=PLAIN, plain_checks=PLAIN_CHECKS.get(ref.kind, ()))

    def api_version(self, source: Source) -> str | None:
        """gu1's API has no versions to ask for."""
        return None

    def read(self, source: Source, ref: ResourceRef, document: dict[str, Json]) -> Reading:
        """The row's reading. Another id or another organization's row is not what was asked for."""
        kind = _KINDS.get(ref.kind)
        if kind is None:
            raise UnexpectedDocument("gu1 has no resource of this kind")
        row = _unwrapped(document, kind)
        found = next((member(row, name) for name in kind.ids if member(row, name) is not None), None)
        if found != ref.external_id:
            raise UnexpectedDocument("the document is not the resource that was asked for")
        if not same_organization(source, member(row, "organizationId")):
            raise UnexpectedDocument("the document belongs to another organization than organization_id")
        return read_row(ref, row)

    def probe(self, source: Source, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """Ask for a face match that cannot exist; the 404 shows that the key may read."""
        return self.request(source, ResourceRef(FACE_MATCH, NIL), nonce=nonce, unix_ms=unix_ms)


def get_request(source: Source, path: str) -> OutboundRequest:
    """A GET with the source's key, in the name of its organization."""
    headers = {**bearer(source.api_key), "Accept": "application/json"}
    if source.organization_id is not None:
        headers["X-Organization-Id"] = source.organization_id
    return OutboundRequest(f"{source.base_url}{path}", headers)


def _signature(header: str, encoding: str) -> bytes:
    """The bytes that the header stands for. gu1's pages do not show the encoding, so it is a setting."""
    value = _PREFIX.sub("", header.strip())
    if encoding == "base64":
        decoded = decode_base64(value)
        if decoded is None or len(decoded) != 32:
            raise AuthenticationFailed("X-Webhook-Signature is not the base64 of an HMAC-SHA256")
        return decoded
    if not _HEX.match(value):
        raise AuthenticationFailed("X-Webhook-Signature is not the hex of an HMAC-SHA256")
    return bytes.fromhex(value)


def _payload(envelope: dict[str, Json]) -> dict[str, Json]:
    for name in ("payload", "data"):
        found = envelope.get(name)
        if isinstance(found, dict):
            return found
    return {}


def same_organization(source: Source, found: Json) -> bool:
    """Whether a document may belong to the source's organization; one that names none may."""
    return found is None or source.organization_id is None or found == source.organization_id


def _resources(event: str, payload: dict[str, Json]) -> tuple[ResourceRef, ...]:
    subject: tuple[ResourceRef, ...]
    if (verification := _verification_kind(event)) is not None:
        # gu1 documents no such event. Should one come, its payload's own id is the verification's.
        own = text(payload, "verificationId") or text(payload, "id") or ""
        subject = (ResourceRef(verification, own),) if UUID.match(own) else ()
    else:
        subject = _subject(event, payload)
    return tuple(dict.fromkeys((*subject, *named_verifications(payload))))


def _verification_kind(event: str) -> str | None:
    name = squeezed(event)
    if "facematch" in name:
        return FACE_MATCH
    return ID_VERIFICATION if "idverification" in name else None


def _subject(event: str, payload: dict[str, Json]) -> tuple[ResourceRef, ...]:
    known = _SUBJECTS.get(event.partition(".")[0].lower())
    if known is None:
        return ()
    kind, paths = known
    found = next((value for path in paths if (value := text(payload, *path))), None)
    ref = ref_or_none(kind, found)
    if ref is None:
        raise UnreadableNotification(f"the event is about a {kind} and names none that could be retrieved")
    return (ref,)


def _unwrapped(document: dict[str, Json], kind: _Kind) -> dict[str, Json]:
    """The row itself. It is documented to come bare; inside `data`, or under the kind's name, it would say the same."""
    if any(document.get(name) is not None for name in kind.ids):
        return document
    for name in ("data", kind.wrapper):
        inner = document.get(name)
        if isinstance(inner, dict):
            return inner
    return document


def _error_code(body: bytes) -> str | None:
    """The code in an error's body, whose layout is not documented: `code`, `error` or `error.code`."""
    try:
        answer = parse(body)
    except UnreadableJson:
        return None
    return text(answer, "code") or text(answer, "error") or text(answer, "error", "code")
