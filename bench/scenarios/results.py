"""Results a second: webhooks are there already, and workers drain them against a provider that answers at once."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench.baseline import Naive, naive
from bench.drain import drain
from bench.pgbench import Pgbench
from bench.protocol import Bar, Broken, Contenders, Sample, Scenario, ratio
from bench.provider import fast_provider
from bench.stage import Effort, Stage
from bench.verisink import LOADING, Verisink, verisink

FIRST, QUICK = 1000, 300
"""Webhooks of the round that comes first and is not counted: it warms up, and says how many the others take. Fewer
would say what processes do that have just started. A quick run has no other."""

MOST = 20_000
RESULTS = "SELECT count(*) FROM results"
LOAD_SECONDS = 120.0
DRAINS = 2
"""Times as long as other measurements: processes start one after another, and while one starts, the others have the
machine to themselves."""


class Sized:
    """A contender whose rounds hold as much as it can do in their time. A quick run takes what the first would."""

    def __init__(self, drained: Callable[[int], Sample], effort: Effort) -> None:
        self._drained, self._effort = drained, effort
        self._size = QUICK if effort.quick else 0

    def __call__(self) -> Sample:
        if not self._size:
            seconds = DRAINS * self._effort.seconds
            self._size = min(MOST, max(FIRST, int(self._drained(FIRST)["rate_per_s"] * seconds)))
        return self._drained(self._size)


@contextmanager
def open_workers(stage: Stage) -> Iterator[Contenders]:
    """The reference, and both contenders with their receivers; workers start anew in each round."""
    seconds = stage.effort.seconds
    reference = Pgbench(stage.postgres, stage.folder("pgbench"))
    with ExitStack() as stack:
        provider = stack.enter_context(fast_provider(stage))
        ours = stack.enter_context(
            verisink(stage, provider.url, worker_concurrency=stage.effort.concurrency, web_processes=LOADING)
        )
        ours.start_web()
        theirs = stack.enter_context(naive(stage, provider.url))
        yield {
            "pgbench": lambda: reference.round(seconds),
            "naive": Sized(lambda count: naive_round(theirs, count), stage.effort),
            "verisink": Sized(lambda count: verisink_round(ours, count), stage.effort),
        }


def verisink_round(ours: Verisink, count: int) -> Sample:
    """Load webhooks, then drain them. Raises Broken unless each has led to one result with one version."""
    report, _ = ours.acknowledge(ours.plan(count, LOAD_SECONDS))
    report.only_acknowledged("Verisink")
    before = ours.count(RESULTS)
    # The receivers were warmed up with some webhooks, and the first drain has those to do as well.
    waiting = ours.count("SELECT count(*) FROM resources") - before
    if waiting < report.acknowledged:
        raise Broken(f"Verisink acknowledged {report.acknowledged} webhooks, and {waiting} resources are wanted")
    with ours.workers() as workers:
        measured = drain(waiting, lambda: ours.count(RESULTS) - before, workers, ours.stage.postgres.pid)
    results, versions = ours.count(RESULTS), ours.count("SELECT count(*) FROM versions")
    if results != versions:
        raise Broken(f"Verisink stored {results} results and {versions} versions")
    if left := ours.count("SELECT count(*) FROM resources WHERE due_at IS NOT NULL OR parked_at IS NOT NULL"):
        raise Broken(f"Verisink left {left} resources undone")
    return measured


def naive_round(theirs: Naive, count: int) -> Sample:
    """The same with the baseline: tasks wait in Redis, then its workers take them."""
    report, _ = theirs.acknowledge(theirs.plan(count, LOAD_SECONDS))
    before = theirs.stored()
    with theirs.workers() as workers:
        return drain(report.acknowledged, lambda: theirs.stored() - before, workers, theirs.stage.postgres.pid)


SCENARIO = Scenario(
    name="results",
    measures=(
        "Webhooks are stored and the workers stopped; then two worker processes (the baseline: four) retrieve each "
        "verification from a provider that answers at once, until the last result is stored."
    ),
    figures=(
        ratio("results ÷ pgbench", ("verisink", "rate_per_s"), ("pgbench", "rate_per_s"), Bar(0.10)),
        ratio("results ÷ naive results", ("verisink", "rate_per_s"), ("naive", "rate_per_s"), Bar(2.5)),
        ratio("naive results ÷ pgbench", ("naive", "rate_per_s"), ("pgbench", "rate_per_s")),
    ),
    open=open_workers,
)
