"""Publishing: in order, at least once, and one sink's trouble is not another's."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from tests.store.play import EARLY, SOURCE, now, rows
from worker.clock import monotonic
from worker.domain.events import Event
from worker.domain.states import EventType
from worker.pipeline import publish
from worker.pipeline.publish import Publisher
from worker.store import outbox
from worker.store.tables import event_deliveries, events, leases

WAIT = 5.0


class Sink:
    """Keeps what it is given. `refuse` holds the places at which it raises instead, once each."""

    def __init__(self, name="sink", refuse=()) -> None:
        self.name = name
        self.refuse = set(refuse)
        self.taken: list[int] = []
        self.ids: list[str] = []
        self.offered = 0

    def deliver(self, cloud_event):
        self.offered += 1
        if self.offered in self.refuse:
            raise ConnectionError("canary")
        self.taken.append(int(cloud_event["sequence"]))
        self.ids.append(cloud_event["id"])


class Broken(Sink):
    def deliver(self, cloud_event):
        self.offered += 1
        raise ConnectionError("canary")


def happen(database, count, start=0):
    with database.write() as session:
        new = [Event(EventType.UPDATED, SOURCE, "inquiry", f"inq_{start + number}", 1) for number in range(count)]
        outbox.append(session, new, EARLY)


def expire_leases(database):
    with database.write() as session:
        session.execute(update(leases).values(expires_at=EARLY))


def wait_until(true):
    ends = monotonic() + WAIT
    while not true():
        assert monotonic() < ends, "it never happened"
        threading.Event().wait(0.005)


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


def test_more_than_a_batch_is_delivered_in_one_go(database, monkeypatch):
    monkeypatch.setattr(publish, "BATCH", 3)
    sink = Sink()
    happen(database, 10)

    Publisher(database, [sink]).publish()

    assert sink.taken == list(range(1, 11))


def test_every_sink_gets_everything_also_what_was_there_before_it(database):
    first, second = Sink("first"), Sink("second")
    happen(database, 2)
    Publisher(database, [first]).publish()
    happen(database, 1, start=2)
    expire_leases(database)

    Publisher(database, [first, second]).publish()

    assert (first.taken, second.taken) == ([1, 2, 3], [1, 2, 3])


def test_what_a_sink_refuses_is_offered_again_with_the_same_id(database):
    sink = Sink(refuse={2})
    publisher = Publisher(database, [sink])
    happen(database, 3)

    publisher.publish()
    publisher.publish()

    assert sink.taken == [1, 2, 3]
    assert sink.ids == [row.id for row in rows(database, events)]
    assert [row.sequence for row in rows(database, event_deliveries)] == [1, 2, 3]


def test_a_sink_that_is_broken_delays_no_other(database):
    broken, good = Broken("broken"), Sink("good")
    happen(database, 3)

    with capture_logs() as logs:
        Publisher(database, [broken, good]).publish()

    assert good.taken == [1, 2, 3]
    assert broken.offered == 1
    assert "sink_failed" in str(logs)
    assert "canary" not in str(logs)
    with database.read() as session:
        assert outbox.sink_position(session, "broken") == 0


def test_a_publisher_that_died_keeps_a_sink_for_seconds(database):
    happen(database, 1)
    Publisher(database, [Sink()]).publish()

    [held] = [row for row in rows(database, leases) if "sink" in row.name]
    assert timedelta(0) < held.expires_at - now(database) <= timedelta(seconds=5)


def test_what_a_publisher_delivered_and_could_not_note_is_delivered_again(database, monkeypatch):
    sink = Sink()
    publisher = Publisher(database, [sink])
    happen(database, 2)
    with monkeypatch.context() as trouble:
        trouble.setattr(outbox, "delivered", lambda *_: 1 / 0)
        publisher.publish()

    publisher.publish()

    assert sink.taken == [1, 2, 1, 2]


def test_one_publisher_at_a_time_serves_a_sink(database):
    sink, other = Sink(), Sink()
    happen(database, 1)
    Publisher(database, [sink]).publish()
    happen(database, 1, start=1)

    second = Publisher(database, [other])
    assert second.publish() == 1, "anybody may number"
    assert other.taken == []

    expire_leases(database)
    second.publish()
    assert other.taken == [2]


@pytest.fixture
def running(database):
    sink = Sink()
    publisher = Publisher(database, [sink])
    publisher.start()
    yield publisher, sink
    publisher.stop(WAIT)


def test_the_thread_publishes_when_it_is_woken(database, running):
    publisher, sink = running
    happen(database, 1)
    publisher.wake()
    wait_until(lambda: sink.taken == [1])

    happen(database, 1, start=1)
    publisher.wake()
    wait_until(lambda: sink.taken == [1, 2])


def test_stopping_publishes_what_is_there_and_gives_the_leases_back(database, running):
    publisher, sink = running
    happen(database, 3)

    publisher.stop(WAIT)

    assert sink.taken == [1, 2, 3]
    assert rows(database, leases) == []


def test_the_thread_outlives_whatever_happens(database, running, monkeypatch):
    publisher, sink = running
    happen(database, 1)
    tried = threading.Event()

    def fail(_session):
        tried.set()
        raise RuntimeError

    with monkeypatch.context() as trouble:
        trouble.setattr(outbox, "any_unnumbered", fail)
        publisher.wake()
        assert tried.wait(WAIT)
    publisher.wake()
    wait_until(lambda: sink.taken == [1])
