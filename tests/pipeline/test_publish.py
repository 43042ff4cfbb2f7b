"""Publishing: numbers in order, and each sink is told, whatever becomes of the others."""

import threading

import pytest
from structlog.testing import capture_logs

from tests.pipeline.outlets import WAIT, Sink, Slow, happen, wait_until
from tests.store.play import number_all, rows
from worker.domain.events import EventFilter
from worker.domain.states import EventType
from worker.pipeline import settle
from worker.pipeline.publish import Publisher
from worker.pipeline.settle import Terms
from worker.store import outbox
from worker.store.tables import event_deliveries, events, leases


def test_events_are_numbered_and_delivered_in_order_once(database):
    sink = Sink()
    publisher = Publisher(database, [sink])
    happen(database, 3)

    assert publisher.publish() == 3
    assert publisher.publish() == 0
    happen(database, 2, start=3)
    assert publisher.publish() == 2

    assert sink.taken == [1, 2, 3, 4, 5]
    assert sink.ids == [row.id for row in rows(database, events)]
    assert [row.attempts for row in rows(database, event_deliveries)] == [1] * 5


def test_more_than_is_numbered_at_once_is_numbered_in_one_go(database, monkeypatch):
    monkeypatch.setattr(outbox, "NUMBERED_AT_ONCE", 3)
    happen(database, 7)

    assert Publisher(database, []).publish() == 7


def test_every_sink_gets_everything_also_what_was_there_before_it(database):
    first, second = Sink("first"), Sink("second")
    happen(database, 2)
    Publisher(database, [first]).publish()
    happen(database, 1, start=2)

    Publisher(database, [first, second]).publish()

    assert (first.taken, second.taken) == ([1, 2, 3], [1, 2, 3])


def test_each_sink_has_its_own_filter(database):
    all_of_it, held = Sink("all"), Sink("held")
    happen(database, 2)
    happen(database, 1, start=2, type=EventType.HELD)

    Publisher(
        database, [all_of_it, held], {"held": Terms(wanted=EventFilter(types=frozenset({EventType.HELD})))}
    ).publish()

    assert (all_of_it.taken, held.taken) == ([1, 2, 3], [3])


@pytest.fixture
def running(database):
    """A publisher with a sink that works and one that hangs."""
    sink, slow = Sink(), Slow()
    publisher = Publisher(database, [slow, sink])
    publisher.start()
    yield publisher, sink, slow
    slow.let_go.set()
    publisher.stop(WAIT)


def test_a_sink_that_hangs_delays_neither_numbers_nor_other_sinks(database, running):
    publisher, sink, slow = running
    happen(database, 1)
    publisher.wake()
    assert slow.entered.wait(WAIT)
    wait_until(lambda: sink.taken == [1])

    happen(database, 1, start=1)
    publisher.wake()
    wait_until(lambda: sink.taken == [1, 2])
    assert slow.taken == []

    slow.let_go.set()
    wait_until(lambda: slow.taken == [1, 2])


def test_what_another_process_numbered_and_left_is_delivered(database, running):
    publisher, sink, _ = running
    happen(database, 2)
    number_all(database)
    publisher.look()
    wait_until(lambda: sink.taken == [1, 2])

    happen(database, 1, start=2)
    publisher.look()
    wait_until(lambda: sink.taken == [1, 2, 3])


def test_stopping_publishes_what_is_there_and_gives_everything_back(database, running):
    publisher, sink, slow = running
    slow.entered.set()
    happen(database, 3)

    publisher.stop(WAIT)

    assert sink.taken == slow.taken == [1, 2, 3]
    assert sink.closed.is_set()
    assert slow.closed.is_set()
    assert rows(database, leases) == []


def test_a_sink_that_is_away_is_not_waited_for_when_stopping(database, monkeypatch):
    monkeypatch.setattr(settle, "FIRST_PAUSE", 2 * WAIT)
    monkeypatch.setattr(settle, "share", lambda: 1.0)
    sink = Sink()
    sink.broken = True
    publisher = Publisher(database, [sink])
    publisher.start()
    happen(database, 1)
    with capture_logs() as logs:
        publisher.wake()
        wait_until(lambda: "sink_failed" in str(logs))

    publisher.stop(WAIT)

    assert sink.closed.is_set()
    assert sink.calls == 1


def test_the_thread_outlives_whatever_happens(database, running, monkeypatch):
    publisher, sink, _ = running
    happen(database, 1)
    tried = threading.Event()

    def fail(_session):
        tried.set()
        raise RuntimeError

    with monkeypatch.context() as trouble:
        trouble.setattr(outbox, "number", fail)
        publisher.wake()
        assert tried.wait(WAIT)
    publisher.wake()
    wait_until(lambda: sink.taken == [1])
