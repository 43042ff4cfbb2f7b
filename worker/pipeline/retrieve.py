"""Retrieve: claim, call, read. No transaction is open during a call, and nobody sleeps: what must wait gets a due time.

One pump a source and process: it claims what is due, keeps so many calls in flight, and ends when nothing is due or the
budget is spent. A source that hangs fills its own slots and nobody else's.
"""

import hashlib
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from worker import metrics
from worker.clock import monotonic, unix_seconds
from worker.domain.documents import content_digest, redact_object
from worker.domain.model import Drift, Reading
from worker.domain.retry import POISON_CRASHES, PROBE_AFTER, Failure
from worker.domain.states import AttemptOutcome, FailureKind
from worker.domain.strict_json import parse_object
from worker.errors import ClaimLost, ConfigurationError, NothingFound, UnexpectedDocument, UnreadableJson
from worker.log import where
from worker.pipeline import write
from worker.pipeline.budget import Budgets
from worker.providers.base import Provider
from worker.providers.client import ProviderClient, RetrieveFailed
from worker.settings import Settings, Source
from worker.store import resources, sources
from worker.store.engine import UNAVAILABLE, Database, database_time, is_refusal
from worker.store.resources import Claim
from worker.store.results import Document

CHUNK = 50
"""Resources claimed at once. More would lie claimed behind slow calls while another worker is idle."""

IDLE_LOOK = 0.5
"""How often a pump with calls in flight looks again unasked, in case a nudge was lost."""

PUMP_SECONDS = 240.0
"""A pump's longest run. The broker believes a task lost after ten minutes, and would hand it out again."""

WRITE_SHARE = 0.5
"""Of the lease, for writing: the call took at most the other half, and after the lease somebody else may have it."""

WRITE_PAUSE = 0.25
"""Seconds before the first try to write again; doubled each time, so that a restart of the database is outlived."""

MOST_CHECKS = 500
"""No provider makes more than a few dozen."""

MOST_DRIFT = 20
"""Unknown values noted for one document. A changed provider shows with the first."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What retrieving needs, handed in by the composition root."""

    settings: Settings
    database: Database
    providers: Mapping[str, Provider]
    client: ProviderClient
    budgets: Budgets
    nudge: Callable[[str], None]
    published: Callable[[], None]


class Retriever:
    """All pumps of this process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pumps = {slug: _Pump(parts, source) for slug, source in parts.settings.sources.items()}

    def drain(self, source: str) -> None:
        """Work on what is due for `source` until there is nothing more to do. A source that is being drained is only
        told to look again; one that is not configured here is somebody else's."""
        pump = self._pumps.get(source)
        if pump is not None:
            pump.run()

    def stop(self) -> None:
        """Claim nothing more; calls in flight end and are written."""
        for pump in self._pumps.values():
            pump.stop()


class _Pump:
    def __init__(self, parts: Parts, source: Source) -> None:
        self._parts = parts
        self._source = source
        self._slots = parts.settings.worker_concurrency
        self._lock = threading.Lock()
        self._running = False
        self._again = threading.Event()
        self._stopping = False
        self._flights: set[Future[None]] = set()
        self._pool: ThreadPoolExecutor | None = None

    def run(self) -> None:
        self._again.set()
        with self._lock:
            if self._running or self._stopping:
                return
            self._running = True
        try:
            self._pump()
        finally:
            with self._lock:
                self._running = False
        if self._again.is_set() and not self._stopping:
            # Somebody rang while the last look was already over.
            self._parts.nudge(self._source.slug)

    def stop(self) -> None:
        self._stopping = True
        self._again.set()

    def _pump(self) -> None:
        ends = monotonic() + PUMP_SECONDS
        while True:
            self._again.clear()
            claimed = 0 if self._stopping or monotonic() > ends else self._start_calls()
            if not claimed and not self._flights:
                return
            self._again.wait(IDLE_LOOK)

    def _start_calls(self) -> int:
        free = self._slots - len(self._flights)
        if free <= 0:
            return 0
        claims, probing = self._claim(min(free, CHUNK))
        for claim in claims:
            future = self._executor().submit(self._work, claim, probing=probing)
            self._flights.add(future)
            future.add_done_callback(self._landed)
        return len(claims)

    def _landed(self, future: "Future[None]") -> None:
        error = future.exception()
        if error is not None:
            log.error("flight_failed", source=self._source.slug, error=where(error))
        self._flights.discard(future)
        self._again.set()

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._slots, thread_name_prefix=f"retrieve-{self._source.slug}")
        return self._pool

    def _claim(self, limit: int) -> tuple[list[Claim], bool]:
        slug = self._source.slug
        limit = min(limit, self._parts.budgets.left(slug))
        if limit <= 0:
            return [], False
        lease = timedelta(seconds=self._parts.settings.lease_seconds)
        with self._parts.database.write() as session:
            now = database_time(session)
            allowed = sources.state(session, slug).may_call(now)
            if allowed == 0 or (allowed == 1 and not sources.postpone_probe(session, slug, now + PROBE_AFTER)):
                return [], False
            claims = resources.claim(session, slug, limit=limit if allowed is None else 1, lease=lease)
        if claims and not self._parts.budgets.take(slug, len(claims)):
            with self._parts.database.write() as session:
                resources.release_claims(session, claims, database_time(session), "the rate budget was spent")
            return [], False
        return claims, allowed == 1

    def _work(self, claim: Claim, *, probing: bool) -> None:
        with structlog.contextvars.bound_contextvars(
            source=self._source.slug, kind=claim.key.ref.kind, resource=claim.resource_id, attempt=claim.attempt
        ):
            situation = write.Situation(
                timedelta(hours=self._source.retry_horizon_hours),
                random.random(),  # noqa: S311 - it spreads retries, and keeps no secret
                probing,
            )
            outcome = self._attempt(claim)
            self._record(claim, outcome, situation)

    def _attempt(self, claim: Claim) -> "tuple[Reading, Document] | Failure":
        """Make the call and read its answer. Whatever goes wrong comes back as a Failure."""
        missing = self._source.missing_credentials
        if claim.crashes >= POISON_CRASHES:
            return Failure(FailureKind.CRASHED, f"the worker died {claim.crashes} times in a row while working on it")
        if missing:
            return Failure(FailureKind.CREDENTIAL, f"{missing[0]} is not set")
        provider = self._parts.providers[self._source.provider]
        try:
            request = provider.request(
                self._source, claim.key.ref, nonce=str(uuid.uuid4()), unix_ms=unix_seconds() * 1000
            )
            answer = self._parts.client.fetch(provider, request)
            return read_document(provider, self._source, claim, answer.body)
        except RetrieveFailed as error:
            return error.failure
        except ConfigurationError as error:
            return Failure(FailureKind.CREDENTIAL, error.problems[0])
        except NothingFound as error:
            return Failure(FailureKind.NOT_FOUND, str(error), http_status=200)
        except (UnreadableJson, UnexpectedDocument) as error:
            return Failure(FailureKind.UNREADABLE, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the resource is parked, and a person looks
            log.error("retrieve_bug", error=where(error))
            return Failure(FailureKind.BUG, where(error))

    def _record(self, claim: Claim, outcome: "tuple[Reading, Document] | Failure", situation: write.Situation) -> None:
        """Write the outcome. A database that is away is waited for while the claim lasts; then somebody else calls."""
        ends = monotonic() + self._parts.settings.lease_seconds * WRITE_SHARE
        pause = WRITE_PAUSE
        while True:
            try:
                written = self._write(claim, outcome, situation)
            except ClaimLost:
                log.warning("attempt_fenced")
                written = AttemptOutcome.FENCED
            except UNAVAILABLE as error:
                if is_refusal(error) and not (isinstance(outcome, Failure) and outcome.kind is FailureKind.BUG):
                    outcome = Failure(FailureKind.BUG, where(error))
                    continue
                if monotonic() + pause > ends or self._stopping:
                    log.error("attempt_not_written", error=type(error).__name__)
                    return
                log.warning("attempt_not_written_yet", error=type(error).__name__)
                time.sleep(pause)
                pause *= 2
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, the resource is parked, and a person looks
                log.error("write_bug", error=where(error))
                if isinstance(outcome, Failure) and outcome.kind is FailureKind.BUG:
                    return
                outcome = Failure(FailureKind.BUG, where(error))
                continue
            self._note_written(written, outcome if isinstance(outcome, Failure) else None)
            return

    def _note_written(self, written: AttemptOutcome, failure: Failure | None) -> None:
        error = failure.kind if failure else None
        log.info("attempt_written", outcome=written, error=error)
        metrics.ATTEMPTS.labels(self._source.slug, written, error or "").inc()
        self._parts.published()

    def _write(
        self, claim: Claim, outcome: "tuple[Reading, Document] | Failure", situation: write.Situation
    ) -> AttemptOutcome:
        try:
            with self._parts.database.write() as session:
                if isinstance(outcome, Failure):
                    return write.write_failure(session, claim, outcome, situation)
                reading, document = outcome
                return write.write_document(session, claim, reading, document, situation)
        except ClaimLost:
            with self._parts.database.write() as session:
                resources.note_fenced(session, claim, database_time(session))
            raise


def read_document(provider: Provider, source: Source, claim: Claim, body: bytes) -> tuple[Reading, Document]:
    """Read a provider's answer, and prepare it for keeping. Raises UnreadableJson or UnexpectedDocument."""
    content = parse_object(body)
    paths = provider.paths(claim.key.ref)
    kept, redacted = redact_object(content, paths.secrets)
    # It is read without its secrets, so that no check carries one.
    reading = _bounded(provider.read(source, claim.key.ref, kept))
    document = Document(
        body=json.dumps(kept, ensure_ascii=True).encode() if redacted else body,
        redacted=redacted,
        content=kept,
        document_sha256=hashlib.sha256(body).hexdigest(),
        content_sha256=content_digest(content, paths.volatile + paths.secrets),
        api_version=provider.api_version(source),
        mapping_version=provider.mapping_version,
    )
    return reading, document


def _bounded(reading: Reading) -> Reading:
    """The reading, with no more checks and drift than a person could look at; a document may be hostile."""
    if len(reading.checks) > MOST_CHECKS:
        drift = (Drift("checks", f"more than {MOST_CHECKS}"), *reading.drift)
        reading = replace(reading, checks=reading.checks[:MOST_CHECKS], drift=drift)
    return replace(reading, drift=reading.drift[:MOST_DRIFT])
