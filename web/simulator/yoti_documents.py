"""Yoti IDV sessions: a document, a liveness capture, and checks that finish one by one.

Yoti gives no verdict on a session: `decline` makes one check say REJECT, and `review` makes one say CONSIDER.
"""

from collections.abc import Sequence
from datetime import timedelta

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
    optional_text,
    section,
    without,
)
from worker.domain.strict_json import Json

TOKEN_SECONDS = 600
VOLATILE = frozenset({"client_session_token", "client_session_token_ttl", "api_key"})
DEFAULT_CHECKS = ("ID_DOCUMENT_AUTHENTICITY", "LIVENESS", "ID_DOCUMENT_FACE_MATCH")
SUB_CHECKS = {
    "ID_DOCUMENT_AUTHENTICITY": ("security_features", "document_in_date", "fraud_list"),
    "LIVENESS": ("face_processing", "liveness_auth", "payload_signature_verification"),
    "ID_DOCUMENT_FACE_MATCH": ("ai_face_match", "manual_face_match"),
    "FAMILIAR_FACE_SEARCH": ("face_not_found_in_pool",),
    "WATCHLIST_SCREENING": ("adverse_media", "fitness_probity", "pep", "sanction", "warning"),
}
REASONS = {
    "ID_DOCUMENT_AUTHENTICITY": "COUNTERFEIT", "ID_DOCUMENT_FACE_MATCH": "DIFFERENT_PERSON",
    "FAMILIAR_FACE_SEARCH": "MATCH_FOUND", "WATCHLIST_SCREENING": "POTENTIAL_MATCH",
}  # fmt: skip
"""Why a check rejects. A liveness check rejects without a reason, as Yoti documents."""


class YotiVendor:
    """Sessions, the only kind."""

    def build(self, kind: str, make: Make, options: Options) -> tuple[str, JsonObject]:
        if kind != "session":
            raise ValueError(f"Yoti has no {kind}")
        external_id = make.ids.uuid()
        wanted = options.get("checks")
        checks = [str(name) for name in wanted] if isinstance(wanted, list) else list(DEFAULT_CHECKS)
        return external_id, {
            "session_id": external_id, "user_tracking_id": optional_text(options, "reference"), "state": "ONGOING",
            "client_session_token": make.ids.uuid(), "biometric_consent": iso(make.at),
            "resources": {"id_documents": [], "supplementary_documents": [], "liveness_capture": [],
                          "face_capture": [], "applicant_profiles": []},
            "checks": [_check(name, make) for name in checks],
        }  # fmt: skip

    def apply(self, kind: str, document: JsonObject, action: Action, make: Make) -> None:
        if action == "start":
            _capture(document, make)
        elif action == "complete":
            _finish_next(document, make)
        elif action in ("approve", "decline", "review"):
            _finish_all(document, action, make)
        elif action == "reverse":
            _finish_all(document, "decline" if _recommends(document) == "approve" else "approve", make)
        elif action in ("expire", "abandon"):
            document["state"] = "EXPIRED"
        elif action == "update":
            section(document, "resources")["supplementary_documents"] = [_resource(make)]
        else:
            raise ValueError(f"{action}: a session cannot do that")

    def adopt(self, document: JsonObject, child: Ref, child_document: JsonObject) -> None:
        """A session has no children."""

    def children(self, document: JsonObject) -> Sequence[tuple[str, str]]:
        return []

    def status(self, kind: str, document: JsonObject) -> str | None:
        return optional_text(document, "state")

    def serve(self, record: Record, reading: Reading) -> JsonObject:
        document = dict(record.document)
        age = int((reading.at - record.created_at).total_seconds())
        document["client_session_token_ttl"] = max(0, TOKEN_SECONDS - age - reading.number % 50)
        if document["state"] != "ONGOING":
            del document["client_session_token"]
        if document["state"] == "EXPIRED":
            document["client_session_token_ttl"] = 0
        return document

    def core(self, response: JsonObject) -> JsonObject:
        core = without(response, VOLATILE)
        return core if isinstance(core, dict) else {}


def check_ids(document: JsonObject, *, done: bool) -> list[str]:
    """The ids of the checks that are done, or of those that are not."""
    checks = [check for check in items(document, "checks") if isinstance(check, dict)]
    return [str(check["id"]) for check in checks if (check["state"] == "DONE") is done]


def _check(name: str, make: Make) -> JsonObject:
    check: JsonObject = {
        "type": name, "id": make.ids.uuid(), "state": "CREATED", "resources_used": [], "generated_media": [],
        "created": iso(make.at), "last_updated": iso(make.at),
    }  # fmt: skip
    if name == "FAMILIAR_FACE_SEARCH":
        check["config"] = {"pool_id": make.ids.uuid(), "pool_label": "simulated pool", "approval_criteria": "NO_MATCH"}
    return check


def _resource(make: Make) -> JsonObject:
    return {
        "id": make.ids.uuid(), "tasks": [], "source": {"type": "END_USER"}, "created_at": iso(make.at),
        "last_updated": iso(make.at),
    }  # fmt: skip


def _media(make: Make, kind: str = "IMAGE") -> JsonObject:
    return {"media": {"id": make.ids.uuid(), "type": kind, "created": iso(make.at), "last_updated": iso(make.at)}}


def _capture(document: JsonObject, make: Make) -> None:
    """The user has shown a passport and their face: the resources arrive, and the checks begin."""
    task: JsonObject = {
        "type": "ID_DOCUMENT_TEXT_DATA_EXTRACTION", "id": make.ids.uuid(), "state": "DONE", "created": iso(make.at),
        "last_updated": iso(make.at + timedelta(milliseconds=1)), "generated_checks": [], "generated_media": [],
        "recommendation": {"value": "PROGRESS"},
    }  # fmt: skip
    passport: JsonObject = {
        **_resource(make), "tasks": [task], "document_type": "PASSPORT", "issuing_country": "GBR",
        "pages": [{"capture_method": "CAMERA", **_media(make), "frames": [_media(make), {}]}],
        "document_fields": _media(make, "JSON"), "document_id_photo": _media(make),
    }  # fmt: skip
    face: JsonObject = {**_resource(make), "image": _media(make), "liveness_type": "STATIC"}
    section(document, "resources").update(id_documents=[passport], liveness_capture=[face])
    for check in items(document, "checks"):
        if isinstance(check, dict):
            check |= {"state": "PENDING", "resources_used": [face["id"]], "last_updated": iso(make.at)}


def _finish_next(document: JsonObject, make: Make) -> None:
    for check in items(document, "checks"):
        if isinstance(check, dict) and check["state"] != "DONE":
            _finish(check, "APPROVE", make)
            return
    raise ValueError("every check of this session is done")


def _finish_all(document: JsonObject, verdict: str, make: Make) -> None:
    if not items(section(document, "resources"), "id_documents"):
        _capture(document, make)
    checks = [check for check in items(document, "checks") if isinstance(check, dict)]
    for check in checks:
        _finish(check, "APPROVE", make)
    if verdict != "approve" and checks:
        _finish(checks[-1], "REJECT" if verdict == "decline" else "CONSIDER", make)
    document["state"] = "COMPLETED"


def _recommends(document: JsonObject) -> str:
    checks = [check for check in items(document, "checks") if isinstance(check, dict)]
    approved = all(_recommendation(check) == "APPROVE" for check in checks)
    return "approve" if approved else "decline"


def _recommendation(check: JsonObject) -> Json:
    report = check.get("report")
    recommendation = report.get("recommendation") if isinstance(report, dict) else None
    return recommendation.get("value") if isinstance(recommendation, dict) else None


def _finish(check: JsonObject, value: str, make: Make) -> None:
    name = str(check["type"])
    recommendation: JsonObject = {"value": value}
    if value != "APPROVE" and name in REASONS:
        recommendation["reason"] = REASONS[name]
    names = SUB_CHECKS.get(name, ("simulated_check",))
    breakdown: list[Json] = [
        {
            "sub_check": sub_check, "result": "PASS" if value == "APPROVE" or index else "FAIL",
            "details": [{"name": "confidence_score", "value": f"{make.rng.uniform(0.8, 1):.2f}"}],
            "process": "AUTOMATED",
        }
        for index, sub_check in enumerate(names)
    ]  # fmt: skip
    report: JsonObject = {"recommendation": recommendation, "breakdown": breakdown}
    if name == "WATCHLIST_SCREENING":
        report["watchlist_summary"] = {
            "total_hits": 0 if value == "APPROVE" else 2, "associated_country_codes": ["GBR"],
            "search_config": {"categories": ["ADVERSE-MEDIA", "SANCTIONS"]}, "raw_results": _media(make, "JSON"),
        }  # fmt: skip
    check |= {"state": "DONE", "report": report, "last_updated": iso(make.at)}
