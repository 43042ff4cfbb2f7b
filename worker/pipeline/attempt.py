"""An attempt: one call for one claim, and what its answer says."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
import uuid_utils

from worker import metrics
from worker.clock import monotonic, unix_seconds
from worker.domain.retry import POISON_CRASHES, Failure
from worker.domain.states import FailureKind
from worker.domain.trace import Period
from worker.errors import ConfigurationError, NothingFound, UnexpectedDocument, UnreadableJson
from worker.log import where
from worker.pipeline import write
from worker.pipeline.budget import Budgets
from worker.pipeline.calls import Calls
from worker.pipeline.read import read_document
from worker.pipeline.tracing import Tracing
from worker.pipeline.write import Brought, Landed
from worker.providers.base import Provider
from worker.providers.client import Answer, ProviderClient, RetrieveFailed
from worker.settings import Settings, Source
from worker.store.claims import Claim
from worker.store.engine import Database

LONG_BODY = 32 * 1024
"""Bytes of an answer that is read in a thread by itself: it takes milliseconds, and others would wait to be written.
All others are read one after the other by who writes them, which takes half as long as to read between calls."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What retrieving needs, handed in by the composition root."""

    settings: Settings
    database: Database
    providers: Mapping[str, Provider]
    client: ProviderClient
    calls: Calls
    budgets: Budgets
    nudge: Callable[[str], None]
    published: Callable[[], None]
    tracing: Tracing | None = None


class Attempt:
    """Made in a greenlet of its own. `context` is what its lines in the log carry besides the claim's names."""

    __slots__ = ("_claim", "_context", "_parts", "_probing", "_source")

    def __init__(
        self, parts: Parts, source: Source, claim: Claim, *, probing: bool, context: Mapping[str, Any]
    ) -> None:
        self._parts = parts
        self._source = source
        self._claim = claim
        self._probing = probing
        self._context = context

    def make(self) -> Callable[[], Landed]:
        """Call. Returns what reads the answer, unless it is so long that it is read by now. Whatever goes wrong of
        either is a Failure."""
        began = monotonic()
        tracing = self._parts.tracing
        called = tracing.now() if tracing else 0
        answer = self._call()
        call = Period(called, tracing.now()) if tracing else None
        situation = write.Situation(
            timedelta(hours=self._source.retry_horizon_hours),
            random.random(),  # noqa: S311 - it spreads retries, and keeps no secret
            self._probing,
            timedelta(seconds=self._source.coalesce_seconds),
            None if isinstance(answer, Failure) else answer.exhausted_for,
        )
        land = partial(self._land, answer, situation, call, began)
        if isinstance(answer, Failure) or len(answer.body) <= LONG_BODY:
            return land
        landed = self._parts.calls.aside(land)
        return lambda: landed

    def _land(self, answer: Answer | Failure, situation: write.Situation, call: Period | None, began: float) -> Landed:
        brought = answer if isinstance(answer, Failure) else self._read(answer.body)
        return Landed(self._claim, brought, situation, call, began)

    def _call(self) -> Answer | Failure:
        """Make the call, if it can be made. Whatever goes wrong comes back as a Failure."""
        missing = self._source.missing_credentials
        if self._claim.crashes >= POISON_CRASHES:
            return Failure(
                FailureKind.CRASHED, f"the worker died {self._claim.crashes} times in a row while working on it"
            )
        if missing:
            return Failure(FailureKind.CREDENTIAL, f"{missing[0]} is not set")
        began = monotonic()
        answer = self._fetch()
        outcome = answer.kind if isinstance(answer, Failure) else metrics.ANSWERED
        metrics.histogram(metrics.RETRIEVE_SECONDS, self._source.slug, outcome).observe(monotonic() - began)
        return answer

    def _fetch(self) -> Answer | Failure:
        provider = self._parts.providers[self._source.provider]
        try:
            request = provider.request(
                self._source, self._claim.key.ref, nonce=str(uuid_utils.uuid4()), unix_ms=unix_seconds() * 1000
            )
            return self._parts.client.fetch(provider, request)
        except RetrieveFailed as error:
            return error.failure
        except ConfigurationError as error:
            return Failure(FailureKind.CREDENTIAL, error.problems[0])
        except Exception as error:  # noqa: BLE001 - whatever it is, the resource is parked, and a person looks
            log.error("retrieve_bug", error=where(error), **{**self._context, **self._claim.names})
            return Failure(FailureKind.BUG, where(error))

    def _read(self, body: bytes) -> Brought:
        """Read the answer. Whatever goes wrong comes back as a Failure."""
        try:
            return read_document(self._parts.providers[self._source.provider], self._source, self._claim.key.ref, body)
        except NothingFound as error:
            return Failure(FailureKind.NOT_FOUND, str(error), http_status=200)
        except (UnreadableJson, UnexpectedDocument) as error:
            return Failure(FailureKind.UNREADABLE, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the resource is parked, and a person looks
            log.error("retrieve_bug", error=where(error), **{**self._context, **self._claim.names})
            return Failure(FailureKind.BUG, where(error))
