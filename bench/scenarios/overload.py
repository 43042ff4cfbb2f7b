"""More than it can take: webhooks come at twice the speed at which they were acknowledged, over many connections."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.load import Report
from bench.processes import memory_watched
from bench.protocol import Bar, Broken, Contenders, Sample, Scenario, ratio, value
from bench.stage import Stage
from bench.statistics import spread
from bench.verisink import MOST_PER_SECOND, Verisink, verisink

BUSY_CONNECTIONS = 256
"""As many senders as keep it fully busy, for finding out what it can take."""

MANY_CONNECTIONS = 768
TIMES = 2.0
"""As much as it can take, twice: what comes too much has to be refused, and refusing must be cheap."""

ACCEPTABLE = frozenset({"200", "503"})
SHARE = 3
"""The memory of the last third is compared with that of the first, whose allocations any load makes once."""


@contextmanager
def open_overloaded(stage: Stage) -> Iterator[Contenders]:
    """Verisink's receivers alone: a reference could say nothing about how they refuse."""
    with verisink(stage) as ours:
        ours.start_web()
        yield {"verisink": lambda: overload_round(ours, stage.effort.seconds)}


def overload_round(ours: Verisink, seconds: float) -> Sample:
    """Find out what it can take, then send twice that. Raises Broken if anything but 200 and 503 is answered."""
    if ours.web is None:
        raise Broken("Verisink: there is no receiver")
    able, _ = ours.acknowledge(ours.plan(int(MOST_PER_SECOND * seconds), seconds, BUSY_CONNECTIONS))
    _check(able)
    rate = able.rate * TIMES
    plan = ours.plan(int(rate * seconds) + 1, seconds, MANY_CONNECTIONS, rate)
    with memory_watched([ours.web.pid]) as looks:
        report, sample = ours.acknowledge(plan)
    _check(report)
    return {
        **sample,
        **refusals(report),
        "offered_per_s": rate,
        "able_per_s": able.rate,
        "memory_growth": growth(looks),
        "memory_mb": looks[-1] / 1_000_000,
    }


def _check(report: Report) -> None:
    if set(report.statuses) - ACCEPTABLE:
        raise Broken(f"under load Verisink answered {report.statuses}")


def refusals(report: Report) -> dict[str, float]:
    """How the rest was refused: shares of what was offered, and refusals that do not say when to come again."""
    refused = report.statuses.get("503", 0)
    offered = report.acknowledged + refused + report.unsent
    return {
        "p99_of_all_ms": report.any_p99_ms,
        "refused_share": refused / offered,
        "unsent_share": report.unsent / offered,
        "without_retry_after": float(report.without_retry_after),
        "lost_connections": float(report.reconnects),
    }


def growth(looks: Sequence[int]) -> float:
    """The median memory of the last third, divided by that of the first."""
    third = max(1, len(looks) // SHARE)
    return spread(looks[-third:]).median / spread(looks[:third]).median


SCENARIO = Scenario(
    name="overload",
    measures=(
        "Webhooks at twice the rate that was just acknowledged, over 768 connections, whatever the answers. What finds "
        "every connection waiting is counted as unsent."
    ),
    figures=(
        ratio("acks ÷ acks without overload", ("verisink", "rate_per_s"), ("verisink", "able_per_s")),
        value("refusals without Retry-After", ("verisink", "without_retry_after"), Bar(0, at_least=False)),
        value("p99 of all answers, ms", ("verisink", "p99_of_all_ms")),
        value("memory, last third ÷ first", ("verisink", "memory_growth"), Bar(1.1, at_least=False)),
        value("share refused with 503", ("verisink", "refused_share")),
        value("share that found no connection", ("verisink", "unsent_share")),
    ),
    open=open_overloaded,
)
