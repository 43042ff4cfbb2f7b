"""Readings of stored versions: what they were made from, what they say now, and their replacement by a newer one.

A version's bytes, number and times are never touched here; only how it was read.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update

from worker.domain.model import Reading, ResourceKey, ResourceRef, Verdict
from worker.domain.states import Outcome, Stage
from worker.store.engine import Session
from worker.store.results import add_checks, check_values, result_values, verdict_values
from worker.store.tables import checks, resources, results, version_bodies, versions
from worker.store.types import storable, storable_json

_CURRENT = (
    "stage", "outcome", "final", "provider_status", "derived", "score", "reference", "provider_created_at",
    "provider_updated_at", "completed_at",
)  # fmt: skip
_TIMES = (results.c.retrieved_at, results.c.updated_at)
_CHECK = ("name", "outcome", "provider_outcome", "score", "threshold", "required", "reasons", "details")


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A resource's newest version. `body` is None once it was erased."""

    resource_id: int
    key: ResourceKey
    provider: str
    environment: str
    number: int
    version_id: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Projection:
    """What readers see of a resource now: the normalised values of its result, and its checks."""

    values: Mapping[str, object]
    checks: Sequence[Mapping[str, object]]
    mapping_version: int
    retrieved_at: datetime
    updated_at: datetime

    @property
    def verdict(self) -> Verdict:
        """How far, and what was decided."""
        return Verdict(
            Stage(str(self.values["stage"])), Outcome(str(self.values["outcome"])), bool(self.values["final"])
        )

    def says(self, reading: Reading) -> bool:
        """Whether a reading would change nothing."""
        values = {**verdict_values(reading, 0), **result_values(reading)}
        found = [check_values(check) for check in reading.checks]
        return self.values == {name: _stored(values[name]) for name in _CURRENT} and list(self.checks) == [
            {name: _stored(check[name]) for name in _CHECK} for check in found
        ]


def _stored(value: object) -> object:
    """The value as it comes back from a database."""
    if isinstance(value, str):
        return storable(str(value))
    if isinstance(value, list | dict):
        return storable_json(json.loads(json.dumps(value)))
    return value


def newest(session: Session, resource_id: int) -> StoredVersion | None:
    """A resource's newest version with its bytes; None if nothing was stored yet."""
    row = session.execute(
        select(
            *(resources.c[name] for name in ("source", "kind", "external_id", "provider", "environment", "version")),
            versions.c.id.label("version_id"),
            version_bodies.c.body,
        )
        .join(versions, (versions.c.resource_id == resources.c.id) & (versions.c.number == resources.c.version))
        .outerjoin(version_bodies, version_bodies.c.version_id == versions.c.id)
        .where(resources.c.id == resource_id)
    ).one_or_none()
    if row is None:
        return None
    return StoredVersion(
        resource_id=resource_id,
        key=ResourceKey(row.source, ResourceRef(row.kind, row.external_id)),
        provider=row.provider,
        environment=row.environment,
        number=row.version,
        version_id=row.version_id,
        body=None if row.body is None else zlib.decompress(row.body),
    )


def projection(session: Session, version: StoredVersion, *, lock: bool = False) -> Projection | None:
    """What readers see of the version; None if it is no longer the newest, or no result. With `lock` the resource
    stays as it is until the transaction ends; None also if somebody else holds it, who is not waited for."""
    number = select(resources.c.version).where(resources.c.id == version.resource_id)
    if lock:
        number = number.with_for_update(skip_locked=True, key_share=True)
    if session.execute(number).scalar_one_or_none() != version.number:
        return None
    row = session.execute(
        select(*(results.c[name] for name in _CURRENT), results.c.mapping_version, *_TIMES).where(
            results.c.resource_id == version.resource_id, results.c.version == version.number
        )
    ).one_or_none()
    if row is None:
        return None
    found = session.execute(
        select(*(checks.c[name] for name in _CHECK))
        .where(checks.c.version_id == version.version_id)
        .order_by(checks.c.position)
    )
    values = {name: getattr(row, name) for name in _CURRENT}
    read = [dict(check) for check in found.mappings()]
    return Projection(values, read, row.mapping_version, row.retrieved_at, row.updated_at)


def replace(session: Session, version: StoredVersion, reading: Reading, mapping_version: int, now: datetime) -> None:
    """Make `reading` what readers see of the version. Its resource is locked."""
    verdict = verdict_values(reading, mapping_version)
    session.execute(
        update(results)
        .where(results.c.resource_id == version.resource_id)
        .values(**verdict, **result_values(reading), updated_at=now)
    )
    session.execute(update(versions).where(versions.c.id == version.version_id).values(**verdict))
    session.execute(delete(checks).where(checks.c.version_id == version.version_id))
    add_checks(session, {version.version_id: reading.checks})
    # A wrong time there would make the next document look older than it is.
    session.execute(
        update(resources)
        .where(resources.c.id == version.resource_id)
        .values(provider_updated_at=reading.provider_updated_at)
    )


def note_mapping(session: Session, version: StoredVersion, mapping_version: int) -> None:
    """A newer mapping has read the version, and found the same. Its resource is locked."""
    session.execute(
        update(results).where(results.c.resource_id == version.resource_id).values(mapping_version=mapping_version)
    )
    session.execute(update(versions).where(versions.c.id == version.version_id).values(mapping_version=mapping_version))
