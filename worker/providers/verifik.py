"""Verifik (verifik.co): unsigned two-key notifications in, Mongo records out.

Verifik signs nothing, so the secret is the last segment of the webhook's URL, and the body is only a hint: it says
which record to retrieve with our own token. How a record reads is in `verifik_mapping`.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from urllib.parse import urlencode

from worker.domain.documents import Paths
from worker.domain.model import Notification, Reading, ResourceRef
from worker.domain.states import FailureKind
from worker.domain.strict_json import Json, member, parse_object, text
from worker.domain.times import read_time
from worker.errors import AuthenticationFailed, UnreadableJson, UnreadableNotification
from worker.providers.base import (
    ErrorResponse,
    InboundRequest,
    OutboundRequest,
    bearer,
    body_digest,
    default_classification,
    matches_any,
    ref_or_none,
    require_secrets,
)
from worker.providers.verifik_mapping import read_record
from worker.providers.verifik_plain import LIVENESS_CHECKS, PLAIN, PLAIN_CHECKS
from worker.settings import Source

ENTITIES: Mapping[str, str] = MappingProxyType(
    {
        "app_registration": "app-registration",
        "face_verification": "app-registration",
        "biometric_validation": "biometric-validation",
        "biometrics_liveness": "biometric-validation",
        "document_validation": "document-validation",
        "document_liveness": "document-liveness",
        "email_validation": "email-validation",
        "phone_validation": "phone-validation",
        "information_validation": "information-validation",
    }
)
"""How the part of an event type after the flow's name begins, and the kind of record that its `object` then is.

Source: the vendor's page of supported events. `face_verification_compare` carries an app registration, and
`biometrics_liveness_score_not_acceptable` a biometric validation. For document liveness no event is documented.
"""

_SUFFIX = re.compile(r"(?:\A|_)(" + "|".join(ENTITIES) + r")(?:_|\Z)")

PATHS: Mapping[str, str] = MappingProxyType(
    {
        "app-registration": "app-registrations",
        "biometric-validation": "biometric-validations",
        "document-liveness": "document-liveness",
        "document-validation": "document-validations",
        "email-validation": "email-validations",
        "phone-validation": "phone-validations",
        "information-validation": "information-validations",
    }
)
"""Source: the vendor's resource pages; the path follows `/v2/`."""

_OWNERS = ("client", "project", "projectFlow")

POPULATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "app-registration": (
            "project", "projectFlow", "emailValidation", "phoneValidation", "biometricValidation",
            "biometricValidation.face", "documentValidation", "documentValidation.documentLiveness",
            "informationValidation", "consentSession", "person", "face", "documentFace",
            "compareFaceVerification", "failedDocumentValidations", "failedBiometricValidations",
            "failedBiometricValidations.face", "manualReviewLog.reviewedByClient",
            "manualReviewLog.reviewedByStaff", "cryptoValidation", "formSubmittion", "signature",
            "accessControlLog",
        ),
        "biometric-validation": (*_OWNERS, "livenessSession", "face"),
        "document-liveness": ("client", "appRegistration"),
        "document-validation": ("appRegistration", "projectFlow", "documentLiveness"),
        "email-validation": _OWNERS,
        "phone-validation": _OWNERS,
    }
)  # fmt: skip
"""What may be populated, by kind; `formSubmittion` is the vendor's spelling. Source: resource pages and dashboard."""

ALWAYS_POPULATED: Mapping[str, tuple[str, ...]] = MappingProxyType({"app-registration": ("compareFaceVerification",)})
"""A face comparison cannot be retrieved by itself, and Verifik deletes it after about 90 days."""

STATUS_KINDS: Mapping[int, FailureKind] = MappingProxyType(
    {
        204: FailureKind.NOT_FOUND,
        401: FailureKind.CREDENTIAL,
        402: FailureKind.CREDENTIAL,
        403: FailureKind.REJECTED,
        409: FailureKind.REJECTED,
        412: FailureKind.REJECTED,
    }
)
"""Where Verifik is special: 402 is an account without credits, 409 a validation error, 412 an expired record."""

BAD_CREDENTIAL_WORDS = frozenset({(403, "expired_token"), (409, "missing authorization header")})
"""Answers that are about the token, though their status says otherwise. The list is closed."""

SECRET_MEMBERS = ("otp", "verificationCode", "token", "accessToken", "webhookUrl", "webhook")

PROBE_ID = "000000000000000000000000"


class VerifikProvider:
    """Verifik. Proves itself by a secret URL only, sends no event ids, and may send a webhook once or never."""

    name = "verifik"
    mapping_version = 1
    token_in_url = True
    kinds = tuple(PATHS)

    def authenticate(self, source: Source, request: InboundRequest, now: int) -> None:
        """Compare the URL's last segment with each configured token, in constant time."""
        configured = (token.get_secret_value() for token in source.webhook_tokens)
        tokens = require_secrets(configured, "webhook_tokens")
        presented = (request.token or "").encode("utf-8", "surrogatepass")
        if not matches_any(presented, [token.encode("utf-8") for token in tokens]):
            raise AuthenticationFailed("the URL does not end with a configured token")

    def parse(self, source: Source, body: bytes) -> Notification:
        """Read `{type, object}`. The flow's name before the entity is free, so that new kinds of flow work."""
        notification = parse_object(body)
        event_type = text(notification, "type")
        record = member(notification, "object")
        kind = kind_of_event(event_type)
        resources = (_ref(kind, record),) if kind else ()
        return Notification(
            delivery_key=body_digest(body),
            event_type=event_type,
            resources=resources,
            occurred_at=read_time(member(record, "updatedAt")),
            repeat_looks_again=True,
            ignored_because=None if resources else "unknown event type",
        )

    def request(self, source: Source, ref: ResourceRef, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """The GET of one record, with those of the configured `populates` that its kind allows."""
        path = PATHS.get(ref.kind)
        if path is None:
            raise ValueError(f"Verifik has no way to retrieve a record of kind {ref.kind}")
        wanted = dict.fromkeys((*ALWAYS_POPULATED.get(ref.kind, ()), *source.populates))
        populates = [("populates[]", name) for name in wanted if name in POPULATES.get(ref.kind, ())]
        return get_request(source, f"{path}/{ref.external_id}" + (f"?{urlencode(populates)}" if populates else ""))

    def classify(self, response: ErrorResponse) -> FailureKind:
        """Verifik has several shapes of error body; the status decides, but for what the closed list names."""
        if any((response.status, words) in BAD_CREDENTIAL_WORDS for words in _error_words(response.body)):
            return FailureKind.CREDENTIAL
        return STATUS_KINDS.get(response.status) or default_classification(response.status)

    def paths(self, ref: ResourceRef) -> Paths:
        """One-time codes, session tokens, and where a record says where its webhooks go: that URL holds our token.

        `signature` is a stamp with the time of the answer, no signature: it changes at each read.
        """
        return Paths(
            secrets=tuple(("**", name) for name in SECRET_MEMBERS),
            volatile=(("signature", "dateTime"),),
            plain=PLAIN,
            plain_checks=LIVENESS_CHECKS if ref.kind == "document-liveness" else PLAIN_CHECKS,
        )

    def api_version(self, source: Source) -> str | None:
        """Verifik's version is part of the path."""
        return "v2"

    def read(self, source: Source, ref: ResourceRef, document: dict[str, Json]) -> Reading:
        """The normalised reading of a retrieved document."""
        return read_record(ref, document)

    def probe(self, source: Source, *, nonce: str, unix_ms: int) -> OutboundRequest:
        """Ask for an app registration that cannot exist.

        The 404 shows that token and address are good. A list would bring a person's data along, and `/v2/auth/session`
        would issue a new token.
        """
        return get_request(source, f"{PATHS['app-registration']}/{PROBE_ID}")


def get_request(source: Source, path: str) -> OutboundRequest:
    """A GET below `/v2/`, with the source's token."""
    return OutboundRequest(
        f"{source.base_url}/v2/{path}", {**bearer(source.access_token), "Accept": "application/json"}
    )


def kind_of_event(event_type: str | None) -> str | None:
    """The kind of record that an event of this type is about; None for types that are not known."""
    match = _SUFFIX.search(event_type.lower()) if event_type else None
    return ENTITIES[match[1]] if match else None


def _ref(kind: str, record: Json) -> ResourceRef:
    ref = ref_or_none(kind, text(record, "_id"))
    if ref is None:
        raise UnreadableNotification("the notification's object has no usable _id")
    return ref


def _error_words(body: bytes) -> Iterator[str]:
    """The texts of an error body, of whichever shape, without the status that may stand before them."""
    try:
        answer = parse_object(body)
    except UnreadableJson:
        return
    for place in ((), ("data",)):
        for name in ("code", "error", "message"):
            words = text(answer, *place, name)
            if words is not None:
                yield re.sub(r"\A\d{3}:", "", words).partition("@")[0].strip().lower()
