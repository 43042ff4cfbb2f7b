"""Verifik's records, in the shapes that its documentation and its own dashboard show; both are served, per record.

Related records are kept as ids. They are embedded when a read asks for it with `populates[]`: see `verifik_api`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from web.simulator import verifik_builders as new
from web.simulator.records import (
    Action,
    JsonObject,
    Make,
    Options,
    Reading,
    Record,
    Ref,
    iso,
    optional_text,
    without,
)
from web.simulator.verifik_verdicts import (
    judge_biometric,
    judge_contact,
    judge_document,
    judge_liveness,
    judge_registration,
)

OWNERS: dict[str, JsonObject] = {
    "client": {"_id": "66b1f0a2c4d5e6f708192a3b", "name": "Simulated client", "status": "active"},
    "project": {"_id": "66b1f0a2c4d5e6f708192a3c", "name": "Simulated project", "status": "active"},
    "projectFlow": {"_id": "66b1f0a2c4d5e6f708192a3d", "name": "Simulated flow", "type": "onboarding"},
}
"""The account that everything belongs to."""

RELATED = {
    "biometricValidation": "biometric-validation", "documentValidation": "document-validation",
    "documentLiveness": "document-liveness", "emailValidation": "email-validation",
    "phoneValidation": "phone-validation", "informationValidation": "information-validation",
    "appRegistration": "app-registration",
}  # fmt: skip
"""Members that hold the id of another record, and that record's kind."""

REFERENCES = frozenset({*RELATED, *OWNERS, "compareFaceVerification", "livenessSession"})
VOLATILE = frozenset({"otp", "verificationCode"})


class VerifikVendor:
    """App registrations and the validations that belong to them."""

    def build(self, kind: str, make: Make, options: Options) -> tuple[str, JsonObject]:
        builders = {
            "app-registration": new.registration, "biometric-validation": new.biometric,
            "document-validation": new.document, "document-liveness": new.liveness, "email-validation": new.contact,
            "phone-validation": new.contact, "information-validation": new.information,
        }  # fmt: skip
        if kind not in builders:
            raise ValueError(f"Verifik has no {kind}")
        external_id = make.ids.object_id()
        document: JsonObject = {"_id": external_id, "client": str(OWNERS["client"]["_id"])}
        if kind != "document-liveness":
            document |= {name: str(OWNERS[name]["_id"]) for name in ("project", "projectFlow")}
        document |= builders[kind](make, {**options, "kind": kind})
        if kind != "app-registration" and optional_text(options, "parent"):
            document["appRegistration"] = optional_text(options, "parent")
        return external_id, {**document, "createdAt": iso(make.at), "updatedAt": iso(make.at), "__v": 0}

    def apply(self, kind: str, document: JsonObject, action: Action, make: Make) -> None:
        document["updatedAt"] = iso(make.at)
        if action == "update":
            document["language"] = make.rng.choice(("es", "en", "pt"))
        elif kind == "document-liveness":
            judge_liveness(document, action, make)
        elif kind == "app-registration":
            judge_registration(document, action, make)
        elif kind == "biometric-validation":
            judge_biometric(document, action, make)
        elif kind == "document-validation":
            judge_document(document, action)
        else:
            judge_contact(document, action)

    def adopt(self, document: JsonObject, child: Ref, child_document: JsonObject) -> None:
        member = next(name for name, kind in RELATED.items() if kind == child.kind)
        document[member] = child.external_id

    def children(self, document: JsonObject) -> Sequence[tuple[str, str]]:
        return []

    def status(self, kind: str, document: JsonObject) -> str | None:
        return optional_text(document, "status")

    def serve(self, record: Record, reading: Reading) -> JsonObject:
        response: JsonObject = {"data": {**record.document, **_collapsed(record.document)}}
        if "biometricData" in record.document or "validationResults" in record.document:
            response = {"success": True, **response}
        flat = record.ref.kind in ("document-liveness", "biometric-validation", "phone-validation")
        if not flat or "success" in response:
            response["signature"] = stamp(reading.at + timedelta(minutes=reading.number))
        return response

    def core(self, response: JsonObject) -> JsonObject:
        data = without(response["data"], VOLATILE)
        return {**data, **_collapsed(data)} if isinstance(data, dict) else {}


def stamp(at: datetime) -> JsonObject:
    """Verifik's 'signature': a stamp in free English, not cryptography."""
    return {
        "dateTime": f"{at:%B} {at.day}, {at.year} {at.hour % 12 or 12}:{at:%M %p}",
        "message": "Certified by Verifik.co",
    }


def _collapsed(data: JsonObject) -> JsonObject:
    found = {name: data[name] for name in REFERENCES & data.keys()}
    return {name: value["_id"] for name, value in found.items() if isinstance(value, dict) and "_id" in value}
