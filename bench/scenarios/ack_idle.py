"""What an acknowledgement takes when nothing else happens: one connection, and webhooks that come one by one."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from bench.bare import COUNT
from bench.children import listens, started
from bench.load import Plan, drive
from bench.protocol import Bar, Broken, Contenders, Sample, Scenario, difference
from bench.stage import Stage
from bench.verisink import WARM_UP, WARM_UP_SECONDS, verisink
from tests.support.services import free_port

RATE = 50.0
"""Webhooks a second: each finds the server asleep, as the first one after a quiet hour does."""


@contextmanager
def open_idle(stage: Stage) -> Iterator[Contenders]:
    """A bare route and Verisink, on servers of the same kind."""
    seconds = stage.effort.seconds
    count = int(RATE * seconds)
    with ExitStack() as stack:
        ours = stack.enter_context(verisink(stage))
        ours.start_web()
        bare = stack.enter_context(bare_route(stage))

        def verisink_round() -> Sample:
            report, sample = ours.acknowledge(ours.plan(count, seconds, connections=1, rate=RATE))
            report.only_acknowledged("Verisink")
            return sample

        def bare_round() -> Sample:
            report = drive(Plan(bare.port, "none", count, seconds, connections=1, rate=RATE))
            report.only_acknowledged("the bare route")
            bare.check(report.acknowledged)
            return report.sample()

        yield {"bare route": bare_round, "verisink": verisink_round}


class BareRoute:
    """The bare route where it listens, and the rows that it has stored."""

    def __init__(self, stage: Stage, port: int, database: str) -> None:
        self.port = port
        self._stage, self._database = stage, database
        self._expected = 0

    def check(self, acknowledged: int) -> None:
        """Raises Broken unless so many more rows are stored."""
        self._expected += acknowledged
        [(stored,)] = self._stage.postgres.execute(COUNT, self._database)
        if stored != self._expected:
            raise Broken(f"the bare route acknowledged {self._expected} webhooks and stored {stored}")


@contextmanager
def bare_route(stage: Stage) -> Iterator[BareRoute]:
    """The bare route in a process of its own, with a database of its own."""
    url, port = stage.postgres.create_database(), free_port()
    with ExitStack() as stack:
        stack.callback(stage.postgres.drop_database, url)
        command = [sys.executable, "-m", "bench.bare", str(port), url]
        child = stack.enter_context(started("bare", command, stage.folder("bare"), {}))
        child.ready(lambda: listens(port))
        bare = BareRoute(stage, port, urlsplit(url).path.lstrip("/"))
        bare.check(drive(Plan(port, "none", WARM_UP, WARM_UP_SECONDS, connections=1)).acknowledged)
        yield bare


SCENARIO = Scenario(
    name="ack-idle",
    measures="One webhook at a time, fifty a second, beside a bare Flask route that inserts one row and commits.",
    figures=(
        difference(
            "median over the bare route, ms", ("verisink", "p50_ms"), ("bare route", "p50_ms"), Bar(2, at_least=False)
        ),
    ),
    open=open_idle,
)
