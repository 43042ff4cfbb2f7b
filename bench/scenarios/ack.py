"""Acknowledgements a second: 64 connections send webhooks as fast as they are answered."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.baseline import naive
from bench.pgbench import Pgbench
from bench.protocol import Bar, Contenders, Sample, Scenario, ratio
from bench.stage import Stage
from bench.verisink import MOST_PER_SECOND, verisink

CONNECTIONS = 64


@contextmanager
def open_receivers(stage: Stage) -> Iterator[Contenders]:
    """The reference, and the receivers of both contenders; nobody works on what they take."""
    seconds = stage.effort.seconds
    count = int(MOST_PER_SECOND * seconds)
    reference = Pgbench(stage.postgres, stage.folder("pgbench"))
    with verisink(stage) as ours, naive(stage) as theirs:
        ours.start_web()

        def verisink_round() -> Sample:
            report, sample = ours.acknowledge(ours.plan(count, seconds, CONNECTIONS))
            report.only_acknowledged("Verisink")
            return sample

        def naive_round() -> Sample:
            _, sample = theirs.acknowledge(theirs.plan(count, seconds, CONNECTIONS))
            theirs.forget_queue()
            return sample

        yield {"pgbench": lambda: reference.round(seconds), "naive": naive_round, "verisink": verisink_round}


SCENARIO = Scenario(
    name="ack",
    measures="Signed 1.5 KB webhooks over 64 kept-alive connections, each answered with 200. No worker runs.",
    figures=(
        ratio("acks ÷ pgbench", ("verisink", "rate_per_s"), ("pgbench", "rate_per_s"), Bar(0.30)),
        ratio("naive acks ÷ pgbench", ("naive", "rate_per_s"), ("pgbench", "rate_per_s")),
        ratio("p99 ÷ p50", ("verisink", "p99_ms"), ("verisink", "p50_ms"), Bar(3, at_least=False)),
    ),
    open=open_receivers,
)
