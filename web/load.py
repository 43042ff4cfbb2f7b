"""Load: whether a webhook that comes now would wait too long, so that it is better told at once to come again."""

from worker.clock import monotonic

ALWAYS = 64
"""So many at once are taken whatever was measured: no estimate is worth refusing few."""

LONGEST_WAIT = 1.0
"""Seconds that a new request may be expected to wait. Senders wait for five and more, and an answer that comes late
keeps their connections, and the memory for them, for as long."""

LONGEST_STALL = 3.0
"""Seconds without any answer, after which requests are not taken on hope. Where there is a spool, they are in it by
then."""

WEIGHT = 0.05
"""Of one answer in the average. Twenty are a group or less."""


class Load:
    """Counts the webhooks in flight and how fast they are answered. For one thread."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._ended_at = monotonic()
        self._pace = 0.0

    def begin(self) -> None:
        """One more is in flight."""
        if not self._in_flight:
            self._ended_at = monotonic()
        self._in_flight += 1

    def end(self) -> None:
        """One is answered."""
        now = monotonic()
        self._pace += (now - self._ended_at - self._pace) * WEIGHT
        self._ended_at = now
        self._in_flight -= 1

    def is_too_much(self) -> bool:
        """Whether one more would be answered too late."""
        if self._in_flight < ALWAYS:
            return False
        return self._in_flight * self._pace > LONGEST_WAIT or monotonic() - self._ended_at > LONGEST_STALL
