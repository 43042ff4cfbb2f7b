"""How Verifik's records change when they are judged: their statuses, and the numbers that come with them."""

from web.simulator.records import (
    Action,
    JsonObject,
    Make,
    iso,
    section,
    status_after,
)
from web.simulator.verifik_builders import THREATS, flat_scores
from worker.domain.strict_json import Json

FLAT_BIOMETRIC = {
    "start": "sent",
    "complete": "validated",
    "approve": "validated",
    "decline": "failed",
    "expire": "expired",
}
NESTED_BIOMETRIC = {**FLAT_BIOMETRIC, "start": "pending", "complete": "completed", "approve": "completed"}
DOCUMENT = {"start": "ASSESSING", "complete": "ACTIVE_BUT_UNVERIFIED", "approve": "ACTIVE", "decline": "FAILED",
            "review": "NEEDS_MANUAL_VERIFICATION", "expire": "EXPIRED", "abandon": "NOT_FOUND"}  # fmt: skip
REGISTRATION = {"start": "ONGOING", "complete": "COMPLETED_WITHOUT_KYC", "approve": "COMPLETED", "decline": "FAILED",
                "review": "NEEDS_MANUAL_VERIFICATION", "expire": "EXPIRED"}  # fmt: skip
LIVENESS = {"start": "processing", "complete": "completed", "approve": "completed", "decline": "failed"}
REVERSED = {"validated": "failed", "completed": "failed", "failed": "completed", "COMPLETED": "FAILED",
            "FAILED": "COMPLETED", "ACTIVE": "FAILED"}  # fmt: skip


def judge_registration(document: JsonObject, action: Action, make: Make) -> None:
    document["status"] = status_after(REGISTRATION, REVERSED, action, document["status"])
    document["currentStep"] = "document" if action == "start" else "skipKYC" if action == "complete" else "end"
    if action == "reverse":
        log = document.setdefault("manualReviewLog", [])
        if isinstance(log, list):
            log.append({"status": document["status"], "note": "decided by hand", "createdAt": iso(make.at)})
    if action in ("approve", "decline"):
        score = round(make.rng.uniform(0.86, 0.99) if action == "approve" else make.rng.uniform(0.2, 0.6), 4)
        document["compareFaceVerification"] = {
            "_id": make.ids.object_id(), "comparedAt": iso(make.at),
            "result": {"score": score, "passed": action == "approve", "compare_min_score": 0.85},
        }  # fmt: skip


def judge_biometric(document: JsonObject, action: Action, make: Make) -> None:
    nested = "biometricData" in document
    status = status_after(NESTED_BIOMETRIC if nested else FLAT_BIOMETRIC, REVERSED, action, document["status"])
    document["status"] = "validated" if status == "completed" and not nested else status
    passed = document["status"] in ("validated", "completed")
    if not passed and document["status"] != "failed":
        return
    score = round(make.rng.uniform(0.7, 0.99) if passed else make.rng.uniform(0.1, 0.5), 4)
    verdict = "passed" if passed else "failed"
    if nested:
        section(document, "biometricData").update(quality="good", livenessScore=score)
        document["verificationResults"] = {"livenessDetection": verdict, "antiSpoofing": verdict, "qualityScore": score}
        document |= {"riskScore": round(1 - score, 4), "completedAt": iso(make.at)}
    else:
        document |= {
            "livenessScore": score,
            "response": {"liveness": {"score": score, "status": verdict}, "persons": []},
        }
    document["failedReason"] = None if passed else f"409:liveness_failed@{score}"


def judge_liveness(document: JsonObject, action: Action, make: Make) -> None:
    if "validationResults" not in document:
        status_after(LIVENESS, {"None": "completed"}, action, None)
        document |= flat_scores(make, genuine=action != "decline")
        return
    document["status"] = status_after(LIVENESS, REVERSED, action, document["status"])
    if action == "start":
        return
    passed = document["status"] == "completed"
    confidence = round(make.rng.uniform(0.85, 0.99) if passed else make.rng.uniform(0.1, 0.4), 4)
    results: dict[str, Json] = {
        threat: {"passed": passed, "score": confidence, "details": "nothing detected" if passed else "suspected"}
        for threat in THREATS
    }
    document |= {"validationResults": results, "confidence": confidence, "riskScore": round(1 - confidence, 4),
                 "completedAt": iso(make.at)}  # fmt: skip


def judge_document(document: JsonObject, action: Action) -> None:
    document["status"] = status_after(DOCUMENT, REVERSED, action, document["status"])
    document["scoreValidated"] = document["imageValidated"] = document["status"] == "ACTIVE"
    document["failedReason"] = "409:document_number_is_not_extracted" if action == "decline" else None


def judge_contact(document: JsonObject, action: Action) -> None:
    """An e-mail, phone or information validation."""
    document["status"] = status_after(FLAT_BIOMETRIC, REVERSED, action, document["status"])
