"""One worker process, two, four, eight: results a second against a provider that takes its time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.children import end
from bench.protocol import Bar, Contenders, Sample, Scenario, ratio, value
from bench.provider import FastProvider, fast_provider
from bench.stage import Stage
from bench.verisink import LOADING, Verisink, verisink
from bench.waves import CALLS, LATENCY_SECONDS, await_full, lengths, measure, once, prepare

PROCESSES = (1, 2, 4, 8)
QUICK_NUMBERS = 2
"""So many of these numbers are tried in a quick run, and the last of them stands for the others: the start of fifteen
processes would be a fifth of it."""

BROKER = 11


@contextmanager
def open_scale(stage: Stage) -> Iterator[Contenders]:
    """One installation, whose workers start anew in each round, as many as its turn asks for."""
    seconds, settle = lengths(stage.effort)
    with ExitStack() as stack:
        provider = stack.enter_context(fast_provider(stage, LATENCY_SECONDS))
        ours = stack.enter_context(
            verisink(stage, provider.url, broker=BROKER, worker_concurrency=CALLS, web_processes=LOADING)
        )
        ours.start_web()
        if stage.effort.quick:
            few = {n: once(partial(scale_round, ours, provider, n, seconds, settle)) for n in PROCESSES[:QUICK_NUMBERS]}
            yield {name(number): few[min(number, max(few))] for number in PROCESSES}
        else:
            yield {name(n): partial(scale_round, ours, provider, n, seconds, settle) for n in PROCESSES}


def name(processes: int) -> str:
    """What the tables call so many processes."""
    return "1 process" if processes == 1 else f"{processes} processes"


def scale_round(ours: Verisink, provider: FastProvider, processes: int, seconds: float, settle: float) -> Sample:
    """Let so many processes work for so long. What is left waits for the next round."""
    prepare(ours, processes, seconds)
    provider.reset()
    workers = ours.installation.start("worker", VERISINK_WORKER_PROCESSES=str(processes))
    try:
        await_full(lambda: provider.stats()["max_in_flight"], processes, [workers], settle)
        return measure(ours, processes, seconds, [workers])
    finally:
        end(workers)


def efficiency(processes: int) -> tuple[str, tuple[str, str], tuple[str, str], Bar]:
    """What a figure says of so many processes: what each of them does, compared with one that is alone."""
    each = "rate_per_process"
    return f"{name(processes)} ÷ {processes} times one", (name(processes), each), (name(1), each), Bar(0.9)


SCENARIO = Scenario(
    name="scale",
    measures=(
        f"Worker processes with WORKER_CONCURRENCY={CALLS} and a provider that answers after 300 ms: a process makes "
        "26.7 results a second at most, and several should make as many times more. It holds until a processor is "
        "full: how busy the machine was, everything on it included, stands beside."
    ),
    figures=(
        *(ratio(*efficiency(number)) for number in PROCESSES[1:]),
        value("1 process ÷ what the latency allows", (name(1), "share_of_limit")),
        value("machine busy with 8 processes, %", (name(8), "machine_busy_percent")),
    ),
    open=open_scale,
)
