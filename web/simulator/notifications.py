"""What each provider sends to a webhook, and how it proves that it sent it. Builds requests; sends nothing.

The signatures are computed here from the providers' descriptions alone, so that a mistake in the receiver shows.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from web.simulator.credentials import Credentials
from web.simulator.records import JsonObject, Record, Ref, iso, section
from web.simulator.verifik_documents import VOLATILE
from web.simulator.world import World
from web.simulator.yoti_documents import check_ids
from worker.clock import unix_seconds
from worker.domain.strict_json import Json

PERSONA_ATTEMPTS = 8
PERSONA_WORDS = {
    "needs_review": "marked-for-review",
    "pending": "started",
    "initiated": "created",
    "confirmed": "submitted",
}
VERIFIK_TOPICS = {
    "app-registration": "app_registration", "biometric-validation": "biometric_validation",
    "document-validation": "document_validation", "email-validation": "email_validation",
    "phone-validation": "phone_validation", "information-validation": "information_validation",
}  # fmt: skip
VERIFIK_WORDS = {
    "STARTED": "created", "ONGOING": "sync_document", "ASSESSING": "created", "ACTIVE": "source_lookup",
    "ACTIVE_BUT_UNVERIFIED": "data_source_error", "pending": "new", "completed": "validated",
}  # fmt: skip
"""Where Verifik's event does not simply end with the status, in lower case."""

GU1_TOPICS = {"kyc-validation": "kyc.validation_{}", "biometric-session": "biometric.session_{}",
              "entity": "entity.status_changed"}  # fmt: skip


Composed: TypeAlias = tuple[str, str | None, JsonObject]
"""The event's name, its id if the provider gives one, and the body."""


class Flaw(StrEnum):
    """What can be wrong with a request on purpose."""

    WRONG_SIGNATURE = "wrong signature"
    NO_SIGNATURE = "no signature"
    TAMPERED_BODY = "tampered body"
    OLD_TIMESTAMP = "old timestamp"
    ROTATING = "rotating"
    """No flaw, but Persona's rotation: signed with every secret, sets separated by a space."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification, not yet signed. Duplicates share `key`; `revision` is the record's when it was told of."""

    ref: Ref
    revision: int
    event: str
    key: str
    body: bytes = field(repr=False)

    def without_body(self) -> "Notice":
        """What is kept of a notification that has been sent: long runs would not fit into memory otherwise."""
        return replace(self, body=b"")


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One request to a webhook: POST it to the target with this path."""

    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """When, and for which time, a notification is sent. Times are Unix seconds."""

    now: int
    number: int = 1
    first_at: int | None = None


def compose(world: World, record: Record, event: str | None = None, **extra: str) -> Notice:
    """The notification of what `record` is now. `event` is the provider's own name; by default it follows the status.

    `extra` is for Yoti: `check_id`, `task_id` or `resource_id`. Raises ValueError for kinds that nobody notifies about.
    """
    composers = {"persona": _persona, "verifik": _verifik, "gu1": _gu1, "yoti": _yoti}
    name, key, content = composers[record.ref.provider](world, record, event, extra)
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return Notice(record.ref, record.revision, name, key or hashlib.sha256(body).hexdigest(), body)


def sign(
    credentials: Credentials,
    notice: Notice,
    *,
    attempt: Attempt | None = None,
    flaw: Flaw | None = None,
    source: str | None = None,
) -> WebhookRequest:
    """The request that carries the notification. `source` is the slug in the path, by default the provider's name."""
    attempt = attempt or Attempt(unix_seconds())
    provider = notice.ref.provider
    body = notice.body[:-1] + b" }" if flaw is Flaw.TAMPERED_BODY else notice.body
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": f"simulated-{provider}"}
    path = f"/webhooks/{source or provider}"
    if provider == "verifik":
        path += _verifik_token(credentials, flaw)
    else:
        signers = {"persona": _sign_persona, "gu1": _sign_gu1, "yoti": _sign_yoti}
        headers |= signers[provider](credentials, notice.body, attempt, flaw)
    return WebhookRequest(path, headers, body)


def _persona(world: World, record: Record, event: str | None, _extra: Mapping[str, str]) -> Composed:
    document = world.emit(record, event or _persona_event(record))
    name = str(section(document, "attributes")["name"])
    return name, str(document["id"]), {"data": document}


def _persona_event(record: Record) -> str:
    kind, family = record.ref.kind, record.ref.kind.partition("/")[0]
    # There is no `verification.redacted`: Persona tells of the inquiry alone.
    if section(record.document, "attributes").get("redacted-at") is not None and family != "verification":
        return f"{family}.redacted"
    status = record.status or "created"
    return f"{kind if family == 'report' else family}.{PERSONA_WORDS.get(status, status.replace('_', '-'))}"


def _verifik(world: World, record: Record, event: str | None, _extra: Mapping[str, str]) -> Composed:
    data = section(world.serve(record), "data")
    shown: JsonObject = {name: value for name, value in data.items() if name not in VOLATILE and value is not None}
    event = event or f"onboarding_{_verifik_topic(record)}"
    return event, None, {"type": event, "object": shown}


def _verifik_topic(record: Record) -> str:
    kind, status = record.ref.kind, str(record.status)
    if kind not in VERIFIK_TOPICS:
        raise ValueError(f"Verifik sends nothing about a {kind}")
    word = VERIFIK_WORDS.get(status, status.lower())
    if kind == "document-validation" and status == "NEEDS_MANUAL_VERIFICATION":
        word = "manual_verification_required"
    if kind in ("email-validation", "phone-validation") and status == "sent":
        word = "created"
    return f"{VERIFIK_TOPICS[kind]}_{word}"


def _gu1(world: World, record: Record, event: str | None, _extra: Mapping[str, str]) -> Composed:
    if event is None:
        if record.ref.kind not in GU1_TOPICS:
            raise ValueError(f"gu1 sends nothing about a {record.ref.kind}")
        event = GU1_TOPICS[record.ref.kind].format({"pending": "created"}.get(str(record.status), record.status))
    row = world.serve(record)
    payload: JsonObject = {"entity": row} if record.ref.kind == "entity" else row
    if record.status in ("approved", "rejected"):
        entity = world.by_id("gu1", str(row.get("entityId")))
        payload = {**row, **({"entity": world.serve(entity)} if entity else {})}
    organization = row["organizationId"]
    at = iso(record.updated_at)
    return event, None, {"event": event, "timestamp": at, "organizationId": organization, "payload": payload}


def _yoti(_world: World, record: Record, event: str | None, extra: Mapping[str, str]) -> Composed:
    members: dict[str, Json] = dict(extra)
    if event is None and record.status != "ONGOING":
        event = "session_completion"
    done = check_ids(record.document, done=True)
    if event is None and done:
        event, members = "check_completion", {"check_id": done[-1], **members}
    event = event or "client_session_token_deleted"
    return event, None, {"session_id": record.ref.external_id, "topic": event, **members}


def _verifik_token(credentials: Credentials, flaw: Flaw | None) -> str:
    if flaw is Flaw.NO_SIGNATURE:
        return ""
    return "/wrong-token" if flaw is Flaw.WRONG_SIGNATURE else f"/{credentials.verifik_webhook_token}"


def _sign_persona(credentials: Credentials, body: bytes, attempt: Attempt, flaw: Flaw | None) -> dict[str, str]:
    at = attempt.now - 86_400 if flaw is Flaw.OLD_TIMESTAMP else attempt.now
    wanted = credentials.persona_webhook_secrets
    secrets: Sequence[str] = wanted[::-1] if flaw is Flaw.ROTATING else wanted[:1]
    secrets = ["wbhsec_wrong"] if flaw is Flaw.WRONG_SIGNATURE else secrets
    sets = [f"t={at},v1={_hmac(secret, str(at).encode() + b'.' + body).hex()}" for secret in secrets]
    headers = {
        "Persona-Webhook-Attempts-Made": str(attempt.number),
        "Persona-Webhook-Attempts-Left": str(PERSONA_ATTEMPTS - attempt.number),
        "Persona-Webhook-First-Attempted-At": str(attempt.first_at or attempt.now),
    }
    return headers if flaw is Flaw.NO_SIGNATURE else {"Persona-Signature": " ".join(sets), **headers}


def _sign_gu1(credentials: Credentials, body: bytes, _attempt: Attempt, flaw: Flaw | None) -> dict[str, str]:
    if flaw is Flaw.NO_SIGNATURE:
        return {}
    secret = "wrong" if flaw is Flaw.WRONG_SIGNATURE else credentials.gu1_webhook_secret
    digest = _hmac(secret, body)
    encoded = digest.hex() if credentials.gu1_signature_encoding == "hex" else base64.b64encode(digest).decode("ascii")
    return {"X-Webhook-Signature": encoded}


def _sign_yoti(credentials: Credentials, _body: bytes, _attempt: Attempt, flaw: Flaw | None) -> dict[str, str]:
    if flaw is Flaw.NO_SIGNATURE:
        return {}
    token = "wrong:token" if flaw is Flaw.WRONG_SIGNATURE else credentials.yoti_notification_token
    if credentials.yoti_notification_auth == "bearer":
        return {"Authorization": f"Bearer {token}"}
    return {"Authorization": f"Basic {base64.b64encode(token.encode('utf-8')).decode('ascii')}"}


def _hmac(secret: str, message: bytes) -> bytes:
    return hmac.new(secret.encode("utf-8"), message, hashlib.sha256).digest()
