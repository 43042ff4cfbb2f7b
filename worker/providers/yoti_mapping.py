"""From a Yoti session to a reading. Yoti gives no overall verdict: the rule here derives one, and the docs state it.

Sub-checks never decide: Yoti approves checks although one of their sub-checks failed.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from worker.domain.model import Check, Drift, Reading, Verdict
from worker.domain.states import CheckOutcome, Outcome, Stage
from worker.domain.strict_json import Json, member, number, objects, strings, text
from worker.domain.times import read_time
from worker.errors import UnexpectedDocument

LIVENESS = "LIVENESS"

_OUTCOMES: Mapping[str, CheckOutcome] = {
    "APPROVE": CheckOutcome.PASSED,
    "REJECT": CheckOutcome.FAILED,
    "CONSIDER": CheckOutcome.WARNING,
    # Yoti could not make the check (a blurred photo, say); `not_applicable` would read as if it had not mattered.
    "NOT_AVAILABLE": CheckOutcome.UNKNOWN,
}
_PENDING = frozenset({"CREATED", "READY", "PENDING"})
_CHECK_STATES = _PENDING | {"DONE", "INTERNAL_ERROR"}
_PROFILES = ("identity_profile", "advanced_identity_profile")

_REFUSALS = frozenset({"FRAUD_DETECTED", "IDENTITY_CHECK_FAILED"})
"""Why an aborted profile is a rejection. Any other reason only says that something was missing or unreadable."""

_PROFILE_OUTCOMES: Mapping[Outcome, CheckOutcome] = {
    Outcome.APPROVED: CheckOutcome.PASSED,
    Outcome.REJECTED: CheckOutcome.FAILED,
}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

Profiles = Mapping[str, dict[str, Json]]
"""The identity profiles that have a result, by their member's name."""


@dataclass(frozen=True, slots=True)
class _Run:
    """One entry of `checks`: a type can run several times, once for each document or liveness try."""

    raw: dict[str, Json]
    position: int
    document: int

    @property
    def type(self) -> str:
        return text(self.raw, "type") or "unknown"

    @property
    def state(self) -> str | None:
        return text(self.raw, "state")

    @property
    def pending(self) -> bool:
        return self.state in _PENDING

    @property
    def recommendation(self) -> str | None:
        """Only a finished check has one; reports beside other states are not results."""
        return text(self.raw, "report", "recommendation", "value") if self.state == "DONE" else None

    @property
    def outcome(self) -> CheckOutcome:
        return _OUTCOMES.get(self.recommendation or "", CheckOutcome.UNKNOWN)

    @property
    def age(self) -> tuple[datetime, int]:
        return read_time(member(self.raw, "created")) or _LONG_AGO, self.position


def read_session(session_id: str, document: dict[str, Json]) -> Reading:
    """The reading of a session. Raises UnexpectedDocument if the document is not this session."""
    if (text(document, "session_id") or "").lower() != session_id.lower():
        raise UnexpectedDocument("the document is not the session that was asked for")
    runs = _runs(document)
    profiles = _profiles_of(document)
    last_try = max((run for run in runs if run.type == LIVENESS), key=lambda run: run.age, default=None)
    superseded = frozenset(run.position for run in runs if run.type == LIVENESS and run is not last_try)
    counted = [run for run in runs if run.position not in superseded]
    state = text(document, "state")
    if state == "COMPLETED":
        verdict = _profile_verdict(profiles) if profiles else _verdict(counted)
    else:
        verdict = _unfinished(state, profiles)
    return Reading(
        verdict=verdict,
        provider_status=state,
        derived=state == "COMPLETED",
        reference=text(document, "user_tracking_id"),
        provider_updated_at=_newest(_parts(document)),
        completed_at=_newest(iter(objects(document, "checks"))) if state == "COMPLETED" else None,
        checks=(*_checks(runs, superseded, decisive=not profiles), *_profile_checks(profiles)),
        drift=tuple(dict.fromkeys([*_drift(state, runs), *_profile_drift(profiles)])),
    )


def _unfinished(state: str | None, profiles: Profiles) -> Verdict:
    if state == "ONGOING":
        return Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False)
    if state == "EXPIRED":
        # Some two hours later Yoti marks an unfinished identity-profile session as abandoned, so until a profile
        # says how it ended, an expired session may still change by itself.
        stage = Stage.ABANDONED if _is_abandoned(profiles) else Stage.EXPIRED
        return Verdict(stage, Outcome.NONE, final=bool(profiles))
    return Verdict(Stage.UNMAPPED, Outcome.NONE, final=False)


def _verdict(counted: list[_Run]) -> Verdict:
    """The rule: any rejection rejects; nothing but approvals approves; whatever lies between needs a person."""
    recommendations = [run.recommendation for run in counted]
    waiting = any(run.pending for run in counted)
    if "REJECT" in recommendations:
        return Verdict(Stage.DECIDED, Outcome.REJECTED, final=not waiting)
    if waiting:
        return Verdict(Stage.IN_PROGRESS, Outcome.NONE, final=False)
    approved = bool(recommendations) and all(value == "APPROVE" for value in recommendations)
    return Verdict(Stage.DECIDED, Outcome.APPROVED if approved else Outcome.INCONCLUSIVE, final=True)


def _runs(document: dict[str, Json]) -> list[_Run]:
    listed = member(document, "checks")
    # An entry that is no object still counts, as a check without a result: it must not help a session to approval.
    entries = [item if isinstance(item, dict) else {} for item in listed] if isinstance(listed, list) else []
    groups = ("id_documents", "supplementary_documents")
    documents = [text(item, "id") for group in groups for item in objects(document, "resources", group)]
    order = {name: position for position, name in enumerate(documents)}

    def first_document(entry: dict[str, Json]) -> int:
        used = [order[name] for name in strings(entry, "resources_used") if name in order]
        return min(used, default=len(documents))

    return [_Run(entry, position, first_document(entry)) for position, entry in enumerate(entries)]


def _names(runs: list[_Run], superseded: frozenset[int]) -> dict[int, str]:
    """A name for each position: the type, numbered from the second on, in the order of documents and then of time.

    Superseded liveness tries are `liveness#1`, `liveness#2`, …, so that `liveness` is always the one that counts.
    """
    names: dict[int, str] = {}
    counts: dict[str, int] = {}
    for run in sorted(runs, key=lambda run: (run.document, *run.age)):
        name = run.type.lower()
        if run.type == LIVENESS and run.position not in superseded:
            names[run.position] = name
            continue
        counts[name] = counts.get(name, 0) + 1
        plain = counts[name] == 1 and run.position not in superseded
        names[run.position] = name if plain else f"{name}#{counts[name]}"
    return names


def _checks(runs: list[_Run], superseded: frozenset[int], *, decisive: bool) -> Iterator[Check]:
    names = _names(runs, superseded)
    for run in runs:
        counts = True if decisive else None
        yield Check(
            name=names[run.position],
            outcome=run.outcome,
            provider_outcome=run.recommendation or run.state,
            score=_confidence(run),
            required=False if run.position in superseded else counts,
            reasons=_reasons(run),
            details=_details(run, superseded=run.position in superseded),
        )


def _reasons(run: _Run) -> tuple[str, ...]:
    path = ("report", "recommendation", "reason")
    # In tasks a reason is an object; should checks ever follow, its value is what names it.
    reason = text(run.raw, *path) or text(run.raw, *path, "value")
    return (reason,) if reason else ()


def _details(run: _Run, *, superseded: bool) -> dict[str, object]:
    report = member(run.raw, "report")
    criteria = text(run.raw, "config", "approval_criteria")
    details: dict[str, object] = {
        "id": text(run.raw, "id"),
        "state": run.state,
        "created": text(run.raw, "created"),
        # An approval is relative to this: with NO_MATCH, a face that was found in the pool is a rejection.
        "approval_criteria": criteria,
        "pool_id": text(run.raw, "config", "pool_id"),
        "pool_label": text(run.raw, "config", "pool_label"),
        "match_found": _match_found(criteria, run.recommendation),
        "recovery_suggestion": text(report, "recommendation", "recovery_suggestion"),
        "total_hits": number(report, "watchlist_summary", "total_hits"),
        "superseded": True if superseded else None,
        "breakdown": objects(report, "breakdown") or None,
    }
    return {name: value for name, value in details.items() if value is not None}


def _match_found(criteria: str | None, recommendation: str | None) -> bool | None:
    if criteria is None or recommendation not in ("APPROVE", "REJECT"):
        return None
    # The documentation writes NO_MATCH, and once `NO MATCH`.
    wanted = {"MATCH": True, "NO_MATCH": False}.get(criteria.replace(" ", "_"))
    return None if wanted is None else wanted == (recommendation == "APPROVE")


def _confidence(run: _Run) -> float | None:
    for part in objects(run.raw, "report", "breakdown"):
        for detail in objects(part, "details"):
            if text(detail, "name") == "confidence_score":
                value = text(detail, "value")
                return number(detail, "value") if value is None else _finite(value)
    return None


def _finite(value: str) -> float | None:
    try:
        score = float(value)
    except ValueError:
        return None
    return score if math.isfinite(score) else None


def _drift(state: str | None, runs: list[_Run]) -> Iterator[Drift]:
    if state not in ("ONGOING", "COMPLETED", "EXPIRED"):
        yield Drift.seen("state", state)
    for run in runs:
        if run.state not in _CHECK_STATES:
            yield Drift.seen("checks.state", run.state)
        elif run.state == "DONE" and run.recommendation not in _OUTCOMES:
            yield Drift.seen("checks.report.recommendation.value", run.recommendation)


def _parts(document: dict[str, Json]) -> Iterator[dict[str, Json]]:
    """Everything in a session whose `last_updated` tells how new the session's own state is."""
    yield from objects(document, "checks")
    resources = member(document, "resources")
    for group in resources.values() if isinstance(resources, dict) else ():
        for resource in objects(group):
            yield resource
            yield from objects(resource, "tasks")


def _newest(parts: Iterator[dict[str, Json]]) -> datetime | None:
    moments = (read_time(member(part, "last_updated")) for part in parts)
    return max((moment for moment in moments if moment is not None), default=None)


def _profiles_of(document: dict[str, Json]) -> Profiles:
    """The profiles that have a result, by their member's name."""
    found = {name: member(document, name) for name in _PROFILES}
    return {name: block for name, block in found.items() if isinstance(block, dict) and text(block, "result")}


def _is_abandoned(profiles: Profiles) -> bool:
    """Whether Yoti says that the person never finished."""
    return any(_reason_code(block) == "ABANDONED" for block in profiles.values())


def _profile_verdict(profiles: Profiles) -> Verdict:
    """The verdict of a completed session with profiles: all must be approved, and one refusal refuses."""
    if _is_abandoned(profiles):
        return Verdict(Stage.ABANDONED, Outcome.NONE, final=True)
    outcomes = {_profile_outcome(block) for block in profiles.values()}
    if None in outcomes:
        return Verdict(Stage.UNMAPPED, Outcome.NONE, final=False)
    if Outcome.REJECTED in outcomes:
        return Verdict(Stage.DECIDED, Outcome.REJECTED, final=True)
    approved = outcomes == {Outcome.APPROVED}
    return Verdict(Stage.DECIDED, Outcome.APPROVED if approved else Outcome.INCONCLUSIVE, final=True)


def _profile_checks(profiles: Profiles) -> Iterator[Check]:
    """One check for each profile, and one for each scheme whose requirements it was measured against."""
    for name, block in profiles.items():
        outcome = _profile_outcome(block)
        yield Check(
            name=name,
            outcome=_PROFILE_OUTCOMES.get(outcome or Outcome.NONE, CheckOutcome.UNKNOWN),
            provider_outcome=text(block, "result"),
            required=True,
            reasons=_profile_reasons(block),
        )
        yield from _scheme_checks(name, block)


def _profile_drift(profiles: Profiles) -> Iterator[Drift]:
    """The results that this mapping does not know."""
    for name, block in profiles.items():
        if _profile_outcome(block) is None:
            yield Drift.seen(f"{name}.result", text(block, "result"))


def _profile_outcome(block: dict[str, Json]) -> Outcome | None:
    """Approved if every scheme's requirements are met, rejected if none are; a mixture is for a person to judge.

    So is a profile that is done and yet names a reason for failing. None: a result that this mapping does not know.
    """
    result = text(block, "result")
    if result == "ABORTED":
        return Outcome.REJECTED if _reason_code(block) in _REFUSALS else Outcome.INCONCLUSIVE
    if result != "DONE":
        return None
    met = [member(scheme, "requirements_met") for _, scheme in _schemes(block)]
    if met and all(value is True for value in met) and _reason_code(block) is None:
        return Outcome.APPROVED
    if met and all(value is False for value in met):
        return Outcome.REJECTED
    return Outcome.INCONCLUSIVE


def _reason_code(block: dict[str, Json]) -> str | None:
    return text(block, "failure_reason", "reason_code")


def _profile_reasons(block: dict[str, Json]) -> tuple[str, ...]:
    unmet = objects(block, "failure_reason", "requirements_not_met_details")
    details = [text(item, "details") or text(item, "failure_type") for item in unmet]
    return tuple(dict.fromkeys(reason for reason in (_reason_code(block), *details) if reason))


def _schemes(block: dict[str, Json]) -> list[tuple[str | None, dict[str, Json]]]:
    """Each scheme with its trust framework; the advanced form lists several frameworks."""
    report = member(block, "identity_profile_report")
    frameworks = [member(report), *objects(report, "compliance")]
    return [
        (text(framework, "trust_framework"), scheme)
        for framework in frameworks
        for scheme in objects(framework, "schemes_compliance")
    ]


def _scheme_checks(profile: str, block: dict[str, Json]) -> Iterator[Check]:
    counts: dict[str, int] = {}
    for framework, scheme in _schemes(block):
        words = (framework, text(scheme, "scheme", "type"), text(scheme, "scheme", "objective"))
        name = "/".join([profile, *(word.lower() for word in words if word)])
        counts[name] = counts.get(name, 0) + 1
        met = member(scheme, "requirements_met")
        outcome = {True: CheckOutcome.PASSED, False: CheckOutcome.FAILED}[met] if isinstance(met, bool) else None
        info = None if met is True else text(scheme, "requirements_not_met_info")
        label = text(scheme, "scheme", "label")
        yield Check(
            name=name if counts[name] == 1 else f"{name}#{counts[name]}",
            outcome=outcome or CheckOutcome.UNKNOWN,
            provider_outcome=None if outcome is None else f"requirements_met={str(met).lower()}",
            required=True,
            reasons=(info,) if info else (),
            details={"label": label} if label else {},
        )
