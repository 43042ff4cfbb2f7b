"""Workers that wait for a slow provider: how many results they make a second, and how busy the machine is meanwhile."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import linear_regression

import psutil
import psycopg

from bench.processes import cpu_seconds
from bench.protocol import Broken, Sample
from bench.stage import Effort
from bench.verisink import Verisink
from tests.support.processes import Child

LATENCY_SECONDS = 0.3
CALLS = 8
"""Calls of each process at once. The provider's latency then limits a process to a fraction of a processor, so eight of
them can be compared with one."""

LIMIT = CALLS / LATENCY_SECONDS
"""Results a second of one process, if so many calls are always in flight and nothing else takes time."""

BACKLOG_SECONDS = 8.0
"""Work for so long lies ready besides what is measured: for processes that start and end."""

LOAD_SECONDS = 60.0
START_SECONDS = 30.0
"""Eight processes take ten seconds of processor time to start."""

SHARE, LEAST_SECONDS = 0.7, 1.0
"""Of the length of a measurement elsewhere, because there are four in a round. In less than a second, few waves of
calls come back."""

STALL_SECONDS = 3.0
"""Where the calls in flight have grown no more for so long, the machine has no room for more of them."""

SETTLE_SECONDS, QUICK_SETTLE_SECONDS = 1.0, 0.1
"""Between the first call of the last process and the measurement: first answers, connections, prepared statements."""

LOOK_SECONDS = 0.02
STATS_SECONDS = 0.1
SINCE = b"SELECT count(*) FROM results WHERE updated_at > %s"
"""Counts by an index, over one connection: looking may cost hardly anything, fifty times a second."""

WAITING = "SELECT count(*) FROM resources WHERE due_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Busy:
    """How long the machine's processors, and the workers, had been busy until a moment; and those idle."""

    busy: float
    idle: float
    workers: float


def lengths(effort: Effort) -> tuple[float, float]:
    """Seconds of one measurement, and those to settle before it."""
    return max(LEAST_SECONDS, effort.seconds * SHARE), QUICK_SETTLE_SECONDS if effort.quick else SETTLE_SECONDS


def prepare(ours: Verisink, processes: int, seconds: float) -> None:
    """See to it that so many processes have work for so long, and more. Raises Broken."""
    missing = int(LIMIT * processes * (seconds + BACKLOG_SECONDS)) - ours.count(WAITING)
    if missing > 0:
        report, _ = ours.acknowledge(ours.plan(missing, LOAD_SECONDS))
        report.only_acknowledged("Verisink")


def await_full(
    in_flight: Callable[[], float], processes: int, workers: Sequence[Child], settle: float = SETTLE_SECONDS
) -> None:
    """Wait until all processes have had all their calls in flight, or have no more of them, and `settle` seconds more.
    Raises Broken."""
    most, now = 0.0, time.monotonic()
    ends, stalls_at = now + START_SECONDS, now + START_SECONDS
    while most < processes * CALLS and now < min(ends, stalls_at):
        time.sleep(STATS_SECONDS)
        found, now = in_flight(), time.monotonic()
        if found > most:
            most, stalls_at = found, now + STALL_SECONDS
        if not all(child.alive() for child in workers):
            raise Broken(f"a worker ended: {workers[0].log[-500:]}")
    if not most:
        raise Broken(f"{processes} processes called nobody within {START_SECONDS:.0f} s")
    time.sleep(settle)


def once(measured: Callable[[], Sample]) -> Callable[[], Sample]:
    """The first round again and again. A quick run shows that something works, and processes take long to start."""
    kept: list[Sample] = []

    def again() -> Sample:
        if not kept:
            kept.append(measured())
        return kept[0]

    return again


def measure(ours: Verisink, processes: int, seconds: float, workers: Sequence[Child]) -> Sample:
    """The rate of workers that are under way, what they cost, and how busy the machine is. Raises Broken."""
    before = _busy(workers)
    times, counts = _looks(ours, seconds)
    after = _busy(workers)
    if not all(child.alive() for child in workers):
        raise Broken(f"a worker ended: {workers[0].log[-500:]}")
    if not ours.count(WAITING):
        raise Broken("the workers ran out of work while they were measured")
    rate = slope(times, counts)
    busy, idle = after.busy - before.busy, after.idle - before.idle
    return {
        "rate_per_s": rate,
        "rate_per_process": rate / processes,
        "share_of_limit": rate / (LIMIT * processes),
        "worker_cpu_ms": 1000 * (after.workers - before.workers) / (rate * (times[-1] - times[0])),
        "machine_busy_percent": 100 * busy / (busy + idle),
    }


def slope(times: Sequence[float], counts: Sequence[float]) -> float:
    """Results a second: how steep the line through all looks is. Raises Broken.

    Results come in waves of calls that began together. The first and the last look alone may fall differently into a
    wave, and would be wrong by most of it.
    """
    rate = linear_regression(times, counts).slope
    if rate <= 0:
        raise Broken("the workers made no results while they were measured")
    return rate


def _looks(ours: Verisink, seconds: float) -> tuple[list[float], list[float]]:
    """When it was looked, and how many results there were since the beginning."""
    times: list[float] = []
    counts: list[float] = []
    url = ours.installation.database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        [began] = connection.execute("SELECT clock_timestamp()").fetchall()[0]
        ends = time.monotonic() + seconds
        while not times or times[-1] < ends:
            time.sleep(LOOK_SECONDS)
            [done] = connection.execute(SINCE, (began,), prepare=True).fetchall()[0]
            times.append(time.monotonic())
            counts.append(float(done))
    return times, counts


def _busy(workers: Sequence[Child]) -> Busy:
    times = psutil.cpu_times()
    # Guests are in `user` already, and what the host gave to others is nobody's work here.
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    return Busy(busy, times.idle + times.iowait, cpu_seconds(*(child.pid for child in workers)))
