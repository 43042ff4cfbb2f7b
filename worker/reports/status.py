"""How things stand: open work, held sources, sinks that lag. Cheap at any size of the database."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from worker.domain.expectations import GIVEN_UP_AFTER
from worker.reports.build import each
from worker.reports.reconciliations import Reconciliation, last_reconciliation
from worker.reports.sinks import SinkStatus, sink_list
from worker.store import expectations, leases, query_status, sources
from worker.store.engine import Session, database_time
from worker.store.sources import SourceState

MOST_UNREADABLE = 1000
"""Past this, how many more cannot be read makes no difference to anybody."""

MOST_DRIFT = 100

MOST_OVERDUE = 1000
"""Past this, how many more expected results are overdue makes no difference to anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWork:
    """Work that is not finished: waiting for its turn, being done, or parked."""

    waiting: int = 0
    claimed: int = 0
    parked: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """One source. `state` is `active`, `held` or `throttled`; one that is not configured is worked on by nobody."""

    source: str
    configured: bool
    state: str
    reason: str | None
    since: datetime | None
    until: datetime | None
    waiting: int
    claimed: int
    parked: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedCount:
    """How many resources of a source are parked for one reason."""

    source: str
    reason: str | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftIssue:
    """A value that a mapping does not know."""

    source: str
    kind: str
    field: str
    value: str
    seen: int
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How things stand at `at`. `unreadable` stops counting at MOST_UNREADABLE, `overdue` at MOST_OVERDUE."""

    at: datetime
    waiting: int
    claimed: int
    parked: int
    oldest_unfinished_seconds: float | None
    sources: tuple[SourceStatus, ...]
    parked_reasons: tuple[ParkedCount, ...]
    unreadable: int
    overdue: int
    drift: tuple[DriftIssue, ...]
    last_sequence: int
    sinks: tuple[SinkStatus, ...]
    last_sweep_at: datetime | None
    reconciliations: tuple[Reconciliation, ...] = ()


def status(session: Session, configured: Iterable[str] = (), sinks: Iterable[str] | None = None) -> Status:
    """How things stand, for the `configured` sources and any other that has open work or is held, and for `sinks`."""
    now = database_time(session)
    slugs = frozenset(configured)
    work = _open_work(session, now)
    sweep_ends = query_status.lease_end(session, leases.SWEEP)
    return Status(
        at=now,
        waiting=sum(item.waiting for item in work.values()),
        claimed=sum(item.claimed for item in work.values()),
        parked=sum(item.parked for item in work.values()),
        oldest_unfinished_seconds=_age(min((item.oldest for item in work.values() if item.oldest), default=None), now),
        sources=_sources(session, work, slugs, now),
        parked_reasons=each(ParkedCount, query_status.parked_reasons(session)),
        unreadable=query_status.count_unreadable(session, MOST_UNREADABLE),
        overdue=expectations.count_overdue(session, now - GIVEN_UP_AFTER, MOST_OVERDUE),
        drift=each(DriftIssue, query_status.drift(session, MOST_DRIFT)),
        last_sequence=query_status.cursor_values(session).get("events", 0),
        sinks=sink_list(session, sinks),
        last_sweep_at=sweep_ends - leases.SWEEP_LASTING if sweep_ends else None,
        reconciliations=tuple(filter(None, (last_reconciliation(session, slug) for slug in sorted(slugs)))),
    )


def source_list(session: Session, configured: Iterable[str] = ()) -> tuple[SourceStatus, ...]:
    """The sources alone: the `configured` ones, and any other that has open work or is held."""
    now = database_time(session)
    return _sources(session, _open_work(session, now), frozenset(configured), now)


def one_source(session: Session, source: str) -> SourceStatus:
    """One configured source."""
    [found] = [item for item in source_list(session, [source]) if item.source == source]
    return found


def _open_work(session: Session, now: datetime) -> dict[str, OpenWork]:
    found = query_status.open_work(session, now)
    work = each(OpenWork, ({name: row[name] for name in row if name != "source"} for row in found))
    return {str(row["source"]): item for row, item in zip(found, work, strict=True)}


def _sources(
    session: Session, work: dict[str, OpenWork], configured: frozenset[str], now: datetime
) -> tuple[SourceStatus, ...]:
    states = sources.states(session)
    troubled = {slug for slug, state in states.items() if state.may_call(now) is not None}
    return tuple(
        _source(states.get(slug, SourceState(slug)), work.get(slug, OpenWork()), slug in configured, now)
        for slug in sorted(configured | work.keys() | troubled)
    )


def _source(state: SourceState, work: OpenWork, configured: bool, now: datetime) -> SourceStatus:
    name, reason, since, until = "active", None, None, None
    if state.held_at is not None:
        name, reason, since, until = "held", state.hold_reason, state.held_at, state.probe_at
    elif state.may_call(now) == 0:
        name, reason, until = "throttled", "the provider asked to slow down", state.throttled_until
    return SourceStatus(
        source=state.source,
        configured=configured,
        state=name,
        reason=reason,
        since=since,
        until=until,
        waiting=work.waiting,
        claimed=work.claimed,
        parked=work.parked,
        oldest_seconds=_age(work.oldest, now),
    )


def _age(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max((now - since).total_seconds(), 0.0)
