"""Results and their versions: what a retrieve brought back, written in one transaction or not at all."""

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from isal import isal_zlib
from sqlalchemy import and_, select, tuple_, update
from sqlalchemy.orm import Session

from worker.domain.model import Check, Reading, ResourceRef, Verdict
from worker.domain.states import Outcome, Stage
from worker.domain.strict_json import Json
from worker.store.bulk import Insertion, Owner, Step, insert_rows
from worker.store.claims import Claim
from worker.store.tables import (
    checks,
    resources,
    result_documents,
    results,
    version_bodies,
    versions,
)

_VERSIONS = Insertion(versions, returning=("id", "resource_id"))
_VERSION = Owner(_VERSIONS, by="resource_id", column="version_id")
_BODIES = Insertion(version_bodies, owner=_VERSION)
_CHECKS = Insertion(checks)
_NEW_CHECKS = Insertion(checks, owner=_VERSION)
_RESULTS = Insertion(
    results, key=("resource_id",), replaced=tuple(found.name for found in results.c if found.name != "resource_id")
)
_DOCUMENTS = Insertion(result_documents, key=("resource_id",), replaced=("document",))

LONGEST_REFERENCE = 500
"""Characters of a customer's own id that are kept and searched; a longer one would not fit into an index."""

COMPRESSION = 1
"""Of isal's levels, which all write what zlib reads: in half the time of zlib's own first, and no larger."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a retrieve brought back. `body` is the provider's bytes, with secrets replaced if there were any."""

    body: bytes
    redacted: bool
    content: Json
    document_sha256: str
    content_sha256: str
    api_version: str | None
    mapping_version: int


@dataclass(frozen=True, slots=True)
class Current:
    """What readers see of a resource now: its verdict, and the digest of what its newest document says."""

    verdict: Verdict
    content_sha256: str


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A document that differs from the one before, on its way in as version `number`."""

    claim: Claim
    number: int
    reading: Reading
    document: Document


def current(session: Session, resource_ids: Collection[int]) -> dict[int, Current]:
    """What readers see now, by resource id; a resource without a version is missing from the answer."""
    if not resource_ids:
        return {}
    rows = session.execute(
        select(results.c.resource_id, results.c.stage, results.c.outcome, results.c.final, versions.c.content_sha256)
        .join(versions, and_(versions.c.resource_id == results.c.resource_id, versions.c.number == results.c.version))
        .where(results.c.resource_id.in_(resource_ids))
    )
    return {
        row.resource_id: Current(Verdict(Stage(row.stage), Outcome(row.outcome), row.final), row.content_sha256)
        for row in rows
    }


def touch(session: Session, resource_ids: Collection[int], now: datetime) -> None:
    """The documents were read again and say the same: only their freshness changes."""
    if resource_ids:
        session.execute(update(results).where(results.c.resource_id.in_(resource_ids)).values(retrieved_at=now))


def adding_versions(new: Sequence[NewVersion], now: datetime) -> list[Step]:
    """To append versions of different resources, with their bodies and checks and the results that they make, as steps
    to be written with more."""
    verdicts = [verdict_values(item.reading, item.document.mapping_version) for item in new]
    times = {"retrieved_at": now, "updated_at": now}
    added = [_version_values(item, now) | verdict for item, verdict in zip(new, verdicts, strict=True)]
    bodies = [
        {"resource_id": item.claim.resource_id, "body": isal_zlib.compress(item.document.body, COMPRESSION)}
        for item in new
    ]
    found = [{"resource_id": item.claim.resource_id, **row} for item in new for row in _check_rows(item.reading.checks)]
    current = [
        {"resource_id": item.claim.resource_id, "version": item.number} | verdict | result_values(item.reading) | times
        for item, verdict in zip(new, verdicts, strict=True)
    ]
    documents = [{"resource_id": item.claim.resource_id, "document": item.document.content} for item in new]
    return [
        (_VERSIONS, added),
        (_BODIES, bodies),
        (_NEW_CHECKS, found),
        (_RESULTS, current),
        (_DOCUMENTS, documents),
    ]


def _version_values(item: NewVersion, now: datetime) -> dict[str, object]:
    return {
        "resource_id": item.claim.resource_id,
        "number": item.number,
        "document_sha256": item.document.document_sha256,
        "content_sha256": item.document.content_sha256,
        "redacted": item.document.redacted,
        "api_version": item.document.api_version,
        "read_started_at": item.claim.started_at,
        "retrieved_at": now,
        "cause": item.claim.cause,
        "attempt": item.claim.attempt,
    }


def verdict_values(reading: Reading, mapping_version: int) -> dict[str, object]:
    """What a reading says of a verdict, as the columns that versions and results share."""
    return {
        "stage": reading.verdict.stage,
        "outcome": reading.verdict.outcome,
        "final": reading.verdict.final,
        "provider_status": reading.provider_status,
        "mapping_version": mapping_version,
    }


def result_values(reading: Reading) -> dict[str, object]:
    """What a reading says besides, as columns of results."""
    return {
        "derived": reading.derived,
        "score": reading.score,
        "reference": reading.reference and reading.reference[:LONGEST_REFERENCE],
        "provider_created_at": reading.provider_created_at,
        "provider_updated_at": reading.provider_updated_at,
        "completed_at": reading.completed_at,
    }


def add_checks(session: Session, found: Mapping[int, Sequence[Check]]) -> None:
    """Write the checks of versions, by the versions' ids, each in their order."""
    rows = [{"version_id": version_id, **row} for version_id, of_it in found.items() for row in _check_rows(of_it)]
    insert_rows(session, _CHECKS, rows)


def _check_rows(found: Sequence[Check]) -> list[dict[str, object]]:
    return [{"position": position, **check_values(check)} for position, check in enumerate(found)]


def check_values(check: Check) -> dict[str, object]:
    """A check as the columns of its row."""
    return {
        "name": check.name,
        "outcome": check.outcome,
        "provider_outcome": check.provider_outcome,
        "score": check.score,
        "threshold": check.threshold,
        "required": check.required,
        "reasons": list(check.reasons),
        "details": dict(check.details),
    }


def erase_bodies(session: Session, resource_id: int, before: int, now: datetime) -> None:
    """Forget the documents of the versions before an erasure; their digests, times and verdicts stay as evidence.

    Reasons and details of their checks go too, because they may describe the person.
    """
    old = select(versions.c.id).where(versions.c.resource_id == resource_id, versions.c.number < before)
    session.execute(
        update(version_bodies)
        .where(version_bodies.c.version_id.in_(old), version_bodies.c.erased_at.is_(None))
        .values(body=None, erased_at=now)
    )
    session.execute(update(checks).where(checks.c.version_id.in_(old)).values(reasons=[], details={}))


def finality(session: Session, source: str, refs: Sequence[ResourceRef]) -> dict[ResourceRef, bool]:
    """Whether each resource's result is final; a resource that is not known at all is missing from the answer."""
    if not refs:
        return {}
    wanted = tuple_(resources.c.kind, resources.c.external_id).in_([(ref.kind, ref.external_id) for ref in refs])
    rows = session.execute(
        select(resources.c.kind, resources.c.external_id, results.c.final)
        .outerjoin(results, results.c.resource_id == resources.c.id)
        .where(resources.c.source == source, wanted)
    )
    return {ResourceRef(row.kind, row.external_id): bool(row.final) for row in rows}


def version_body(session: Session, resource_id: int, number: int) -> bytes | None:
    """The bytes kept for a version; None if there is no such version or it was erased."""
    packed = session.execute(
        select(version_bodies.c.body)
        .join(versions, versions.c.id == version_bodies.c.version_id)
        .where(versions.c.resource_id == resource_id, versions.c.number == number)
    ).scalar_one_or_none()
    return None if packed is None else zlib.decompress(packed)
