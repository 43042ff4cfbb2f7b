"""One page of a provider's list: its turn, its call, and what follows when the call fails.

Whoever waits here waits in a thread of its own, never in a pump. A page is asked for a few times, by the same policy as
a resource; unlike a resource, nobody can pick it up later, so then the run ends.
"""

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.clock import monotonic, unix_seconds
from worker.domain.reconcile import ReconcileState
from worker.domain.retry import LONGEST_THROTTLE, Effort, Failure, Hold, Park, RetryAt, Throttle, decide
from worker.domain.states import FailureKind, Priority
from worker.domain.strict_json import parse_object
from worker.errors import ConfigurationError, UnexpectedDocument, UnreadableJson
from worker.pipeline import write
from worker.pipeline.budget import Budgets
from worker.providers.base import Provider
from worker.providers.client import ProviderClient, RetrieveFailed
from worker.providers.listing import Lister, ListQuery, Page
from worker.settings import Settings, Source
from worker.store import sources
from worker.store.engine import Database, database_time

TRIES = 4
"""How often one page is asked for. More would hold a run up for minutes over a list that is broken."""

PATIENCE_SECONDS = 300.0
"""How long a page waits for its turn: several whole windows of a rate limit. Then live work needs all that there is."""

LOOK_SECONDS = 0.5
"""How often a waiting run looks whether its turn has come."""

ACTOR = "reconcile"


@dataclass(frozen=True, slots=True)
class Parts:
    """What reconciling needs, handed in by the composition root."""

    settings: Settings
    database: Database
    providers: Mapping[str, Provider]
    client: ProviderClient
    budgets: Budgets
    nudge: Callable[[str], None]


class Ended(Exception):
    """The run ends before its time; the message is a sentence for operators."""

    def __init__(self, sentence: str, state: ReconcileState = ReconcileState.FAILED) -> None:
        self.state = state
        super().__init__(sentence)


class Refused(Exception):
    """The provider does not give this list, and asking again would not help. Other lists may be given."""


class ListCaller:
    """Makes the calls of one run. `wait` sleeps that many seconds, or raises Ended; `called` is told of each call."""

    def __init__(
        self, parts: Parts, source: Source, *, wait: Callable[[float], None], called: Callable[[], None]
    ) -> None:
        self._parts = parts
        self._source = source
        self._wait = wait
        self._called = called

    def page(self, lister: Lister, query: ListQuery) -> Page:
        """One page. Raises Ended or Refused."""
        began, patient_until = self._now(), monotonic() + PATIENCE_SECONDS
        failures = 0
        while True:
            self._await_turn(patient_until)
            outcome = self._attempt(lister, query)
            if isinstance(outcome, Page):
                return outcome
            if outcome.kind is not FailureKind.RATE_LIMITED:
                failures += 1
            elif monotonic() >= patient_until:
                raise Ended(f"{outcome.detail}, again and again")
            self._follow(outcome, failures, began)

    def _await_turn(self, patient_until: float) -> None:
        """Return when a call may be made, and has been taken from the budget."""
        slug = self._source.slug
        while True:
            with self._parts.database.read() as session:
                now, state = database_time(session), sources.state(session, slug)
            if state.held_at is not None:
                # Why is not said: an operator's words may name a person, and this goes into the log.
                raise Ended("the source is held")
            throttled = state.may_call(now) == 0
            if not throttled and self._parts.budgets.take(slug, 1, Priority.RECONCILE):
                return
            if monotonic() >= patient_until:
                raise Ended("the rate limit left no call for it; try again when there is less to do")
            self._wait(LOOK_SECONDS)

    def _attempt(self, lister: Lister, query: ListQuery) -> Page | Failure:
        self._called()
        try:
            request = lister.list_request(self._source, query, nonce=str(uuid.uuid4()), unix_ms=unix_seconds() * 1000)
            answer = self._parts.client.fetch(self._parts.providers[self._source.provider], request)
            page = lister.read_list(self._source, query, parse_object(answer.body))
        except RetrieveFailed as error:
            return error.failure
        except ConfigurationError as error:
            return Failure(FailureKind.CREDENTIAL, error.problems[0])
        except (UnreadableJson, UnexpectedDocument) as error:
            return Failure(FailureKind.UNREADABLE, str(error))
        if answer.exhausted_for is not None:
            self._throttle(self._now() + min(answer.exhausted_for, LONGEST_THROTTLE))
        return page

    def _follow(self, failure: Failure, failures: int, began: datetime) -> None:
        """Return when the page may be asked for again; else raise Ended or Refused."""
        if failure.kind is FailureKind.NOT_FOUND:
            raise Refused(failure.detail)
        now = self._now()
        effort = Effort(failures, began, timedelta(hours=self._source.retry_horizon_hours))
        match decide(failure, effort, now, random.random()):  # noqa: S311 - it spreads retries, and keeps no secret
            case Throttle(until):
                self._throttle(until)
            case Hold(reason, probe_at):
                with self._parts.database.write() as session:
                    write.hold(session, self._source.slug, reason, now=now, probe_at=probe_at, actor=ACTOR)
                raise Ended(f"the provider refuses the credential ({reason}); the source is held")
            case Park():
                raise Refused(failure.detail)
            case RetryAt(when):
                if failures >= TRIES:
                    raise Ended(f"{failure.detail}, after {failures} tries")
                self._wait(max((when - now).total_seconds(), 0.0))

    def _throttle(self, until: datetime) -> None:
        with self._parts.database.write() as session:
            sources.throttle(session, self._source.slug, until)

    def _now(self) -> datetime:
        with self._parts.database.read() as session:
            return database_time(session)
