"""Tracing: say of each step of a webhook's journey that it was taken, so that one trace shows them all.

Steps are noted while they are taken, which costs an entry in a queue. A thread finds out later which delivery they
belong to, and hands the spans over. Where nobody wants traces there is none of this.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Protocol, TypeAlias
from uuid import UUID

import structlog

from worker.domain import trace
from worker.domain.trace import NANOSECONDS, Period, Span, SpanContext, SpanKind
from worker.log import where
from worker.sinks.base import CloudEvent, Sink, call_seconds
from worker.store import origins
from worker.store.claims import Claim
from worker.store.engine import UNAVAILABLE, Database, Session

MOST_WAITING = 20_000
"""Steps that wait for the thread. Traces are for looking, and must not fill the memory of who does the work."""

AT_ONCE = 200
"""Steps whose origins are looked up together, in one short transaction."""

PAUSE_SECONDS = 0.5

log = structlog.get_logger(__name__)


class Exporter(Protocol):
    """Takes spans that are over."""

    def export(self, span: Span) -> None:
        """Take one. Returns at once."""

    def close(self) -> None:
        """Send what waits."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    claim: Claim
    call: Period
    ended: int
    outcome: str
    error: str | None
    task: str | None


@dataclass(frozen=True, slots=True)
class _Delivery:
    sink: str
    sequence: int
    event_type: str
    event_id: str
    period: Period
    failed: str | None


_Step: TypeAlias = Span | _Attempt | _Delivery


class Tracing:
    """Notes steps, from any thread. `now` is the host's time in nanoseconds since 1970."""

    def __init__(self, exporter: Exporter, database: Database, *, now: Callable[[], int]) -> None:
        self.now = now
        self._exporter = exporter
        self._database = database
        self._steps: deque[_Step] = deque()
        self._dropped = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)

    def start(self) -> None:
        """Start the thread, if that has not been done; call it after any fork."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self, wait_seconds: float = 5.0) -> None:
        """Hand over what is there, and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)
        self._exporter.close()

    def received(self, source: str, delivery: UUID, status: str, seconds: float) -> None:
        """A delivery was answered just now, `seconds` after its body was there."""
        ended = self.now()
        period = Period(ended - int(seconds * NANOSECONDS), ended)
        facts: dict[str, str | int] = {
            "verisink.source": source,
            "verisink.delivery": str(delivery),
            "verisink.status": status,
        }
        self._note(Span(f"receive {source}", SpanKind.SERVER, trace.received(delivery), period, attributes=facts))

    def drained(self, source: str, task: str, began: int) -> None:
        """A Celery task has ended."""
        facts: dict[str, str | int] = {
            "messaging.system": "celery",
            "messaging.operation.type": "process",
            "messaging.message.id": task,
            "verisink.source": source,
        }
        period = Period(began, self.now())
        self._note(Span(f"drain {source}", SpanKind.CONSUMER, trace.drained(task), period, attributes=facts))

    def attempted(self, claim: Claim, call: Period, outcome: str, error: str | None, task: str | None) -> None:
        """An attempt was written just now."""
        self._note(_Attempt(claim, call, self.now(), outcome, error, task))

    def delivered(self, sink: str, events: Sequence[CloudEvent], began: int, failed: str | None = None) -> None:
        """Some events were handed to a sink just now, or it did not take them."""
        period = Period(began, self.now())
        for event in events:
            told = (int(str(event["sequence"])), str(event["type"]), str(event["id"]))
            self._note(_Delivery(sink, *told, period, failed))

    def _note(self, step: _Step) -> None:
        if len(self._steps) >= MOST_WAITING:
            if not self._dropped:
                log.warning("spans_dropped", waiting=len(self._steps))
            self._dropped = True
            return
        self._steps.append(step)

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE_SECONDS):
            self._hand_over()
        self._hand_over()

    def _hand_over(self) -> None:
        while some := list(islice(self._taken(), AT_ONCE)):
            try:
                for span in self._spans(some):
                    self._exporter.export(span)
            except UNAVAILABLE as error:
                # Nobody can say any more where these belong; those who look at traces see that some are missing.
                log.warning("spans_not_sent", spans=len(some), error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - traces must not end the thread, let alone the work
                log.warning("spans_not_sent", spans=len(some), error=where(error))
        self._dropped = False

    def _taken(self) -> Iterator[_Step]:
        while self._steps:
            yield self._steps.popleft()

    def _spans(self, steps: Sequence[_Step]) -> Iterator[Span]:
        attempts = [step for step in steps if isinstance(step, _Attempt)]
        deliveries = [step for step in steps if isinstance(step, _Delivery)]
        yield from (step for step in steps if isinstance(step, Span))
        if not attempts and not deliveries:
            return
        with self._database.read() as session:
            made = [*_of_attempts(session, attempts), *_of_deliveries(session, deliveries)]
        yield from made


class TracedSink:
    """A sink of which traces tell."""

    def __init__(self, sink: Sink, tracing: Tracing) -> None:
        self._sink = sink
        self._tracing = tracing
        self.name, self.at_once, self.call_seconds = sink.name, sink.at_once, call_seconds(sink)

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Hand them to the sink. Raises what it raises."""
        began = self._tracing.now()
        try:
            self._sink.deliver(events)
        except Exception as error:
            self._tracing.delivered(self.name, events, began, failed=type(error).__name__)
            raise
        self._tracing.delivered(self.name, events, began)

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()


def _of_attempts(session: Session, attempts: Sequence[_Attempt]) -> Iterator[Span]:
    for step in attempts:
        claim = step.claim
        asked = origins.askers(session, {claim.resource_id: claim.started_at})[claim.resource_id]
        told = [trace.received(delivery) for delivery in asked]
        parent = told[0] if told else None
        own = trace.attempted(claim.resource_id, claim.attempt, parent)
        facts: dict[str, str | int] = {
            "verisink.source": claim.key.source,
            "verisink.kind": claim.key.ref.kind,
            "verisink.resource": claim.resource_id,
            "verisink.attempt": claim.attempt,
            "verisink.cause": str(claim.cause),
            "verisink.outcome": step.outcome,
        }
        links = told[1:]
        if step.task is not None:
            facts["messaging.message.id"] = step.task
            links.append(trace.drained(step.task))
        yield Span(
            name=f"retrieve {claim.key.source}",
            kind=SpanKind.CONSUMER,
            context=own,
            period=Period(step.call.began, max(step.ended, step.call.ended)),
            parent=parent,
            links=links,
            attributes=facts,
            failed=step.error,
        )
        name = f"call {claim.key.source}"
        about: dict[str, str | int] = {"verisink.source": claim.key.source}
        yield Span(name, SpanKind.CLIENT, trace.called(own), step.call, own, attributes=about)


def _of_deliveries(session: Session, steps: Sequence[_Delivery]) -> Iterator[Span]:
    found = origins.brought(session, {step.sequence for step in steps})
    for step in steps:
        parent = _origin(session, found[step.sequence]) if step.sequence in found else None
        facts: dict[str, str | int] = {
            "messaging.system": "verisink",
            "messaging.operation.type": "send",
            "messaging.message.id": step.event_id,
            "verisink.sink": step.sink,
            "verisink.event": step.event_type,
            "verisink.sequence": step.sequence,
        }
        own = trace.delivered(step.sink, step.sequence, step.period.began, parent)
        name = f"deliver {step.sink}"
        yield Span(name, SpanKind.PRODUCER, own, step.period, parent, attributes=facts, failed=step.failed)


def _origin(session: Session, event: origins.Brought) -> SpanContext | None:
    if event.resource_id is None:
        return None
    asked = _newest(session, event.resource_id, event.at)
    return asked if event.attempt is None else trace.attempted(event.resource_id, event.attempt, asked)


def _newest(session: Session, resource_id: int, before: datetime) -> SpanContext | None:
    asked = origins.askers(session, {resource_id: before})[resource_id]
    return trace.received(asked[0]) if asked else None
