"""Exposition: what a scrape is answered with. Counters come from this process, or from all below one supervisor; gauges
of the database are read by a thread of their own, every so many seconds at most, and never waited for for long.
"""

import importlib.metadata
import math
import platform
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from worker import metrics as metrics  # counted ones are registered when they are made
from worker.clock import monotonic
from worker.errors import CannotListen, SchemaMismatch
from worker.log import where
from worker.reports.gauges import Gauges, SinkGauges, SourceGauges, gauges
from worker.settings import Settings, counting_place
from worker.store import query_gauges, schema
from worker.store.engine import UNAVAILABLE, Database

READ_EVERY = 10.0
"""Seconds. Prometheus asks every 15 or 60 by default; several of them, or people, must not multiply the queries."""

STATEMENT_SECONDS = 2.0
"""Each statement takes milliseconds. One that is cut off at this has met a database that has no time for it."""

WAIT_SECONDS = 3.0
"""How long a scrape waits for the database. Prometheus gives up after 10 seconds by default."""

BELIEVED_SECONDS = 30.0
"""What was read so long ago is not shown any more: a graph with a gap says more than one that stands still."""

READ_TRIES = 5
READ_PAUSE = 0.02
"""Seconds. A file is empty for some microseconds after it was made; longer only if its process stops just there."""

UNUSABLE: tuple[type[Exception], ...] = (*UNAVAILABLE, SchemaMismatch)
"""What a database raises that is away, or is not the one that this release needs."""

BudgetLeft = Callable[[str], int]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What was read, when it was begun by the monotonic clock, how long it took, and the schema; `found` is None where
    the database is away."""

    at: float
    seconds: float
    found: Gauges | None
    revision: str | None = None
    budgets: Mapping[str, int] | None = None


class Reader:
    """Reads the gauges for whoever scrapes. Thread-safe."""

    def __init__(self, settings: Settings, budget_left: BudgetLeft | None, read_every: float = READ_EVERY) -> None:
        self._settings = settings
        self._budget_left = budget_left
        self._read_every = read_every
        # A connection of its own: those of the others may be what is stuck.
        self._database = Database(settings.database_url.get_secret_value(), pool_size=1)
        self._changed = threading.Condition()
        self._reading = False
        self._last: Look | None = None

    def look(self) -> Look | None:
        """What was read last, which is read again where that is due. None while the database keeps this waiting."""
        ends = monotonic() + WAIT_SECONDS
        with self._changed:
            if not self._reading and (self._last is None or monotonic() - self._last.at >= self._read_every):
                self._reading = True
                threading.Thread(target=self._read, name="gauges", daemon=True).start()
            self._changed.wait_for(lambda: not self._reading, ends - monotonic())
            last = self._last
        return last if last is not None and monotonic() - last.at < BELIEVED_SECONDS else None

    def _read(self) -> None:
        began, found, revision = monotonic(), None, None
        try:
            found, revision = self._gauges()
        except UNUSABLE as error:
            log.debug("gauges_not_read", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - a scrape must show the rest
            log.warning("gauges_not_read", error=where(error))
        look = Look(began, monotonic() - began, found, revision, self._budgets())
        with self._changed:
            self._last, self._reading = look, False
            self._changed.notify_all()

    def _gauges(self) -> tuple[Gauges, str | None]:
        schema.newer_revision(self._database)
        revision = schema.current(self._database)
        with self._database.read() as session, query_gauges.limited(session, STATEMENT_SECONDS):
            return gauges(session, self._settings.sources, self.sinks), revision

    def _budgets(self) -> Mapping[str, int] | None:
        if self._budget_left is None:
            return None
        return {slug: self._budget_left(slug) for slug in self._settings.sources}

    @property
    def sinks(self) -> tuple[str, ...]:
        """The names of the sinks; the log is always one."""
        return ("log", *self._settings.sinks)

    def close(self) -> None:
        """Close the connection, after what is being read just now, if that is soon."""
        with self._changed:
            self._changed.wait_for(lambda: not self._reading, WAIT_SECONDS)
        self._database.dispose()


class Exposition:
    """The metrics of this process, or of all below one supervisor, and those of the database.

    `budget_left` says how many calls a source may make now, where this process can know that. `folder` is where a
    supervisor's children count; by default it is asked for where this process itself counts.
    """

    def __init__(
        self,
        settings: Settings,
        budget_left: BudgetLeft | None = None,
        *,
        folder: Path | None = None,
        read_every: float = READ_EVERY,
    ) -> None:
        self._settings = settings
        self._reader = Reader(settings, budget_left, read_every)
        self.registry = CollectorRegistry()
        counted = folder or counting_place().folder
        if counted is None:
            self.registry.register(REGISTRY)
        else:
            self.registry.register(_Together(counted))
        self.registry.register(self)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """What is not counted: the build, limits, and how the database stands."""
        yield _gauge(
            "verisink_build_info",
            "1, with the version of Verisink and of Python.",
            ("version", "python"),
            [((importlib.metadata.version("verisink"), platform.python_version()), 1)],
        )
        if self._settings.spool_dir is not None:
            limit = self._settings.spool_max_bytes
            yield _gauge("verisink_spool_limit_bytes", "SPOOL_MAX_BYTES.", (), [((), limit)])
        look = self._reader.look()
        up = look is not None and look.found is not None
        yield _gauge(
            "verisink_database_up",
            "Whether the database answers within seconds and has a schema that this release can read.",
            (),
            [((), float(up))],
        )
        if look is None:
            return
        yield _gauge(
            "verisink_gauges_read_seconds", "How long the database took for these gauges.", (), [((), look.seconds)]
        )
        if look.budgets is not None:
            left = [((slug,), calls) for slug, calls in look.budgets.items()]
            yield _gauge("verisink_budget_left_calls", "Calls that live work may make now.", ("source",), left)
        if look.found is not None:
            yield _gauge(
                "verisink_schema_info",
                "1, with the revision of the database and the newest that this release knows.",
                ("revision", "known"),
                [((look.revision or "", schema.head() or ""), 1)],
            )
            yield from _overall(look.found)
            yield from _by_source(look.found.sources)
            yield from _by_sink(look.found.sinks)

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    @contextmanager
    def served(self) -> Iterator[str | None]:
        """Answer scrapes at METRICS_PORT in a thread for the body's duration; says where. Raises CannotListen."""
        host, port = self._settings.metrics_host, self._settings.metrics_port
        if port is None:
            yield None
            return
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{server.server_port}/metrics"
        log.info("metrics_ready", url=url)
        try:
            yield url
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            self.close()


class _Together:
    """What all processes have counted into a folder."""

    def __init__(self, folder: Path) -> None:
        self._files = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        """Add the files up. A process that starts just now may have made one, and not yet written its beginning."""
        for _ in range(READ_TRIES - 1):
            try:
                return list(self._files.collect())  # type: ignore[no-untyped-call]
            except (struct.error, OSError):
                time.sleep(READ_PAUSE)
        return list(self._files.collect())  # type: ignore[no-untyped-call]


def _overall(found: Gauges) -> Iterator[Metric]:
    yield _gauge(
        "verisink_deliveries_unreadable", "Webhooks that wait to be read by a person.", (), [((), found.unreadable)]
    )
    yield _gauge("verisink_expectations_overdue", "Expected results that are overdue.", (), [((), found.overdue)])
    yield _gauge("verisink_events_last_sequence", "The number of the last event.", (), [((), found.events)])
    # Where nobody ever swept, an alert on its age must fire.
    age = math.inf if found.sweep_age_seconds is None else found.sweep_age_seconds
    yield _gauge("verisink_sweep_age_seconds", "Since a leader of the sweep was last seen.", (), [((), age)])


def _by_source(found: Iterable[SourceGauges]) -> Iterator[Metric]:
    for name, text, value in _SOURCE_GAUGES:
        yield _gauge(name, text, ("source",), [((item.source,), value(item)) for item in found])
    rates = [((item.source,), item.loss_rate) for item in found if item.loss_rate is not None]
    yield _gauge(
        "verisink_reconcile_loss_ratio",
        "Of what the provider listed and webhooks tell of, the share that only the last reconciliation found.",
        ("source",),
        rates,
    )
    yield _gauge(
        "verisink_open_resources",
        "Work that is not finished, of the oldest thousands of it, by where it stands.",
        ("source", "state"),
        [((item.source, state), count) for item in found for state, count in item.open.items()],
    )
    yield _gauge(
        "verisink_oldest_unfinished_seconds",
        "Age of the oldest unfinished work, by what keeps it: its turn, a hold or pause of its source, or its parking.",
        ("source", "state"),
        [((item.source, state), age) for item in found for state, age in item.oldest_seconds.items()],
    )


_SOURCE_GAUGES: tuple[tuple[str, str, Callable[[SourceGauges], float]], ...] = (
    (
        "verisink_overdue_seconds",
        "By how much the most overdue work is late that could be done now; 0 where nothing may be called.",
        lambda item: item.overdue_seconds,
    ),
    ("verisink_source_held", "Whether the source is held: nothing is called but probes.", lambda item: item.held),
    ("verisink_source_probed", "Whether a probe may end the hold; else an operator does.", lambda item: item.probed),
    ("verisink_source_throttled", "Whether the provider asked to be left alone.", lambda item: item.throttled),
    ("verisink_parked_lately", "Resources that were parked within the hour.", lambda item: item.parked_lately),
    ("verisink_drift_issues", "Values that no mapping knows.", lambda item: item.drift),
    ("verisink_drift_issues_new", "Those of them that were first seen within a day.", lambda item: item.new_drift),
)


def _by_sink(found: Iterable[SinkGauges]) -> Iterator[Metric]:
    for name, text, value in _SINK_GAUGES:
        yield _gauge(name, text, ("sink",), [((item.name,), value(item)) for item in found])


_SINK_GAUGES: tuple[tuple[str, str, Callable[[SinkGauges], float]], ...] = (
    ("verisink_sink_lag_events", "Events that the sink has not got yet.", lambda item: item.behind),
    ("verisink_sink_lag_seconds", "Age of the oldest event that the sink is to get.", lambda item: item.oldest_seconds),
    ("verisink_sink_waiting_events", "Refused events, and those behind them.", lambda item: item.waiting),
    ("verisink_sink_given_up_events", "Events that nobody tries to deliver any more.", lambda item: item.given_up),
    ("verisink_sink_held", "Whether the sink is held.", lambda item: item.held),
)


def _gauge(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for found, value in values:
        family.add_metric(found, float(value))
    return family
