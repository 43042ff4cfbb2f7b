"""The naive baseline as a contender: `bench/naive` served as its authors would, on the stage's PostgreSQL and Redis."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.children import listens, started
from bench.load import Plan, Report, drive
from bench.processes import cpu_seconds
from bench.protocol import Broken, Sample
from bench.provider import NOBODY
from bench.stage import Stage
from bench.verisink import WARM_UP, WARM_UP_SECONDS
from tests.support.processes import Child
from tests.support.services import free_port, redis_client
from web.simulator.credentials import BASE_PATHS

REDIS_DATABASE = 1
QUEUE = "celery"
"""Celery's own name for the list in Redis."""

APP = "bench.naive.app:app"
WORKER = ["-m", "celery", "-A", "bench.naive.tasks", "worker", "--concurrency", "4", "--loglevel", "WARNING"]
SERVERS: Mapping[str, list[str]] = {
    "gunicorn": ["-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "4", "--threads", "8", APP],
    "waitress": ["-m", "waitress", "--listen", "127.0.0.1:{port}", "--threads", "16", APP],
    "flask": ["-m", "flask", "--app", APP, "run", "--port", "{port}", "--with-threads"],
}
"""What serves Flask, best first; which of them is installed differs."""


def server_name() -> str:
    """The first of the servers that is installed."""
    return next(name for name in SERVERS if importlib.util.find_spec(name))


@dataclass(slots=True)
class Naive:
    """The application, its queue and its table."""

    stage: Stage
    folder: Path
    environ: Mapping[str, str]
    database: str
    port: int
    web: Child
    batches: int = field(default=0)

    def stored(self) -> int:
        """Rows in its table."""
        [(number,)] = self.stage.postgres.execute("SELECT count(*) FROM verifications", self.database)
        return int(str(number))

    def queued(self) -> int:
        """Tasks that wait in Redis."""
        with redis_client(self.stage.redis_url(REDIS_DATABASE)) as client:
            return int(str(client.llen(QUEUE)))

    def forget_queue(self) -> None:
        """Empty its Redis."""
        with redis_client(self.stage.redis_url(REDIS_DATABASE)) as client:
            client.flushdb()

    def plan(self, count: int, seconds: float, connections: int = 64) -> Plan:
        """Webhooks for it, about verifications that were never told of before."""
        self.batches += 1
        secret = self.stage.credentials.persona_webhook_secrets[0]
        return Plan(self.port, secret, count, seconds, connections, batch=f"naive {self.batches}")

    def acknowledge(self, plan: Plan) -> tuple[Report, Sample]:
        """Send webhooks, while no worker runs. Raises Broken if there is not a task for each acknowledged one."""
        before, cpu = self.queued(), cpu_seconds(self.web.pid)
        report = drive(plan)
        spent = cpu_seconds(self.web.pid) - cpu
        report.only_acknowledged("the naive baseline")
        if (queued := self.queued() - before) != report.acknowledged:
            raise Broken(f"the naive baseline acknowledged {report.acknowledged} webhooks and queued {queued}")
        return report, {**report.sample(), "cpu_ms": 1000 * spent / max(1, report.acknowledged)}

    @contextmanager
    def workers(self) -> Iterator[Child]:
        """Its Celery worker with four processes, until the block ends."""
        with started(
            "naive-worker", [sys.executable, *WORKER], self.stage.folder("naive-worker"), self.environ
        ) as child:
            yield child


@contextmanager
def naive(stage: Stage, provider_url: str = NOBODY) -> Iterator[Naive]:
    """The application with a database of its own, served, and without workers."""
    url, port, folder = stage.postgres.create_database(), free_port(), stage.folder("naive")
    environ = {
        "NAIVE_DATABASE_URL": url,
        "NAIVE_REDIS_URL": stage.redis_url(REDIS_DATABASE),
        "NAIVE_WEBHOOK_SECRET": stage.credentials.persona_webhook_secrets[0],
        "NAIVE_API_URL": provider_url + BASE_PATHS["persona"],
        "NAIVE_API_KEY": stage.credentials.persona_api_key,
    }
    with ExitStack() as stack:
        stack.callback(stage.postgres.drop_database, url)
        with started("naive-tables", [sys.executable, "-m", "bench.naive.models"], folder, environ) as tables:
            if tables.wait() != 0:
                raise Broken(f"the naive baseline made no tables: {tables.log[-500:]}")
        command = [part.format(port=port) for part in SERVERS[server_name()]]
        web = stack.enter_context(started("naive-web", [sys.executable, *command], folder, environ))
        web.ready(lambda: listens(port))
        database = urlsplit(url).path.lstrip("/")
        made = Naive(stage, folder, environ, database, port, web)
        made.acknowledge(made.plan(WARM_UP, WARM_UP_SECONDS))
        made.forget_queue()
        yield made
