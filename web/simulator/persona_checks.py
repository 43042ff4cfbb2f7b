"""The checks of Persona verifications. Names are Persona's; which of them fail is this simulator's choice."""

from web.simulator.records import JsonObject
from worker.domain.strict_json import Json

Check = tuple[str, str, tuple[str, ...], str]

SELFIE: tuple[Check, ...] = (
    ("selfie_id_comparison", "passed", (), "required"),
    ("selfie_pose_detection", "passed", (), "required"),
    ("selfie_multiple_faces_detection", "passed", (), "required"),
    ("selfie_pose_repeat_detection", "passed", (), "required"),
    ("selfie_account_comparison", "not_applicable", ("no_account_selfie_present",), "not_required"),
    ("selfie_suspicious_entity_detection", "passed", (), "required"),
    ("selfie_liveness_detection", "passed", (), "required"),
    ("selfie_glare_detection", "failed", ("too_much_glare",), "not_required"),
    ("selfie_public_figure_detection", "passed", (), "required"),
)
GOVERNMENT_ID: tuple[Check, ...] = (
    ("id_compromised_detection", "passed", (), "required"),
    ("id_expired_detection", "passed", (), "required"),
    ("id_extraction_inconsistency_detection", "passed", (), "required"),
    ("id_mrz_detection", "not_applicable", (), "not_required"),
    ("id_portrait_detection", "passed", (), "required"),
    ("id_selfie_comparison", "passed", (), "requires_retry"),
    ("id_tamper_detection", "passed", (), "required"),
)
DATABASE: tuple[Check, ...] = (
    ("database_name_comparison", "passed", (), "required"),
    ("database_address_comparison", "passed", (), "required"),
    ("database_birthdate_comparison", "passed", (), "required"),
)
BY_KIND = {
    "verification/selfie": SELFIE,
    "verification/government-id": GOVERNMENT_ID,
    "verification/database": DATABASE,
}
FAILURES = {
    "selfie_liveness_detection": "replica_detected",
    "id_tamper_detection": "image_manipulated",
    "database_name_comparison": "insufficient_match",
}
"""The check that fails when a verification is declined, and the reason that it gives."""


def checks(kind: str, *, failed: bool) -> list[Json]:
    """The checks of a verification that has just been judged."""
    return [_check(check, failed=failed) for check in BY_KIND.get(kind, ())]


def _check(check: Check, *, failed: bool) -> JsonObject:
    name, status, reasons, requirement = check
    reason = FAILURES.get(name) if failed else None
    return {
        "name": name,
        "status": "failed" if reason else status,
        "reasons": [reason] if reason else list(reasons),
        "requirement": requirement,
        "metadata": {},
    }
