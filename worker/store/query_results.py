"""Reading results: lists by keyset, one result, and its past. Nothing here writes."""

import zlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, Tuple, and_, literal, select, tuple_

from worker.domain.model import ResourceKey
from worker.store.engine import Session
from worker.store.query import Record, record, records, unindexed
from worker.store.tables import checks, resources, result_documents, results, version_bodies, versions

MOST_LOOKED_AT = 10_000
"""Results that one page looks at, where it takes only some of them. Of what is rare a page would look at every result
there is; so many are read in some ten milliseconds, and the next page goes on behind them."""


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """What a reader wants to see; None is everything. `updated_after` is exclusive."""

    source: str | None = None
    provider: str | None = None
    kind: str | None = None
    stage: str | None = None
    outcome: str | None = None
    reference: str | None = None
    updated_after: datetime | None = None

    @property
    def passes_over(self) -> bool:
        """Whether results lie between those that are wanted. Those with one reference are few, and have an index."""
        return self.reference is None and any((self.source, self.provider, self.kind, self.stage, self.outcome))


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list of results, which is ordered by time of change and then by resource."""

    updated_at: datetime
    resource_id: int


_NAMES = (resources.c.source, resources.c.provider, resources.c.environment, resources.c.kind, resources.c.external_id)
_DETAILS = (
    results.c.reference,
    results.c.score,
    results.c.derived,
    results.c.provider_created_at,
    results.c.provider_updated_at,
    results.c.completed_at,
)
_RESULT = (
    *_NAMES,
    *_DETAILS,
    results.c.stage,
    results.c.outcome,
    results.c.final,
    results.c.provider_status,
    results.c.version,
    results.c.mapping_version,
    resources.c.created_at.label("first_seen_at"),
    results.c.retrieved_at,
    results.c.updated_at,
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of the list that a page is taken from: behind `after`, up to `until` with it; None is its end."""

    after: Position | None = None
    until: Position | None = None
    newest_first: bool = False


_ORDER = (results.c.updated_at, results.c.resource_id)


def result_page(session: Session, wanted: ResultFilter, stretch: Stretch, *, limit: int) -> list[Record]:
    """Results in order of change; each record also has its `resource_id`.

    A result that changes while somebody pages moves to the end of the list. For following changes there are events:
    transactions commit in another order than their times, so a change can appear behind a place that was seen.
    """
    query = select(*_RESULT, results.c.resource_id).join(resources, resources.c.id == results.c.resource_id)
    return records(session, _along(query.where(*_conditions(wanted)), stretch).limit(limit))


def look_until(session: Session, wanted: ResultFilter, stretch: Stretch) -> Position | None:
    """How far a page looks that begins like `stretch`; None is to the end, because that is near."""
    query: Select[tuple[object, ...]] = select(*_ORDER)
    if wanted.updated_after is not None:
        query = query.where(results.c.updated_at > wanted.updated_after)
    row = session.execute(_along(query, stretch).offset(MOST_LOOKED_AT - 1).limit(1)).one_or_none()
    return None if row is None else Position(row.updated_at, row.resource_id)


def _along(query: "Select[tuple[object, ...]]", stretch: Stretch) -> "Select[tuple[object, ...]]":
    here = tuple_(*_ORDER)
    if stretch.after is not None:
        query = query.where(here < _place(stretch.after) if stretch.newest_first else here > _place(stretch.after))
    if stretch.until is not None:
        query = query.where(here >= _place(stretch.until) if stretch.newest_first else here <= _place(stretch.until))
    return query.order_by(*(column.desc() for column in _ORDER)) if stretch.newest_first else query.order_by(*_ORDER)


def _place(position: Position) -> "Tuple":
    return tuple_(literal(position.updated_at, results.c.updated_at.type), literal(position.resource_id))


def _conditions(wanted: ResultFilter) -> list[ColumnElement[bool]]:
    equal = {
        unindexed(resources.c.source): wanted.source,
        unindexed(resources.c.provider): wanted.provider,
        unindexed(resources.c.kind): wanted.kind,
        results.c.stage: wanted.stage,
        results.c.outcome: wanted.outcome,
        results.c.reference: wanted.reference,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    if wanted.updated_after is not None:
        conditions.append(results.c.updated_at > wanted.updated_after)
    return conditions


def result(session: Session, key: ResourceKey) -> Record | None:
    """The current result with its `document`; None before the first version."""
    return record(
        session,
        _of(key, select(*_RESULT, result_documents.c.document))
        .join(results, results.c.resource_id == resources.c.id)
        .join(result_documents, result_documents.c.resource_id == resources.c.id),
    )


def version(session: Session, key: ResourceKey, *, number: int | None, as_of: datetime | None) -> Record | None:
    """The version with this number, or the newest that was retrieved by `as_of`, and its `body`: None once erased.

    What only the result knows, such as its reference, is there for the current version and null for earlier ones.
    """
    chosen = versions.c.number == number if as_of is None else versions.c.retrieved_at <= as_of
    found = record(
        session,
        _of(key, select(*_NAMES, *_DETAILS, *_VERSION, version_bodies.c.body))
        .join(versions, versions.c.resource_id == resources.c.id)
        .join(version_bodies, version_bodies.c.version_id == versions.c.id)
        .outerjoin(results, and_(results.c.resource_id == resources.c.id, results.c.version == versions.c.number))
        .where(chosen)
        .order_by(versions.c.number.desc())
        .limit(1),
    )
    if found is None:
        return None
    packed = found["body"]
    return {**found, "body": zlib.decompress(packed) if isinstance(packed, bytes) else None}


_VERSION = (
    versions.c.stage,
    versions.c.outcome,
    versions.c.final,
    versions.c.provider_status,
    versions.c.number.label("version"),
    versions.c.mapping_version,
    resources.c.created_at.label("first_seen_at"),
    versions.c.retrieved_at,
    versions.c.retrieved_at.label("updated_at"),
)


def checks_of(session: Session, key: ResourceKey, number: int) -> list[Record]:
    """The checks of one version, in the provider's order."""
    columns = [column for column in checks.c if column.name not in ("version_id", "position")]
    return records(
        session,
        _of(key, select(*columns))
        .join(versions, versions.c.resource_id == resources.c.id)
        .join(checks, checks.c.version_id == versions.c.id)
        .where(versions.c.number == number)
        .order_by(checks.c.position),
    )


def history(
    session: Session, key: ResourceKey, *, after: int = 0, limit: int, newest_first: bool = False
) -> list[Record]:
    """The versions with numbers above `after`, in order."""
    query = (
        _of(key, select(*_HISTORY))
        .join(versions, versions.c.resource_id == resources.c.id)
        .join(version_bodies, version_bodies.c.version_id == versions.c.id)
        .where(versions.c.number > after)
        .limit(limit)
    )
    return records(session, query.order_by(versions.c.number.desc() if newest_first else versions.c.number))


_HISTORY = (
    versions.c.number.label("version"),
    versions.c.stage,
    versions.c.outcome,
    versions.c.final,
    versions.c.provider_status,
    versions.c.mapping_version,
    versions.c.api_version,
    versions.c.retrieved_at,
    versions.c.cause,
    versions.c.document_sha256,
    versions.c.redacted,
    version_bodies.c.erased_at,
)


def _of(key: ResourceKey, query: Select[tuple[object, ...]]) -> Select[tuple[object, ...]]:
    return query.select_from(resources).where(
        resources.c.source == key.source,
        resources.c.kind == key.ref.kind,
        resources.c.external_id == key.ref.external_id,
    )
