"""The composition root: settings in, a wired application out. Building it connects to nothing and starts nothing."""

import threading
from collections.abc import Callable, Sequence
from functools import cached_property

import structlog

from worker.celery_app import Celery, broker_trouble, make_app, ring
from worker.clock import monotonic
from worker.pipeline.budget import Budgets
from worker.pipeline.nudge import Nudger
from worker.pipeline.publish import Publisher
from worker.pipeline.receive import Receiver
from worker.pipeline.retrieve import Parts, Retriever
from worker.pipeline.sweep import Sweeper
from worker.providers.client import ProviderClient
from worker.providers.registry import providers
from worker.scheduler import Scheduler
from worker.settings import Settings
from worker.sinks.base import Sink
from worker.sinks.log import LogSink
from worker.store import schema
from worker.store.engine import Database

BROKER_SEEN_SECONDS = 5.0
"""How long an answer about the broker is believed: health checks come often, and a hung broker answers slowly."""

SPARE_CONNECTIONS = 6
"""Database connections besides those of the calls in flight: the sweep, the publisher, pumps that claim."""


log = structlog.get_logger(__name__)


class Runtime:
    """One process's application. The parts are made when they are first used, so a web process makes no HTTP client.

    `ring` publishes a nudge; without a broker it is handed in by whoever embeds the worker, and a process that has
    neither leaves the work to the sweep.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ring_with: Callable[[str], None] | None = None,
        sinks: Sequence[Sink] = (LogSink(),),
    ) -> None:
        self.settings = settings
        self.providers = providers(source.provider for source in settings.sources.values())
        self._ring = ring_with or self._ring_by_broker
        self._sinks = sinks
        self._broker_seen = (-BROKER_SEEN_SECONDS, "not tried yet")
        self._working = False
        self._drains: dict[str, threading.Thread] = {}

    @cached_property
    def database(self) -> Database:
        """The database handle."""
        size = max(self.settings.worker_concurrency, 4) + SPARE_CONNECTIONS
        return Database(self.settings.database_url.get_secret_value(), pool_size=size)

    @cached_property
    def nudger(self) -> Nudger:
        """Publishes nudges without letting anybody wait."""
        return Nudger(self._ring)

    @cached_property
    def receiver(self) -> Receiver:
        """Takes deliveries."""
        return Receiver(self.database, self.settings.sources, self.providers, self.nudger.nudge)

    @cached_property
    def client(self) -> ProviderClient:
        """Makes retrieve calls."""
        return ProviderClient(
            call_deadline=self.settings.call_deadline_seconds,
            max_bytes=self.settings.max_document_bytes,
            connections=max(self.settings.worker_concurrency * max(len(self.settings.sources), 1), 10),
        )

    @cached_property
    def publisher(self) -> Publisher:
        """Numbers events and hands them to the sinks."""
        return Publisher(self.database, self._sinks)

    @cached_property
    def retriever(self) -> Retriever:
        """Retrieves what is due."""
        budgets = Budgets(self.settings.sources, self.settings.budget_url)
        return Retriever(
            Parts(
                settings=self.settings,
                database=self.database,
                providers=self.providers,
                client=self.client,
                budgets=budgets,
                nudge=self.nudger.nudge,
                published=self.publisher.wake,
            )
        )

    @cached_property
    def scheduler(self) -> Scheduler:
        """Sweeps once a second."""
        sweeper = Sweeper(self.database, tuple(self.settings.sources), self.nudger.nudge, self.publisher.wake)
        return Scheduler(sweeper.sweep)

    def drain(self, source: str) -> None:
        """Work on what is due for `source`."""
        self.retriever.drain(source)

    def start_receiving(self) -> None:
        """Start what a web process needs. Raises SchemaMismatch; a database that is away is raised too, but everything
        is started all the same."""
        _ = self.receiver
        self.nudger.start()
        schema.require_current(self.database)

    def start_working(self) -> None:
        """Start what a worker process needs besides Celery. Raises SchemaMismatch before anything is claimed."""
        schema.require_current(self.database)
        self.nudger.start()
        self.publisher.start()
        # Made here, before the threads that use it: several of them would each make one of their own.
        _ = self.retriever
        self._working = True
        self.scheduler.start()

    def stop_working(self) -> None:
        """Claim nothing more; what is in flight ends by itself, and whoever runs the tasks waits for it."""
        self.scheduler.stop(wait_seconds=0)
        self.retriever.stop()

    def close(self) -> None:
        """Send and publish what waits, and close the connections."""
        self.nudger.stop()
        for drain in self._drains.values():
            drain.join(self.settings.call_deadline_seconds)
        self.publisher.stop()
        if "client" in self.__dict__:
            self.client.close()
        self.database.dispose()

    def broker_trouble(self) -> str | None:
        """One sentence if the broker cannot be reached, else None; asked at most every few seconds."""
        if self.settings.embedded:
            return None
        asked_at, trouble = self._broker_seen
        if monotonic() - asked_at > BROKER_SEEN_SECONDS:
            trouble = broker_trouble(self._publishing_app)
            self._broker_seen = (monotonic(), trouble)
        return trouble or None

    @cached_property
    def _publishing_app(self) -> Celery:
        return make_app(self.settings, "publisher")

    def _ring_by_broker(self, source: str) -> None:
        if self.settings.embedded:
            return
        try:
            ring(self._publishing_app, source)
        except Exception:
            # A worker that cannot ring for others works by itself, or nothing would move until the broker is back.
            if self._working:
                self._drain_aside(source)
            raise

    def _drain_aside(self, source: str) -> None:
        drain = self._drains.get(source)
        if drain is None or not drain.is_alive():
            self._drains[source] = threading.Thread(target=self._drain, args=(source,), name="drain", daemon=True)
            self._drains[source].start()

    def _drain(self, source: str) -> None:
        try:
            self.drain(source)
        except Exception as error:  # noqa: BLE001 - the next sweep tries again
            log.warning("drain_failed", source=source, error=type(error).__name__)
