"""The composition root: settings in, a wired application out. Building it connects to nothing and starts nothing."""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property
from importlib import import_module

import structlog

from worker.celery_app import Application, broker_trouble, make_app, ring
from worker.clock import monotonic, unix_nanoseconds
from worker.errors import ConfigurationError
from worker.exposition import Exposition
from worker.pipeline import list_calls
from worker.pipeline.api_limits import ApiLimits
from worker.pipeline.api_tokens import TokenBook
from worker.pipeline.attempt import Parts
from worker.pipeline.budget import Budgets
from worker.pipeline.calls import Calls
from worker.pipeline.expect import Expectations
from worker.pipeline.nudge import Nudger
from worker.pipeline.prune import Pruner
from worker.pipeline.publish import Publisher
from worker.pipeline.receive import MOST_SESSIONS, Receiver
from worker.pipeline.reconcile import Reconciler
from worker.pipeline.reconcile_schedule import ReconcileSchedule
from worker.pipeline.replay_run import Replayer
from worker.pipeline.retrieve import Retriever
from worker.pipeline.sink_terms import terms
from worker.pipeline.spooling import Spooling
from worker.pipeline.sweep import Sweeper
from worker.pipeline.tracing import Exporter, TracedSink, Tracing
from worker.providers.client import ProviderClient
from worker.providers.registry import providers
from worker.scheduler import Scheduler
from worker.settings import WRITE_SHARE, Settings
from worker.sinks.base import Sink
from worker.sinks.registry import sinks as configured_sinks
from worker.store import schema
from worker.store.engine import Database
from worker.store.spool import Spool
from worker.waiting import THREADS, Waiter
from worker.watchdog import OverdueWork, Watchdog

BROKER_SEEN_SECONDS = 5.0
"""How long an answer about the broker is believed: health checks come often, and a hung broker answers slowly."""

SPARE_CONNECTIONS = 6
"""Database connections besides those of pumps that write and of the sinks: the sweep, the publisher, reconciliation,
the API."""

OPEN_TELEMETRY = "worker.open_telemetry"
"""By its name, because its packages are there only where somebody wants traces."""

WITHOUT_LIBRARY = "traces: OpenTelemetry is not installed; install verisink[otel], or set VERISINK_TRACES to off"

log = structlog.get_logger(__name__)


class Runtime:
    """One process's application. The parts are made when they are first used, so a web process makes no HTTP client.

    `ring` publishes a nudge; without a broker it is handed in by whoever embeds the worker, and a process that has
    neither leaves the work to the sweep. Raises ConfigurationError where a provider or a sink cannot be made.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ring_with: Callable[[str], None] | None = None,
        sinks: Sequence[Sink] | None = None,
        waiter: Waiter = THREADS,
    ) -> None:
        self.settings = settings
        self._waiter = waiter
        self.providers = providers(source.provider for source in settings.sources.values())
        self._ring = ring_with or self._ring_by_broker
        self._sinks = configured_sinks(settings.complete_sinks) if sinks is None else sinks
        self._broker_seen = (-BROKER_SEEN_SECONDS, "not tried yet")
        self._working = False
        self._drains: dict[str, threading.Thread] = {}
        self._watchdog: Watchdog | None = None

    @cached_property
    def database(self) -> Database:
        """The database handle."""
        size = max(self.settings.worker_concurrency, len(self.settings.sources), 4)
        size += SPARE_CONNECTIONS + len(self._sinks)
        return Database(self.settings.database_url.get_secret_value(), pool_size=size)

    @cached_property
    def nudger(self) -> Nudger:
        """Publishes nudges without letting anybody wait."""
        return Nudger(self._ring)

    @cached_property
    def tracing(self) -> Tracing | None:
        """Tells a collector of every step, where that is configured. Raises ConfigurationError without the library."""
        if self.settings.traces == "off":
            return None
        try:
            exporter: Exporter = import_module(OPEN_TELEMETRY).OpenTelemetry(self.settings.traces_sample)
        except ImportError as error:
            raise ConfigurationError([WITHOUT_LIBRARY]) from error
        return Tracing(exporter, self.database, now=unix_nanoseconds)

    @cached_property
    def receiver(self) -> Receiver:
        """Takes deliveries."""
        made = Receiver(
            # None of the requests that give way to each other may wait for a connection.
            self.database.beside(MOST_SESSIONS, self._waiter),
            self.settings.sources,
            self.providers,
            self.nudger.nudge,
            spooling=self.spooling,
            waiter=self._waiter,
        )
        made.tracing = self.tracing
        return made

    @cached_property
    def spooling(self) -> Spooling | None:
        """Keeps deliveries while the database is away, where that is configured."""
        folder = self.settings.spool_dir
        if folder is None:
            return None
        limits = {"max_bytes": self.settings.spool_max_bytes, "min_free_bytes": self.settings.spool_min_free_bytes}
        coalesce = {slug: timedelta(seconds=source.coalesce_seconds) for slug, source in self.settings.sources.items()}
        return Spooling(Spool(folder, **limits), self.database, self.nudger.nudge, coalesce, waiter=self._waiter)

    @cached_property
    def calls(self) -> Calls:
        """Where retrieve calls run."""
        return Calls()

    @cached_property
    def client(self) -> ProviderClient:
        """Makes retrieve calls."""
        return ProviderClient(
            call_deadline=self.settings.call_deadline_seconds,
            max_bytes=self.settings.max_document_bytes,
            waiter=self.calls.waiter,
            connections=max(self.settings.worker_concurrency * max(len(self.settings.sources), 1), 10),
        )

    @cached_property
    def publisher(self) -> Publisher:
        """Numbers events and hands them to the sinks."""
        tracing = self.tracing
        sinks = self._sinks if tracing is None else [TracedSink(sink, tracing) for sink in self._sinks]
        return Publisher(self.database, sinks, terms(self.settings))

    @cached_property
    def budgets(self) -> Budgets:
        """How many calls each source may make."""
        return Budgets(self.settings.sources, self.settings.budget_url)

    @cached_property
    def tokens(self) -> TokenBook:
        """The API's tokens in the database."""
        return TokenBook(self.database)

    @cached_property
    def api_limits(self) -> ApiLimits:
        """How often the API may be asked."""
        return ApiLimits(self.settings.api_rate_limit_per_minute, self.settings.budget_url)

    @cached_property
    def exposition(self) -> Exposition:
        """What a scrape is answered with."""
        # Without Redis the budgets are in the memory of each worker, and this may be a receiver.
        known = self.settings.embedded or self.settings.budget_url is not None
        return Exposition(self.settings, (lambda source: self.budgets.left(source)) if known else None)

    @cached_property
    def retriever(self) -> Retriever:
        """Retrieves what is due."""
        return Retriever(
            Parts(
                settings=self.settings,
                database=self.database,
                providers=self.providers,
                client=self.client,
                calls=self.calls,
                budgets=self.budgets,
                nudge=self.nudger.nudge,
                published=self.publisher.wake,
                tracing=self.tracing,
            )
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        """Asks providers what exists."""
        return Reconciler(
            list_calls.Parts(
                settings=self.settings,
                database=self.database,
                providers=self.providers,
                client=self.client,
                budgets=self.budgets,
                nudge=self.nudger.nudge,
            )
        )

    @cached_property
    def reconciling(self) -> ReconcileSchedule:
        """Reconciles the sources that want it every so many hours."""
        return ReconcileSchedule(self.reconciler, self.database, self.settings.sources)

    @cached_property
    def scheduler(self) -> Scheduler:
        """Sweeps once a second."""
        sweeper = Sweeper(
            self.database, tuple(self.settings.sources), self.nudger.nudge, self.publisher.look, self._chores()
        )
        return Scheduler(sweeper.sweep)

    def _chores(self) -> tuple[Callable[[], None], ...]:
        """What the leader of the sweep does besides."""
        return (
            Expectations(self.database, self.settings, self.nudger.nudge).check,
            self.reconciling.start_due,
            Replayer(self.database, self.settings.sources, self.providers, self.nudger.nudge).advance,
            Pruner(self.database, self.settings).prune,
        )

    def drain(self, source: str) -> None:
        """Work on what is due for `source`."""
        self.retriever.drain(source)

    def start_receiving(self) -> None:
        """Start what a web process needs. Raises SchemaMismatch; a database that is away is raised too, but everything
        is started all the same."""
        _ = self.receiver
        self.start_tracing()
        self.nudger.start()
        self.start_spooling()
        schema.require_current(self.database)

    def start_tracing(self) -> None:
        """Start to tell of what is done, if that is wanted. Part of `start_receiving` and `start_working`."""
        if self.tracing is not None:
            self.tracing.start()

    def start_spooling(self) -> None:
        """Start to hand over what a spool holds, if there is one. Part of `start_receiving`."""
        if self.spooling is not None:
            self.spooling.start()

    def start_working(self) -> None:
        """Start what a worker process needs besides Celery. Raises SchemaMismatch before anything is claimed."""
        schema.require_current(self.database)
        self.start_tracing()
        self.nudger.start()
        self.publisher.start()
        # Made here, before the threads that use it: several of them would each make one of their own.
        _ = self.retriever
        self._working = True
        self.scheduler.start()

    def watch(self, act: Callable[[str], None]) -> None:
        """Call `act` with the reason once this process takes no work though work is overdue; see `worker.watchdog`."""
        seconds = self.settings.watchdog_seconds
        if not seconds:
            return
        # Pumps whose calls are all in flight look again when one of them has ended and is written.
        longest_call = self.settings.call_deadline_seconds + self.settings.lease_seconds * WRITE_SHARE
        work = OverdueWork(
            Database(self.settings.database_url.get_secret_value(), pool_size=1),
            tuple(self.settings.sources),
            seconds=seconds,
            budget_left=self.budgets.left,
        )
        self._watchdog = Watchdog(
            work,
            patience=max(seconds, longest_call),
            looked_at=lambda: self.retriever.looked_at,
            sweep_began_at=lambda: self.scheduler.began_at,
            broker_trouble=self.broker_trouble,
            act=act,
        )
        self._watchdog.start()

    def stop_working(self) -> None:
        """Claim nothing more; what is in flight ends by itself, and whoever runs the tasks waits for it."""
        if self._watchdog is not None:
            self._watchdog.stop()
        self.scheduler.stop(wait_seconds=0)
        self.reconciling.stop()
        self.retriever.stop()

    def close(self) -> None:
        """Send and publish what waits, and close the connections."""
        if self.spooling is not None:
            self.spooling.stop()
        if "reconciling" in self.__dict__:
            self.reconciling.join(self.settings.call_deadline_seconds)
        self.nudger.stop()
        for drain in self._drains.values():
            drain.join(self.settings.call_deadline_seconds)
        self.publisher.stop()
        if "tokens" in self.__dict__:
            self.tokens.close()
        if "exposition" in self.__dict__:
            self.exposition.close()
        if "client" in self.__dict__:
            self.client.close()
            self.calls.close()
        if self.tracing is not None:
            self.tracing.stop()
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
    def _publishing_app(self) -> Application:
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
