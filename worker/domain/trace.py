"""Spans of a webhook's journey, and their ids: worked out from what is stored, so that nothing is carried along.

A notification and its retrieval meet in the database, in another process and perhaps a day later. So the trace is
named by the delivery that began it, and a span by what it is about: whoever knows the row knows the id.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

TRACE_BYTES = 16
SPAN_BYTES = 8
"""The lengths of W3C Trace Context."""

NANOSECONDS = 1_000_000_000


class SpanKind(StrEnum):
    """What a span is to its neighbours, in the words of OpenTelemetry."""

    SERVER = "server"
    CLIENT = "client"
    CONSUMER = "consumer"
    PRODUCER = "producer"


@dataclass(frozen=True, slots=True)
class SpanContext:
    """A span's place: the trace that it belongs to, and its own id."""

    trace: int
    span: int


@dataclass(frozen=True, slots=True)
class Period:
    """From when to when, in nanoseconds since 1970 by the clock of the host that was at work."""

    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Span:
    """One step of the journey, once it is over; `failed` says in a word why it did not succeed."""

    name: str
    kind: SpanKind
    context: SpanContext
    period: Period
    parent: SpanContext | None = None
    links: Sequence[SpanContext] = ()
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    failed: str | None = None


def received(delivery: UUID) -> SpanContext:
    """The span of a delivery's reception, which is the first of its trace."""
    return SpanContext(_number(TRACE_BYTES, "delivery", delivery), _number(SPAN_BYTES, "delivery", delivery))


def attempted(resource: int, attempt: int, origin: SpanContext | None) -> SpanContext:
    """The span of a resource's attempt: within the trace of the delivery that asked for it, or in one of its own."""
    trace = origin.trace if origin else _number(TRACE_BYTES, "attempt", resource, attempt)
    return SpanContext(trace, _number(SPAN_BYTES, "attempt", resource, attempt))


def called(attempt: SpanContext) -> SpanContext:
    """The span of the call that an attempt made."""
    return SpanContext(attempt.trace, _number(SPAN_BYTES, "call", attempt.trace, attempt.span))


def delivered(sink: str, sequence: int, began: int, origin: SpanContext | None) -> SpanContext:
    """The span of an event's delivery to a sink. When it began, in nanoseconds, tells one try from another, also of
    a process that was started again."""
    trace = origin.trace if origin else _number(TRACE_BYTES, "event", sequence)
    return SpanContext(trace, _number(SPAN_BYTES, "event", sink, sequence, began))


def drained(task: str) -> SpanContext:
    """The span of a Celery task, which works for whatever is due and so has a trace of its own."""
    return SpanContext(_number(TRACE_BYTES, "task", task), _number(SPAN_BYTES, "task", task))


def _number(length: int, *parts: object) -> int:
    # A digest, because samplers look at single bits of a trace's id, and those of a UUID are not all random.
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:length], "big") or 1
