"""What a database is asked to do again and again, each timed by itself: the operations of the growth scenario."""

import hashlib
import json
import random
import statistics
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uuid_utils.compat
from sqlalchemy import event, select, text

from bench.growth_rows import KIND, OPEN_ROWS, SOURCES
from bench.protocol import Sample
from worker.domain.model import Check, Notification, Reading, ResourceKey, ResourceRef, Verdict
from worker.domain.states import Cause, CheckOutcome, DeliveryState, Outcome, Stage
from worker.domain.strict_json import Json
from worker.pipeline.expect import Expectations
from worker.pipeline.prune import AT_ONCE, Pruner
from worker.pipeline.replay_run import Replayer
from worker.pipeline.sweep import Sweeper
from worker.pipeline.write import Landed, Situation, write
from worker.reports import cursor, events, expectations, gauges, resources, results, status
from worker.reports.expectations import ExpectationFilter
from worker.reports.resources import AttemptFilter, DeliveryFilter, ResourceFilter
from worker.reports.results import ResultFilter
from worker.settings import Settings
from worker.store import inbox, prune, query_lanes
from worker.store import resources as work
from worker.store.claims import Claim
from worker.store.engine import Database, Session, database_time
from worker.store.inbox import Arrival
from worker.store.prune import Place, Stock
from worker.store.query_results import Position
from worker.store.resources import Want
from worker.store.results import Document
from worker.store.tables import resources as resources_table
from worker.store.tables import results as results_table

AT_WORK = 1000
"""Resources, the newest, that webhooks are about. What happens now is about a few days, however many years there
were."""

STILL = "customer-1200"
"""The reference of a result that nothing writes to in either database: it is none of the newest, and not open."""

GROUP = 32
CLAIMED = 20
PAGE = 50
LEASE = timedelta(seconds=60)
BODY = b"{" + b" " * 198 + b"}"
SOURCE = SOURCES[0]
LONGER = 36_500
"""Days; what is kept for so long is looked for and not found."""

OPERATIONS: Mapping[str, str] = {
    "ack_1": "ack of one webhook",
    "ack_32": "ack of a group of 32",
    "claim": "claim of 20",
    "write": "20 results written",
    "sweep": "sweep with its chores",
    "prune_deliveries": "200 deliveries pruned",
    "prune_attempts": "200 attempts pruned",
    "status": "status",
    "scrape": "gauges of a scrape",
    "lanes": "lanes",
    "results_first": "results, first page",
    "results_deep": "results, a page in the middle",
    "results_newest": "results of a source with an outcome, newest first",
    "results_reference": "results with a reference",
    "result": "one result",
    "story": "all about one resource",
    "events_deep": "events, from the middle",
    "events_newest": "newest events",
    "deliveries": "deliveries of a source",
    "attempts": "attempts that stored something",
    "resources": "resources of a source",
    "expectations": "expectations",
}
"""The operations, and what they are in words."""

Timed = Callable[[], object]
"""The part of an operation that is measured."""

Read = Callable[[Session], object]


@dataclass(frozen=True, slots=True)
class Operation:
    """`prepare` does what is not measured and returns what is. `share` of the usual repetitions are made."""

    prepare: Callable[[], Timed]
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one operation: seconds by the clock on the wall, seconds of processors, and pages of the database."""

    wall: float
    cpu: float
    pages: float


class Subject:
    """A filled database. Everything goes through one connection, whose reads of pages can be told from all others'."""

    def __init__(self, url: str, seed: int = 4) -> None:
        self.database = Database(url, pool_size=1)
        event.listen(self.database.engine, "connect", _prepare)
        self._random = random.Random(seed)
        self._settings = _settings()
        self._places: dict[str, Place] = {}
        with self.database.read() as session:
            server = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            self._server = Path("/proc", str(server), "schedstat")
            self._newest = _newest(session)
            self._middle = _middle(session)
            self._events = session.execute(text("SELECT value FROM cursors WHERE name = 'events'")).scalar_one()
        self._sweeper = Sweeper(self.database, SOURCES, _ignore, _nothing, self._chores())
        self.operations: Mapping[str, Operation] = {
            "ack_1": Operation(lambda: self._ack(1)),
            "ack_32": Operation(lambda: self._ack(GROUP)),
            "claim": Operation(self._claim),
            "write": Operation(self._write),
            "sweep": Operation(lambda: self._sweeper.sweep),
            "prune_deliveries": Operation(lambda: self._prune("deliveries", prune.DELIVERIES, 4 * OPEN_ROWS), 0.1),
            "prune_attempts": Operation(lambda: self._prune("attempts", prune.ATTEMPTS, 2 * OPEN_ROWS), 0.1),
            **{name: Operation(self._reading(read)) for name, read in self._reads().items()},
        }

    def sample(self, repetitions: int) -> Sample:
        """The middle of some repetitions of each operation: its milliseconds, those of processors, and pages."""
        found: dict[str, float] = {}
        own = min(self._measure(_nothing).pages for _ in range(5))
        for name, operation in self.operations.items():
            taken = [self._measure(operation.prepare()) for _ in range(max(2, int(repetitions * operation.share)))]
            self._settle()
            found[f"{name}_ms"] = 1000 * statistics.median(cost.wall for cost in taken)
            found[f"{name}_cpu_ms"] = 1000 * statistics.median(cost.cpu for cost in taken)
            found[f"{name}_pages"] = statistics.median(cost.pages - own for cost in taken)
        return found

    def warm(self) -> None:
        """Read the indexes whose keys are random: whatever arrives, and all that is written of it, keeps them in
        memory."""
        with self.database.read() as session:
            session.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL statement_timeout = 0"))
            for table, key in (("deliveries", "source, delivery_key"), ("events", "id")):
                session.execute(text(f"SELECT count(*) FROM (SELECT {key} FROM {table} ORDER BY {key})"))  # noqa: S608

    def close(self) -> None:
        """Close the connection."""
        self.database.dispose()

    def _measure(self, timed: Timed) -> Cost:
        """What it costs; the pages are with those of asking for their number."""
        before = self._pages_so_far()
        cpu, began = self._cpu_so_far(), time.perf_counter()
        timed()
        wall, spent = time.perf_counter() - began, self._cpu_so_far() - cpu
        return Cost(wall, spent, self._pages_so_far() - before)

    def _cpu_so_far(self) -> float:
        """The processor's seconds, of this process and of the one that PostgreSQL has for our connection."""
        nanoseconds, *_ = self._server.read_text("ascii").split()
        return int(nanoseconds) / 1e9 + time.process_time()

    def _pages_so_far(self) -> float:
        with self.database.read() as session:
            session.execute(text("SELECT pg_stat_force_next_flush()"))
        with self.database.read() as session:
            query = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
            return float(session.execute(text(query)).scalar_one())

    def _settle(self) -> None:
        """Nothing is left due, so that each operation finds as much to do as the one before."""
        with self.database.write() as session:
            session.execute(
                text(
                    "UPDATE resources SET due_at = NULL, wanted_since = NULL, claim_token = NULL, retrieved = wanted "
                    "WHERE wanted_since IS NOT NULL AND parked_at IS NULL"
                )
            )

    def _chores(self) -> tuple[Callable[[], None], ...]:
        keep = {
            f"keep_{name}_days": LONGER
            for name in ("deliveries", "attempts", "event_deliveries", "runs", "expectations", "audit")
        }
        keeping = Settings.model_validate(keep)
        return (
            Expectations(self.database, self._settings, _ignore).check,
            Replayer(self.database, {}, {}, _ignore).advance,
            # One that has just begun looks at every table.
            lambda: Pruner(self.database, keeping).prune(),
        )

    def _ack(self, size: int) -> Timed:
        arrivals = [self._arrival(*name) for name in self._random.sample(self._newest, size)]

        def record() -> None:
            with self.database.write() as session:
                inbox.record(session, arrivals)

        return record

    def _arrival(self, source: str, external_id: str) -> Arrival:
        event_id = f"evt_{self._random.randbytes(12).hex()}"
        refs = (ResourceRef(KIND, external_id),)
        return Arrival(
            id=uuid_utils.compat.uuid7(),
            source=source,
            provider=source.partition("-")[0],
            environment="live",
            state=DeliveryState.ACCEPTED,
            reason=None,
            notification=Notification(event_id, "inquiry.completed", refs, event_id, datetime.now(UTC)),
            body=BODY,
            headers={"content-type": "application/json"},
        )

    def _claim(self) -> Timed:
        self._want()
        return self._claim_some

    def _want(self) -> None:
        mine = [external_id for source, external_id in self._newest if source == SOURCE]
        wants = {
            ResourceKey(SOURCE, ResourceRef(KIND, external_id)): Want("persona", "live", Cause.WEBHOOK)
            for external_id in self._random.sample(mine, CLAIMED)
        }
        self._settle()
        with self.database.write() as session:
            work.mark_wanted(session, wants, database_time(session))

    def _claim_some(self) -> list[Claim]:
        with self.database.write() as session:
            return work.claim(session, SOURCE, limit=CLAIMED, low=0, lease=LEASE)

    def _write(self) -> Timed:
        self._want()
        situation = Situation(timedelta(days=3), 0.5)
        landed = [Landed(claim, (_reading(), _document()), situation) for claim in self._claim_some()]

        def write_some() -> None:
            with self.database.write() as session:
                write(session, landed)

        return write_some

    def _prune(self, name: str, stock: Stock, passed_over: int) -> Timed:
        """Delete one stretch behind the one before; so many of the oldest rows are about open work."""
        if name not in self._places:
            with self.database.read() as session:
                oldest = prune.stretch(session, stock, behind=None, limit=passed_over)
            self._places[name] = oldest[-1].place

        def prune_some() -> None:
            with self.database.read() as session:
                now = database_time(session)
                found = prune.stretch(session, stock, behind=self._places[name], limit=AT_ONCE)
            with self.database.write() as session:
                prune.discard(session, stock, [passed.key for passed in found], now, limit=AT_ONCE)
            self._places[name] = found[-1].place

        return prune_some

    def _reading(self, read: Read) -> Callable[[], Timed]:
        def read_it() -> None:
            with self.database.read() as session:
                read(session)

        return lambda: read_it

    def _reads(self) -> dict[str, Read]:
        behind, key = cursor.encode(self._middle), ResourceKey(SOURCE, self._some_ref())
        return {
            "status": lambda session: status.status(session, SOURCES),
            "scrape": lambda session: gauges.gauges(session, SOURCES, ["log"]),
            "lanes": lambda session: (query_lanes.parked_lanes(session), query_lanes.unreadable_lanes(session)),
            "results_first": lambda session: results.page(session, ResultFilter(), limit=PAGE),
            "results_deep": lambda session: results.page(session, ResultFilter(), limit=PAGE, after=behind),
            "results_newest": lambda session: results.page(
                session, ResultFilter(source=SOURCE, outcome="approved"), limit=PAGE, newest_first=True
            ),
            "results_reference": lambda session: results.page(session, ResultFilter(reference=STILL), limit=PAGE),
            "result": lambda session: results.result(session, key),
            "story": lambda session: resources.story(session, key),
            "events_deep": lambda session: events.events(session, after=self._events // 2, limit=PAGE),
            "events_newest": lambda session: events.newest_events(session, limit=PAGE),
            "deliveries": lambda session: resources.deliveries(session, DeliveryFilter(source=SOURCE), limit=PAGE),
            "attempts": lambda session: resources.attempts(session, AttemptFilter(outcome="stored"), limit=PAGE),
            "resources": lambda session: resources.resources(session, ResourceFilter(source=SOURCE), limit=PAGE),
            "expectations": lambda session: expectations.page(session, ExpectationFilter(), limit=PAGE),
        }

    def _some_ref(self) -> ResourceRef:
        return ResourceRef(KIND, next(external_id for source, external_id in self._newest if source == SOURCE))


def _prepare(connection: object, _entry: object) -> None:
    # The disk's share of a commit is the same for a database of any size, and would hide what is not.
    connection.execute("SET synchronous_commit = off")  # type: ignore[attr-defined]
    connection.commit()  # type: ignore[attr-defined]


def _ignore(_source: str) -> None:
    """Nobody is nudged."""


def _nothing() -> None:
    """Nobody publishes."""


def _settings() -> Settings:
    sources = {slug: {"slug": slug, "provider": slug.partition("-")[0]} for slug in SOURCES}
    return Settings.model_validate({"sources": sources})


def _newest(session: Session) -> list[tuple[str, str]]:
    """Sources and ids of the newest resources."""
    columns = (resources_table.c.source, resources_table.c.external_id)
    rows = session.execute(select(*columns).order_by(resources_table.c.id.desc()).limit(AT_WORK))
    return [(str(row.source), str(row.external_id)) for row in rows]


def _middle(session: Session) -> Position:
    """A place in the middle of the list of results."""
    half = (
        select(results_table.c.resource_id).order_by(results_table.c.resource_id.desc()).limit(1).scalar_subquery() / 2
    )
    columns = (results_table.c.updated_at, results_table.c.resource_id)
    row = session.execute(select(*columns).where(results_table.c.resource_id > half).limit(1)).one()
    return Position(row.updated_at, row.resource_id)


def _reading() -> Reading:
    checks = tuple(Check(name, CheckOutcome.PASSED) for name in ("document", "selfie"))
    return Reading(Verdict(Stage.DECIDED, Outcome.APPROVED, final=True), provider_status="approved", checks=checks)


def _document() -> Document:
    content: Json = {"id": str(uuid.uuid4()), "text": "x" * 400}
    body = json.dumps(content).encode()
    digest = hashlib.sha256(body).hexdigest()
    return Document(body, False, content, digest, digest, "2025-12-08", 1)
