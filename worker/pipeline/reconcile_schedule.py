"""Reconciling by itself: each source that wants it, every so many hours, in a thread of its own.

The leader of the sweep starts the runs; the lease on each source keeps a second leader from doing the same.
"""

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from worker.clock import monotonic
from worker.domain.reconcile import ReconcileState
from worker.errors import ReconcileRunning
from worker.log import where
from worker.pipeline.reconcile import Order, Reconciler
from worker.settings import Source
from worker.store import leases, query_status, reconciliations
from worker.store.engine import Database, Session, database_time
from worker.store.query import Record

OVERLAP = timedelta(hours=1)
"""How far a run looks back behind the beginning of the one before: what was too young then, and clocks that differ."""

FIRST_TIME = timedelta(days=7)
"""How far the first run looks back. Longer ago, Yoti has deleted its sessions, and others have given up sending."""

LOOK_SECONDS = 30.0
"""How often a source is looked at; more often only where it is to be reconciled more often."""

log = structlog.get_logger(__name__)


class ReconcileSchedule:
    """Starts the runs that are due. `start_due` is a chore of the sweep: it returns at once."""

    def __init__(self, reconciler: Reconciler, database: Database, sources: Mapping[str, Source]) -> None:
        self._reconciler = reconciler
        self._database = database
        self._periods = {
            slug: timedelta(hours=source.reconcile_hours) for slug, source in sources.items() if source.reconcile_hours
        }
        self._look_at: dict[str, float] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()

    def start_due(self) -> None:
        """Start a run for each source whose last one was long enough ago."""
        for slug, period in self._periods.items():
            running = self._threads.get(slug)
            if self._stopping.is_set() or (running is not None and running.is_alive()):
                continue
            if monotonic() < self._look_at.get(slug, 0.0):
                continue
            self._look_at[slug] = monotonic() + min(LOOK_SECONDS, period.total_seconds() / 4)
            with self._database.read() as session:
                now = database_time(session)
                since = _since(session, slug, now) if _is_due(session, slug, period, now) else None
            if since is not None:
                self._start(slug, since)

    def stop(self) -> None:
        """Start nothing more, and let the runs under way end; what they have marked stays marked."""
        self._stopping.set()

    def join(self, seconds: float) -> None:
        """Wait for the runs to end."""
        for thread in list(self._threads.values()):
            thread.join(seconds)

    def _start(self, slug: str, since: datetime) -> None:
        thread = threading.Thread(target=self._run, args=(slug, since), name=f"reconcile-{slug}", daemon=True)
        self._threads[slug] = thread
        thread.start()

    def _run(self, slug: str, since: datetime) -> None:
        try:
            report = self._reconciler.run(Order(slug, since, reconciliations.SCHEDULE), stopping=self._stopping)
        except ReconcileRunning:
            return
        except Exception as error:  # noqa: BLE001 - the next run is tried at its time
            log.error("reconcile_failed", source=slug, error=where(error))
            return
        if report.state is ReconcileState.FAILED:
            log.warning("reconcile_failed", source=slug, error=report.error)


def _is_due(session: Session, source: str, period: timedelta, now: datetime) -> bool:
    """Whether it is time. A run that was cut short, by a deploy or a crash, is made up for at once."""
    last: Record | None = reconciliations.last(session, source)
    if last is None or last["state"] == ReconcileState.STOPPED:
        return True
    if last["state"] == ReconcileState.RUNNING:
        lease_ends = query_status.lease_end(session, leases.reconcile(source))
        return lease_ends is None or lease_ends <= now
    started = last["started_at"]
    return isinstance(started, datetime) and started + period <= now


def _since(session: Session, source: str, now: datetime) -> datetime:
    began = reconciliations.last_scheduled_success(session, source)
    return now - FIRST_TIME if began is None else began - OVERLAP
