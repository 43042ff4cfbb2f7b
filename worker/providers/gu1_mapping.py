"""From gu1's rows to readings: statuses as tables, everything undocumented read tolerantly and never guessed at."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from worker.domain.model import Check, Drift, Reading, ResourceRef, Verdict
from worker.domain.states import CheckOutcome, Outcome, Stage
from worker.domain.strict_json import Json, member, number, strings, text
from worker.domain.times import read_time

FACE_MATCH = "face-match"
KYC_VALIDATION = "kyc-validation"
BIOMETRIC_SESSION = "biometric-session"
ID_VERIFICATION = "id-verification"
ENTITY = "entity"

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")

_CREATED = Verdict(Stage.CREATED, Outcome.NONE, final=False)
_IN_PROGRESS = Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False)
_IN_REVIEW = Verdict(Stage.IN_REVIEW, Outcome.NONE, final=False)
_APPROVED = Verdict(Stage.DECIDED, Outcome.APPROVED, final=True)
_REJECTED = Verdict(Stage.DECIDED, Outcome.REJECTED, final=True)
_ABANDONED = Verdict(Stage.ABANDONED, Outcome.NONE, final=True)
_EXPIRED = Verdict(Stage.EXPIRED, Outcome.NONE, final=True)
_DELETED = Verdict(Stage.ABANDONED, Outcome.NONE, final=False)
"""gu1 does not say what `deletedAt` means. Taken for an erasure, it would empty our copies for good."""

_UNMAPPED = Verdict(Stage.UNMAPPED, Outcome.NONE, final=False)

_FAILED = Verdict(Stage.DECIDED, Outcome.INCONCLUSIVE, final=True)
"""gu1's `failed` is a technical failure: it is over, and it says nothing about the person."""

_SESSION = {
    "pending": _CREATED,
    "in_progress": _IN_PROGRESS,
    "in_review": _IN_REVIEW,
    "approved": _APPROVED,
    "rejected": _REJECTED,
    "expired": _EXPIRED,
    "abandoned": _ABANDONED,
    "cancelled": _ABANDONED,
}
STATUSES: Mapping[str, Mapping[str, Verdict]] = {
    FACE_MATCH: {"approved": _APPROVED, "declined": _REJECTED, "in_review": _IN_REVIEW, "failed": _FAILED},
    ID_VERIFICATION: {"approved": _APPROVED, "declined": _REJECTED, "in_review": _IN_REVIEW, "failed": _FAILED},
    KYC_VALIDATION: _SESSION,
    BIOMETRIC_SESSION: _SESSION,
    # An entity is a customer's record, and any of these can change again. What `active` means is in `_verdict`.
    ENTITY: {
        "under_review": _IN_REVIEW,
        "active": _CREATED,
        "blocked": Verdict(Stage.DECIDED, Outcome.REJECTED, final=False),
    },
}
"""What each status means; any other is unmapped. `in_review` is documented for face matches and KYC only, and means the
same wherever else it may come."""

_CHECK_OUTCOMES: Mapping[str, CheckOutcome] = {
    "approved": CheckOutcome.PASSED,
    "declined": CheckOutcome.FAILED,
    "rejected": CheckOutcome.FAILED,
    "in_review": CheckOutcome.WARNING,
}
"""`failed` is missing on purpose: see `_FAILED`."""

_NAMED_IDS: Mapping[str, str] = {
    "facematchid": FACE_MATCH,
    "facematchverificationid": FACE_MATCH,
    "idverificationid": ID_VERIFICATION,
    "idverificationverificationid": ID_VERIFICATION,
}
_NAMED_BLOCKS: Mapping[str, str] = {
    "facematch": FACE_MATCH,
    "facematchverification": FACE_MATCH,
    "idverification": ID_VERIFICATION,
    "idverificationverification": ID_VERIFICATION,
}
_MOST_NAMED = 16
"""A payload is about one person. A longer list would spend calls on something that this finder has misread."""


@dataclass(frozen=True, slots=True)
class _Row:
    """What the makers of checks look at: one row, and what its status means."""

    values: dict[str, Json]
    status: str | None
    verdict: Verdict

    @property
    def outcome(self) -> CheckOutcome:
        return _CHECK_OUTCOMES.get(self.status or "", CheckOutcome.UNKNOWN)


def read_row(ref: ResourceRef, values: dict[str, Json]) -> Reading:
    """The reading of a row that is known to be `ref`."""
    status = text(values, "status")
    verdict = _verdict(ref.kind, values)
    row = _Row(values, status, verdict)
    return Reading(
        verdict=verdict,
        provider_status=status,
        derived=ref.kind == ENTITY and (verdict == _DELETED or verdict.outcome is Outcome.APPROVED),
        score=number(values, "score"),
        reference=_reference(ref, values),
        provider_created_at=read_time(member(values, "createdAt")),
        provider_updated_at=read_time(member(values, "updatedAt")),
        completed_at=read_time(member(values, "verifiedAt")),
        checks=tuple(_CHECKS[ref.kind](row)),
        related=tuple(found for found in named_verifications(values) if found != ref),
        drift=tuple(_drift(row)),
    )


def named_verifications(value: Json) -> tuple[ResourceRef, ...]:
    """The face matches and ID verifications that a payload names, wherever in it.

    gu1 announces neither by events of their own. What counts: a member called faceMatchId, faceMatchVerificationId,
    idVerificationId or the like, or a block called faceMatch or idVerification with an `id` or `verificationId`; in
    camel, snake or kebab case, and only if the value is a UUID, as these ids are documented to be.
    """
    found: dict[ResourceRef, None] = {}
    waiting: list[Json] = [value]
    while waiting and len(found) < _MOST_NAMED:
        current = waiting.pop()
        if isinstance(current, list):
            waiting.extend(reversed(current))
        elif isinstance(current, dict):
            found.update(dict.fromkeys(_named_in(current)))
            waiting.extend(reversed(current.values()))
    return tuple(found)[:_MOST_NAMED]


def squeezed(name: str) -> str:
    """A name without what camel, snake, kebab and dotted case differ in."""
    return re.sub(r"[._-]", "", name).lower()


def _named_in(members: dict[str, Json]) -> Iterator[ResourceRef]:
    for name, value in members.items():
        key = squeezed(name)
        if key in _NAMED_IDS and isinstance(value, str) and UUID.match(value):
            yield ResourceRef(_NAMED_IDS[key], value)
        elif key in _NAMED_BLOCKS:
            inner = text(value, "verificationId") or text(value, "id") or ""
            if UUID.match(inner):
                yield ResourceRef(_NAMED_BLOCKS[key], inner)


def _verdict(kind: str, values: dict[str, Json]) -> Verdict:
    status = text(values, "status")
    if kind == ENTITY and member(values, "deletedAt") is not None:
        return _DELETED
    if kind == ENTITY and status == "active" and member(values, "kycVerified") is True:
        # `active` alone is how a record starts its life; only together with a passed KYC is it an approval.
        return Verdict(Stage.DECIDED, Outcome.APPROVED, final=False)
    return STATUSES[kind].get(status or "", _UNMAPPED)


def _reference(ref: ResourceRef, values: dict[str, Json]) -> str | None:
    if ref.kind == ENTITY:
        return text(values, "externalId") or ref.external_id
    return text(values, "vendorData") or text(values, "entity", "externalId") or text(values, "entityId")


def _drift(row: _Row) -> Iterator[Drift]:
    if row.verdict.stage is Stage.UNMAPPED:
        yield Drift.seen("status", row.status)
    if row.verdict == _DELETED:
        yield Drift("deletedAt", "set")
    if row.status == "approved" and member(row.values, "match") is False:
        yield Drift("match", "false although approved")


def _face_match_checks(row: _Row) -> Iterator[Check]:
    match = member(row.values, "match")
    yield Check(
        name="face_match",
        outcome=row.outcome,
        provider_outcome=row.status,
        score=number(row.values, "score"),
        threshold=number(row.values, "threshold"),
        reasons=_reasons(row.values, "errorMessage"),
        details={"match": match} if isinstance(match, bool) else {},
    )


def _id_verification_checks(row: _Row) -> Iterator[Check]:
    reasons = _reasons(row.values, "errorMessage")
    yield Check("id_verification", row.outcome, provider_outcome=row.status, reasons=reasons)


def _kyc_checks(row: _Row) -> Iterator[Check]:
    decision = _stated(member(row.values, "decision"))
    warnings = strings(row.values, "warnings")
    if decision or warnings or row.verdict.stage in (Stage.DECIDED, Stage.IN_REVIEW):
        yield Check("kyc_validation", row.outcome, provider_outcome=decision or row.status, reasons=warnings)
    biometric = member(row.values, "biometricResult")
    if biometric is not None:
        yield _part("biometric", biometric)
    documents = member(row.values, "documentsVerified")
    for position, document in enumerate(documents if isinstance(documents, list) else [], start=1):
        yield _part("document" if position == 1 else f"document#{position}", document)


def _biometric_checks(row: _Row) -> Iterator[Check]:
    if row.verdict.stage is Stage.DECIDED or text(row.values, "rejectionCode"):
        message = text(row.values, "rejectionMessage")
        yield Check(
            name="face_match",
            outcome=row.outcome,
            provider_outcome=row.status,
            score=number(row.values, "score"),
            threshold=number(row.values, "threshold"),
            reasons=_reasons(row.values, "rejectionCode"),
            details={"message": message} if message else {},
        )


def _entity_checks(row: _Row) -> Iterator[Check]:
    verified = member(row.values, "kycVerified")
    if isinstance(verified, bool):
        # Not verified is not the same as failed: it may never have been tried.
        outcome = CheckOutcome.PASSED if verified else CheckOutcome.UNKNOWN
        yield Check("kyc_verified", outcome, provider_outcome=str(verified).lower())
    risk = number(row.values, "riskScore")
    if risk is not None:
        yield Check("risk", CheckOutcome.UNKNOWN, score=risk, reasons=strings(row.values, "riskFactors"))


_CHECKS: Mapping[str, Callable[[_Row], Iterator[Check]]] = {
    FACE_MATCH: _face_match_checks,
    ID_VERIFICATION: _id_verification_checks,
    KYC_VALIDATION: _kyc_checks,
    BIOMETRIC_SESSION: _biometric_checks,
    ENTITY: _entity_checks,
}


def _part(name: str, value: Json) -> Check:
    """A check from a part whose shape is not documented: its own words where it has them, else an unknown outcome."""
    stated = _stated(value)
    return Check(
        name=name,
        outcome=_CHECK_OUTCOMES.get((stated or "").lower(), CheckOutcome.UNKNOWN),
        provider_outcome=stated,
        score=number(value, "score"),
        threshold=number(value, "threshold"),
        reasons=strings(value, "warnings"),
    )


def _stated(value: Json) -> str | None:
    if isinstance(value, str):
        return value or None
    return text(value, "status") or text(value, "decision") or text(value, "result")


def _reasons(values: dict[str, Json], name: str) -> tuple[str, ...]:
    """The warnings, which are codes from an open set, and the one reason that this kind gives beside them."""
    reason = text(values, name)
    return (*((reason,) if reason else ()), *strings(values, "warnings"))
