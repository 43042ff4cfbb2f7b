"""Persona's resources as API version 2025-12-08 shows them: JSON:API, kebab-case, file URLs with a token each."""

import base64
import hashlib
import json
from collections.abc import Sequence

from web.simulator import people
from web.simulator.persona_builders import FILES, INQUIRY_TIMES, inquiry, moment, other, verification
from web.simulator.persona_checks import checks
from web.simulator.records import (
    Action,
    JsonObject,
    Make,
    Options,
    Reading,
    Record,
    Ref,
    iso,
    items,
    map_strings,
    section,
    status_after,
    without,
)
from worker.domain.strict_json import Json

FILE_TOKEN_SECONDS = 21_600
PREFIXES = {"inquiry": "inq", "account": "act", "verification": "ver", "report": "rep", "case": "case",
            "transaction": "txn", "document": "doc", "inquiry-session": "iqse"}  # fmt: skip

INQUIRY = {"start": "pending", "complete": "completed", "review": "needs_review", "approve": "approved",
           "decline": "declined", "retry": "failed", "expire": "expired"}  # fmt: skip
VERIFICATION = {"start": "submitted", "complete": "confirmed", "review": "tentatively_passed", "approve": "passed",
                "decline": "failed", "retry": "requires_retry", "expire": "canceled", "abandon": "skipped"}  # fmt: skip
OTHER = {
    "start": "pending",
    "complete": "ready",
    "approve": "approved",
    "decline": "declined",
    "review": "needs_review",
}
REVERSED = {"approved": "declined", "declined": "approved", "passed": "failed", "failed": "passed"}
PERSONAL = frozenset(
    {"name-first", "name-middle", "name-last", "birthdate", "address-street-1", "address-city", "address-subdivision",
     "address-postal-code", "identification-number", "document-number", "phone-number", "email-address", "photo-urls",
     "left-photo-url", "center-photo-url", "right-photo-url", "front-photo-url", "video-url", "selfie-photo",
     "confirmation-code", "center-photo-face-coordinates", "files"}
)  # fmt: skip
VOLATILE = frozenset({"confirmation-code"})


class PersonaVendor:
    """Inquiries, accounts, verifications of any type, and the plainer resources around them."""

    def build(self, kind: str, make: Make, options: Options) -> tuple[str, JsonObject]:
        family = kind.partition("/")[0]
        if family not in PREFIXES:
            raise ValueError(f"Persona has no {kind}")
        external_id = make.ids.persona(PREFIXES[family])
        person = people.draw(make.rng)
        if family == "inquiry":
            attributes, relationships = inquiry(make, person, options)
        elif family == "verification":
            attributes, relationships = verification(kind, make, person, options)
        else:
            attributes, relationships = other(kind, make, person, options)
        return external_id, {
            "type": kind, "id": external_id, "attributes": attributes, "relationships": relationships,
        }  # fmt: skip

    def apply(self, kind: str, document: JsonObject, action: Action, make: Make) -> None:
        attributes = section(document, "attributes")
        if action == "redact":
            _redact(attributes, make)
        elif action == "update":
            items(attributes, "tags").append(f"tag-{make.rng.randint(100, 999)}")
        elif kind == "inquiry":
            attributes["status"] = status_after(INQUIRY, REVERSED, action, attributes["status"])
            attributes[INQUIRY_TIMES[str(attributes["status"])]] = iso(make.at)
        elif kind.startswith("verification/"):
            _judge(kind, attributes, action, make)
        else:
            attributes["status"] = status_after(OTHER, REVERSED, action, attributes.get("status"))
        if "updated-at" in attributes:
            attributes["updated-at"] = iso(make.at)

    def adopt(self, document: JsonObject, child: Ref, child_document: JsonObject) -> None:
        plural = {"verification": "verifications", "report": "reports", "document": "documents",
                  "inquiry-session": "sessions"}[child.kind.partition("/")[0]]  # fmt: skip
        relation = section(section(document, "relationships"), plural)
        items(relation, "data").append({"type": child.kind, "id": child.external_id})

    def children(self, document: JsonObject) -> Sequence[tuple[str, str]]:
        relationships = section(document, "relationships")
        found: list[tuple[str, str]] = []
        for name in ("verifications", "documents", "reports"):
            relation = relationships.get(name)
            data = relation.get("data") if isinstance(relation, dict) else None
            found += (
                [(str(one["type"]), str(one["id"])) for one in data or [] if isinstance(one, dict)]
                if isinstance(data, list)
                else []
            )
        return found

    def status(self, kind: str, document: JsonObject) -> str | None:
        status = section(document, "attributes").get("status")
        return str(status) if status is not None else None

    def serve(self, record: Record, reading: Reading) -> JsonObject:
        return {"data": sign_files(record.document, reading)}

    def core(self, response: JsonObject) -> JsonObject:
        core = without(response["data"], VOLATILE)
        return core if isinstance(core, dict) else {}


def sign_files(document: Json, reading: Reading) -> Json:
    """A copy whose file URLs carry an access token that no earlier read showed."""
    return map_strings(document, {FILES: f"?access_token={_access_token(reading)}"})


def _access_token(reading: Reading) -> str:
    issued = int(reading.at.timestamp())
    claims = {"aud": "files.withpersona.com", "iat": issued, "exp": issued + FILE_TOKEN_SECONDS, "jti": reading.number}
    parts = [_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims)]
    signature = hashlib.sha256(f"{parts[0]}.{parts[1]}".encode()).digest()
    return ".".join([*parts, _base64url(signature)])


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _judge(kind: str, attributes: JsonObject, action: Action, make: Make) -> None:
    status = status_after(VERIFICATION, REVERSED, action, attributes["status"])
    attributes["status"] = status
    if attributes["submitted-at"] is None:
        attributes |= moment("submitted", make)
    if status in ("submitted", "confirmed"):
        return
    attributes |= moment("completed", make)
    attributes["checks"] = checks(kind, failed=status in ("failed", "requires_retry"))
    if kind == "verification/selfie":
        attributes["selfie-similarity-score-left"] = round(make.rng.uniform(60, 100), 3)
        attributes["selfie-similarity-score-right"] = round(make.rng.uniform(60, 100), 3)


def _redact(attributes: JsonObject, make: Make) -> None:
    if attributes.get("redacted-at") is not None:
        raise ValueError("this record is redacted already")
    attributes["redacted-at"] = iso(make.at)
    for name in PERSONAL & attributes.keys():
        attributes[name] = None
    if "checks" in attributes:
        attributes["checks"] = []
    fields = attributes.get("fields")
    for field in fields.values() if isinstance(fields, dict) else ():
        if isinstance(field, dict):
            field["value"] = None
