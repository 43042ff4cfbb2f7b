"""What a webhook costs: calls at the provider in a burst, processor time from end to end, and bytes in PostgreSQL."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bench.burst import told, yoti
from bench.children import end
from bench.processes import cpu_seconds
from bench.protocol import Bar, Broken, Contenders, Sample, Scenario, value
from bench.provider import fast_provider
from bench.scenarios.results import RESULTS
from bench.stage import Stage
from bench.verisink import Verisink, verisink
from bench.webhooks import Sender, bodies
from tests.support.processes import Child, eventually

SESSIONS, QUICK_SESSIONS = 300, 30
QUICK_ENVIRON = {"VERISINK_SOURCES__YOTI__COALESCE_SECONDS": "1"}
"""A quick run shows that the burst works, and need not wait for silence as long as Verisink does by itself."""

COUNT, QUICK_COUNT = 3000, 500
"""Webhooks of a round. Tables grow by some dozen pages at once, and in so many that is little."""

STEADY_PER_SECOND = 100.0
"""A rate at which hardly anything is shared: groups of one, a nudge for each. Nobody's quiet hours are busier."""

LOAD_SECONDS = 60.0
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.1
STORED_BROKER, WORKED_BROKER = 9, 10

OPEN_WORK = "SELECT count(*) FROM resources WHERE due_at IS NOT NULL"
WAL = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
CHECKPOINT = "SELECT redo_lsn - '0/0'::pg_lsn FROM pg_control_checkpoint()"
DATABASE = "SELECT pg_database_size(current_database())"
ACKNOWLEDGED = (
    "SELECT sum(pg_total_relation_size(name::regclass))"
    " FROM unnest(ARRAY['deliveries', 'delivery_bodies', 'delivery_resources', 'resources']) AS name"
)
"""What an acknowledgement writes to: rows and their indexes."""


class Bytes:
    """What PostgreSQL writes between two looks: to its log, and to the files that `size` measures.

    The first change of a page after a checkpoint puts the whole page into the log. So that a figure does not depend on
    how long ago the last checkpoint was, none may fall into a round: the stage's server makes none by itself, every
    page of the new database is younger than it, and the webhooks that warm up the receivers have touched those that are
    not. What full pages cost where checkpoints are frequent is in docs/scaling.md.
    """

    def __init__(self, ours: Verisink, size: str) -> None:
        self._ours, self._size = ours, size
        self._before = self._look()

    def each(self, webhooks: int) -> Sample:
        """Bytes for each webhook since the beginning. Raises Broken if there was a checkpoint."""
        before, now = self._before, self._look()
        if now["checkpoint"] != before["checkpoint"]:
            raise Broken("a checkpoint fell into a round that counts bytes")
        body = len(next(bodies(Sender(""), 1)))
        log, disk = ((now[name] - before[name]) / max(1, webhooks) for name in ("wal", "disk"))
        return {
            "body_bytes": float(body),
            "wal_bytes": log,
            "disk_bytes": disk,
            "bytes_per_body": (log + disk) / body,
        }

    def _look(self) -> Mapping[str, int]:
        queries = {"wal": WAL, "disk": self._size, "checkpoint": CHECKPOINT}
        return {name: self._ours.count(query) for name, query in queries.items()}


@contextmanager
def open_cost(stage: Stage) -> Iterator[Contenders]:
    """A burst, which is over before the rounds begin, and two installations: one without workers, one with."""
    quick = stage.effort.quick
    # A number of calls, not a time: it is counted once, because most of a burst is waiting until nothing more comes.
    with yoti(stage, QUICK_ENVIRON if quick else {}) as running:
        burst = told(running, QUICK_SESSIONS if quick else SESSIONS)
    count = QUICK_COUNT if quick else COUNT
    with ExitStack() as stack:
        provider = stack.enter_context(fast_provider(stage))
        stored = stack.enter_context(verisink(stage, broker=STORED_BROKER))
        stored.start_web()
        worked = stack.enter_context(verisink(stage, provider.url, broker=WORKED_BROKER))
        workers = worked.installation.start("worker")
        stack.callback(end, workers)
        worked.start_web()
        # The receivers were warmed up with some webhooks, and those come first.
        eventually(lambda: not worked.count(OPEN_WORK), "the warm-up is worked off", PATIENCE_SECONDS)
        steady = int(STEADY_PER_SECOND * stage.effort.seconds)
        yield {
            "burst": lambda: burst,
            "acks alone": lambda: stored_round(stored, count),
            "full load": lambda: worked_round(worked, workers, count),
            "steady": lambda: worked_round(worked, workers, steady, STEADY_PER_SECOND),
        }


def stored_round(ours: Verisink, count: int) -> Sample:
    """Webhooks that nobody works on: the bytes of an acknowledgement."""
    written = Bytes(ours, ACKNOWLEDGED)
    report, _ = ours.acknowledge(ours.plan(count, LOAD_SECONDS))
    report.only_acknowledged("Verisink")
    return written.each(report.acknowledged)


def worked_round(ours: Verisink, workers: Child, count: int, rate: float = 0.0) -> Sample:
    """Webhooks while the workers run, from the first that is sent to the last result. Without a rate they come as fast
    as they are answered."""
    if ours.web is None:
        raise Broken("Verisink: there is no receiver")
    stage = ours.stage
    watched = {"web": ours.web.pid, "worker": workers.pid, "postgres": stage.postgres.pid, "redis": stage.redis.pid}
    before, written = ours.count(RESULTS), Bytes(ours, DATABASE)
    cpu = {name: cpu_seconds(pid) for name, pid in watched.items()}
    report, _ = ours.acknowledge(ours.plan(count, LOAD_SECONDS, rate=rate))
    report.only_acknowledged("Verisink")
    _await_results(ours, workers, before + report.acknowledged)
    each = {
        f"{name}_cpu_ms": 1000 * (cpu_seconds(pid) - cpu[name]) / max(1, report.acknowledged)
        for name, pid in watched.items()
    }
    whole = each["web_cpu_ms"] + each["worker_cpu_ms"] + each["postgres_cpu_ms"]
    return {"webhooks": float(report.acknowledged), "cpu_ms": whole, **each, **written.each(report.acknowledged)}


def _await_results(ours: Verisink, workers: Child, wanted: int) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while (found := ours.count(RESULTS)) < wanted:
        if not workers.alive() or time.monotonic() > ends:
            raise Broken(f"{found} results of {wanted}: {workers.log[-500:]}")
        time.sleep(LOOK_SECONDS)
    if found > wanted:
        raise Broken(f"{found} results, and only {wanted} webhooks")


SCENARIO = Scenario(
    name="cost",
    measures=(
        "The burst: Yoti sessions, four topics each, a fifth of the notifications twice, some late; calls are counted "
        "by the simulator, once. Then 1.5 KB webhooks of Persona, each about a verification of its own: without "
        "workers, for the bytes of an acknowledgement (rows, indexes, write-ahead log; no checkpoint within); with two "
        "workers at full load and at 100 a second, until the last result, for processor time and for all bytes."
    ),
    figures=(
        value("calls per webhook in a burst", ("burst", "calls_per_webhook"), Bar(0.5, at_least=False)),
        value("calls per webhook, second copies not counted", ("burst", "calls_per_notice")),
        value("PostgreSQL bytes of an acknowledgement ÷ body", ("acks alone", "bytes_per_body"),
              Bar(3, at_least=False)),
        value("PostgreSQL bytes up to the result ÷ body", ("full load", "bytes_per_body")),
        value("CPU per webhook up to the result, full load, ms", ("full load", "cpu_ms")),
        value("CPU per webhook up to the result, 100 a second, ms", ("steady", "cpu_ms")),
    ),
    open=open_cost,
)  # fmt: skip
