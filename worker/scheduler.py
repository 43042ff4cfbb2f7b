"""The loop that sweeps: one thread in every worker process; a lease in the database decides whose sweep does the
work."""

import threading
from collections.abc import Callable

import structlog

from worker.clock import monotonic

log = structlog.get_logger(__name__)

INTERVAL = 1.0
"""Seconds between sweeps. It is the longest delay that a lost nudge costs."""


class Scheduler:
    """Calls `sweep` every second or so, whatever it raises, until it is stopped."""

    def __init__(self, sweep: Callable[[], None]) -> None:
        self._sweep = sweep
        self.began_at: float | None = None
        """When the sweep under way began, on the monotonic clock; None between two sweeps."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; call it after any fork."""
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def stop(self, wait_seconds: float = 5.0) -> None:
        """End the thread after the sweep that is under way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(wait_seconds)

    def _run(self) -> None:
        while True:
            self.began_at = monotonic()
            try:
                self._sweep()
            except Exception as error:  # noqa: BLE001 - the loop must outlive a database that is away
                log.warning("sweep_failed", error=type(error).__name__)
            self.began_at = None
            if self._stopping.wait(INTERVAL):
                return
