"""How Persona's resources read: statuses to verdicts, checks, and what a resource points to.

The tables follow Persona's public OpenAPI description, edition 2025-12-08. Persona calls its enumerations open, so what
is not in a table is drift, never an error. `docs/providers/persona.md` says why each mapping is as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from worker.domain.model import Check, Drift, Reading, ResourceRef, Verdict
from worker.domain.states import CheckOutcome, Outcome, Stage
from worker.domain.strict_json import Json, member, number, objects, strings, text
from worker.domain.times import read_time
from worker.errors import UnexpectedDocument
from worker.providers.base import ref_or_none

WITH_SUBTYPE = frozenset({"verification", "report", "document"})
"""Families whose resource types have a second word, as in `verification/selfie`."""

WITHOUT_SUBTYPE = frozenset({"inquiry", "account", "case", "transaction"})

STATUSES: Mapping[str, Mapping[str, Verdict]] = MappingProxyType(
    {
        "verification": MappingProxyType(
            {
                "initiated": Verdict(Stage.CREATED, Outcome.NONE, final=False),
                "confirmed": Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False),
                "submitted": Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False),
                "tentatively_passed": Verdict(Stage.IN_REVIEW, Outcome.NONE, final=False),
                "tentatively_failed": Verdict(Stage.IN_REVIEW, Outcome.NONE, final=False),
                "passed": Verdict(Stage.DECIDED, Outcome.APPROVED, final=True),
                "failed": Verdict(Stage.DECIDED, Outcome.REJECTED, final=True),
                "requires_retry": Verdict(Stage.DECIDED, Outcome.RESUBMIT, final=True),
                "canceled": Verdict(Stage.ABANDONED, Outcome.NONE, final=True),
                "skipped": Verdict(Stage.ABANDONED, Outcome.NONE, final=True),
            }
        ),
        "inquiry": MappingProxyType(
            {
                "created": Verdict(Stage.CREATED, Outcome.NONE, final=False),
                "pending": Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False),
                "completed": Verdict(Stage.IN_REVIEW, Outcome.NONE, final=False),
                "needs_review": Verdict(Stage.IN_REVIEW, Outcome.NONE, final=False),
                "failed": Verdict(Stage.DECIDED, Outcome.REJECTED, final=False),
                "approved": Verdict(Stage.DECIDED, Outcome.APPROVED, final=True),
                "declined": Verdict(Stage.DECIDED, Outcome.REJECTED, final=True),
                "expired": Verdict(Stage.EXPIRED, Outcome.NONE, final=True),
            }
        ),
        "report": MappingProxyType(
            {
                "pending": Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False),
                "submitted": Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False),
                "ready": Verdict(Stage.DECIDED, Outcome.NONE, final=True),
                "errored": Verdict(Stage.ABANDONED, Outcome.NONE, final=True),
            }
        ),
        "document": MappingProxyType(
            {
                "initiated": Verdict(Stage.CREATED, Outcome.NONE, final=False),
                "submitted": Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False),
                "processed": Verdict(Stage.DECIDED, Outcome.NONE, final=True),
                "errored": Verdict(Stage.ABANDONED, Outcome.NONE, final=True),
            }
        ),
    }
)
"""Sources: the `status` enumerations of the verification, inquiry, report and document schemas.

`completed` says that the person reached the last screen, not that anybody approved: a workflow, a reviewer or the
customer decides after it. Reports and documents carry no verdict at all, so they end as decided without an outcome.
"""

CUSTOMER_DEFINED: Mapping[str, Verdict] = MappingProxyType(
    {
        "account": Verdict(Stage.CREATED, Outcome.NONE, final=False),
        "transaction": Verdict(Stage.UNMAPPED, Outcome.NONE, final=False),
    }
)
"""Families whose statuses each customer names: their words are kept, never interpreted, and are no drift."""

CHECK_OUTCOMES: Mapping[str, CheckOutcome] = MappingProxyType(
    {
        "passed": CheckOutcome.PASSED,
        "failed": CheckOutcome.FAILED,
        "not_applicable": CheckOutcome.NOT_APPLICABLE,
    }
)
"""Source: the `status` enumeration of a verification check."""

REQUIREMENTS: Mapping[str, bool] = MappingProxyType({"required": True, "not_required": False, "requires_retry": True})
"""Source: the `requirement` enumeration. Failing a `requires_retry` check sends the person back, so it is required."""

SCREENING_REPORTS = frozenset(
    {
        "report/adverse-media",
        "report/business-adverse-media",
        "report/business-media-coverage",
        "report/business-watchlist",
        "report/community-safety",
        "report/crypto-address-watchlist",
        "report/custom-list",
        "report/politically-exposed-person",
        "report/screening",
        "report/watchlist",
    }
)
"""Report types with a `.matched` event: there a match is a hit to look at, elsewhere it may just mean 'found'."""

COMPLETED_AT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "verification": ("completed-at",),
        "inquiry": ("completed-at", "failed-at", "decisioned-at", "expired-at"),
        "report": ("completed-at",),
        "document": ("processed-at",),
        "case": ("resolved-at",),
    }
)

SELFIE_SCORES = ("selfie-similarity-score-left", "selfie-similarity-score-right", "document-similarity-score")


def kind_of(resource_type: str | None) -> str | None:
    """The kind under which a resource type is kept, or None for a type that cannot be retrieved or is no result."""
    if resource_type is None:
        return None
    family, slash, subtype = resource_type.partition("/")
    kept = (family in WITH_SUBTYPE and subtype) or (family in WITHOUT_SUBTYPE and not slash)
    return resource_type.replace("_", "-") if kept else None


def read_resource(ref: ResourceRef, document: dict[str, Json]) -> Reading:
    """The normalised reading of one JSON:API document. Raises UnexpectedDocument if it is not the resource `ref`.

    `score` is given for selfies only, as the lowest similarity (0 to 100) that Persona states between the poses and to
    the identity document: a chain of comparisons is as strong as its weakest.
    `related` is an inquiry's verifications. Documents and reports announce themselves by events of their own, and
    asking for each of them untold would spend the rate budget that verdicts need. What is erased leads to all of them:
    Persona sends no event for the redaction of one of them, and what it has erased must not stay here.
    """
    data = _resource(ref, document)
    attributes = member(data, "attributes")
    family = ref.kind.partition("/")[0]
    verdict, status_drift = _verdict(family, attributes)
    return Reading(
        verdict=verdict,
        provider_status=text(attributes, "status") or text(attributes, "account-status"),
        derived=family in ("account", "case") and verdict.stage is not Stage.ERASED,
        score=_score(ref.kind, attributes),
        reference=text(attributes, "reference-id"),
        provider_created_at=read_time(member(attributes, "created-at")),
        provider_updated_at=read_time(member(attributes, "updated-at")),
        completed_at=read_time(_first(attributes, COMPLETED_AT.get(family, ()))),
        checks=(*_checks(attributes), *_match_check(ref.kind, attributes)),
        related=_related(family, data, erased=verdict.stage is Stage.ERASED),
        drift=tuple(dict.fromkeys((*status_drift, *_check_drift(attributes)))),
    )


def linked(data: Json) -> tuple[ResourceRef, ...]:
    """The verifications, documents and reports that a resource names in its relationships, each once."""
    relationships = member(data, "relationships")
    named = relationships.values() if isinstance(relationships, dict) else ()
    return tuple(dict.fromkeys(ref for relationship in named for ref in _targets(relationship)))


def _resource(ref: ResourceRef, document: dict[str, Json]) -> dict[str, Json]:
    data = member(document, "data")
    if not isinstance(data, dict):
        raise UnexpectedDocument("the answer holds no resource")
    if text(data, "id") != ref.external_id:
        raise UnexpectedDocument("the answer is about another id")
    if "type" in data and kind_of(text(data, "type")) != ref.kind:
        raise UnexpectedDocument("the answer is about another type of resource")
    return data


def _verdict(family: str, attributes: Json) -> tuple[Verdict, tuple[Drift, ...]]:
    verdict, drift = _stated(family, attributes)
    if family == "report" and member(attributes, "is-continuous") is True:
        verdict = replace(verdict, final=False)
    if text(attributes, "redacted-at"):
        verdict = Verdict(Stage.ERASED, Outcome.NONE, final=True)
    return verdict, drift


def _stated(family: str, attributes: Json) -> tuple[Verdict, tuple[Drift, ...]]:
    if family == "case":
        resolved = text(attributes, "resolved-at") is not None
        return Verdict(Stage.DECIDED if resolved else Stage.IN_REVIEW, Outcome.NONE, final=False), ()
    if family in CUSTOMER_DEFINED:
        return CUSTOMER_DEFINED[family], ()
    status = text(attributes, "status")
    known = STATUSES.get(family, {}).get(status or "")
    if known is not None:
        return known, ()
    return Verdict(Stage.UNMAPPED, Outcome.NONE, final=False), (_drift("status", status),)


def _checks(attributes: Json) -> Iterator[Check]:
    for item in objects(attributes, "checks"):
        name = text(item, "name")
        if name is not None:
            yield _check(name, item)


def _check(name: str, item: dict[str, Json]) -> Check:
    status, requirement = text(item, "status"), text(item, "requirement")
    details = {key: item[key] for key in ("requirement", "metadata") if item.get(key)}
    return Check(
        name=name,
        outcome=CHECK_OUTCOMES.get(status or "", CheckOutcome.UNKNOWN),
        provider_outcome=status,
        score=number(item, "metadata", "match-score"),
        required=REQUIREMENTS.get(requirement or ""),
        reasons=strings(item, "reasons"),
        details=details,
    )


def _check_drift(attributes: Json) -> Iterator[Drift]:
    for item in objects(attributes, "checks"):
        status, requirement = text(item, "status"), text(item, "requirement")
        if status not in CHECK_OUTCOMES:
            yield _drift("checks.status", status)
        if requirement is not None and requirement not in REQUIREMENTS:
            yield _drift("checks.requirement", requirement)


def _match_check(kind: str, attributes: Json) -> Iterator[Check]:
    matched = member(attributes, "has-match")
    if kind in SCREENING_REPORTS and isinstance(matched, bool) and text(attributes, "status") == "ready":
        outcome = CheckOutcome.WARNING if matched else CheckOutcome.PASSED
        yield Check("match", outcome, "matched" if matched else "not_matched")


def _score(kind: str, attributes: Json) -> float | None:
    if kind != "verification/selfie":
        return None
    return min((score for name in SELFIE_SCORES if (score := number(attributes, name)) is not None), default=None)


def _related(family: str, data: Json, *, erased: bool) -> tuple[ResourceRef, ...]:
    if erased:
        return linked(data)
    named = _targets(member(data, "relationships", "verifications")) if family == "inquiry" else ()
    return tuple(dict.fromkeys(ref for ref in named if ref.kind.startswith("verification/")))


def _targets(relationship: Json) -> Iterator[ResourceRef]:
    target = member(relationship, "data")
    for item in target if isinstance(target, list) else [target]:
        kind = kind_of(text(item, "type"))
        ref = ref_or_none(kind, text(item, "id"))
        if ref is not None and ref.kind.partition("/")[0] in WITH_SUBTYPE:
            yield ref


def _first(attributes: Json, names: tuple[str, ...]) -> Json:
    return next((value for name in names if (value := member(attributes, name)) is not None), None)


def _drift(field: str, value: str | None) -> Drift:
    return Drift.seen(field, value, missing="(missing)")
