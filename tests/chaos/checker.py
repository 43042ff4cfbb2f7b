"""The promises, checked: what must be true of a quiet system, given what was acknowledged and what the providers know.

Pure: everything that it looks at is in an `Evidence`, so a test can show it a state in which something is wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from tests.support.evidence import Row
from web.simulator.records import Ref

SINKS = ("log",)
NO_BUG_OF_OURS = ("bug",)
"""Reasons to park that no fault of this harness may lead to."""


class Kind(StrEnum):
    """What is wrong, in the columns of the table."""

    LOST = "lost"
    DUPLICATE = "duplicate"
    STALE = "stale"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One notification that got 2xx: what it was about, which state it told of, and the id that the answer named."""

    ref: Ref
    revision: int
    key: str
    delivery: str


@dataclass(frozen=True, slots=True)
class Told:
    """One event as a sink got it."""

    sequence: int
    id: str
    type: str
    subject: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything there is to know once it is quiet.

    `truths` gives for each record the newest revision with a digest; `digests` is what the stored documents come to.
    """

    acknowledged: Sequence[Acknowledged]
    truths: Mapping[Ref, Mapping[str | None, int]]
    digests: Mapping[Ref, str]
    deliveries: frozenset[str]
    resources: Sequence[Row]
    versions: Sequence[Row]
    results: Mapping[int, int]
    events: Sequence[Row]
    event_deliveries: Sequence[Row]
    unfinished_attempts: int
    told: Sequence[Told]
    leaks: Sequence[str]


def check(evidence: Evidence) -> list[Violation]:
    """Every broken promise."""
    return [violation for look in CHECKS for violation in look(evidence)]


def parked(evidence: Evidence) -> dict[Ref, str]:
    """What is parked, and why."""
    return {ref_of(row): str(row["park_reason"]) for row in evidence.resources if row["parked_at"] is not None}


def wanted(evidence: Evidence) -> dict[Ref, int]:
    """The newest revision of each record that was acknowledged to have been told of."""
    newest: dict[Ref, int] = {}
    for item in evidence.acknowledged:
        newest[item.ref] = max(newest.get(item.ref, 0), item.revision)
    return newest


def ref_of(row: Row) -> Ref:
    return Ref(str(row["provider"]), str(row["kind"]), str(row["external_id"]))


def deliveries_recorded(evidence: Evidence) -> Iterator[Violation]:
    """Promise 1: what got 2xx is in the database, once for all its copies."""
    named: dict[tuple[str, str], str] = {}
    for item in evidence.acknowledged:
        if item.delivery not in evidence.deliveries:
            yield Violation(Kind.LOST, f"delivery {item.delivery} of {item.ref} was acknowledged and is not recorded")
        first = named.setdefault((item.ref.provider, item.key), item.delivery)
        if first != item.delivery:
            yield Violation(Kind.DUPLICATE, f"one notification of {item.ref} is both {first} and {item.delivery}")


def documents_true(evidence: Evidence) -> Iterator[Violation]:
    """Promise 2: each record that was told of is stored as new as that, or is parked with a reason."""
    excused = parked(evidence)
    for ref, revision in wanted(evidence).items():
        digest = evidence.digests.get(ref)
        found = evidence.truths[ref].get(digest) if digest is not None else None
        if ref in excused:
            continue
        if digest is None:
            yield Violation(Kind.LOST, f"{ref} was told of and is neither stored nor parked")
        elif found is None:
            yield Violation(Kind.STALE, f"{ref}: the stored document was never the provider's")
        elif found < revision:
            yield Violation(Kind.STALE, f"{ref}: revision {found} is stored, {revision} was told of")


def parked_with_a_reason(evidence: Evidence) -> Iterator[Violation]:
    """Promise 2, the other half; and no fault of the surroundings is a bug of ours."""
    for row in evidence.resources:
        if row["parked_at"] is not None and (not row["park_reason"] or row["park_reason"] in NO_BUG_OF_OURS):
            yield Violation(Kind.OTHER, f"{ref_of(row)} is parked: {row['park_reason']}, {row['last_error']}")


def work_finished(evidence: Evidence) -> Iterator[Violation]:
    """Nothing is claimed, due or half done once it is quiet."""
    for row in evidence.resources:
        if row["claim_token"] is not None or row["due_at"] is not None:
            yield Violation(Kind.OTHER, f"{ref_of(row)} is still claimed or due")
        if row["parked_at"] is None and row["retrieved"] != row["wanted"]:
            yield Violation(Kind.LOST, f"{ref_of(row)} is wanted and nobody is going to retrieve it")
    if evidence.unfinished_attempts:
        yield Violation(Kind.OTHER, f"{evidence.unfinished_attempts} attempts have no outcome")


def versions_in_order(evidence: Evidence) -> Iterator[Violation]:
    """Promise 3: versions count from 1, differ from their neighbour, and were read one after the other."""
    by_resource: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(evidence.versions, key=lambda row: number(row["number"])):
        by_resource[number(row["resource_id"])].append(row)
    for resource, rows in by_resource.items():
        numbers = [number(row["number"]) for row in rows]
        if numbers != list(range(1, len(rows) + 1)):
            yield Violation(Kind.OTHER, f"resource {resource} has the versions {numbers}")
        if evidence.results.get(resource) != numbers[-1]:
            yield Violation(Kind.STALE, f"resource {resource} shows version {evidence.results.get(resource)}")
        for before, after in pairwise(rows):
            if before["content_sha256"] == after["content_sha256"]:
                yield Violation(Kind.DUPLICATE, f"resource {resource}: version {after['number']} repeats its neighbour")
            if moment(before["read_started_at"]) >= moment(after["read_started_at"]):
                yield Violation(Kind.STALE, f"resource {resource}: version {after['number']} was read before {before}")


def events_once(evidence: Evidence) -> Iterator[Violation]:
    """Promise 4: one row for each resource, version and type, at least one for each version, numbered without gaps."""
    names = Counter(
        (event["source"], event["kind"], event["external_id"], event["version"], event["type"])
        for event in evidence.events
        if event["version"] is not None
    )
    yield from (Violation(Kind.DUPLICATE, f"{count} events {name}") for name, count in names.items() if count > 1)
    ids = Counter(event["id"] for event in evidence.events)
    yield from (Violation(Kind.DUPLICATE, f"{count} events with id {key}") for key, count in ids.items() if count > 1)
    sequences = sorted(number(event["sequence"]) for event in evidence.events if event["sequence"] is not None)
    if sequences != list(range(1, len(evidence.events) + 1)):
        yield Violation(
            Kind.OTHER, f"{len(evidence.events)} events have {len(sequences)} numbers up to {sequences[-1:]}"
        )
    announced = {(event["kind"], event["external_id"], event["version"]) for event in evidence.events}
    for row in evidence.versions:
        if (row["kind"], row["external_id"], row["number"]) not in announced:
            yield Violation(
                Kind.LOST, f"no event tells of version {row['number']} of {row['kind']} {row['external_id']}"
            )


def sinks_served(evidence: Evidence) -> Iterator[Violation]:
    """Promise 4: each sink has got each event."""
    got = {(row["sink"], row["sequence"]) for row in evidence.event_deliveries if row["delivered_at"] is not None}
    for sink in SINKS:
        for event in evidence.events:
            if (sink, event["sequence"]) not in got:
                yield Violation(Kind.LOST, f"event {event['id']} was not delivered to {sink}")


def told_in_order(evidence: Evidence) -> Iterator[Violation]:
    """Promise 4, seen from the sink: each event at least once, as it is stored, and in order for each resource.

    Repeats are allowed, also late ones, so what counts is when an event came for the first time.
    """
    stored = {number(event["sequence"]): event for event in evidence.events if event["sequence"] is not None}
    first: dict[int, Told] = {}
    last: dict[str | None, int] = defaultdict(int)
    for item in evidence.told:
        event = stored.get(item.sequence)
        if event is None or (event["id"], event["type"]) != (item.id, item.type):
            yield Violation(Kind.OTHER, f"a sink got event {item.id} as number {item.sequence}, which is another one")
        if item.sequence in first:
            continue
        first[item.sequence] = item
        if item.subject is not None and item.sequence < last[item.subject]:
            yield Violation(Kind.OTHER, f"{item.subject}: event {item.sequence} came after {last[item.subject]}")
        last[item.subject] = item.sequence
    for sequence in sorted(stored.keys() - first.keys()):
        yield Violation(Kind.LOST, f"the sink never got event {sequence}")


def nothing_leaked(evidence: Evidence) -> Iterator[Violation]:
    """Promise 6."""
    yield from (Violation(Kind.OTHER, f"leaked: {leak}") for leak in evidence.leaks)


CHECKS: Sequence[Callable[[Evidence], Iterator[Violation]]] = (
    deliveries_recorded,
    documents_true,
    parked_with_a_reason,
    work_finished,
    versions_in_order,
    events_once,
    sinks_served,
    told_in_order,
    nothing_leaked,
)


def number(value: object) -> int:
    assert isinstance(value, int)
    return value


def moment(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value
