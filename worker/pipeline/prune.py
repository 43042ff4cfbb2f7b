"""Prune by retention: a chore of the sweep's leader, in short transactions and for a bounded time of each sweep.

Two leaders do no harm: each leaves alone what the other has locked.
"""

from collections import Counter, deque
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile

import structlog

from worker import metrics
from worker.clock import monotonic
from worker.settings import Settings
from worker.store import prune
from worker.store.engine import Database, database_time
from worker.store.prune import Place, Stock

AT_ONCE = 200
"""Rows of one transaction on PostgreSQL, where nobody waits for it: enough that its commit is a small part."""

AT_ONCE_ON_SQLITE = 50
"""There everybody who writes waits for its end. Overwriting what is deleted takes a quarter of a millisecond a row, so
that is some ten milliseconds away."""

PRUNE_SECONDS = 0.2
"""How long one sweep prunes: some two thousand rows on PostgreSQL and some hundred on SQLite. That is more than arrive,
and a fifth of one connection's time."""

REST_SECONDS = 60.0
"""Between two rounds. What is kept for days need not go by the second; and a round that finds nothing costs one short
query for each table."""

LOOK_BACK_SECONDS = 3600.0
"""How often a round begins at the oldest row again. Others go on where the one before ended, and do not look again at
what was kept because it was open."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Walk:
    """A way through one stock of a table, of which so many days are kept."""

    name: str
    table: str
    stock: Stock
    days: int


class Pruner:
    """Deletes what the settings say is old enough; those of 0 days keep for ever."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._at_once = AT_ONCE_ON_SQLITE if database.is_sqlite else AT_ONCE
        self._event_days = settings.keep_event_deliveries_days
        stocks = (
            ("deliveries", prune.DELIVERIES, settings.keep_deliveries_days),
            ("attempts", prune.ATTEMPTS, settings.keep_attempts_days),
            ("replays", prune.REPLAYS, settings.keep_runs_days),
            ("reconciliations", prune.RECONCILIATIONS, settings.keep_runs_days),
            ("expectations", prune.EXPECTATIONS, settings.keep_expectations_days),
            ("audit_entries", prune.AUDIT_ENTRIES, settings.keep_audit_days),
        )
        self._fixed = [_Walk(name, name, stock, days) for name, stock, days in stocks if days]
        self._round: deque[_Walk] = deque()
        self._places: dict[str, Place] = {}
        self._deleted: Counter[str] = Counter()
        self._begins_at = self._looks_back_at = self._tells_at = monotonic()

    def prune(self) -> None:
        """Go on with the round, or begin one if it is time, until it has ended or this sweep's share is spent."""
        began = monotonic()
        if not self._round:
            if began < self._begins_at:
                return
            self._begin(began)
        while self._round and monotonic() < began + PRUNE_SECONDS:
            walk = self._round.popleft()
            if self._step(walk):
                self._round.append(walk)
        if not self._round or began >= self._tells_at:
            self._tell(began)

    def _begin(self, now: float) -> None:
        if now >= self._looks_back_at:
            self._places.clear()
            self._looks_back_at = now + LOOK_BACK_SECONDS
        self._begins_at = now + REST_SECONDS
        self._round.extend(self._fixed)
        if self._event_days:
            with self._database.read() as session:
                names = prune.sinks(session)
            self._round.extend(
                _Walk(f"event_deliveries:{name}", "event_deliveries", prune.event_deliveries_to(name), self._event_days)
                for name in names
            )

    def _step(self, walk: _Walk) -> bool:
        """One stretch of a walk, in one transaction; whether it goes on behind it."""
        with self._database.read() as session:
            before = database_time(session) - timedelta(days=walk.days)
            found = prune.stretch(session, walk.stock, behind=self._places.get(walk.name), limit=self._at_once)
        old = list(takewhile(lambda passed: passed.moment is None or passed.moment < before, found))
        if not old:
            return False
        with self._database.write() as session:
            keys = [passed.key for passed in old]
            deleted, all_of_it = prune.discard(session, walk.stock, keys, before, limit=self._at_once)
        self._count(walk, deleted)
        if not all_of_it:
            return True
        self._places[walk.name] = old[-1].place
        return len(old) == self._at_once

    def _count(self, walk: _Walk, deleted: int) -> None:
        if deleted:
            self._deleted[walk.table] += deleted
            metrics.PRUNED_ROWS.labels(walk.table).inc(deleted)

    def _tell(self, now: float) -> None:
        self._tells_at = now + REST_SECONDS
        if self._deleted:
            log.info("pruned", **self._deleted)
            self._deleted.clear()
