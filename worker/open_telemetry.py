"""Spans to an OpenTelemetry collector. Loaded where traces are wanted only: its packages are the extra `otel`.

Where the collector is, its headers and its certificates are told by OpenTelemetry's own variables, such as
`OTEL_EXPORTER_OTLP_ENDPOINT`, which its library reads by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import SpanContext as OtelContext
from opentelemetry.trace import SpanKind as OtelKind

from worker.domain.trace import Span, SpanContext

UNNAMED = "unknown_service"
"""How the library names a service whose name nobody gave it."""


class _GivenIds(RandomIdGenerator):
    """Ids that are told beforehand: the library asks for them while a span is being started. One thread uses it."""

    def __init__(self) -> None:
        self._next: SpanContext | None = None

    @contextmanager
    def giving(self, context: SpanContext) -> Iterator[None]:
        """What is started within gets these ids."""
        self._next = context
        try:
            yield
        finally:
            self._next = None

    def generate_trace_id(self) -> int:
        return self._next.trace if self._next else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self._next.span if self._next else super().generate_span_id()


class OpenTelemetry:
    """Hands spans to the library, which sends them in batches from a thread of its own.

    `sample` is the share of the traces that are sent. It is decided by a trace's id alone, so every process decides
    alike, and a trace is sent whole or not at all.
    """

    def __init__(self, sample: float) -> None:
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(sample), resource=_resource(), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("verisink", version("verisink"))

    def export(self, span: Span) -> None:
        """Take a span; it is sent within seconds. Called by one thread."""
        within = Context() if span.parent is None else set_span_in_context(NonRecordingSpan(_context(span.parent)))
        with self._ids.giving(span.context):
            started = self._tracer.start_span(
                span.name,
                context=within,
                kind=OtelKind[span.kind.name],
                attributes=dict(span.attributes),
                links=[Link(_context(link)) for link in span.links],
                start_time=span.period.began,
            )
        if span.failed is not None:
            started.set_status(Status(StatusCode.ERROR, span.failed))
        started.end(span.period.ended)

    def close(self) -> None:
        """Send what waits. A collector that is away is waited for as long as the library's time-out says."""
        self._provider.shutdown()


def _context(place: SpanContext) -> OtelContext:
    return OtelContext(place.trace, place.span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _resource() -> Resource:
    found = Resource.create()
    if not str(found.attributes[SERVICE_NAME]).startswith(UNNAMED):
        return found
    return found.merge(Resource({SERVICE_NAME: "verisink", "service.version": version("verisink")}))
