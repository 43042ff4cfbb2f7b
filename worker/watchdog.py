"""The watchdog: a worker process that takes no work while work is overdue is of no use, and does not know it.

Brokers' clients sometimes stay connected and hear nothing. So a thread that depends on neither broker nor scheduler
compares what this process does with what the database says is left to do. It acts only when both speak, because a
database or a broker that is away is not mended by a restart.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import structlog

from worker import metrics
from worker.clock import monotonic
from worker.store import resources, sources
from worker.store.engine import UNAVAILABLE, Database, database_time

ENDED_BY_WATCHDOG = 4
"""The exit status of a process that ended itself; its supervisor starts it again."""

SWEEP_SECONDS = 120.0
"""A sweep takes milliseconds, and every statement in it is cut off after 30 seconds. This one will never end."""

LOOKS = 8
"""Looks within the patience, so that the deed is not late by more than an eighth of it."""

LONGEST_PAUSE = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found, in seconds: how long ago this process looked for work, for how long it has seen work that is
    overdue, and how long the sweep under way has taken."""

    idle: float
    overdue: float = 0.0
    sweeping: float = 0.0


def judge(sight: Sight, patience: float) -> str | None:
    """Why this process is of no use, or None.

    Work that is overdue must have been in sight for some looks: what a released source had waiting, or what waited
    while this process was frozen, is overdue at once and needs a moment to be rung for.
    """
    if sight.sweeping > SWEEP_SECONDS:
        return "the sweep is stuck"
    if sight.idle > patience and sight.overdue > patience / 4:
        return "it takes no work, and work is overdue"
    return None


class OverdueWork:
    """Asks the database, by a connection of its own: those of the others may be what is stuck."""

    def __init__(
        self, database: Database, slugs: Sequence[str], *, seconds: float, budget_left: Callable[[str], int]
    ) -> None:
        self._database = database
        self._slugs = slugs
        self._late = timedelta(seconds=seconds)
        self._budget_left = budget_left

    def exists(self) -> bool:
        """Whether a source that may be called has had work due for that long. Raises what the database raises."""
        with self._database.read() as session:
            now = database_time(session)
            late = resources.sources_due(session, self._slugs, late_by=self._late)
            states = sources.states(session)
        allowed = [slug for slug in late if slug not in states or states[slug].may_call(now) != 0]
        return any(self._budget_left(slug) > 0 for slug in allowed)

    def close(self) -> None:
        """Close the connection."""
        self._database.dispose()


class Watchdog:
    """Looks several times within `patience` seconds, and calls `act(reason)` when this process is of no use.

    `looked_at` is when this process last looked for work, and `sweep_began_at` when the sweep under way began, on the
    monotonic clock.
    """

    def __init__(
        self,
        work: OverdueWork,
        *,
        patience: float,
        looked_at: Callable[[], float],
        sweep_began_at: Callable[[], float | None],
        broker_trouble: Callable[[], str | None],
        act: Callable[[str], None],
    ) -> None:
        self._work = work
        self._patience = patience
        self._looked_at = looked_at
        self._sweep_began_at = sweep_began_at
        self._broker_trouble = broker_trouble
        self._act = act
        self._calm_at = monotonic()
        self._overdue_since: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread; call it after any fork."""
        self._thread.start()

    def stop(self) -> None:
        """Act no more: a process that is ending takes no work, and is right. A look under way is not waited for."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(min(self._patience / LOOKS, LONGEST_PAUSE)):
            try:
                self._look()
            except UNAVAILABLE as error:
                # A restart would not bring the database back.
                self._overdue_since = None
                log.debug("watchdog_without_database", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - the watchdog must outlive whatever it meets
                log.warning("watchdog_failed", error=type(error).__name__)
        self._work.close()

    def _look(self) -> None:
        sight = self._sight()
        reason = judge(sight, self._patience)
        if reason is None or self._stopping.is_set():
            return
        if sight.sweeping <= SWEEP_SECONDS and self._broker_trouble():
            # Without a broker no process hears a nudge, and each of them tries again by itself.
            return
        metrics.WATCHDOG_ACTS.inc()
        self._act(reason)
        # Where the process lives on, the deed gets as long to help as anything else.
        self._calm_at, self._overdue_since = monotonic(), None

    def _sight(self) -> Sight:
        now = monotonic()
        began_at = self._sweep_began_at()
        idle = now - max(self._looked_at(), self._calm_at)
        sweeping = 0.0 if began_at is None else now - max(began_at, self._calm_at)
        if idle <= self._patience / 2 and sweeping <= SWEEP_SECONDS:
            # The usual case: it costs no query.
            self._overdue_since = None
            return Sight(idle)
        if not self._work.exists():
            self._overdue_since = None
        elif self._overdue_since is None:
            self._overdue_since = now
        return Sight(idle, 0.0 if self._overdue_since is None else now - self._overdue_since, sweeping)


def end_process(reason: str) -> NoReturn:
    """End this process for its supervisor to start again.

    At once, because a graceful end waits for the very threads that are stuck; and nothing is lost by it, because a
    process that has looked for nothing for so long has no call in flight, and a claim would come back after its lease.
    """
    log.error("process_ended_by_watchdog", reason=reason)
    os._exit(ENDED_BY_WATCHDOG)
