"""How Verifik's records read: statuses to verdicts, checks, and what a record points to.

Three generations of the vendor's documentation disagree on the shapes, so little is required and both shapes of a
record are read. No score is ever turned into a verdict. `docs/providers/verifik.md` says where each fact comes from.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from worker.domain.model import Check, Drift, Reading, ResourceRef, Verdict
from worker.domain.states import CheckOutcome, Outcome, Stage
from worker.domain.strict_json import Json, member, number, strings, text
from worker.domain.times import read_time
from worker.errors import NothingFound, UnexpectedDocument
from worker.providers.base import ref_or_none

_CREATED = Verdict(Stage.CREATED, Outcome.NONE, final=False)
_IN_PROGRESS = Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False)
_IN_REVIEW = Verdict(Stage.IN_REVIEW, Outcome.NONE, final=False)
_APPROVED = Verdict(Stage.DECIDED, Outcome.APPROVED, final=True)
_REJECTED = Verdict(Stage.DECIDED, Outcome.REJECTED, final=True)
_UNSURE = Verdict(Stage.DECIDED, Outcome.INCONCLUSIVE, final=False)
_NO_VERDICT = Verdict(Stage.DECIDED, Outcome.NONE, final=True)
_EXPIRED = Verdict(Stage.EXPIRED, Outcome.NONE, final=True)
_UNMAPPED = Verdict(Stage.UNMAPPED, Outcome.NONE, final=False)

_CONTACT_STATUSES: Mapping[str, Verdict] = MappingProxyType(
    {
        "new": _CREATED,
        "sent": _IN_PROGRESS,
        "validated": _APPROVED,
        "failed": _REJECTED,
        "expired": _EXPIRED,
    }
)

STATUSES: Mapping[str, Mapping[str, Verdict]] = MappingProxyType(
    {
        "app-registration": MappingProxyType(
            {
                "started": _CREATED,
                "ongoing": _IN_PROGRESS,
                "needs_manual_verification": _IN_REVIEW,
                "completed": _APPROVED,
                "completed_without_kyc": _NO_VERDICT,
                "failed": _REJECTED,
                "expired": _EXPIRED,
            }
        ),
        "biometric-validation": MappingProxyType(
            {
                **_CONTACT_STATUSES,
                "pending": _IN_PROGRESS,
                "completed": _APPROVED,
            }
        ),
        "document-validation": MappingProxyType(
            {
                "new": _CREATED,
                "pending": _IN_PROGRESS,
                "assessing": _IN_PROGRESS,
                "needs_manual_verification": _IN_REVIEW,
                "active": _APPROVED,
                "active_but_unverified": _UNSURE,
                "not_found": _UNSURE,
                "completed": _NO_VERDICT,
                "failed": _REJECTED,
                "expired": _EXPIRED,
            }
        ),
        "document-liveness": MappingProxyType(
            {
                "new": _CREATED,
                "processing": _IN_PROGRESS,
                "completed": _NO_VERDICT,
                "failed": _REJECTED,
            }
        ),
        "email-validation": _CONTACT_STATUSES,
        "phone-validation": _CONTACT_STATUSES,
        "information-validation": MappingProxyType({}),
    }
)
"""Sources: the object pages, the filters of the list pages, the dashboard's code, and for `biometric-validation` the
union of two documented sets. For information validations the vendor documents no status."""

WORDS: Mapping[str, CheckOutcome] = MappingProxyType({"passed": CheckOutcome.PASSED, "failed": CheckOutcome.FAILED})
"""What the documented samples write as the outcome of one test; a boolean `passed` is read likewise."""

QUALITY_REASONS = frozenset(
    {
        "face_close_to_border",
        "face_not_centered",
        "face_occluded",
        "face_rotation_too_large",
        "face_too_close",
        "face_too_far",
        "multiple_faces_detected",
        "no_face_detected",
        "poor_lighting",
    }
)
"""Source: the dashboard's list of `failedReason` codes that are about the picture, not about the person."""

LIVENESS_TESTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "screen_replay": ("screenReplay", "sreenReplay"),
        "printed_copy": ("printedCopy",),
        "portrait_substitution": ("portraitSubstitution",),
        "digital_manipulation": ("digitalManipulation",),
    }
)
"""The tests of a document's liveness, and how the flat shape spells them: the vendor does write `sreenReplayScore`."""

RELATED: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "app-registration": (
            ("biometricValidation", "biometric-validation"),
            ("documentValidation", "document-validation"),
            ("emailValidation", "email-validation"),
            ("phoneValidation", "phone-validation"),
            ("informationValidation", "information-validation"),
            ("failedDocumentValidations", "document-validation"),
            ("failedBiometricValidations", "biometric-validation"),
        ),
        "document-validation": (("documentLiveness", "document-liveness"),),
    }
)
"""Members that hold an id, a populated record, or a list of either, and the kind that they point to."""

_CODE = re.compile(r"(?:\d{3}:)?([a-z][a-z0-9_]{0,99})(?:@[0-9.]+)?\Z")


def read_record(ref: ResourceRef, document: dict[str, Json]) -> Reading:
    """The normalised reading of one record, in an envelope or bare.

    Raises UnexpectedDocument if it is not `ref`, and its kind NothingFound if the envelope is there and empty.
    """
    record = _record(ref, document)
    status = text(record, "status")
    verdict, derived, drift = _judge(ref.kind, record, status)
    read_checks = _CHECKS.get(ref.kind)
    return Reading(
        verdict=verdict,
        provider_status=status,
        derived=derived,
        score=_biometric_score(record) if ref.kind == "biometric-validation" else None,
        reference=text(record, "identifier"),
        provider_created_at=read_time(record.get("createdAt")),
        provider_updated_at=read_time(record.get("updatedAt")),
        completed_at=read_time(record.get("completedAt") or record.get("validatedAt")),
        checks=tuple(read_checks(record)) if read_checks else (),
        related=tuple(dict.fromkeys(_related(ref.kind, record))),
        drift=drift,
    )


def _record(ref: ResourceRef, document: dict[str, Json]) -> dict[str, Json]:
    record = document if "_id" in document else member(document, "data")
    if record is None and "data" in document:
        raise NothingFound("the answer's data is null")
    if not isinstance(record, dict):
        raise UnexpectedDocument("the answer holds no record")
    if text(record, "_id") != ref.external_id:
        raise UnexpectedDocument("the answer is about another id")
    return record


def _judge(kind: str, record: dict[str, Json], status: str | None) -> tuple[Verdict, bool, tuple[Drift, ...]]:
    known = STATUSES[kind].get(status.lower()) if status and kind in STATUSES else None
    drift = () if known or not _is_drift(kind, status) else (Drift.seen("status", status, missing="(missing)"),)
    if kind == "document-liveness":
        return _judge_liveness(record, status, known, drift)
    return known or _UNMAPPED, False, drift


def _is_drift(kind: str, status: str | None) -> bool:
    return status is not None or bool(STATUSES.get(kind))


def _judge_liveness(
    record: dict[str, Json], status: str | None, known: Verdict | None, drift: tuple[Drift, ...]
) -> tuple[Verdict, bool, tuple[Drift, ...]]:
    """`isLive` decides, then the status, then the tests that say `passed`; scores never do.

    The vendor does not say what its scores mean, and its samples contradict its text. A flat record with scores, but
    without `isLive` and without a status, is therefore finished and has no outcome: a consumer can rely on it that
    nobody guessed.
    """
    is_live = record.get("isLive")
    if isinstance(is_live, bool):
        return (_APPROVED if is_live else _REJECTED), False, () if status is None else drift
    if status is not None and known is not _NO_VERDICT:
        return known or _UNMAPPED, False, drift
    passed = [member(test, "passed") for test in _nested_tests(record).values()]
    if any(result is False for result in passed):
        return _REJECTED, True, ()
    if passed and all(result is True for result in passed):
        return _APPROVED, True, ()
    if status is not None or passed or _has_scores(record):
        return _NO_VERDICT, status is None, ()
    return _UNMAPPED, False, drift


def _has_scores(record: dict[str, Json]) -> bool:
    return any(name.endswith(("Score", "Probability")) and number(value) is not None for name, value in record.items())


def _nested_tests(record: dict[str, Json]) -> dict[str, Json]:
    results = record.get("validationResults")
    return results if isinstance(results, dict) else {}


def _biometric_score(record: dict[str, Json]) -> float | None:
    """The liveness score, 0 to 1: of the stored record first, then of the shape that the newer documentation shows."""
    places = (("livenessScore",), ("biometricData", "livenessScore"), ("response", "liveness", "score"))
    return next((score for place in places if (score := number(record, *place)) is not None), None)


def _biometric_checks(record: dict[str, Json]) -> Iterator[Check]:
    reason = _code(record.get("failedReason"))
    word = text(record, "response", "liveness", "status") or text(record, "verificationResults", "livenessDetection")
    score = _biometric_score(record)
    about_liveness = reason in ("liveness_failed", "liveness_error")
    if word or score is not None or about_liveness:
        stated = word or ("failed" if reason == "liveness_failed" else None)
        yield _worded("liveness", stated, score=score, reasons=(reason,) if reason and about_liveness else ())
    for name, result in _items(record.get("verificationResults")):
        if isinstance(result, str) and name != "livenessDetection":
            yield _worded(_snake(name), result)
    if reason and not about_liveness:
        name = "image_quality" if reason in QUALITY_REASONS else "failure"
        yield Check(name, CheckOutcome.FAILED, reasons=(reason,))


def _liveness_checks(record: dict[str, Json]) -> Iterator[Check]:
    nested = [(name, test) for name, test in _nested_tests(record).items() if isinstance(test, dict)]
    for name, test in nested:
        passed = test.get("passed")
        details: dict[str, object] = {"details": test["details"]} if test.get("details") else {}
        yield Check(_snake(name), _boolean(passed), score=number(test, "score"), details=details)
    for name, spellings in () if nested else LIVENESS_TESTS.items():
        yield from _flat_liveness_check(name, spellings, record)


def _flat_liveness_check(name: str, spellings: tuple[str, ...], record: dict[str, Json]) -> Iterator[Check]:
    parts = ("Score", "Probability", "Calibration", "Warnings", "Errors")
    found = {part: record[key] for part in parts for word in spellings if (key := word + part) in record}
    switches = [record.get(f"validate{word[0].upper()}{word[1:]}") for word in spellings]
    if not found and not any(isinstance(switch, bool) for switch in switches):
        return
    switched_off = any(switch is False for switch in switches)
    yield Check(
        name=name,
        outcome=CheckOutcome.NOT_APPLICABLE if switched_off else CheckOutcome.UNKNOWN,
        score=number(found, "Score"),
        reasons=(*strings(found, "Warnings"), *strings(found, "Errors")),
        details={part.lower(): found[part] for part in ("Probability", "Calibration") if part in found},
    )


def _document_checks(record: dict[str, Json]) -> Iterator[Check]:
    for name, result in _items(record.get("validationResults")):
        if isinstance(result, str):
            yield _worded(_snake(name), result)
    yield from _name_checks(record)
    supported = record.get("infoValidationSupported")
    if isinstance(supported, bool):
        outcome = CheckOutcome.PASSED if supported else CheckOutcome.NOT_APPLICABLE
        reason = _code(record.get("infoValidationSupportedReason"))
        yield Check("data_source_supported", outcome, reasons=(reason,) if reason else ())
    is_live = member(record, "documentLiveness", "isLive")
    if isinstance(is_live, bool):
        yield Check("document_liveness", _boolean(is_live))
    reasons = [_code(record.get(name)) for name in ("failedReason", "manualVerificationReason", "documentFaceReason")]
    for name, reason in zip(("failure", "manual_verification", "document_face"), reasons, strict=True):
        if reason:
            outcome = CheckOutcome.FAILED if name == "failure" else CheckOutcome.WARNING
            yield Check(name, outcome, reasons=(reason,))


def _name_checks(record: dict[str, Json]) -> Iterator[Check]:
    """The match of names means nothing before the data source and the image were both looked at."""
    if record.get("scoreValidated") is True and record.get("imageValidated") is True:
        percentage = number(record, "fullNameMatchPercentage")
        yield Check("names_match", _boolean(record.get("namesMatch")), score=percentage)
    decision = text(record, "manualNameReview", "decision")
    if decision is not None:
        outcomes = {"match": CheckOutcome.PASSED, "mismatch": CheckOutcome.FAILED}
        yield Check("manual_name_review", outcomes.get(decision, CheckOutcome.UNKNOWN), decision)


def _registration_checks(record: dict[str, Json]) -> Iterator[Check]:
    """The comparison of the face with the document's. Where it was not populated, it is unknown, not failed."""
    result = member(record, "compareFaceVerification", "result")
    if isinstance(result, dict):
        compared = text(record, "compareFaceVerification", "comparedAt")
        yield Check(
            name="face_comparison",
            outcome=_boolean(result.get("passed")),
            score=number(result, "score"),
            threshold=number(result, "compare_min_score"),
            details={"compared_at": compared} if compared else {},
        )


_CHECKS: Mapping[str, Callable[[dict[str, Json]], Iterator[Check]]] = MappingProxyType(
    {
        "app-registration": _registration_checks,
        "biometric-validation": _biometric_checks,
        "document-liveness": _liveness_checks,
        "document-validation": _document_checks,
    }
)


def _related(kind: str, record: dict[str, Json]) -> Iterator[ResourceRef]:
    for name, related_kind in RELATED.get(kind, ()):
        value = record.get(name)
        for item in value if isinstance(value, list) else [value]:
            ref = ref_or_none(related_kind, item if isinstance(item, str) else text(item, "_id"))
            if ref is not None:
                yield ref


def _worded(name: str, word: str | None, *, score: float | None = None, reasons: tuple[str, ...] = ()) -> Check:
    outcome = WORDS.get((word or "").lower(), CheckOutcome.UNKNOWN)
    return Check(name, outcome, provider_outcome=word, score=score, reasons=reasons)


def _boolean(passed: Json) -> CheckOutcome:
    if not isinstance(passed, bool):
        return CheckOutcome.UNKNOWN
    return CheckOutcome.PASSED if passed else CheckOutcome.FAILED


def _items(value: Json) -> list[tuple[str, Json]]:
    return list(value.items()) if isinstance(value, dict) else []


def _snake(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:100]).lower()
    return "screen_" + words.removeprefix("sreen_") if words.startswith("sreen_") else words


def _code(value: Json) -> str | None:
    """A reason's code, without the status before it and the score behind it. Free text may quote people: it is none."""
    match = _CODE.match(value) if isinstance(value, str) else None
    return match[1] if match else None
