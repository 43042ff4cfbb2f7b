"""Publish: number what was committed, and hand it to each sink in order, at least once."""

import socket
import threading
import uuid
from collections.abc import Sequence
from datetime import timedelta

import structlog

from worker.domain.events import cloud_event
from worker.log import where
from worker.sinks.base import Sink
from worker.store import leases, outbox
from worker.store.engine import UNAVAILABLE, Database, database_time

BATCH = 100
LEASE = timedelta(seconds=5)
"""How long a publisher may be silent before another takes its sink over. Each sweep wakes it, once a second."""

log = structlog.get_logger(__name__)


class Publisher:
    """A thread that publishes whenever it is woken. Any number may run: a lease lets one at a time serve a sink."""

    def __init__(self, database: Database, sinks: Sequence[Sink]) -> None:
        self._database = database
        self._sinks = sinks
        self._holder = f"{socket.gethostname()}:{uuid.uuid4()}"
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; call it after any fork."""
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There may be something to publish. Returns at once."""
        self._wake.set()

    def stop(self, wait_seconds: float = 5.0) -> None:
        """Publish what is there, and end the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(wait_seconds)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._wake.wait()
            self._wake.clear()
            # Asked before publishing: what was written until the stop is published, also if a round is under way.
            stopping = self._stopping
            try:
                self.publish()
            except UNAVAILABLE as error:
                log.warning("publish_postponed", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - the thread must outlive it; the sweep wakes it again
                log.error("publish_failed", error=where(error))
        self._release()

    def publish(self) -> int:
        """Number and deliver everything that is committed; returns how many events were numbered."""
        numbered = 0
        while True:
            with self._database.read() as session:
                waiting = outbox.any_unnumbered(session)
            if not waiting:
                break
            with self._database.write() as session:
                numbered += outbox.number(session)
        for sink in self._sinks:
            self._serve(sink)
        return numbered

    def _serve(self, sink: Sink) -> None:
        """Deliver what `sink` has not got yet. Its trouble is its own: the others go on, and the next round offers it
        the rest again."""
        try:
            while self._deliver(sink):
                pass
        except UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001 - sinks raise whatever their libraries do
            log.warning("sink_failed", sink=sink.name, error=type(error).__name__)

    def _deliver(self, sink: Sink) -> bool:
        with self._database.read() as session:
            position = outbox.sink_position(session, sink.name)
            anything = outbox.read(session, position, 1)
        if not anything or not self._lead(sink):
            return False
        with self._database.read() as session:
            batch = outbox.read(session, outbox.sink_position(session, sink.name), BATCH)
        taken: list[int] = []
        try:
            for item in batch:
                sink.deliver(cloud_event(item.event, item.id, item.sequence, item.occurred_at))
                taken.append(item.sequence)
        finally:
            with self._database.write() as session:
                outbox.delivered(session, sink.name, taken)
        return len(batch) == BATCH

    def _lead(self, sink: Sink) -> bool:
        with self._database.write() as session:
            now = database_time(session)
            return leases.acquire(session, f"sink:{sink.name}", self._holder, now=now, lasting=LEASE)

    def _release(self) -> None:
        try:
            with self._database.write() as session:
                for sink in self._sinks:
                    leases.release(session, f"sink:{sink.name}", self._holder)
        except UNAVAILABLE as error:
            log.warning("sink_leases_not_released", error=type(error).__name__)
