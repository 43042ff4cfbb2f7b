"""gu1's rows: session KYC, biometric sessions, face matches, ID verifications and the entities that they belong to."""

from collections.abc import Sequence
from datetime import timedelta

from web.simulator import people
from web.simulator.records import (
    Action,
    JsonObject,
    Make,
    Options,
    Reading,
    Record,
    Ref,
    iso,
    map_strings,
    optional_text,
    status_after,
    without,
)
from worker.domain.strict_json import Json

MEDIA = "https://gu1-kyc-media.s3.amazonaws.com/"
SESSION_URL = "https://verify.gu1.example/session/"
MEDIA_SECONDS = 4 * 3600

SESSION = {"start": "in_progress", "review": "in_review", "approve": "approved", "decline": "rejected",
           "expire": "expired", "abandon": "abandoned", "retry": "cancelled"}  # fmt: skip
MATCH = {"approve": "approved", "decline": "declined", "review": "in_review", "abandon": "failed"}
ENTITY = {"start": "under_review", "approve": "active", "decline": "blocked"}
STATUSES = {"kyc-validation": SESSION, "biometric-session": SESSION, "face-match": MATCH,
            "id-verification": MATCH, "entity": ENTITY}  # fmt: skip
REVERSED = {"approved": "rejected", "rejected": "approved", "active": "blocked", "blocked": "active"}
REVERSED_MATCH = {"approved": "declined", "declined": "approved"}


class Gu1Vendor:
    """Rows are served bare: no envelope, no signature."""

    def __init__(self, organization_id: str) -> None:
        self._organization_id = organization_id

    def build(self, kind: str, make: Make, options: Options) -> tuple[str, JsonObject]:
        builders = {
            "kyc-validation": _validation, "biometric-session": _biometric, "face-match": _face_match,
            "id-verification": _id_verification, "entity": _entity,
        }  # fmt: skip
        if kind not in builders:
            raise ValueError(f"gu1 has no {kind}")
        external_id = make.ids.uuid()
        row = builders[kind](make, options)
        return external_id, {
            "id": external_id, "organizationId": self._organization_id, **row, "createdAt": iso(make.at),
        }  # fmt: skip

    def apply(self, kind: str, document: JsonObject, action: Action, make: Make) -> None:
        if "updatedAt" in document:
            document["updatedAt"] = iso(make.at)
        if action == "update":
            document |= {"riskScore": make.rng.randint(1, 100)} if kind == "entity" else {"vendorData": make.ids.uuid()}
            return
        reversal = REVERSED_MATCH if kind in ("face-match", "id-verification") else REVERSED
        document["status"] = status_after(STATUSES[kind], reversal, action, document["status"])
        if kind == "kyc-validation":
            _judge_validation(document, make)
        elif kind == "biometric-session":
            rejected = document["status"] == "rejected"
            document["rejectionCode"] = "FACE_MATCH_SCORE_LOW" if rejected else None
            document["rejectionMessage"] = "Face match score below threshold" if rejected else None
        elif kind == "face-match":
            document |= _match(str(document["status"]), make)

    def adopt(self, document: JsonObject, child: Ref, child_document: JsonObject) -> None:
        """Rows name their entity; the entity does not name them."""

    def children(self, document: JsonObject) -> Sequence[tuple[str, str]]:
        return []

    def status(self, kind: str, document: JsonObject) -> str | None:
        return optional_text(document, "status")

    def serve(self, record: Record, reading: Reading) -> JsonObject:
        signed = map_strings(
            record.document, {MEDIA: f"?X-Amz-Expires={MEDIA_SECONDS}&X-Amz-Signature={reading.number:064x}"}
        )
        return signed if isinstance(signed, dict) else {}

    def core(self, response: JsonObject) -> JsonObject:
        core = without(response, frozenset())
        return core if isinstance(core, dict) else {}


def _validation(make: Make, options: Options) -> JsonObject:
    session = make.ids.uuid()
    reference = optional_text(options, "reference")
    return {
        "entityId": optional_text(options, "parent") or make.ids.uuid(), "validationSessionId": session,
        "status": "pending", "provider": "global_gueno_validation_kyc", "providerSessionUrl": f"{SESSION_URL}{session}",
        "decision": None, "documentsVerified": [], "biometricResult": None, "riskAssessment": None,
        "verifiedFields": [], "extractedData": None, "warnings": [], "isCurrent": True, "verifiedAt": None,
        "expiresAt": iso(make.at + timedelta(days=7)), "metadata": {"reference": reference} if reference else {},
        "updatedAt": iso(make.at),
    }  # fmt: skip


def _judge_validation(document: JsonObject, make: Make) -> None:
    status = str(document["status"])
    document["warnings"] = ["POSSIBLE_DUPLICATED_USER"] if status == "in_review" else []
    if status == "in_review":
        return
    judged = status in ("approved", "rejected")
    person = people.draw(make.rng)
    files: dict[str, Json] = {side: f"{MEDIA}{make.ids.uuid()}-{side}.jpg" for side in ("front", "back", "selfie")}
    document["verifiedAt"] = iso(make.at) if status == "approved" else None
    document["decision"] = {"status": status, "images": files, "score": make.rng.randint(1, 99)} if judged else None
    document["biometricResult"] = (
        {"match": status == "approved", "score": round(make.rng.uniform(20, 99), 2)} if judged else None
    )
    document["extractedData"] = (
        {"fullName": person.full_name, "documentNumber": person.document_number} if judged else None
    )
    document["verifiedFields"] = ["fullName", "documentNumber"] if status == "approved" else []
    if status == "rejected":
        document["warnings"] = ["DOCUMENT_EXPIRED"]


def _biometric(make: Make, options: Options) -> JsonObject:
    return {
        "entityId": optional_text(options, "parent") or make.ids.uuid(), "status": "pending", "mode": "face_match",
        "sessionUrl": f"{SESSION_URL}{make.ids.uuid()}", "vendorData": optional_text(options, "reference"),
        "rejectionCode": None, "rejectionMessage": None, "updatedAt": iso(make.at),
    }  # fmt: skip


def _stored(make: Make, options: Options, status: str) -> JsonObject:
    return {
        "entityId": optional_text(options, "parent"), "status": status, "requestId": make.ids.uuid(),
        "vendorData": optional_text(options, "reference"), "errorMessage": None, "storageProvider": "s3",
    }  # fmt: skip


def _face_match(make: Make, options: Options) -> JsonObject:
    status = optional_text(options, "status") or "in_review"
    return {
        **_stored(make, options, status), **_match(status, make), "triggeredByUserId": None,
        "documentStoragePath": f"kyc/{make.ids.uuid()}/document.jpg", "selfieStoragePath": None, "threshold": 30,
    }  # fmt: skip


def _match(status: str, make: Make) -> JsonObject:
    score = None if status == "failed" else round(make.rng.uniform(*((5, 29) if status == "declined" else (40, 99))), 1)
    error = "Verification could not be completed" if status == "failed" else None
    return {"match": status == "approved", "score": score, "errorMessage": error}


def _id_verification(make: Make, options: Options) -> JsonObject:
    person = people.draw(make.rng)
    return {
        **_stored(make, options, optional_text(options, "status") or "approved"), "warnings": [],
        "extractedData": {"fullName": person.full_name, "documentNumber": person.document_number, "extraFields": {}},
        "documentFrontStoragePath": f"kyc/{make.ids.uuid()}/front.jpg", "documentBackStoragePath": None,
    }  # fmt: skip


def _entity(make: Make, options: Options) -> JsonObject:
    person = people.draw(make.rng)
    return {
        "externalId": optional_text(options, "reference") or f"customer_{make.rng.randint(1000, 9999)}",
        "type": "person", "name": person.full_name, "taxId": person.document_number, "countryCode": person.country,
        "riskScore": make.rng.randint(1, 100), "riskFactors": [], "status": "under_review", "kycVerified": False,
        "kycProvider": None, "kycData": None, "entityData": {"person": {"birthdate": person.birthdate}},
        "attributes": {}, "currentEvaluation": None, "updatedAt": iso(make.at), "deletedAt": None,
    }  # fmt: skip
