"""Results and their versions: what a retrieve brought back, written in one transaction or not at all."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Table, select, tuple_, update
from sqlalchemy.orm import Session

from worker.domain.model import Check, Reading, ResourceRef, Verdict
from worker.domain.states import Outcome, Stage
from worker.domain.strict_json import Json
from worker.store.engine import insert
from worker.store.resources import Claim
from worker.store.tables import (
    checks,
    resources,
    result_documents,
    results,
    version_bodies,
    versions,
)

LONGEST_REFERENCE = 500
"""Characters of a customer's own id that are kept and searched; a longer one would not fit into an index."""

COMPRESSION = 1
"""Level 1 takes a quarter of level 6's time for documents of this size, and is hardly larger."""


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


def current_verdict(session: Session, resource_id: int) -> Verdict | None:
    """The verdict that readers see now; None before the first version."""
    row = session.execute(
        select(results.c.stage, results.c.outcome, results.c.final).where(results.c.resource_id == resource_id)
    ).one_or_none()
    return Verdict(Stage(row.stage), Outcome(row.outcome), row.final) if row else None


def is_current_content(session: Session, resource_id: int, version: int, document: Document) -> bool:
    """Whether the newest version already says the same."""
    row = session.execute(
        select(versions.c.content_sha256).where(versions.c.resource_id == resource_id, versions.c.number == version)
    ).one_or_none()
    return row is not None and row.content_sha256 == document.content_sha256


def touch(session: Session, resource_id: int, now: datetime) -> None:
    """The document was read again and says the same: only its freshness changes."""
    session.execute(update(results).where(results.c.resource_id == resource_id).values(retrieved_at=now))


def add_version(
    session: Session, claim: Claim, number: int, reading: Reading, document: Document, *, now: datetime
) -> None:
    """Append a version with its checks, and make it the result."""
    verdict = verdict_values(reading, document.mapping_version)
    version_id = session.execute(
        insert(session, versions)
        .values(
            resource_id=claim.resource_id,
            number=number,
            document_sha256=document.document_sha256,
            content_sha256=document.content_sha256,
            redacted=document.redacted,
            api_version=document.api_version,
            read_started_at=claim.started_at,
            retrieved_at=now,
            cause=claim.cause,
            attempt=claim.attempt,
            **verdict,
        )
        .returning(versions.c.id)
    ).scalar_one()
    session.execute(
        insert(session, version_bodies).values(version_id=version_id, body=zlib.compress(document.body, COMPRESSION))
    )
    add_checks(session, version_id, reading.checks)
    current = {**verdict, **result_values(reading), "version": number, "retrieved_at": now, "updated_at": now}
    _upsert(session, results, claim.resource_id, current)
    _upsert(session, result_documents, claim.resource_id, {"document": document.content})


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


def _upsert(session: Session, table: Table, resource_id: int, values: dict[str, object]) -> None:
    statement = insert(session, table).values(resource_id=resource_id, **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.resource_id], set_={name: statement.excluded[name] for name in values}
        )
    )


def add_checks(session: Session, version_id: int, found: Sequence[Check]) -> None:
    """Write a version's checks, in their order."""
    rows = [
        {"version_id": version_id, "position": position, **check_values(check)} for position, check in enumerate(found)
    ]
    if rows:
        session.execute(insert(session, checks), rows)


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
