"""Nudges: tell the workers that a source has work, without ever letting a request wait for the broker.

A hung broker blocks a publisher for seconds or for ever, so one thread publishes for the whole process. Nudges for one
source that wait together are one nudge. A nudge that cannot be sent is dropped: the sweep finds the work in the
database.
"""

import threading
import time
from collections.abc import Callable

import structlog

PAUSE = 0.05
"""Seconds between two rounds. Nudges that nobody takes must not pile up in the broker, one for each webhook."""

log = structlog.get_logger(__name__)


class Nudger:
    """Calls `ring(source)` from a thread of its own, soon after `nudge(source)`."""

    def __init__(self, ring: Callable[[str], None]) -> None:
        self._ring = ring
        self._waiting: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; call it after any fork."""
        self._thread = threading.Thread(target=self._run, name="nudger", daemon=True)
        self._thread.start()

    def nudge(self, source: str) -> None:
        """Ask for a nudge. Returns at once."""
        with self._changed:
            self._waiting.add(source)
            self._changed.notify()

    def stop(self, wait_seconds: float = 2.0) -> None:
        """Send what waits, and end the thread; a broker that hangs is not waited for longer than this."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(wait_seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                sources, self._waiting = self._waiting, set()
                if not sources:
                    return
                stopping = self._stopping
            for source in sorted(sources):
                self._send(source)
            if not stopping:
                time.sleep(PAUSE)

    def _send(self, source: str) -> None:
        try:
            self._ring(source)
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises, the sweep makes up for it
            log.warning("nudge_not_sent", source=source, error=type(error).__name__)
