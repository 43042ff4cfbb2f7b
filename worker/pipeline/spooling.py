"""Spool: while the database is away, keep what arrives on this host's disk, and hand it over when it is back.

A process that has seen the database away keeps everything without asking it again, because providers wait for seconds
only; a thread asks instead. New webhooks go to the database as soon as it takes writes, past those that still wait: a
notification only says where to look, so nothing depends on their order.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from worker import metrics
from worker.clock import utc_now
from worker.domain.states import ReceiptStatus
from worker.errors import IntakeUnavailable, SchemaMismatch, SpoolUnusable
from worker.log import where
from worker.pipeline.group_commit import GroupCommit
from worker.pipeline.spooled import pack, unpack, unread
from worker.store import inbox, schema, spool
from worker.store.engine import REFUSED, UNAVAILABLE, Database, Session, is_deadlock, is_refusal
from worker.store.inbox import Arrival, Receipt
from worker.store.resources import NOT_AT_ALL
from worker.store.spool import Kept, Spool
from worker.waiting import THREADS, Waiter

INTERVAL = 0.5
"""Seconds between two looks. Each costs a query of the spool, and one of the database while that is away."""

KEEP_WAIT = 1.5
"""With what was waited for the database before, it stays below the 5 seconds after which Persona gives up."""

STOP_WAIT = 5.0
"""For the batch that is being handed over. One that is cut off is handed over again, and recorded once."""

FULL = "the spool is full"

log = structlog.get_logger(__name__)


class Spooling:
    """What one web process does with the spool of its host. Thread-safe.

    `away` is whether the database is taken to be away.
    """

    def __init__(
        self,
        kept: Spool,
        database: Database,
        nudge: Callable[[str], None],
        coalesce: Mapping[str, timedelta] = NOT_AT_ALL,
        *,
        waiter: Waiter = THREADS,
    ) -> None:
        self._spool = kept
        self._database = database
        self._nudge = nudge
        self._coalesce = coalesce
        self._appends: GroupCommit[Kept, bool] = GroupCommit(kept.append, passing=(SpoolUnusable,), waiter=waiter)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.away = False
        self._mismatch: str | None = None
        self._trouble: str | None = None

    def start(self) -> None:
        """Start the thread that hands over; call it after any fork."""
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. What is still kept is handed over by the next process of this host."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_WAIT)
        self._spool.close()

    def trouble(self) -> str | None:
        """One sentence if webhooks cannot be taken while the database is away, or it will not do when it is back."""
        if self._mismatch is not None:
            return self._mismatch
        try:
            return None if self._spool.has_room() else FULL
        except SpoolUnusable as error:
            return str(error)

    def keep(self, arrival: Arrival) -> Receipt:
        """Keep an arrival, on disk when this returns. Raises IntakeUnavailable.

        Its id stays the same, so that one whose commit to the database was cut off, and may have succeeded, is not
        recorded twice.
        """
        try:
            fits = self._appends.submit(pack(replace(arrival, received_at=utc_now())), KEEP_WAIT)
        except SpoolUnusable as error:
            self._say(str(error))
            raise IntakeUnavailable("neither the database nor the spool is available") from None
        if not fits:
            self._say(FULL)
            raise IntakeUnavailable(f"the database is not available, and {FULL}")
        return Receipt(arrival.id, ReceiptStatus(arrival.state), spooled=True)

    def found_away(self, error: Exception) -> None:
        """Somebody found the database away. One that undid a transaction because it crossed another is not."""
        if is_deadlock(error):
            return
        with self._lock:
            news, self.away = not self.away, True
        if news:
            log.warning("spooling_began", error=type(error).__name__)

    def look(self) -> None:
        """Look whether the database is back, and hand over what is kept. Raises what the database raises besides being
        unavailable."""
        depth = self._measure()
        if not self.away and not depth.deliveries:
            return
        try:
            self._ask_database()
            with self._spool.draining() as mine:
                if mine:
                    self._hand_over()
        except UNAVAILABLE as error:
            self.found_away(error)
        except SchemaMismatch as error:
            self._mismatch = str(error)
            self.found_away(error)
        except SpoolUnusable as error:
            self._say(str(error))
        finally:
            self._measure()

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - the rows stay where they are, and the next look tries again
                self._say(where(error))

    def _measure(self) -> spool.Depth:
        try:
            depth = self._spool.depth()
        except SpoolUnusable as error:
            # The last numbers stay in the metrics. The database is asked all the same, or nobody would see it back.
            self._say(str(error))
            return spool.Depth(0, 0)
        metrics.SPOOL_DELIVERIES.set(depth.deliveries)
        metrics.SPOOL_BYTES.set(depth.bytes)
        return depth

    def _ask_database(self) -> None:
        schema.newer_revision(self._database)
        with self._database.write() as session:
            spool.probe(session)
        self._mismatch = None
        with self._lock:
            news, self.away = self.away, False
        if news:
            log.info("spooling_ended")

    def _hand_over(self) -> None:
        count = 0
        try:
            while not self._stopping.is_set() and (batch := self._spool.batch()) is not None:
                arrivals = [unpack(row) for row in batch.rows]
                with self._database.write() as session:
                    if spool.mark_recorded(session, batch):
                        self._record(session, arrivals)
                self._spool.forget(batch)
                count += len(arrivals)
                for source in {arrival.source for arrival in arrivals}:
                    self._nudge(source)
            if count:
                self._spool.shrink()
                self._say(None)
        finally:
            if count:
                log.info("spool_handed_over", deliveries=count)

    def _record(self, session: Session, arrivals: Sequence[Arrival]) -> None:
        """Record a batch together or, if the database refuses one of it, each by itself and that one unread."""
        if self._refusal(session, arrivals) is None:
            return
        for arrival in arrivals:
            refusal = self._refusal(session, [arrival])
            if refusal is not None:
                log.error("delivery_stored_unread", source=arrival.source, delivery=str(arrival.id), error=refusal)
                inbox.record(session, [unread(arrival, f"could not be stored as read: {refusal}")])

    def _refusal(self, session: Session, arrivals: Sequence[Arrival]) -> str | None:
        """None if the database took them; else the name of the error by which it refused, and none of them is there."""
        try:
            with session.begin_nested():
                inbox.record(session, arrivals, self._coalesce)
        except REFUSED as error:
            if isinstance(error, UNAVAILABLE) and not is_refusal(error):
                raise
            return type(error).__name__
        return None

    def _say(self, trouble: str | None) -> None:
        """Log what is wrong with the spool, once, and once that it is over."""
        with self._lock:
            news, self._trouble = trouble != self._trouble, trouble
        if news and trouble is not None:
            log.error("spool_trouble", reason=trouble)
        elif news:
            log.info("spool_trouble_over")
