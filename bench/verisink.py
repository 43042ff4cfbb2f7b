"""Verisink as a contender: its distributed form, as processes of their own, on the stage's PostgreSQL and Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.children import end
from bench.load import Plan, Report, drive
from bench.processes import cpu_seconds
from bench.protocol import Broken, Sample
from bench.provider import NOBODY
from bench.stage import Stage
from tests.support.processes import Child, Installation
from tests.support.services import redis_client
from web.simulator.credentials import Setting

NO_LIMIT = 10_000_000
MOST_PER_SECOND = 12_000
"""More webhooks a second than anything here acknowledges; so many are prepared."""

WARM_UP, QUICK_WARM_UP = 500, 50
WARM_UP_SECONDS = 10.0
"""What a process does for the first time, connections and prepared statements above all, belongs to no round."""

DEFAULTS: dict[str, Setting] = {
    "web_processes": 2,
    "worker_processes": 2,
    # What Verisink does by itself, where the tests' installations differ.
    "lease_seconds": 60,
    "call_deadline_seconds": 20.0,
    "log_level": "info",
}

QUICK_DEFAULTS: dict[str, Setting] = {"web_processes": 1, "worker_processes": 1}
"""Most of a quick run is the start of processes."""

LOADING = 1
"""Receivers where they only take what the workers are measured with: one is enough, and leaves the machine to them."""


@dataclass(slots=True)
class Verisink:
    """An installation with a database of its own."""

    stage: Stage
    installation: Installation
    web: Child | None = None
    batches: int = field(default=0)

    @property
    def database(self) -> str:
        """The name of the database inside the server."""
        return urlsplit(self.installation.database_url).path.lstrip("/")

    def count(self, query: str) -> int:
        """The one number that a query returns."""
        [(number,)] = self.stage.postgres.execute(query, self.database)
        return int(str(number))

    def start_web(self) -> None:
        """Start the receivers, wait until they can do their work, and let each do a little of it."""
        self.web = self.installation.web()
        self.acknowledge(self.plan(QUICK_WARM_UP if self.stage.effort.quick else WARM_UP, WARM_UP_SECONDS))

    @contextmanager
    def workers(self) -> Iterator[Child]:
        """Its workers with their supervisor, until the block ends."""
        child = self.installation.start("worker")
        try:
            yield child
        finally:
            end(child)

    def plan(self, count: int, seconds: float, connections: int = 64, rate: float = 0.0) -> Plan:
        """Webhooks for these receivers, about verifications that were never told of before."""
        self.batches += 1
        secret = self.stage.credentials.persona_webhook_secrets[0]
        batch = f"{self.installation.folder.name} {self.batches}"
        return Plan(self.installation.port, secret, count, seconds, connections, rate, batch=batch)

    def acknowledge(self, plan: Plan) -> tuple[Report, Sample]:
        """Send webhooks. Raises Broken if the database does not hold exactly those that were acknowledged."""
        if self.web is None:
            raise Broken("Verisink: there is no receiver")
        before = self.count("SELECT count(*) FROM deliveries")
        watched = {"cpu_ms": self.web.pid, "postgres_cpu_ms": self.stage.postgres.pid}
        cpu = {metric: cpu_seconds(pid) for metric, pid in watched.items()}
        report = drive(plan)
        spent = {metric: cpu_seconds(pid) - cpu[metric] for metric, pid in watched.items()}
        stored = self.count("SELECT count(*) FROM deliveries") - before
        if stored != report.acknowledged:
            raise Broken(f"Verisink acknowledged {report.acknowledged} webhooks and stored {stored}")
        if not self.web.alive():
            raise Broken(f"Verisink's receiver died: {self.web.log[-500:]}")
        each = max(1, report.acknowledged)
        return report, {**report.sample(), **{metric: 1000 * seconds / each for metric, seconds in spent.items()}}


@contextmanager
def verisink(stage: Stage, provider_url: str = NOBODY, *, broker: int = 0, **settings: Setting) -> Iterator[Verisink]:
    """An installation that has been migrated. `broker` is the number of its Redis database."""
    folder = stage.folder("verisink")
    url = stage.database()
    with redis_client(stage.redis_url(broker)) as client:
        # What an earlier scenario left there is about another database.
        client.flushdb()
    defaults = {**DEFAULTS, **(QUICK_DEFAULTS if stage.effort.quick else {})}
    own = {**defaults, "database_url": url, "broker_url": stage.redis_url(broker), **settings}
    every_source = {"rate_limit_per_minute": NO_LIMIT}
    with Installation(folder, stage.credentials, provider_url, own, every_source) as installation:
        yield Verisink(stage, installation)
    stage.postgres.drop_database(url)
