"""Publish: number what was committed, and tell those who deliver it to the sinks."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence

import structlog

from worker.clock import monotonic
from worker.log import where
from worker.pipeline.deliver import Deliverer
from worker.pipeline.settle import Terms
from worker.sinks.base import Sink
from worker.store import outbox
from worker.store.engine import UNAVAILABLE, Database

BUSY = 20
BUSY_PAUSE = 0.2
IDLE_PAUSE = 0.02
"""Seconds between two rounds, after one that found so many events or fewer. A round costs as much for one event as for
two hundred, and in a throng nobody waits for a single one."""

LOOK_SECONDS = 1.0
"""How soon a process in a throng sees that a sink which it leaves alone may be served again. It looks for nothing else
then, because it numbers and delivers all the time."""

log = structlog.get_logger(__name__)


class Publisher:
    """A thread that numbers events whenever it is woken, and one for each sink that delivers them. Any number of
    processes may have one."""

    def __init__(self, database: Database, sinks: Sequence[Sink], terms: Mapping[str, Terms] | None = None) -> None:
        self._database = database
        # The process id is for people: who looks into the table of leases sees whom to look at.
        holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4()}"
        configured = terms or {}
        self._deliverers = [Deliverer(database, sink, holder=holder, terms=configured.get(sink.name)) for sink in sinks]
        self._looked_at = monotonic()
        self._wake = threading.Event()
        self._written = 0
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the threads; call it after any fork."""
        for deliverer in self._deliverers:
            deliverer.start()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was written that is to be published. Returns at once."""
        self._written += 1
        self._wake.set()

    def look(self) -> None:
        """There may be something that another process left. Returns at once."""
        self._wake.set()

    def stop(self, wait_seconds: float = 5.0) -> None:
        """Publish what is there, and end the threads. A sink that is away is not waited for."""
        ends = monotonic() + wait_seconds
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(wait_seconds)
        for deliverer in self._deliverers:
            deliverer.stop()
        for deliverer in self._deliverers:
            deliverer.join(max(0.0, ends - monotonic()))

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._wake.wait()
            self._wake.clear()
            # Asked before publishing: what was written until the stop is published, also if a round is under way.
            stopping = self._stopping
            # A number lost between two threads that count would only change a pause.
            written, self._written = self._written, 0
            numbered = 0
            try:
                numbered = self._number_and_tell(written=written > 0)
            except UNAVAILABLE as error:
                log.warning("publish_postponed", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - the thread must outlive it; the sweep wakes it again
                log.error("publish_failed", error=where(error))
            if not stopping:
                # What this process wrote, another may have numbered.
                time.sleep(BUSY_PAUSE if max(numbered, written) >= BUSY else IDLE_PAUSE)

    def publish(self) -> int:
        """Number everything that is committed, and offer it to each sink, here and now; returns how many events were
        numbered. Raises what the database raises."""
        numbered = self._number(written=False)
        for deliverer in self._deliverers:
            deliverer.serve()
        return numbered

    def _number_and_tell(self, *, written: bool) -> int:
        numbered = self._number(written=written)
        if numbered:
            for deliverer in self._deliverers:
                deliverer.wake()
        resting = any(deliverer.resting for deliverer in self._deliverers)
        if not numbered or (resting and monotonic() - self._looked_at >= LOOK_SECONDS):
            # What another process has numbered it also delivers, unless it died in between. And whoever is held or away
            # may be served again.
            self._looked_at = monotonic()
            with self._database.read() as session:
                behind = outbox.behind(session, [deliverer.sink.name for deliverer in self._deliverers])
            for deliverer in self._deliverers:
                if deliverer.sink.name in behind:
                    deliverer.wake_due()
        return numbered

    def _number(self, *, written: bool) -> int:
        """Number what there is. Where something was written it is not looked for: that would only take time."""
        numbered = 0
        while written or self._any_unnumbered():
            with self._database.write_at_once() as session:
                some = outbox.number(session)
            numbered += some
            if some < outbox.NUMBERED_AT_ONCE:
                # What was committed since then has woken its own publisher.
                break
        return numbered

    def _any_unnumbered(self) -> bool:
        with self._database.read() as session:
            return outbox.any_unnumbered(session)
