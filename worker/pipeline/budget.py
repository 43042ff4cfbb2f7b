"""Rate budgets: how many calls a source may make now, shared by every worker through Redis where there is one.

A budget is an exact sliding minute: in no sixty seconds are there more calls than the limit. Live work may spend all of
it, and everything else only a share, so that a replay of thousands never leaves a webhook waiting for the minute's end.
(Written here because a shared limit that is reserved by class, granted in part, given back and kept by the store's own
clock is in no library that we know; a host whose clock is wrong must not spend or block the others' budget.)
"""

import pkgutil
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from worker.clock import monotonic
from worker.domain.states import Priority
from worker.settings import Source

WINDOW_SECONDS = 60

LOW_SHARE = 0.8
"""Of the limit, what all work but live work may spend. With more, a webhook that comes during a replay would wait for
seconds; with less, a replay would take much longer for nothing."""

AWAY_SECONDS = 5.0
"""For so long a Redis that failed is not asked again: each question to one that hangs costs a second."""

ANSWER_SECONDS = 1.0
"""So long Redis may take to answer. A worker that waits a second longer for its budget has lost nothing."""

_SHARED = "worker.pipeline.shared_budget:RedisWindow"
"""By its name, so that a process that shares nothing loads no Redis client."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """`calls` may be made, of which at most `low` by work that is not live. The rest is what is left after them, and in
    how many seconds the oldest call leaves the window, so that there is one more."""

    calls: int
    low: int
    left: int = 0
    left_low: int = 0
    more_in: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Limit:
    """Calls in a minute: of all, and of all but live work."""

    calls: int
    low: int


class WindowAway(Exception):
    """The store of the shared budgets did not answer. Its text is the class of the client's error, and no more."""


class _Window(Protocol):
    def grant(self, source: str, limit: Limit, calls: int, low: int) -> Grant: ...

    def give_back(self, source: str, calls: int, low: int) -> None: ...


def low_limit(calls: int) -> int:
    """How many of `calls` a minute may be spent by work that is not live."""
    return max(1, int(calls * LOW_SHARE))


class Windows:
    """Sliding minutes by name, in Redis where there is one. Thread-safe. While it is away, each process counts by
    itself.

    `answer_seconds` is how long Redis may take, `away_seconds` how long one that failed is left alone.
    """

    def __init__(
        self, redis_url: str | None, *, away_seconds: float = AWAY_SECONDS, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._local = _MemoryWindow()
        self._shared: _Window | None = None
        if redis_url is not None:
            self._shared = pkgutil.resolve_name(_SHARED)(redis_url, answer_seconds=answer_seconds)
        self._away_until = 0.0
        self._away_seconds = away_seconds

    def grant(self, name: str, limit: Limit, calls: int, low: int) -> Grant:
        """Spend up to `calls`, as far as there are any; `low` is how many of them work that is not live would like."""
        try:
            return self._window().grant(name, limit, calls, low)
        except WindowAway as error:
            self._note_away(name, error)
            return self._local.grant(name, limit, calls, low)

    def give_back(self, name: str, calls: int, low: int) -> None:
        """Return calls that were granted and not made, and how many of them counted as `low`."""
        try:
            self._window().give_back(name, calls, low)
        except WindowAway as error:
            # They are missing for a minute, which only makes us slower.
            self._note_away(name, error)

    def _window(self) -> _Window:
        return self._local if self._shared is None or monotonic() < self._away_until else self._shared

    def _note_away(self, name: str, error: WindowAway) -> None:
        self._away_until = monotonic() + self._away_seconds
        log.warning("budget_store_unavailable", budget=name, error=str(error))


class Budgets:
    """The budgets of all sources. Thread-safe. While Redis is away, each process counts by itself."""

    def __init__(
        self, sources: Mapping[str, Source], redis_url: str | None, *, away_seconds: float = AWAY_SECONDS
    ) -> None:
        self._limits = {
            slug: Limit(source.rate_limit_per_minute, low_limit(source.rate_limit_per_minute))
            for slug, source in sources.items()
        }
        self._windows = Windows(redis_url, away_seconds=away_seconds)

    def grant(self, source: str, *, calls: int, low: int) -> Grant:
        """Spend up to `calls`, as far as there are any; `low` is how many of them work that is not live would like."""
        return self._windows.grant(source, self._limits[source], calls, low)

    def give_back(self, source: str, *, calls: int, low: int) -> None:
        """Return calls that were granted and not made, and how many of them counted as `low`."""
        if calls > 0 or low > 0:
            self._windows.give_back(source, calls, low)

    def left(self, source: str, priority: Priority = Priority.LIVE) -> int:
        """How many calls could be made now by work of this priority."""
        found = self.grant(source, calls=0, low=0)
        return found.left if priority is Priority.LIVE else found.left_low

    def take(self, source: str, calls: int, priority: Priority = Priority.LIVE) -> bool:
        """Spend `calls`, all or none."""
        found = self.grant(source, calls=calls, low=0 if priority is Priority.LIVE else calls)
        if (found.calls if priority is Priority.LIVE else found.low) == calls:
            return True
        self.give_back(source, calls=found.calls, low=found.low)
        return False


class _MemoryWindow:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[tuple[str, str], deque[float]] = {}

    def grant(self, source: str, limit: Limit, calls: int, low: int) -> Grant:
        with self._lock:
            now = monotonic()
            spent, spent_low = self._spent_by(source, "calls", now), self._spent_by(source, "low", now)
            free = max(0, limit.calls - len(spent))
            free_low = max(0, min(free, limit.low - len(spent_low)))
            granted = min(free, calls)
            granted_low = min(free_low, granted, low)
            spent.extend([now] * granted)
            spent_low.extend([now] * granted_low)
            more_in = spent[0] + WINDOW_SECONDS - now if spent else 0.0
            return Grant(granted, granted_low, free - granted, min(free_low - granted_low, free - granted), more_in)

    def give_back(self, source: str, calls: int, low: int) -> None:
        with self._lock:
            for name, count in (("calls", calls), ("low", low)):
                spent = self._spent.get((source, name), deque())
                for _ in range(min(count, len(spent))):
                    spent.pop()

    def _spent_by(self, source: str, name: str, now: float) -> deque[float]:
        spent = self._spent.setdefault((source, name), deque())
        while spent and spent[0] <= now - WINDOW_SECONDS:
            spent.popleft()
        return spent
