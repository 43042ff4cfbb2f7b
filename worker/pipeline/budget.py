"""Rate budgets: how many calls a source may make now, shared by every worker through Redis where there is one."""

from collections.abc import Mapping

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from worker.settings import Source

log = structlog.get_logger(__name__)


class Budgets:
    """A sliding minute for each source. Thread-safe. While the shared store is away, each process counts by itself."""

    def __init__(self, sources: Mapping[str, Source], redis_url: str | None) -> None:
        self._limits = {slug: RateLimitItemPerMinute(source.rate_limit_per_minute) for slug, source in sources.items()}
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = self._local
        if redis_url is not None:
            shared = storage_from_string(redis_url, socket_timeout=1, socket_connect_timeout=1)
            self._shared = SlidingWindowCounterRateLimiter(shared)

    def left(self, source: str) -> int:
        """How many calls could be made now."""
        try:
            return self._shared.get_window_stats(self._limits[source], source).remaining
        except Exception as error:  # noqa: BLE001 - any client error means the same: count locally
            self._warn(source, error)
            return self._local.get_window_stats(self._limits[source], source).remaining

    def take(self, source: str, calls: int) -> bool:
        """Spend `calls`, all or none."""
        try:
            return self._shared.hit(self._limits[source], source, cost=calls)
        except Exception as error:  # noqa: BLE001 - any client error means the same: count locally
            self._warn(source, error)
            return self._local.hit(self._limits[source], source, cost=calls)

    @staticmethod
    def _warn(source: str, error: Exception) -> None:
        log.warning("budget_store_unavailable", source=source, error=type(error).__name__)
