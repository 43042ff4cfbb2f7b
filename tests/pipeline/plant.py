"""A whole retriever, wired to a database and the simulator, for tests to steer and look into."""

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Self

from sqlalchemy import update

from tests.store import play
from web.simulator.credentials import Credentials, settings_for
from web.simulator.records import Record
from web.simulator.server import Simulator
from worker.clock import monotonic
from worker.domain.model import ResourceKey, ResourceRef
from worker.domain.states import Cause, Priority
from worker.domain.strict_json import parse_object
from worker.pipeline.attempt import Parts
from worker.pipeline.budget import Budgets
from worker.pipeline.calls import Calls
from worker.pipeline.retrieve import Retriever
from worker.pipeline.tracing import Tracing
from worker.providers.base import Provider
from worker.providers.client import ProviderClient
from worker.providers.registry import providers
from worker.settings import Settings
from worker.store import resources, results, sources
from worker.store.engine import Database, database_time
from worker.store.resources import Want
from worker.store.tables import source_states

CREDENTIALS = Credentials.generate(5)
KINDS = {"persona": "inquiry", "verifik": "document-validation", "gu1": "kyc-validation", "yoti": "session"}


WAIT_SECONDS = 20.0


def wait_until(true: Callable[[], object]) -> None:
    """Return once `true()` is."""
    ends = monotonic() + WAIT_SECONDS
    while not true():
        assert monotonic() < ends, "it never happened"
        threading.Event().wait(0.005)


def settings(url: str, source: Mapping[str, object] | None = None, **more: object) -> Settings:
    """Four sources that point at the simulator. `source` changes each of them, `more` what stands outside."""
    tables = settings_for(CREDENTIALS, url)["sources"]
    assert isinstance(tables, dict)
    # What is wanted again is due at once, unless a test is about waiting for more of it.
    own = {"coalesce_seconds": 0, **(source or {})}
    blocks = {slug: {**table, "slug": slug, **own} for slug, table in tables.items()}
    return Settings.model_validate({"worker_concurrency": 4, "sources": blocks, **more})


class Plant:
    """Close it by leaving its `with`."""

    def __init__(self, simulator: Simulator, database: Database) -> None:
        self.simulator = simulator
        self.world = simulator.world
        self.faults = simulator.faults
        self.database = database
        self.nudges: list[str] = []
        self.published = 0
        self._calls = Calls()
        self._clients: list[ProviderClient] = []
        self.retriever = self.build()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.faults.clear()
        self.retriever.stop()
        for client in self._clients:
            client.close()
        self._calls.close()

    def build(
        self,
        *,
        known: Mapping[str, Provider] | None = None,
        database: Database | None = None,
        source: Mapping[str, object] | None = None,
        tracing: Tracing | None = None,
        **more: object,
    ) -> Retriever:
        """Another worker, which takes the place of the one before."""
        chosen = settings(self.simulator.url, source, **more)
        client = ProviderClient(
            call_deadline=chosen.call_deadline_seconds,
            max_bytes=chosen.max_document_bytes,
            waiter=self._calls.waiter,
        )
        self._clients.append(client)
        self.retriever = Retriever(
            Parts(
                settings=chosen,
                database=database or self.database,
                providers={**providers(), **(known or {})},
                client=client,
                calls=self._calls,
                budgets=Budgets(chosen.sources, None),
                nudge=self.nudges.append,
                published=self._publish,
                tracing=tracing,
            )
        )
        return self.retriever

    def _publish(self) -> None:
        self.published += 1

    def create(self, provider: str, **options) -> Record:
        """A new record at a provider, which nobody told us of yet."""
        return self.world.create(provider, KINDS[provider], **options)

    def want(self, *records: Record, priority: Priority = Priority.LIVE) -> None:
        cause = Cause.WEBHOOK if priority is Priority.LIVE else Cause.REPLAY
        with self.database.write() as session:
            wants = {key_of(record): Want(record.ref.provider, "sandbox", cause, priority) for record in records}
            resources.mark_wanted(session, wants, database_time(session))

    def want_missing(self, provider: str, external_id: str) -> None:
        """Want what the provider does not have."""
        missing = ResourceKey(provider, ResourceRef(KINDS[provider], external_id))
        with self.database.write() as session:
            wants = {missing: Want(provider, "sandbox", Cause.WEBHOOK)}
            resources.mark_wanted(session, wants, database_time(session))

    def drain(self, provider: str) -> None:
        self.retriever.drain(provider)

    def retrieve(self, record: Record) -> None:
        self.want(record)
        self.drain(record.ref.provider)

    def row(self, record: Record):
        return play.resource(self.database, record.ref.external_id)

    def make_due(self, record: Record, **changes: object) -> None:
        """Lets the time until a record is due pass."""
        past = play.now(self.database) - timedelta(seconds=1)
        play.set_resource(self.database, record.ref.external_id, due_at=past, **changes)

    def state(self, source: str) -> sources.SourceState:
        with self.database.read() as session:
            return sources.state(session, source)

    def set_state(self, source: str, **changes: object) -> None:
        """Shifts the times of a hold or a throttle."""
        with self.database.write() as session:
            session.execute(update(source_states).where(source_states.c.source == source).values(**changes))

    def past(self) -> object:
        return play.now(self.database) - timedelta(seconds=1)

    def calls(self, provider: str) -> int:
        return len(self.world.calls(provider))

    def stored(self, record: Record, version: int) -> bytes | None:
        with self.database.read() as session:
            return results.version_body(session, self.row(record).id, version)

    def is_true(self, record: Record, version: int) -> bool:
        """Whether the stored version says what the provider's record says now."""
        body = self.stored(record, version)
        assert body is not None
        return self.world.digest(record.ref.provider, parse_object(body)) == self.world.truth()[record.ref].digest


def key_of(record: Record) -> ResourceKey:
    return ResourceKey(record.ref.provider, ResourceRef(record.ref.kind, record.ref.external_id))
