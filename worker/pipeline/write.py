"""Write: everything that attempts change, in one transaction of the caller's.

Claims' tokens are checked first, so an attempt that outlived its claim changes nothing. Attempts that land together are
written together: one statement a table, and one commit, cost little more for twenty than for one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from worker.domain import lanes, retry
from worker.domain.events import Event, told_reason, types_for
from worker.domain.model import Drift, Reading, ResourceKey, ResourceRef, Verdict
from worker.domain.retry import Decision, Effort, Failure, Hold, Park, RetryAt, Throttle
from worker.domain.states import AttemptOutcome, Cause, EventType, FailureKind, Stage
from worker.domain.trace import Period
from worker.store import audit, claims, inbox, outbox, resources, results, sources
from worker.store.audit import Deed
from worker.store.bulk import write_together
from worker.store.claims import Claim
from worker.store.engine import Row, Session
from worker.store.resources import Parked, Settled, Want
from worker.store.results import Current, Document, NewVersion

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


Brought: TypeAlias = tuple[Reading, Document] | Failure
"""What an attempt brought: a document and how it reads, or why there is none."""


@dataclass(frozen=True, slots=True)
class Landed:
    """An attempt that is over, and is to be written down; `began` is when, on the monotonic clock. `call` is when it
    called, where traces are wanted."""

    claim: Claim
    brought: Brought
    situation: Situation
    call: Period | None = None
    began: float | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """A document that was read, and what it makes of its resource: version `number`, after `previous`."""

    claim: Claim
    reading: Reading
    document: Document
    situation: Situation
    number: int
    outcome: AttemptOutcome
    previous: Verdict | None

    @property
    def changed(self) -> bool:
        return self.outcome is AttemptOutcome.STORED


def write(session: Session, landed: Sequence[Landed]) -> list[AttemptOutcome]:
    """Write what attempts of one source brought, in one go; the answers are in the same order.

    An attempt that is no longer the one who holds the claim changes nothing, and its answer is FENCED.
    """
    rows = resources.lock_claimed(session, [item.claim for item in landed], _named(landed))
    ours = [item for item in landed if _is_held(item.claim, rows)]
    if not ours:
        return [AttemptOutcome.FENCED] * len(landed)
    now = rows[ours[0].claim.resource_id].now
    for item in ours:
        if item.claim.crashes:
            # It was said with the claim, in a transaction of its own that may have failed.
            claims.note_crashes(session, [item.claim])
    read, failed = _sort(session, ours, rows)
    asked_again = _write_documents(session, read, now)
    outcomes = {item.claim.token_of_attempt: item.outcome for item in read}
    for item, failure in failed:
        row = rows[item.claim.resource_id]
        asked = row.wanted > item.claim.wanted or row.id in asked_again
        _write_failure(session, item, failure, now, asked_again=asked)
        stale = failure.kind is FailureKind.STALE
        outcomes[item.claim.token_of_attempt] = AttemptOutcome.STALE if stale else AttemptOutcome.FAILED
    return [outcomes.get(item.claim.token_of_attempt, AttemptOutcome.FENCED) for item in landed]


def _named(landed: Iterable[Landed]) -> set[ResourceKey]:
    """The resources that the documents name."""
    return {
        ResourceKey(item.claim.key.source, ref)
        for item in landed
        if not isinstance(item.brought, Failure)
        for ref in _names(item.claim, item.brought[0])[:MOST_RELATED]
    }


def _is_held(claim: Claim, rows: Mapping[int, Row[Any]]) -> bool:
    row = rows.get(claim.resource_id)
    return row is not None and row.claim_token == claim.token


def _sort(
    session: Session, landed: Sequence[Landed], rows: Mapping[int, Row[Any]]
) -> tuple[list[_Read], list[tuple[Landed, Failure]]]:
    """What brought news, or none, and what failed: by itself, or because its document is older than the one stored."""
    before = results.current(session, [key for key, row in rows.items() if row.version])
    read: list[_Read] = []
    failed: list[tuple[Landed, Failure]] = []
    for item in landed:
        row = rows[item.claim.resource_id]
        if isinstance(item.brought, Failure):
            failed.append((item, item.brought))
        elif _is_stale(row.read_started_at, row.provider_updated_at, item.claim, item.brought[0]):
            failed.append((item, Failure(FailureKind.STALE, "the document is older than the one stored")))
        else:
            read.append(_read(item.claim, item.brought, item.situation, row.version, before.get(row.id)))
    return read, failed


def _read(
    claim: Claim, brought: tuple[Reading, Document], situation: Situation, version: int, before: Current | None
) -> _Read:
    reading, document = brought
    same = before is not None and before.content_sha256 == document.content_sha256
    return _Read(
        claim,
        reading,
        document,
        situation,
        number=version if same else version + 1,
        outcome=AttemptOutcome.UNCHANGED if same else AttemptOutcome.STORED,
        previous=before.verdict if before else None,
    )


def _write_documents(session: Session, read: Sequence[_Read], now: datetime) -> frozenset[int]:
    """Returns the ids of the resources that are wanted because the documents name them."""
    if not read:
        return frozenset()
    new = [item for item in read if item.changed]
    results.touch(session, [item.claim.resource_id for item in read if not item.changed], now)
    versions = [NewVersion(item.claim, item.number, item.reading, item.document) for item in new]
    for item in read:
        if item.reading.verdict.stage is Stage.ERASED:
            _erase(session, item.claim, item.number, now)
    wanted = _want_related(session, read, now)
    _note_drift(session, read, now)
    # After every resource: whoever is told to slow down holds a resource that a document may name, and then wants the
    # source's row.
    for item in read:
        _note_answered(session, item.claim, item.situation, now)
    settled = [Settled(i.claim, i.number, i.claim.started_at, i.reading.provider_updated_at) for i in read]
    *_, ended = write_together(
        session,
        [
            *results.adding_versions(versions, now),
            outbox.appending([event for item in new for event in _result_events(item, now)], now),
            claims.finishing([(item.claim, item.outcome) for item in read], now),
            resources.settling(settled, now, pause=read[0].situation.coalesce),
        ],
    )
    resources.require_all(len(settled), ended)
    return wanted


def _write_failure(session: Session, landed: Landed, failure: Failure, now: datetime, *, asked_again: bool) -> None:
    """Write why an attempt gave no document, and what follows from it."""
    claim, situation = landed.claim, landed.situation
    stale = failure.kind is FailureKind.STALE
    if stale:
        _note_answered(session, claim, situation, now)
    decision = _decide(session, claim, failure, situation, now)
    if asked_again and isinstance(decision, RetryAt | Park) and failure.kind is not FailureKind.CRASHED:
        # Somebody asked again while the call was under way, and this answer may be older than what they know of.
        decision = RetryAt(now)
    if situation.probing and _credential_works(failure):
        _end_probing(session, claim.key.source, now)
    match decision:
        case RetryAt(when):
            resources.postpone(session, claim, when, failures=claim.failures + 1, last_error=failure.detail)
        case Throttle(until):
            sources.throttle(session, claim.key.source, until)
            resources.postpone(session, claim, until, last_error=failure.detail)
        case Hold(reason, probe_at):
            hold(session, claim.key.source, reason, now=now, probe_at=probe_at, actor="worker")
            resources.postpone(session, claim, now, last_error=failure.detail)
        case Park(reason):
            _park(session, claim, failure, reason, now)
    claims.finish_attempt(
        session,
        claim,
        now,
        AttemptOutcome.STALE if stale else AttemptOutcome.FAILED,
        error=failure.kind,
        detail=failure.detail,
        http_status=failure.http_status,
        request_id=failure.request_id,
    )


def _decide(session: Session, claim: Claim, failure: Failure, situation: Situation, now: datetime) -> Decision:
    match failure.kind:
        case FailureKind.CRASHED:
            count = claim.crashes
        case FailureKind.CONFLICT | FailureKind.STALE:
            # No more than failed since it was wanted: what was parked and is wanted again starts over.
            count = min(claims.failed_in_a_row(session, claim, failure.kind), claim.failures) + 1
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
    told = told_reason(reason) if probe_at is not None else HELD_BY_HAND
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


def _result_events(item: _Read, now: datetime) -> Iterable[Event]:
    claim, verdict, previous = item.claim, item.reading.verdict, item.previous
    before = None if previous is None else {"stage": previous.stage, "outcome": previous.outcome}
    updated = item.reading.provider_updated_at
    data = {
        **_subject(claim),
        "version": item.number,
        "stage": verdict.stage,
        "outcome": verdict.outcome,
        "final": verdict.final,
        "derived": item.reading.derived,
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
            item.number,
            verdict.stage,
            verdict.outcome,
            data=data,
        )


def _erase(session: Session, claim: Claim, number: int, now: datetime) -> None:
    results.erase_bodies(session, claim.resource_id, number, now)
    inbox.erase_bodies(session, claim.resource_id, now)


def _want_related(session: Session, read: Sequence[_Read], now: datetime) -> frozenset[int]:
    """Want what the documents name: what is not known yet, and, if a document changed, what may have changed with it.

    A final result is left alone, or every reading of an inquiry would read its verifications again. An erasure is
    followed everywhere, because it erases those too.
    """
    named = {item.claim.token_of_attempt: _names(item.claim, item.reading)[:MOST_RELATED] for item in read}
    known = results.finality(session, read[0].claim.key.source, list({ref for refs in named.values() for ref in refs}))
    # What is written together counts as it is about to be.
    known |= {item.claim.key.ref: item.reading.verdict.final for item in read}
    wants: dict[ResourceKey, Want] = {}
    for item in read:
        erased = item.reading.verdict.stage is Stage.ERASED and item.changed
        for ref in named[item.claim.token_of_attempt]:
            if ref not in known or erased or (item.changed and not known[ref]):
                key = ResourceKey(item.claim.key.source, ref)
                wants[key] = _more_urgent(wants.get(key), _related_want(item.claim))
    pause = {item.claim.key.source: item.situation.coalesce for item in read}
    return frozenset(resources.mark_wanted(session, wants, now, coalesce=pause).values())


def _names(claim: Claim, reading: Reading) -> list[ResourceRef]:
    return list(dict.fromkeys(ref for ref in reading.related if ref != claim.key.ref))


def _related_want(claim: Claim) -> Want:
    return Want(claim.provider, claim.environment, Cause.DISCOVERED, claim.priority)


def _more_urgent(one: Want | None, other: Want) -> Want:
    return other if one is None or other.priority < one.priority else one


def _note_drift(session: Session, read: Sequence[_Read], now: datetime) -> None:
    found: dict[str, Counter[Drift]] = {}
    for item in read:
        drift = found.setdefault(item.claim.key.ref.kind, Counter())
        drift.update(set(item.reading.drift))
        if len(_names(item.claim, item.reading)) > MOST_RELATED:
            drift[Drift("related", f"more than {MOST_RELATED}")] += 1
    # In one order, like everything that two writers may both want to lock.
    for kind in sorted(found):
        sources.note_drift(session, read[0].claim.key.source, kind, found[kind].elements(), now)
