"""What a scrape shows of the database, and what the doctor judges by. Cheap and bounded, whatever is stored or open."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.domain.expectations import GIVEN_UP_AFTER
from worker.domain.states import ResourceState
from worker.metrics import UNCONFIGURED
from worker.reports.reconciliations import reconciliation_list
from worker.reports.sinks import sink_states
from worker.reports.status import MOST_OVERDUE, MOST_UNREADABLE
from worker.store import expectations, leases, query_gauges, query_status, sources
from worker.store.engine import Session, database_time
from worker.store.query import Record

LOOKED_AT = 5000
"""Pieces of open work, the oldest first. They are read within some hundredths of a second; past so many, how many more
there are changes nothing for whoever is woken."""

LOOKED_AT_EACH = 1000
"""The next pieces of work of each source, where the oldest do not show all that is open."""

MOST_DRIFT = 1000
PARKED_LATELY = timedelta(hours=1)
"""For so long what was parked counts as new."""

RUNS_LOOKED_AT = 3
"""The newest runs of a source, of which one may be under way, and one may have had nothing to compare."""

OPEN_STATES = (ResourceState.WAITING, ResourceState.CLAIMED, ResourceState.PARKED)
AGE_STATES = ("waiting", "held", "throttled", "parked")
"""What keeps the oldest work open: its turn, its source's hold or pause, or that nobody will touch it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGauges:
    """One source: open work by state, the age in seconds of the oldest by what keeps it open, by how many seconds the
    most overdue is late where it may be called, its hold and pause, what was parked within the hour, values that no
    mapping knows, and the loss rate of its last reconciliation."""

    source: str
    open: Mapping[str, int]
    oldest_seconds: Mapping[str, float]
    overdue_seconds: float
    held: bool
    probed: bool
    throttled: bool
    parked_lately: int
    drift: int
    new_drift: int
    loss_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkGauges:
    """One sink: how many events it is behind, how many it refused or stand behind such a one, how many were given up,
    the age in seconds of the oldest that it is still to get, and whether it is held."""

    name: str
    behind: int
    oldest_seconds: float
    waiting: int
    given_up: int
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """How things stand in the database. `sweep_age_seconds` is None where nobody ever swept."""

    sources: Sequence[SourceGauges]
    sinks: Sequence[SinkGauges]
    unreadable: int
    overdue: int
    events: int
    sweep_age_seconds: float | None


@dataclass(slots=True)
class _Open:
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    oldest: dict[str, datetime] = field(default_factory=dict)


def gauges(session: Session, slugs: Iterable[str], sinks: Iterable[str]) -> Gauges:
    """How things stand, for the configured sources and sinks."""
    now = database_time(session)
    configured = sorted(slugs)
    sweep_ends = query_status.lease_end(session, leases.SWEEP)
    cursors = query_status.cursor_values(session)
    return Gauges(
        sources=_sources(session, configured, now),
        sinks=_sinks(session, sinks),
        unreadable=query_status.count_unreadable(session, MOST_UNREADABLE),
        overdue=expectations.count_overdue(session, now - GIVEN_UP_AFTER, MOST_OVERDUE),
        events=cursors.get("events", 0),
        sweep_age_seconds=None if sweep_ends is None else _age(sweep_ends - leases.SWEEP_LASTING, now),
    )


def _sources(session: Session, configured: Sequence[str], now: datetime) -> list[SourceGauges]:
    work = _open_work(session, configured, now)
    states = sources.states(session)
    parked = query_gauges.parked_since(session, now - PARKED_LATELY, LOOKED_AT)
    drift = {str(row["source"]): row for row in query_gauges.drift_counts(session, now, MOST_DRIFT)}
    found = []
    for slug in [*configured, *([UNCONFIGURED] if UNCONFIGURED in work else [])]:
        state, mine = states.get(slug, sources.SourceState(slug)), work.get(slug, _Open())
        held = state.held_at is not None
        throttled = not held and state.may_call(now) == 0
        found.append(
            SourceGauges(
                source=slug,
                open={name: mine.counts.get(name, 0) for name in OPEN_STATES},
                oldest_seconds=_ages(mine, "held" if held else "throttled" if throttled else "waiting", now),
                overdue_seconds=0.0 if held or throttled else _overdue(session, slug, now),
                held=held,
                probed=held and state.probe_at is not None,
                throttled=throttled,
                parked_lately=parked.get(slug, 0),
                drift=_number(drift.get(slug, {}).get("count")),
                new_drift=_number(drift.get(slug, {}).get("recent")),
                loss_rate=_loss_rate(session, slug),
            )
        )
    return found


def _open_work(session: Session, configured: Sequence[str], now: datetime) -> dict[str, _Open]:
    """The open work of each source, by where each piece stands."""
    rows = query_gauges.oldest_open(session, now, LOOKED_AT)
    work = _add_up(rows, configured)
    if sum(_number(row["count"]) for row in rows) < LOOKED_AT:
        return work
    # The oldest are of one source, perhaps, or parked long ago; of the others the next are looked at.
    for slug in configured:
        more = _add_up(query_gauges.next_due(session, slug, now, LOOKED_AT_EACH), configured).get(slug, _Open())
        mine = work.setdefault(slug, _Open())
        for state, count in more.counts.items():
            mine.counts[state] = max(mine.counts[state], count)
            mine.oldest[state] = min(more.oldest[state], mine.oldest.get(state, more.oldest[state]))
    return work


def _add_up(rows: Iterable[Record], configured: Sequence[str]) -> dict[str, _Open]:
    work: dict[str, _Open] = {}
    for row in rows:
        slug, state, oldest = str(row["source"]), str(row["state"]), row["oldest"]
        mine = work.setdefault(slug if slug in configured else UNCONFIGURED, _Open())
        mine.counts[state] += _number(row["count"])
        if isinstance(oldest, datetime):
            mine.oldest[state] = min(oldest, mine.oldest.get(state, oldest))
    return work


def _ages(work: _Open, kept_by: str, now: datetime) -> dict[str, float]:
    ages = dict.fromkeys(AGE_STATES, 0.0)
    for state, oldest in work.oldest.items():
        name = "parked" if state == ResourceState.PARKED else kept_by
        ages[name] = max(ages[name], _age(oldest, now))
    return ages


def _sinks(session: Session, names: Iterable[str]) -> list[SinkGauges]:
    """How far the sinks are. All that a scrape knows of them comes from here."""
    return [
        SinkGauges(
            name=state.name,
            behind=state.behind,
            oldest_seconds=state.oldest_seconds or 0.0,
            waiting=state.waiting,
            given_up=state.given_up,
            held=state.held_at is not None,
        )
        for state in sink_states(session, names)
    ]


def _overdue(session: Session, slug: str, now: datetime) -> float:
    since = query_gauges.overdue_since(session, slug, now)
    return 0.0 if since is None else _age(since, now)


def _loss_rate(session: Session, slug: str) -> float | None:
    runs = reconciliation_list(session, slug, limit=RUNS_LOOKED_AT)
    return next((run.loss_rate for run in runs if run.finished_at is not None and run.loss_rate is not None), None)


def _age(since: datetime, now: datetime) -> float:
    return max((now - since).total_seconds(), 0.0)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
