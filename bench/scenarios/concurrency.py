"""Calls in flight: one worker process against a provider that takes its time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.drain import drain
from bench.processes import resident_bytes, tree
from bench.protocol import Bar, Broken, Contenders, Sample, Scenario, ratio, value
from bench.provider import FastProvider, fast_provider
from bench.scenarios.results import RESULTS
from bench.stage import Stage
from bench.verisink import LOADING, Verisink, verisink

LATENCY_SECONDS = 0.3
CALLS = 64
LIMIT = CALLS / LATENCY_SECONDS
"""Results a second, if so many calls are always in flight and nothing else takes time."""

LOAD_SECONDS = 120.0
WAVES, QUICK_WAVES = 10, 4
"""The least number of full waves of calls in a round: the first and the last are never full."""

BROKER = 7


@contextmanager
def open_concurrency(stage: Stage) -> Iterator[Contenders]:
    """One worker process with as many calls as the limit is computed from."""
    waves = QUICK_WAVES if stage.effort.quick else WAVES
    count = max(waves * CALLS, int(2 * LIMIT * stage.effort.seconds))
    with ExitStack() as stack:
        provider = stack.enter_context(fast_provider(stage, LATENCY_SECONDS))
        ours = stack.enter_context(
            verisink(
                stage, provider.url, broker=BROKER, worker_processes=1, worker_concurrency=CALLS, web_processes=LOADING
            )
        )
        ours.start_web()
        yield {"limit": lambda: {"rate_per_s": LIMIT}, "verisink": lambda: verisink_round(ours, provider, count)}


def verisink_round(ours: Verisink, provider: FastProvider, count: int) -> Sample:
    """Load webhooks, then drain them."""
    report, _ = ours.acknowledge(ours.plan(count, LOAD_SECONDS))
    report.only_acknowledged("Verisink")
    before = ours.count(RESULTS)
    # The receivers were warmed up with some webhooks, and the first drain has those to do as well.
    waiting = ours.count("SELECT count(*) FROM resources") - before
    provider.reset()
    with ours.workers() as workers:
        measured = drain(waiting, lambda: ours.count(RESULTS) - before, workers, ours.stage.postgres.pid)
        # Python keeps what it once had, so the end shows about the most.
        memory = max((resident_bytes([process.pid]) for process in tree(workers.pid)[1:]), default=0)
    if not memory:
        raise Broken("the worker process was gone before it was looked at")
    return {**measured, "most_in_flight": provider.stats()["max_in_flight"], "worker_memory_mb": memory / 1e6}


SCENARIO = Scenario(
    name="concurrency",
    measures=(
        "One worker process with WORKER_CONCURRENCY=64 and a provider that answers after 300 ms, without a rate limit. "
        "The limit is 64 ÷ 0.3 s; how many calls were in flight is what the provider saw."
    ),
    figures=(
        value("most calls in flight", ("verisink", "most_in_flight"), Bar(CALLS)),
        ratio("results ÷ limit", ("verisink", "rate_per_s"), ("limit", "rate_per_s"), Bar(0.9)),
        value("worker's memory, MB", ("verisink", "worker_memory_mb"), Bar(150, at_least=False)),
    ),
    open=open_concurrency,
)
