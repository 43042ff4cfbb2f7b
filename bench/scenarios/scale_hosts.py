"""Workers on two hosts: here and in a network namespace, with one PostgreSQL and one Redis."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import urlsplit

from bench.children import end, started
from bench.protocol import Bar, Broken, Contenders, Sample, Scenario, ratio, value
from bench.provider import FastProvider, fast_provider
from bench.second_host import HERE, THERE, SecondHost, second_host
from bench.stage import POSTGRES_SETTINGS, Effort, Stage
from bench.verisink import LOADING, Verisink, verisink
from bench.waves import CALLS, LATENCY_SECONDS, await_full, lengths, measure, once, prepare
from tests.support.processes import Child
from tests.support.services import PostgresServer, RedisServer, redis_client

EACH = 2
"""Worker processes on each host."""

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE client_addr <> '127.0.0.1'"


class JoinedStage(Stage):
    """A stage whose servers listen on the address that the other host can reach, besides their own loopback."""

    def __init__(self, effort: Effort, folder: Path, stack: ExitStack) -> None:
        super().__init__(effort, folder, stack)
        self._servers = stack

    @cached_property
    def postgres(self) -> PostgresServer:
        """Raises ServiceUnavailable."""
        settings = {**POSTGRES_SETTINGS, "listen_addresses": f"127.0.0.1,{HERE}"}
        server = PostgresServer(fsync=True, settings=settings)
        with (server.home / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {THERE}/32 trust\n")
        return self._servers.enter_context(server)

    @cached_property
    def redis(self) -> RedisServer:
        """Raises ServiceUnavailable."""
        server = self._servers.enter_context(RedisServer())
        with redis_client(server.url) as client:
            client.config_set("protected-mode", "no")
            client.config_set("bind", f"127.0.0.1 {HERE}")
        return server


@contextmanager
def open_hosts(stage: Stage) -> Iterator[Contenders]:
    """Receivers on this host, workers on one or both. Each host has a provider on its own loopback: Verisink sends no
    credentials over a network without TLS."""
    seconds, _ = lengths(stage.effort)
    with ExitStack() as stack:
        host = stack.enter_context(second_host())
        joined = JoinedStage(stage.effort, stage.folder("hosts"), stack)
        provider = stack.enter_context(fast_provider(joined, LATENCY_SECONDS))
        stack.enter_context(provider_there(joined, host, provider.url))
        ours = stack.enter_context(
            verisink(joined, provider.url, worker_processes=EACH, worker_concurrency=CALLS, web_processes=LOADING)
        )
        ours.start_web()
        rounds = {
            "one host": partial(one_round, ours, provider, seconds),
            "two hosts": partial(two_round, ours, provider, host, seconds),
        }
        yield {who: once(measured) if stage.effort.quick else measured for who, measured in rounds.items()}


@contextmanager
def provider_there(stage: Stage, host: SecondHost, url: str) -> Iterator[Child]:
    """The other host's provider, at the same URL as the one here."""
    command = ["-m", "web.main", "simulate", "--fast", "--json", "--latency", str(LATENCY_SECONDS)]
    port = str(urlsplit(url).port)
    there = host.command(sys.executable, *command, "--port", port)
    with started("provider", there, stage.folder("provider-there"), {}) as child:
        if json.loads(child.ready(lambda: child.output.partition("\n")[0]))["url"] != url:
            raise Broken("the provider over there has another URL")
        yield child


def one_round(ours: Verisink, provider: FastProvider, seconds: float) -> Sample:
    """The workers of this host alone."""
    prepare(ours, EACH, seconds)
    provider.reset()
    workers = ours.installation.start("worker")
    try:
        await_full(lambda: provider.stats()["max_in_flight"], EACH, [workers])
        return measure(ours, EACH, seconds, [workers])
    finally:
        end(workers)


def two_round(ours: Verisink, provider: FastProvider, host: SecondHost, seconds: float) -> Sample:
    """The workers of this host, and as many of the other one."""
    prepare(ours, 2 * EACH, seconds)
    provider.reset()
    installation = ours.installation
    there = installation.start_program(
        "worker-there",
        host.command(sys.executable, "-m", "web.main", "worker"),
        VERISINK_DATABASE_URL=installation.database_url.replace("127.0.0.1", host.here),
        VERISINK_BROKER_URL=ours.stage.redis_url(0).replace("127.0.0.1", host.here),
    )
    here = installation.start("worker")
    try:
        there.ready(lambda: len(there.children()) == EACH and ours.count(SESSIONS) >= EACH, "connected from over there")
        await_full(lambda: provider.stats()["max_in_flight"], EACH, [here, there])
        return measure(ours, 2 * EACH, seconds, [here, there])
    finally:
        end(here)
        end(there)


SCENARIO = Scenario(
    name="scale-hosts",
    measures=(
        f"The same with {EACH} worker processes on each of two hosts, the second of which is a network namespace: it "
        "reaches PostgreSQL and Redis over an address of its own, and shares processors and clock with the first."
    ),
    figures=(
        ratio("two hosts ÷ twice one", ("two hosts", "rate_per_process"), ("one host", "rate_per_process"), Bar(0.9)),
        value("machine busy with two hosts, %", ("two hosts", "machine_busy_percent")),
    ),
    open=open_hosts,
    optional=True,
)
