"""Write: everything that one attempt changes, in one transaction of the caller's.

The claim's token is checked first, so an attempt that outlived its claim changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.domain import lanes, retry
from worker.domain.events import Event, types_for
from worker.domain.model import Drift, Reading, ResourceKey, ResourceRef, Verdict
from worker.domain.retry import Decision, Effort, Failure, Hold, Park, RetryAt, Throttle
from worker.domain.states import AttemptOutcome, Cause, EventType, FailureKind, Stage
from worker.store import audit, inbox, outbox, resources, results, sources
from worker.store.audit import Deed
from worker.store.engine import Session, database_time
from worker.store.resources import Claim, Parked, Want
from worker.store.results import Document

MOST_RELATED = 200
"""No inquiry has more than a few dozen verifications. Past this the document is wrong, and a person should look."""

HELD_BY_HAND = "held by an operator"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the writer needs to know besides the attempt: the source's horizon, a random number, whether the source is
    held, its pause for coalescing, and how long the provider wants no further call, if it said so."""

    horizon: timedelta
    jitter: float
    probing: bool = False
    coalesce: timedelta = timedelta(0)
    exhausted_for: timedelta | None = None


def write_document(
    session: Session, claim: Claim, reading: Reading, document: Document, situation: Situation
) -> AttemptOutcome:
    """Store what a retrieve brought back. Raises ClaimLost."""
    now = database_time(session)
    row = resources.lock_claimed(session, claim)
    if _is_stale(row.read_started_at, row.provider_updated_at, claim, reading):
        _note_answered(session, claim, situation, now)
        failure = Failure(FailureKind.STALE, "the document is older than the one stored")
        return write_failure(session, claim, failure, situation, outcome=AttemptOutcome.STALE)
    if results.is_current_content(session, claim.resource_id, row.version, document):
        results.touch(session, claim.resource_id, now)
        number, outcome = row.version, AttemptOutcome.UNCHANGED
    else:
        number, outcome = row.version + 1, AttemptOutcome.STORED
        previous = results.current_verdict(session, claim.resource_id)
        results.add_version(session, claim, number, reading, document, now=now)
        outbox.append(session, _result_events(claim, number, previous, reading, now), now)
    if reading.verdict.stage is Stage.ERASED:
        _erase(session, claim, number, now)
    _want_related(session, claim, reading, _Change(outcome is AttemptOutcome.STORED, situation.coalesce, now))
    sources.note_drift(session, claim.key.source, claim.key.ref.kind, reading.drift, now)
    # After every resource: whoever is told to slow down holds a resource that this document may name, and then wants
    # the source's row.
    _note_answered(session, claim, situation, now)
    resources.settle(
        session,
        claim,
        now,
        pause=situation.coalesce,
        version=number,
        read_started_at=claim.started_at,
        provider_updated_at=reading.provider_updated_at,
    )
    resources.finish_attempt(session, claim, now, outcome)
    return outcome


def write_failure(
    session: Session,
    claim: Claim,
    failure: Failure,
    situation: Situation,
    *,
    outcome: AttemptOutcome = AttemptOutcome.FAILED,
) -> AttemptOutcome:
    """Store why an attempt gave no document, and what follows from it. Raises ClaimLost."""
    now = database_time(session)
    row = resources.lock_claimed(session, claim)
    count = claim.failures + 1
    decision = _decide(session, claim, failure, situation, now)
    if row.wanted > claim.wanted and isinstance(decision, RetryAt | Park) and failure.kind is not FailureKind.CRASHED:
        # Somebody asked again while the call was under way, and this answer may be older than what they know of.
        decision = RetryAt(now)
    if situation.probing and _credential_works(failure):
        _end_probing(session, claim.key.source, now)
    match decision:
        case RetryAt(when):
            resources.postpone(session, claim, when, failures=count, last_error=failure.detail)
        case Throttle(until):
            sources.throttle(session, claim.key.source, until)
            resources.postpone(session, claim, until, last_error=failure.detail)
        case Hold(reason, probe_at):
            hold(session, claim.key.source, reason, now=now, probe_at=probe_at, actor="worker")
            resources.postpone(session, claim, now, last_error=failure.detail)
        case Park(reason):
            _park(session, claim, failure, reason, now)
    resources.finish_attempt(
        session,
        claim,
        now,
        outcome,
        error=failure.kind,
        detail=failure.detail,
        http_status=failure.http_status,
        request_id=failure.request_id,
    )
    return outcome


def _decide(session: Session, claim: Claim, failure: Failure, situation: Situation, now: datetime) -> Decision:
    match failure.kind:
        case FailureKind.CRASHED:
            count = claim.crashes
        case FailureKind.CONFLICT | FailureKind.STALE:
            # No more than failed since it was wanted: what was parked and is wanted again starts over.
            count = min(resources.failed_in_a_row(session, claim, failure.kind), claim.failures) + 1
        case _:
            count = claim.failures + 1
    return retry.decide(failure, Effort(count, claim.wanted_since, situation.horizon), now, situation.jitter)


def hold(session: Session, source: str, reason: str, *, now: datetime, probe_at: datetime | None, actor: str) -> bool:
    """Hold a source, with its event and audit entry; false if it was held already. Without `probe_at` only an operator
    ends it."""
    number = sources.hold(session, source, reason, now=now, probe_at=probe_at)
    if number is None:
        return False
    # An operator's own words may name a person, and events travel to where nobody erases them.
    told = reason if probe_at is not None else HELD_BY_HAND
    event = Event(EventType.HELD, source, occasion=f"hold-{number}", data={"source": source, "reason": told})
    outbox.append(session, [event], now)
    audit.note(session, Deed(actor, "hold", source, reason), now)
    return True


def release(session: Session, source: str, now: datetime, *, actor: str, reason: str | None = None) -> bool:
    """End a source's hold, with its event and audit entry; false if it was not held."""
    number = sources.release(session, source)
    if number is None:
        return False
    outbox.append(session, [Event(EventType.RELEASED, source, occasion=f"hold-{number}", data={"source": source})], now)
    audit.note(session, Deed(actor, "release", source, reason), now)
    return True


def _note_answered(session: Session, claim: Claim, situation: Situation, now: datetime) -> None:
    """What an answer says about its source: that the credential works, and whether it was the last call of a window."""
    if situation.probing:
        _end_probing(session, claim.key.source, now)
    if situation.exhausted_for is not None:
        sources.throttle(session, claim.key.source, now + min(situation.exhausted_for, retry.LONGEST_THROTTLE))


def _end_probing(session: Session, source: str, now: datetime) -> None:
    """The probe was answered. A hold without a time for probes is an operator's, and only operators end it."""
    if sources.state(session, source, lock=True).probe_at is not None:
        release(session, source, now, actor="probe")


def _is_stale(
    read_started_at: datetime | None, provider_updated_at: datetime | None, claim: Claim, reading: Reading
) -> bool:
    if read_started_at is not None and claim.started_at <= read_started_at:
        return True
    known, found = provider_updated_at, reading.provider_updated_at
    return known is not None and found is not None and found < known


def _credential_works(failure: Failure) -> bool:
    silent = (FailureKind.CREDENTIAL, FailureKind.TIMEOUT, FailureKind.NETWORK, FailureKind.SERVER_ERROR)
    return failure.http_status is not None and failure.kind not in silent


def _park(session: Session, claim: Claim, failure: Failure, reason: str, now: datetime) -> None:
    parked = Parked(reason, lanes.step(failure.kind), lanes.fingerprint(failure), failure.detail)
    parks = resources.park(session, claim, now, parked)
    event = Event(
        EventType.PARKED,
        claim.key.source,
        claim.key.ref.kind,
        claim.key.ref.external_id,
        occasion=f"park-{parks}",
        data={**_subject(claim), "reason": reason, "error": failure.kind, "attempts": claim.attempt},
    )
    outbox.append(session, [event], now)


def _subject(claim: Claim) -> dict[str, object]:
    return {
        "source": claim.key.source,
        "provider": claim.provider,
        "environment": claim.environment,
        "kind": claim.key.ref.kind,
        "external_id": claim.key.ref.external_id,
    }


def _result_events(
    claim: Claim, number: int, previous: Verdict | None, reading: Reading, now: datetime
) -> Iterable[Event]:
    verdict = reading.verdict
    before = None if previous is None else {"stage": previous.stage, "outcome": previous.outcome}
    updated = reading.provider_updated_at
    data = {
        **_subject(claim),
        "version": number,
        "stage": verdict.stage,
        "outcome": verdict.outcome,
        "final": verdict.final,
        "derived": reading.derived,
        "previous": before,
        "provider_updated_at": updated.isoformat() if updated else None,
        "retrieved_at": now.isoformat(),
    }
    for event_type in types_for(previous, verdict):
        yield Event(
            event_type,
            claim.key.source,
            claim.key.ref.kind,
            claim.key.ref.external_id,
            number,
            verdict.stage,
            verdict.outcome,
            data=data,
        )


def _erase(session: Session, claim: Claim, number: int, now: datetime) -> None:
    results.erase_bodies(session, claim.resource_id, number, now)
    inbox.erase_bodies(session, claim.resource_id, now)


@dataclass(frozen=True, slots=True)
class _Change:
    """Whether a document changed, when, and how long its relatives may wait for more of that."""

    changed: bool
    coalesce: timedelta
    now: datetime


def _want_related(session: Session, claim: Claim, reading: Reading, change: _Change) -> None:
    """Want what the document names: what is not known yet, and, if the document changed, what may have changed with it.

    A final result is left alone, or every reading of an inquiry would read its verifications again. An erasure is
    followed everywhere, because it erases those too.
    """
    related = list(dict.fromkeys(ref for ref in reading.related if ref != claim.key.ref))
    if len(related) > MOST_RELATED:
        found = Drift("related", f"more than {MOST_RELATED}")
        sources.note_drift(session, claim.key.source, claim.key.ref.kind, [found], change.now)
        related = related[:MOST_RELATED]
    known = results.finality(session, claim.key.source, related)
    erased = reading.verdict.stage is Stage.ERASED and change.changed
    wanted = [ref for ref in related if ref not in known or erased or (change.changed and not known[ref])]
    wants = {_key(claim, ref): _related_want(claim) for ref in wanted}
    resources.mark_wanted(session, wants, change.now, coalesce={claim.key.source: change.coalesce})


def _key(claim: Claim, ref: ResourceRef) -> ResourceKey:
    return ResourceKey(claim.key.source, ref)


def _related_want(claim: Claim) -> Want:
    return Want(claim.provider, claim.environment, Cause.DISCOVERED, claim.priority)
