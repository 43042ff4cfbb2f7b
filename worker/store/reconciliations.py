"""Reconciliations: what is known of what a provider lists, what is open and could be read again, and the runs."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, literal_column, or_, select, tuple_, update

from worker.domain.model import ResourceRef
from worker.domain.reconcile import ReconcileState, Standing, Tally
from worker.store.engine import Session, insert
from worker.store.query import Record, record, records, unindexed
from worker.store.resources import POISON
from worker.store.tables import deliveries, reconciliations, resources, results

SCHEDULE = "schedule"
"""The actor of runs that nobody asked for."""


_OPEN = (
    resources.c.kind,
    resources.c.external_id,
    resources.c.created_at,
    results.c.updated_at,
    results.c.retrieved_at,
    results.c.resource_id,
)


@dataclass(frozen=True, slots=True)
class OpenResult:
    """A result that is not final: when it was first heard of, when it last changed, and when it was last read."""

    ref: ResourceRef
    created_at: datetime
    updated_at: datetime
    retrieved_at: datetime
    place: tuple[datetime, int]


def standings(session: Session, source: str, refs: Sequence[ResourceRef]) -> dict[ResourceRef, Standing]:
    """Where each of `refs` stands; one that is not known is missing from the answer."""
    names = tuple_(resources.c.kind, resources.c.external_id).in_([(ref.kind, ref.external_id) for ref in refs])
    rows = session.execute(
        select(*resources.c, results.c.provider_status)
        .outerjoin(results, results.c.resource_id == resources.c.id)
        .where(resources.c.source == source, names)
    )
    return {
        ResourceRef(row.kind, row.external_id): Standing(
            open=row.parked_at is None and (row.due_at is not None or row.wanted > row.retrieved),
            parked_at=row.parked_at,
            poison=row.park_reason == POISON,
            read_started_at=row.read_started_at,
            provider_updated_at=row.provider_updated_at,
            provider_status=row.provider_status,
        )
        for row in rows
    }


def delivered(session: Session, source: str, delivery_keys: Collection[str]) -> set[str]:
    """Those of the keys whose webhook has arrived."""
    if not delivery_keys:
        return set()
    mine = and_(deliveries.c.source == source, deliveries.c.delivery_key.in_(sorted(delivery_keys)))
    return set(session.execute(select(deliveries.c.delivery_key).where(mine)).scalars())


def open_results(
    session: Session,
    source: str,
    kinds: Collection[str] | None,
    *,
    changed_since: datetime,
    behind: tuple[datetime, int] | None,
    limit: int,
) -> list[OpenResult]:
    """Up to `limit` results that are not final, of resources of these kinds that nobody works on, in the order in which
    they changed; `behind` is the place of the last one seen. Only open results that changed since then are looked at.
    """
    # The words of the index itself, because that is how it is recognised.
    not_final: ColumnElement[bool] = literal_column("NOT results.final")
    query = (
        select(*_OPEN)
        .join(resources, resources.c.id == results.c.resource_id)
        .where(
            not_final,
            results.c.updated_at >= changed_since,
            unindexed(resources.c.source) == source,
            resources.c.due_at.is_(None),
            resources.c.parked_at.is_(None),
        )
    )
    if kinds is not None:
        query = query.where(unindexed(resources.c.kind).in_(sorted(kinds)))
    if behind is not None:
        later = and_(results.c.updated_at == behind[0], results.c.resource_id > behind[1])
        query = query.where(results.c.updated_at >= behind[0], or_(results.c.updated_at > behind[0], later))
    rows = session.execute(query.order_by(results.c.updated_at, results.c.resource_id).limit(limit))
    return [
        OpenResult(
            ResourceRef(row.kind, row.external_id),
            row.created_at,
            row.updated_at,
            row.retrieved_at,
            (row.updated_at, row.resource_id),
        )
        for row in rows
    ]


def begin(session: Session, source: str, since: datetime, *, actor: str, now: datetime) -> int:
    """Note that a run begins; returns its id. Whoever calls this holds the lease, so an older run that still seems to
    run is dead."""
    session.execute(
        update(reconciliations)
        .where(reconciliations.c.source == source, reconciliations.c.state == ReconcileState.RUNNING)
        .values(state=ReconcileState.STOPPED, finished_at=now, error="the process that ran it has ended")
    )
    row = {"source": source, "since": since, "actor": actor, "state": ReconcileState.RUNNING, "started_at": now}
    begun: int = session.execute(
        insert(session, reconciliations).values(**row).returning(reconciliations.c.id)
    ).scalar_one()
    return begun


def count(session: Session, run: int, tally: Tally) -> None:
    """Write down how far a run is."""
    session.execute(update(reconciliations).where(reconciliations.c.id == run).values(**asdict(tally)))


def finish(session: Session, run: int, state: ReconcileState, error: str | None, now: datetime) -> None:
    """End a run; one that was ended by somebody else stays as it is."""
    running = and_(reconciliations.c.id == run, reconciliations.c.state == ReconcileState.RUNNING)
    session.execute(update(reconciliations).where(running).values(state=state, error=error, finished_at=now))


def last(session: Session, source: str) -> Record | None:
    """The source's newest run."""
    mine = select(*reconciliations.c).where(reconciliations.c.source == source)
    return record(session, mine.order_by(reconciliations.c.id.desc()).limit(1))


def last_scheduled_success(session: Session, source: str) -> datetime | None:
    """When the newest scheduled run that reached its end began. Runs by hand do not count: they may have looked back
    for an hour only."""
    good = and_(
        reconciliations.c.source == source,
        reconciliations.c.state == ReconcileState.FINISHED,
        reconciliations.c.actor == SCHEDULE,
    )
    began: datetime | None = session.execute(
        select(reconciliations.c.started_at).where(good).order_by(reconciliations.c.id.desc()).limit(1)
    ).scalar_one_or_none()
    return began


def recent(session: Session, source: str | None, *, limit: int) -> list[Record]:
    """The newest runs, of one source or of all."""
    query = select(*reconciliations.c)
    if source is not None:
        query = query.where(reconciliations.c.source == source)
    return records(session, query.order_by(reconciliations.c.id.desc()).limit(limit))
