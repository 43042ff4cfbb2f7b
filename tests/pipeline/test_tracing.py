"""Tracing: what is told of steps that failed, that nobody's webhook began, or that are too many."""

import uuid

import pytest
from structlog.testing import capture_logs

from tests.pipeline.outlets import Sink, happen
from tests.store.play import number_all
from web.simulator.faults import Faults
from worker import runtime
from worker.clock import unix_nanoseconds
from worker.domain import trace
from worker.domain.events import cloud_event
from worker.domain.states import ReceiptStatus
from worker.errors import ConfigurationError
from worker.pipeline import tracing
from worker.pipeline.tracing import TracedSink, Tracing
from worker.runtime import Runtime
from worker.settings import Settings
from worker.sinks.base import ASSUMED_CALL_SECONDS
from worker.store import outbox


class Kept:
    """An exporter that keeps what it gets; the first `refused` of them it does not take."""

    def __init__(self, refused=0) -> None:
        self.spans: list[trace.Span] = []
        self.refused = refused

    def export(self, span):
        if self.refused:
            self.refused -= 1
            raise OSError("canary")
        self.spans.append(span)

    def close(self):
        """Nothing is held."""


def told(database, kept):
    made = Tracing(kept, database, now=unix_nanoseconds)
    made.start()
    return made


def test_an_attempt_that_failed_is_a_span_that_failed_in_a_trace_of_its_own(anywhere):
    kept = Kept()
    following = told(anywhere.database, kept)
    anywhere.build(tracing=following)
    record = anywhere.create("gu1")
    anywhere.faults.set("gu1", Faults(error_rate=1.0))

    anywhere.retrieve(record)
    following.stop()

    row = anywhere.row(record)
    [attempt, call] = kept.spans
    assert (attempt.name, attempt.failed, attempt.parent) == ("retrieve gu1", "server_error", None)
    assert attempt.context == trace.attempted(row.id, 1, None)
    assert (call.name, call.parent, call.context) == ("call gu1", attempt.context, trace.called(attempt.context))
    assert attempt.period.began <= call.period.began <= call.period.ended <= attempt.period.ended


def test_an_event_that_nobody_s_attempt_brought_has_a_trace_of_its_own_and_a_failed_delivery_is_told(database):
    kept = Kept()
    following = told(database, kept)
    sink = Sink(refuse={1})
    happen(database, 1)
    number_all(database)
    traced = TracedSink(sink, following)
    with database.read() as session:
        [item] = outbox.read(session, 0, 10)
    event = cloud_event(item.event, item.id, item.sequence, item.occurred_at)

    with pytest.raises(ConnectionError):
        traced.deliver([event])
    traced.deliver([event])
    following.stop()

    failed, taken = kept.spans
    assert (failed.failed, taken.failed) == ("ConnectionError", None)
    assert failed.context.trace == taken.context.trace
    assert failed.context.span != taken.context.span
    assert taken.attributes["messaging.message.id"] == sink.ids[0]


def test_a_process_that_is_started_again_repeats_no_span(database):
    kept = Kept()
    event = {"sequence": "1", "type": "x", "id": "e"}
    for _ in range(2):
        following = told(database, kept)
        TracedSink(Sink(), following).deliver([event])
        following.stop()

    first, second = kept.spans
    assert first.context.trace == second.context.trace
    assert first.context.span != second.context.span


def test_a_sink_that_does_not_say_how_long_a_call_takes_is_traced_too(sqlite_database):
    older = type("Older", (), {"name": "older", "at_once": 1})()

    traced = TracedSink(older, told(sqlite_database, Kept()))

    assert traced.call_seconds == ASSUMED_CALL_SECONDS


def test_what_is_too_much_is_dropped_and_said_once(sqlite_database, monkeypatch):
    monkeypatch.setattr(tracing, "MOST_WAITING", 3)
    kept = Kept()
    following = Tracing(kept, sqlite_database, now=unix_nanoseconds)

    with capture_logs() as logs:
        for _ in range(9):
            following.received("gu1", uuid.uuid4(), ReceiptStatus.ACCEPTED, 0.01)
        following.start()
        following.stop()

    assert len(kept.spans) == 3
    assert [line["event"] for line in logs] == ["spans_dropped"]


def test_an_exporter_that_fails_ends_nothing_and_its_error_is_not_quoted(sqlite_database):
    kept = Kept(refused=1)
    following = told(sqlite_database, kept)

    with capture_logs() as logs:
        following.received("gu1", uuid.uuid4(), ReceiptStatus.ACCEPTED, 0.01)
        following._hand_over()
        following.received("gu1", uuid.uuid4(), ReceiptStatus.ACCEPTED, 0.01)
        following.stop()

    assert len(kept.spans) == 1
    assert [line["event"] for line in logs] == ["spans_not_sent"]
    assert "canary" not in str(logs)


def test_without_the_library_the_start_says_what_to_install(monkeypatch):
    monkeypatch.setattr(runtime, "OPEN_TELEMETRY", "worker.no_such_module")

    with pytest.raises(ConfigurationError, match=r"verisink\[otel\]"):
        _ = Runtime(Settings(traces="otlp")).tracing


def test_nobody_pays_for_traces_that_nobody_wants():
    assert Runtime(Settings()).tracing is None
