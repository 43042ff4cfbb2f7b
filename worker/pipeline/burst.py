"""Bursts: how long to wait for silence before something is read again, by source.

Usually that is the source's own pause. While notifications come in numbers in which nobody waits for a single one, it
is several times as long: those about one resource are then further apart, and each call saved is one for another.
"""

import threading
from collections.abc import Mapping
from datetime import timedelta

from worker.clock import monotonic

BUCKET_SECONDS = 5.0

BURST = 50
"""Notifications of a source within a bucket, in this process. Ten a second are a campaign or the end of an outage, not
people who wait for a page to change."""

LONGER = 4
"""Pauses in a burst. A thousand sessions take half a minute to be told of, and each should cost two calls."""


class Bursts:
    """Counts notifications. Thread-safe."""

    def __init__(self, pauses: Mapping[str, timedelta]) -> None:
        self._pauses = pauses
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, int, int]] = {}

    def note(self, source: str) -> None:
        """One more notification came."""
        with self._lock:
            bucket, before, count = self._now(source)
            self._counts[source] = (bucket, before, count + 1)

    def pauses(self) -> dict[str, timedelta]:
        """How long to wait now."""
        with self._lock:
            return {
                source: pause * LONGER if max(self._now(source)[1:]) >= BURST else pause
                for source, pause in self._pauses.items()
            }

    def _now(self, source: str) -> tuple[int, int, int]:
        """The bucket, and how many came in the one before and in this one."""
        now = int(monotonic() // BUCKET_SECONDS)
        bucket, before, count = self._counts.get(source, (now, 0, 0))
        if bucket == now:
            return bucket, before, count
        return now, count if bucket == now - 1 else 0, 0
