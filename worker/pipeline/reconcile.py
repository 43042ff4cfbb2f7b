"""Reconcile: ask the provider what exists, and want what its webhooks did not tell of.

A list only selects what to retrieve; it never writes a result. No transaction is open during a call. One run a source
at a time, by a lease, and a runner that dies is replaced when its lease has run out.
"""

import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from worker.clock import monotonic
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.reconcile import Found, ReconcileState, Tally, is_due_for_reread, judge
from worker.domain.states import Cause, Priority
from worker.domain.strict_json import Json
from worker.errors import ReconcileRunning, UnknownSource
from worker.log import where
from worker.pipeline.list_calls import Ended, ListCaller, Parts, Refused
from worker.pipeline.reconcile_count import Count, Finding
from worker.providers.listers import lister
from worker.providers.listing import Listing, ListQuery, Page
from worker.settings import Source
from worker.store import audit, leases, reconciliations, resources
from worker.store.audit import Deed
from worker.store.engine import UNAVAILABLE, Session, database_time
from worker.store.reconciliations import OpenResult
from worker.store.resources import Want

MOST_PAGES = 10_000
"""Of one list: a million resources. A list that goes on beyond is one without an end."""

JUDGED_AT_ONCE = 200
"""Resources looked up and marked in one transaction: short enough for everybody who waits for the rows."""

MOST_REREADS = 1000
"""Of one run: at a usual rate limit, some ten minutes of calls. What is left over is read in the next run."""

RENEW_SECONDS = 15.0
"""How often a run renews its lease."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """Which source, since when, and for whom. A dry run shows what it finds and changes nothing."""

    source: str
    since: datetime
    actor: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended. `error` says why it failed, or which lists were left out; `findings` are the first hundred."""

    source: str
    since: datetime
    dry_run: bool
    state: ReconcileState
    tally: Tally
    loss_rate: float | None
    error: str | None
    findings: tuple[Finding, ...]


class Reconciler:
    """Reconciles one source at a time, in the caller's thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        # The process id is for people: who looks into the table sees whom to look at.
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4()}"

    def run(
        self,
        order: Order,
        *,
        watch: Callable[[Tally], None] = lambda _: None,
        stopping: threading.Event | None = None,
    ) -> Report:
        """Reconcile as ordered; returns when it is done, has failed, or `stopping` is set. `watch` is told of every
        page. Raises UnknownSource, ReconcileRunning, and what a database raises that is away."""
        source = self._parts.settings.sources.get(order.source)
        if source is None:
            raise UnknownSource(f"there is no source {order.source!r}")
        run = _Run(self._parts, source, order, (watch, stopping or threading.Event()))
        if order.dry_run:
            return run.go()
        tenure = _Tenure(self._parts, order.source, f"{self._holder}:{uuid.uuid4()}")
        run.begin(tenure)
        try:
            return run.go()
        finally:
            # Without the database the lease runs out by itself.
            with suppress(*UNAVAILABLE):
                tenure.release()


class _Tenure:
    """The lease, and the right to go on."""

    def __init__(self, parts: Parts, source: str, holder: str) -> None:
        self._parts = parts
        self._name = leases.reconcile(source)
        self._holder = holder
        self._renewed = monotonic()

    def acquire(self, session: Session, now: datetime) -> bool:
        self._renewed = monotonic()
        return leases.acquire(session, self._name, self._holder, now=now, lasting=leases.RECONCILE_LASTING)

    def keep(self) -> None:
        """Renew the lease if it is time to. Raises Ended where somebody else has it now."""
        if monotonic() - self._renewed < RENEW_SECONDS:
            return
        with self._parts.database.write() as session:
            if not self.acquire(session, database_time(session)):
                raise Ended("it was too slow, and another process has taken over", ReconcileState.STOPPED)

    def release(self) -> None:
        with self._parts.database.write() as session:
            leases.release(session, self._name, self._holder)


class _Run:
    def __init__(
        self,
        parts: Parts,
        source: Source,
        order: Order,
        outside: tuple[Callable[[Tally], None], threading.Event],
    ) -> None:
        self._parts = parts
        self._source = source
        self._order = order
        self._watch, self._stopping = outside
        self._lister = lister(parts.providers[source.provider])
        self._caller = ListCaller(parts, source, wait=self._wait, called=lambda: self._count.add("calls"))
        self._count = Count()
        self._notes: list[str] = []
        self._tenure: _Tenure | None = None
        self._id: int | None = None

    def begin(self, tenure: _Tenure) -> None:
        slug, order = self._source.slug, self._order
        with self._parts.database.write() as session:
            now = database_time(session)
            if not tenure.acquire(session, now):
                raise ReconcileRunning(f"source {slug} is being reconciled by another process right now")
            self._id = reconciliations.begin(session, slug, order.since, actor=order.actor, now=now)
            if order.actor != reconciliations.SCHEDULE:
                details: dict[str, Json] = {"since": order.since.isoformat()}
                audit.note(session, Deed(order.actor, "reconcile", slug, details=details), now)
        self._tenure = tenure

    def go(self) -> Report:
        """The run. Whatever happens to it, its row says how it ended."""
        state, error = ReconcileState.STOPPED, "it was interrupted"
        try:
            state, error = self._go()
        except UNAVAILABLE as trouble:
            # It may be back in a moment, and then the run is made up for.
            state, error = ReconcileState.STOPPED, f"the database was away ({type(trouble).__name__})"
            raise
        except Exception as bug:
            state, error = ReconcileState.FAILED, where(bug)
            log.error("reconcile_bug", source=self._source.slug, error=error)
            raise
        finally:
            self._finish(state, error or None)
        rate = self._count.tally.loss_rate
        return Report(
            self._source.slug,
            self._order.since,
            self._order.dry_run,
            state,
            self._count.tally,
            rate,
            error or None,
            self._count.findings,
        )

    def _go(self) -> tuple[ReconcileState, str]:
        failed = False
        try:
            missing = self._source.missing_credentials
            if missing:
                raise Ended(f"{missing[0]} is not set, so the provider cannot be asked")
            for listing in self._lister.listings(self._source):
                failed |= not self._go_through(listing)
            self._reread()
        except Ended as end:
            return end.state, "; ".join([str(end), *self._notes])
        return ReconcileState.FAILED if failed else ReconcileState.FINISHED, "; ".join(self._notes)

    def _go_through(self, listing: Listing) -> bool:
        """Read one list to its end; false if it is needed and the provider does not give it."""
        try:
            for page in self._pages(listing):
                self._count.add("unreadable", page.unreadable)
                for start in range(0, len(page.found), JUDGED_AT_ONCE):
                    self._judge(page.found[start : start + JUDGED_AT_ONCE])
                self._note_progress()
        except Refused as refusal:
            self._notes.append(f"the list {listing.name} was left out: {refusal}")
            return listing.optional
        except Ended as end:
            raise Ended(f"the list {listing.name}: {end}", end.state) from None
        return True

    def _pages(self, listing: Listing) -> Iterator[Page]:
        cursor: str | None = None
        read: set[str | None] = set()
        for _ in range(MOST_PAGES):
            page = self._caller.page(self._lister, ListQuery(listing.name, self._order.since, cursor))
            yield page
            read.add(cursor)
            cursor = page.cursor
            if cursor is None:
                return
            if cursor in read:
                raise Ended("the provider leads back to a page that was read before")
            self._wait(0)
        raise Ended(f"it has more than {MOST_PAGES} pages; reconcile a shorter time")

    def _judge(self, some: Sequence[Found]) -> None:
        slug = self._source.slug
        database = self._parts.database
        with database.read() if self._order.dry_run else database.write() as session:
            now = database_time(session)
            standings = reconciliations.standings(session, slug, list({found.ref for found in some}))
            delivered = reconciliations.delivered(
                session, slug, {found.delivery_key for found in some if found.delivery_key is not None}
            )
            wanted = [
                found.ref
                for found in some
                if self._count.take(
                    found, judge(found, standings.get(found.ref), now, delivered=found.delivery_key in delivered)
                )
            ]
            self._mark(session, wanted, now)
        if wanted:
            self._nudge()

    def _reread(self) -> None:
        """Want the open results again whose webhooks may have been lost; nothing lists what has changed."""
        rereads = self._lister.rereads
        behind: tuple[datetime, int] | None = None
        while rereads is not None and self._count.tally.reread < MOST_REREADS:
            self._wait(0)
            with self._parts.database.read() as session:
                now = database_time(session)
                oldest = now - rereads.within
                found = reconciliations.open_results(
                    session,
                    self._source.slug,
                    rereads.kinds,
                    changed_since=oldest,
                    behind=behind,
                    limit=JUDGED_AT_ONCE,
                )
            self._want_again(item for item in found if item.created_at >= oldest and _is_due(item, now))
            if len(found) < JUDGED_AT_ONCE:
                return
            behind = found[-1].place

    def _want_again(self, due: Iterable[OpenResult]) -> None:
        room = MOST_REREADS - self._count.tally.reread
        refs = [item.ref for item in due if not self._count.has_taken(item.ref)][:room]
        self._count.add("reread", len(refs))
        if refs and not self._order.dry_run:
            with self._parts.database.write() as session:
                self._mark(session, refs, database_time(session))
            self._nudge()
        self._note_progress()

    def _mark(self, session: Session, refs: Sequence[ResourceRef], now: datetime) -> None:
        if self._order.dry_run:
            return
        source = self._source
        want = Want(source.provider, source.environment, Cause.RECONCILE, Priority.RECONCILE)
        resources.mark_wanted(session, {ResourceKey(source.slug, ref): want for ref in refs}, now)

    def _nudge(self) -> None:
        if not self._order.dry_run:
            self._parts.nudge(self._source.slug)

    def _note_progress(self) -> None:
        if self._id is not None:
            with self._parts.database.write() as session:
                reconciliations.count(session, self._id, self._count.tally)
        self._watch(self._count.tally)

    def _wait(self, seconds: float) -> None:
        """Sleep, and keep the lease. Raises Ended where the run has to stop."""
        ends = monotonic() + seconds
        while True:
            if self._tenure is not None:
                self._tenure.keep()
            if self._stopping.wait(max(0.0, min(ends - monotonic(), RENEW_SECONDS))):
                raise Ended("the process that ran it was stopped", ReconcileState.STOPPED)
            if monotonic() >= ends:
                return

    def _finish(self, state: ReconcileState, error: str | None) -> None:
        tally = self._count.tally
        if self._id is not None:
            with suppress(*UNAVAILABLE), self._parts.database.write() as session:
                reconciliations.count(session, self._id, tally)
                reconciliations.finish(session, self._id, state, error, database_time(session))
        log.info("reconciled", source=self._source.slug, state=state, missing=tally.missing, outdated=tally.outdated)


def _is_due(item: OpenResult, now: datetime) -> bool:
    return is_due_for_reread(item.updated_at, item.retrieved_at, now)
