"""Measures how fast work is drained: from the moment that a fifth of it is done to the last piece."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.processes import cpu_seconds
from bench.protocol import Broken, Sample
from tests.support.processes import Child

LOOK_SECONDS = 0.02
"""Between two counts, at least: a short drain is over after a fifth of a second."""

COUNTING_SHARE = 20
"""And at least so many times as long as a count takes, so that looking costs a twentieth of one processor at most."""

LONGEST_LOOK_SECONDS = 0.25
"""But no longer: on a machine that is busy with other things a count takes long, and a short drain would be over."""

BEGUN_SHARE = 0.2
"""What is done before is not measured: processes start one after another, and do everything for the first time."""

START_SECONDS = 60.0
STALL_SECONDS = 30.0
"""Without anything new for so long, the work is stuck. A restart of a worker and a retry take less."""


@dataclass(frozen=True, slots=True)
class Look:
    """How much was done at a moment, and what it had cost: processor time of the workers, and of PostgreSQL."""

    at: float
    done: int
    workers_cpu: float
    postgres_cpu: float


def drain(total: int, done: Callable[[], int], workers: Child, postgres_pid: int) -> Sample:
    """Wait until everything is done. Raises Broken if a worker dies or nothing happens any more."""
    first: Look | None = None
    known, stalls_at, pause = 0, time.monotonic() + START_SECONDS, LOOK_SECONDS
    while known < total:
        time.sleep(pause)
        began = time.monotonic()
        count, now = done(), time.monotonic()
        pause = min(max(LOOK_SECONDS, (now - began) * COUNTING_SHARE), LONGEST_LOOK_SECONDS)
        if count > known:
            known, stalls_at = count, now + STALL_SECONDS
            if first is None and count >= total * BEGUN_SHARE:
                first = _look(now, count, workers, postgres_pid)
        elif not workers.alive() or now > stalls_at:
            what = "stopped" if workers.alive() else "died"
            raise Broken(f"{workers.name} {what} at {count} of {total}: {workers.log[-500:]}")
    last = _look(time.monotonic(), known, workers, postgres_pid)
    if known != total:
        raise Broken(f"{workers.name} made {known} results of {total}")
    return sample(first or last, last)


def _look(at: float, done: int, workers: Child, postgres_pid: int) -> Look:
    return Look(at, done, cpu_seconds(workers.pid), cpu_seconds(postgres_pid))


def sample(first: Look, last: Look) -> Sample:
    """The speed and the cost between two looks. Raises Broken."""
    items, seconds = last.done - first.done, last.at - first.at
    if not items or seconds <= 0:
        raise Broken(f"{last.done} results are too few to measure: they were there at once")
    return {
        "rate_per_s": items / seconds,
        "items": float(items),
        "worker_cpu_ms": 1000 * (last.workers_cpu - first.workers_cpu) / items,
        "postgres_cpu_ms": 1000 * (last.postgres_cpu - first.postgres_cpu) / items,
    }
