"""Deliver: hand one sink what it has not got yet, in order, at least once, and be patient while it is away.

Each sink has a cursor, and a thread in every worker process. A lease lets one of them deliver at a time; it is taken
for a batch and given back with it, so that whoever has just numbered an event delivers it.
"""

import threading
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum, auto

import structlog

from worker import metrics
from worker.clock import monotonic
from worker.domain.events import EVERYTHING, EventFilter, cloud_event
from worker.log import where
from worker.sinks.base import Sink
from worker.store import leases, outbox
from worker.store.engine import UNAVAILABLE, Database, Session
from worker.store.outbox import NumberedEvent

BATCH = 250
"""Events between two moves of the cursor. So many may come again after a crash."""

LEASE = timedelta(seconds=5)
"""How long a process that died at a batch keeps a sink from the others. A call to a sink must be shorter."""

AGAIN_SECONDS = 0.05
LONGEST_AGAIN_SECONDS = 1.0
"""How soon to look again at a sink that another process is serving. A batch takes some milliseconds, and what came too
late for it belongs to whoever numbered it; more often would only be in the other's way."""

RENEW_SECONDS = 2.0
"""A batch that takes several calls renews its lease when it is so old; a call of three seconds still fits into it."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
"""Between two tries of a sink that is away. The pause doubles from the first to the longest: a minute is what a sink
that is back may be unaware of it, and a try costs a server that is in trouble little."""

log = structlog.get_logger(__name__)


class _Look(Enum):
    """What came of an attempt to deliver."""

    EMPTY = auto()
    MORE = auto()
    TAKEN_BY_ANOTHER = auto()
    FAILED = auto()


class SinkFailed(Exception):
    """A sink raised what our own database would."""


class LeaseLost(Exception):
    """A sink was served for longer than its lease lasts, and belongs to another process."""


class Deliverer:
    """Serves one sink. `wake` says that there may be something for it; the sink's own trouble delays nobody else."""

    def __init__(self, database: Database, sink: Sink, *, holder: str, wanted: EventFilter = EVERYTHING) -> None:
        self.sink = sink
        self._database = database
        self._wanted = wanted
        self._holder = holder
        self._lease = f"sink:{sink.name}"
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._failures = 0
        self._failing_since = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; call it after any fork."""
        self._thread = threading.Thread(target=self._run, name=f"sink-{self.sink.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There may be something to deliver. Returns at once. While the sink is away, its pause goes on."""
        self._wake.set()

    def stop(self) -> None:
        """Deliver what is there, unless the sink is away, and end the thread. Returns at once."""
        self._stopping.set()
        self._wake.set()

    def join(self, wait_seconds: float) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join(wait_seconds)

    def pause(self) -> float:
        """How long to leave a sink alone that has just failed, in seconds."""
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 20))

    def serve(self) -> bool:
        """Deliver everything that is there; false if the sink did not take it. Raises what the database raises."""
        return self._serve() is not _Look.FAILED

    def _serve(self) -> _Look:
        try:
            while (look := self._deliver_some()) is _Look.MORE:
                pass
        except UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001 - sinks raise whatever their libraries do
            self._note_failure(error)
            return _Look.FAILED
        if look is _Look.EMPTY:
            self._note_success()
        return look

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._wake.wait()
            self._wake.clear()
            # Asked before serving: what was numbered until the stop is delivered, also if a batch is under way.
            stopping = self._stopping.is_set()
            look = self._serve_once()
            again = AGAIN_SECONDS
            while not stopping and (self._failures or look is _Look.TAKEN_BY_ANOTHER):
                stopping = self._stopping.wait(self.pause() if self._failures else again)
                # Where another process is busy with a sink, it is left to it more and more.
                again = min(2 * again, LONGEST_AGAIN_SECONDS)
                if not stopping:
                    look = self._serve_once()
        self.sink.close()

    def _serve_once(self) -> _Look:
        try:
            return self._serve()
        except UNAVAILABLE as error:
            log.warning("delivery_postponed", sink=self.sink.name, error=type(error).__name__)
            # The sweep wakes this thread again.
            return _Look.EMPTY

    def _deliver_some(self) -> _Look:
        """Deliver a batch, if there is one and no other process is at it."""
        led_at = monotonic()
        with self._database.write() as session:
            if not self._lead(session):
                return _Look.TAKEN_BY_ANOTHER
            batch = outbox.unread(session, self.sink.name, BATCH)
            if not batch:
                leases.release(session, self._lease, self._holder)
                return _Look.EMPTY
        self._deliver(batch, led_at)
        return _Look.MORE if len(batch) == BATCH else _Look.EMPTY

    def _deliver(self, batch: Sequence[NumberedEvent], led_at: float) -> None:
        taken: list[int] = []
        reached = 0
        wanted = [item for item in batch if self._wanted.passes(item.event)]
        try:
            for start in range(0, len(wanted), self.sink.at_once):
                led_at = self._go_on_leading(led_at, batch[0].sequence)
                some = wanted[start : start + self.sink.at_once]
                self._hand_over(some)
                taken.extend(item.sequence for item in some)
                reached = taken[-1]
            reached = batch[-1].sequence
        finally:
            with self._database.write() as session:
                outbox.delivered(session, self.sink.name, taken, position=reached)
                leases.release(session, self._lease, self._holder)

    def _hand_over(self, some: Sequence[NumberedEvent]) -> None:
        events = [cloud_event(item.event, item.id, item.sequence, item.occurred_at) for item in some]
        try:
            self.sink.deliver(events)
        except UNAVAILABLE as error:
            # A sink may have a database of its own. Its trouble is not ours.
            raise SinkFailed(type(error).__name__) from error
        metrics.note_delivered(self.sink.name, [item.occurred_at for item in some])

    def _go_on_leading(self, led_at: float, first: int) -> float:
        """Renew the lease where that is due. Raises LeaseLost where another process delivers the same, or has."""
        if monotonic() - led_at < RENEW_SECONDS:
            return led_at
        renewed_at = monotonic()
        with self._database.write() as session:
            if not self._lead(session) or outbox.sink_position(session, self.sink.name) >= first:
                raise LeaseLost
        return renewed_at

    def _lead(self, session: Session) -> bool:
        return leases.lead(session, self._lease, self._holder, lasting=LEASE)

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            # Once an outage; the error's text could name a URL.
            self._failing_since = monotonic()
            log.warning("sink_failed", sink=self.sink.name, error=where(error))

    def _note_success(self) -> None:
        if self._failures:
            seconds = round(monotonic() - self._failing_since, 1)
            log.info("sink_recovered", sink=self.sink.name, failures=self._failures, seconds=seconds)
        self._failures = 0
