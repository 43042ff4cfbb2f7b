"""Persona (withpersona.com): signed JSON:API events in, JSON:API resources out.

Facts come from Persona's public documentation and OpenAPI description, edition 2025-12-08; `docs/providers/persona.md`
lists them with what is not known. How a resource reads is in `persona_mapping`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from worker.domain.documents import Paths
from worker.domain.model import KIND, Notification, Reading, ResourceRef
from worker.domain.states import FailureKind
from worker.domain.strict_json import Json, member, objects, parse_object, text
from worker.domain.times import read_time
from worker.errors import AuthenticationFailed, UnreadableJson, UnreadableNotification
from worker.providers.base import (
    ErrorResponse,
    InboundRequest,
    OutboundRequest,
    bearer,
    default_classification,
    hmac_sha256,
    matches_any,
    ref_or_none,
    require_secrets,
)
from worker.providers.persona_mapping import kind_of, linked, read_resource
from worker.providers.persona_plain import PLAIN, PLAIN_CHECKS
from worker.settings import Source

MAX_SIGNATURE_HEADER = 512
"""Two sets, as during a rotation, take 161 characters. Without a limit a stranger could order many hashes."""

_EVENT_ID = re.compile(r"evt_[A-Za-z0-9_-]{1,124}\Z")
_TIMESTAMP = re.compile(r"[0-9]{1,12}\Z", re.ASCII)
_CREATED_AT = ("created-at", "createdAt", "created_at")
"""A member in the three inflections that a webhook may be configured to send."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)

_USUAL = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})\Z", re.ASCII)
"""A set as Persona sends it, read in one step. What else may be sent is read in several, with the same outcome."""

VERIFICATION_TYPES = (
    "aamva", "bank-pennydrop", "brand-asset", "business-website", "certificate-korea", "credit-card",
    "database", "database-aadhaar", "database-business", "database-business-footprint", "database-ecbsv",
    "database-phone-carrier", "database-serpro", "database-standard", "database-tin", "database-vat-number",
    "digital-id-connect-id", "digital-id-e-do-app", "digital-id-finnish-trust-network",
    "digital-id-france-identite", "digital-id-generic", "digital-id-idin", "digital-id-its-me",
    "digital-id-kcb-credit-card", "digital-id-mit-id", "digital-id-one-id", "digital-id-philsys",
    "digital-id-serpro", "digital-id-singpass", "digital-id-swedish-bank-id", "digital-id-uk-sharecode",
    "digital-id-world-id", "document", "email-address", "government-id", "government-id-nfc",
    "jp-my-number-nfc-scan", "mdoc", "persona-fff-inquiry", "phone-number",
    "phone-number-silent-network-authentication", "qes-infocert", "selfie", "verifiable-credential",
)  # fmt: skip
"""Source: the verification schemas of the OpenAPI description. The list is open: other types are retrieved as well."""

REPORT_TYPES = (
    "address-lookup", "adverse-media", "business-adverse-media", "business-associated-persons",
    "business-lookup", "business-registrations-lookup", "business-watchlist", "crypto-address-watchlist",
    "email-address", "integration/sentilink-scores", "phone-number", "politically-exposed-person",
    "profile", "profile-non-authoritative", "social-media", "synthetic", "watchlist",
)  # fmt: skip
"""Source: the report events whose payload the OpenAPI description shows. The list is open as well."""

TYPED_PATHS: Mapping[str, str] = MappingProxyType(
    {
        "verification/aamva": "verification/aamvas",
        "verification/database": "verification/databases",
        "verification/database-ecbsv": "verification/database-ecbsvs",
        "verification/database-phone-carrier": "verification/database-phone-carriers",
        "verification/database-serpro": "verification/database-serpros",
        "verification/database-standard": "verification/database-standards",
        "verification/database-tin": "verification/database-tins",
        "verification/document": "verification/documents",
        "verification/email-address": "verification/email-addresses",
        "verification/government-id": "verification/government-ids",
        "verification/government-id-nfc": "verification/government-id-nfcs",
        "verification/phone-number": "verification/phone-numbers",
        "verification/selfie": "verification/selfies",
        "document/generic": "document/generics",
        "document/government-id": "document/government-ids",
    }
)
"""Source: the `paths` of the OpenAPI description. Every type without a path of its own uses its family's."""

FAMILY_PATHS: Mapping[str, str] = MappingProxyType(
    {
        "verification": "verifications",
        "document": "documents",
        "report": "reports",
        "inquiry": "inquiries",
        "account": "accounts",
        "case": "cases",
        "transaction": "transactions",
    }
)

BAD_CREDENTIAL_PHRASES = ("ip address is not permitted", "token is invalid", "must be authenticated")
"""What a 403 says when it is about the key and not about one resource. An address that the key does not allow stops
every call of this source, so it counts as a bad credential. The list is closed: other words refuse one resource."""

PROBE_ID = "inq_000000000000000000000000"

_PATHS = Paths(
    secrets=(("**", "confirmation-code"), ("**", "confirmationCode"), ("**", "confirmation_code")),
    plain=PLAIN,
    plain_checks=PLAIN_CHECKS,
)


@dataclass(frozen=True, slots=True)
class _Signature:
    """One set of the header: the time as it stands there, and the digests beside it."""

    timestamp: str
    digests: tuple[bytes, ...]


class PersonaProvider:
    """Persona. Signs webhooks with a shared secret, names every event, and has one API key per environment."""

    name = "persona"
    mapping_version = 1
    token_in_url = False
    kinds = (
        *(f"verification/{name}" for name in VERIFICATION_TYPES),
        "inquiry",
        "account",
        "case",
        "transaction",
        "document/generic",
        "document/government-id",
        *(f"report/{name}" for name in REPORT_TYPES),
    )

    def authenticate(self, source: Source, request: InboundRequest, now: int) -> None:
        """Check `Persona-Signature`: space-separated sets `t=<seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`.

        There are two sets while Persona rotates a secret, and several secrets while we do. Persona documents no age
        limit; ours is `tolerance_seconds` in both directions, and the event id is what really stops replays.
        """
        configured = (secret.get_secret_value() for secret in source.webhook_secrets)
        secrets = require_secrets(configured, "webhook_secrets")
        signed = [sent for sent in _signatures(request.headers) if _is_signed(sent, secrets, request.body)]
        if not signed:
            raise AuthenticationFailed("no signature in the Persona-Signature header matches a configured secret")
        age = min((now - int(sent.timestamp) for sent in signed), key=abs)
        if source.tolerance_seconds and abs(age) > source.tolerance_seconds:
            when = f"{age} seconds ago" if age > 0 else f"{-age} seconds in the future"
            raise AuthenticationFailed(f"signed {when} by this machine's clock, beyond tolerance_seconds")

    def parse(self, source: Source, body: bytes) -> Notification:
        """Read an event. The kind of resource comes from the payload's type, because event names do not tell it."""
        event = member(parse_object(body), "data")
        event_id = text(event, "id")
        if event_id is None or not _EVENT_ID.match(event_id):
            raise UnreadableNotification("the body names no event id")
        attributes = member(event, "attributes")
        name = text(attributes, "name")
        resources, reason = event_resources(member(attributes, "payload", "data"), name or "")
        return Notification(
            delivery_key=event_id,
            event_type=name,
            resources=resources,
            event_id=event_id,
            occurred_at=read_time(_inflected(attributes, _CREATED_AT)),
            ignored_because=reason,
        )

    def request(self, source: Source, ref: ResourceRef, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """The GET of one resource. Nothing is included, so that a document changes only when its resource does."""
        path = TYPED_PATHS.get(ref.kind) or FAMILY_PATHS.get(ref.kind.partition("/")[0])
        if path is None or kind_of(ref.kind) is None:
            raise ValueError(f"Persona has no way to retrieve a resource of kind {ref.kind}")
        return get_request(source, f"{path}/{ref.external_id}")

    def classify(self, response: ErrorResponse) -> FailureKind:
        """Persona's errors are JSON:API errors without codes, so the HTTP status decides; a 403 needs its words."""
        if response.status == 403:
            return FailureKind.CREDENTIAL if _blames_credential(response.body) else FailureKind.REJECTED
        return default_classification(response.status)

    def paths(self, ref: ResourceRef) -> Paths:
        """The code that a person was sent by e-mail or text message is a secret. File URLs differ only in queries."""
        return _PATHS

    def api_version(self, source: Source) -> str | None:
        """The `Persona-Version` that is asked for."""
        return source.api_version

    def read(self, source: Source, ref: ResourceRef, document: dict[str, Json]) -> Reading:
        """The normalised reading of a retrieved document."""
        return read_resource(ref, document)

    def probe(self, source: Source, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """Ask for an inquiry that cannot exist.

        The 404 shows that key, address and permission to read are good, and brings no personal data along, as a list
        of inquiries would; `/rate-limits` would show the key, but not the permission.
        """
        return get_request(source, f"inquiries/{PROBE_ID}")


def get_request(source: Source, path: str) -> OutboundRequest:
    """A GET below the source's base URL, with its key and the pinned version."""
    headers = {
        **bearer(source.api_key),
        "Persona-Version": source.api_version,
        "Key-Inflection": "kebab",
        "Accept": "application/json",
    }
    return OutboundRequest(f"{source.base_url}/{path}", headers)


def _signatures(headers: Mapping[str, str]) -> list[_Signature]:
    header = headers.get("persona-signature")
    if header is None:
        raise AuthenticationFailed("there is no Persona-Signature header")
    if len(header) > MAX_SIGNATURE_HEADER:
        raise AuthenticationFailed("the Persona-Signature header is too long")
    found = [sent for part in header.split() if (sent := _signature(part)) is not None]
    if not found:
        raise AuthenticationFailed("the Persona-Signature header is not understood")
    return found


def _signature(part: str) -> _Signature | None:
    usual = _USUAL.match(part)
    if usual is not None:
        return _Signature(usual[1], (bytes.fromhex(usual[2]),))
    pairs = [pair.partition("=") for pair in part.split(",")]
    times = [value for name, _, value in pairs if name == "t" and _TIMESTAMP.match(value)]
    digests = [bytes.fromhex(value) for name, _, value in pairs if name == "v1" and _DIGEST.match(value)]
    return _Signature(times[0], tuple(digests)) if len(times) == 1 and digests else None


def _is_signed(sent: _Signature, secrets: tuple[str, ...], body: bytes) -> bool:
    message = sent.timestamp.encode("ascii") + b"." + body
    expected = [hmac_sha256(secret, message) for secret in secrets]
    return any([matches_any(digest, expected) for digest in sent.digests])


def event_resources(subject: Json, event: str) -> tuple[tuple[ResourceRef, ...], str | None]:
    """What to retrieve, or why there is nothing to. Raises UnreadableNotification.

    A redacted transaction does not show in its document that it was, so the event leads to its results as well.
    """
    resource_type = text(subject, "type")
    if resource_type is None:
        raise UnreadableNotification("the event names no resource")
    kind = kind_of(resource_type)
    if kind is None:
        return _instead(subject, resource_type)
    ref = ref_or_none(kind, text(subject, "id"))
    if ref is None:
        raise UnreadableNotification("the event's resource has no usable id or type")
    return ((ref, *linked(subject)) if event == "transaction.redacted" else (ref,)), None


def _instead(subject: Json, resource_type: str) -> tuple[tuple[ResourceRef, ...], str | None]:
    """Selfies and sessions have no retrieve endpoint of use to us; the inquiry that they belong to has."""
    shown = resource_type if KIND.match(resource_type) else "unknown"
    if resource_type.partition("/")[0] not in ("selfie", "inquiry-session"):
        return (), f"resources of type {shown} are not kept"
    inquiry = ref_or_none("inquiry", text(subject, "relationships", "inquiry", "data", "id"))
    if inquiry is None:
        return (), f"resources of type {shown} cannot be retrieved, and this one names no inquiry"
    return (inquiry,), None


def _inflected(value: Json, names: tuple[str, ...]) -> Json:
    for name in names:
        found = member(value, name)
        if found is not None:
            return found
    return None


def _blames_credential(body: bytes) -> bool:
    said = " ".join(_error_texts(body)).lower()
    return any(phrase in said for phrase in BAD_CREDENTIAL_PHRASES)


def _error_texts(body: bytes) -> Iterator[str]:
    try:
        errors = objects(parse_object(body), "errors")
    except UnreadableJson:
        return
    for error in errors:
        yield from (found for name in ("title", "details") if (found := text(error, name)))
