"""Delivering: in order, at least once, by one process at a time, and with patience."""

import threading
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from tests.pipeline.outlets import WAIT, Sink, Slow, end_rests, expire_leases, happen, wait_until
from tests.store.play import SOURCE, now, number_all, rows
from worker.domain.events import EventFilter
from worker.domain.states import EventType
from worker.pipeline import deliver, settle
from worker.pipeline.deliver import Deliverer
from worker.pipeline.settle import LONGEST_PAUSE, Terms
from worker.store import outbox, sinks
from worker.store.tables import event_deliveries, events, leases


def deliverer(database, sink, holder="one", **more):
    return Deliverer(database, sink, holder=holder, **more)


def numbered(database, count, start=0, **more):
    happen(database, count, start, **more)
    number_all(database)


def position(database, sink):
    with database.read() as session:
        return outbox.sink_position(session, sink.name)


@pytest.mark.parametrize(("at_once", "sizes"), [(1, [1] * 10), (2, [2, 1, 2, 1, 2, 1, 1]), (100, [3, 3, 3, 1])])
def test_more_than_a_batch_is_delivered_in_one_go_in_calls_that_the_sink_can_take(
    database, monkeypatch, at_once, sizes
):
    monkeypatch.setattr(deliver, "BATCH", 3)
    sink = Sink(at_once=at_once)
    numbered(database, 10)

    assert deliverer(database, sink).serve() is True

    assert sink.taken == list(range(1, 11))
    assert sink.sizes == sizes
    assert rows(database, leases) == [], "whoever comes next need not wait"


def test_what_a_sink_refuses_is_offered_again_with_the_same_id(database, monkeypatch):
    monkeypatch.setattr(settle, "FIRST_PAUSE", LONGEST_PAUSE)
    sink = Sink(refuse={2})
    numbered(database, 3)
    served = deliverer(database, sink)

    assert served.serve() is False
    assert position(database, sink) == 1
    assert served.serve() is False, "it is left alone for a while"
    assert sink.calls == 2
    end_rests(database)
    assert served.serve() is True

    assert sink.taken == [1, 2, 3]
    assert sink.ids == [row.id for row in rows(database, events)]
    noted = [(row.sequence, row.attempts, row.last_error) for row in rows(database, event_deliveries)]
    assert noted == [(1, 1, None), (2, 2, "ConnectionError"), (3, 1, None)]


def test_what_a_sink_does_not_want_is_passed_over(database):
    sink = Sink(at_once=100)
    numbered(database, 1)
    numbered(database, 1, 1, kind="report/x")
    numbered(database, 1, 2, type=EventType.HELD)
    numbered(database, 1, 3, source="other", kind="report/x")
    numbered(database, 1, 4, kind="report/x")
    wanted = EventFilter(
        types=frozenset({EventType.UPDATED}), sources=frozenset({SOURCE}), kinds=frozenset({"report/x"})
    )

    assert deliverer(database, sink, terms=Terms(wanted=wanted)).serve() is True

    assert sink.taken == [2, 5]
    assert position(database, sink) == 5
    assert [row.sequence for row in rows(database, event_deliveries)] == [2, 5]


def test_an_outage_is_told_of_once_and_so_is_its_end(database):
    sink = Sink()
    sink.broken = True
    served = deliverer(database, sink)
    numbered(database, 3)

    with capture_logs() as logs:
        for _ in range(3):
            assert served.serve() is False
            end_rests(database)
        sink.broken = False
        assert served.serve() is True
        assert served.serve() is True

    assert [(line["event"], line["sink"]) for line in logs] == [("sink_failed", "sink"), ("sink_recovered", "sink")]
    assert logs[1]["failures"] == 3
    assert "canary" not in str(logs)
    assert sink.taken == [1, 2, 3]


def test_a_sink_that_never_worked_is_seen_to_lag(database, monkeypatch):
    monkeypatch.setattr(settle, "FIRST_PAUSE", LONGEST_PAUSE)
    sink = Sink()
    sink.broken = True
    numbered(database, 1)

    deliverer(database, sink).serve()

    with database.read() as session:
        assert outbox.behind(session, ["sink"]) == frozenset(), "it is left alone"
    end_rests(database)
    with database.read() as session:
        assert outbox.behind(session, ["sink"]) == {"sink"}
    assert position(database, sink) == 0


def test_the_pause_grows_to_its_longest_and_is_the_same_for_all(database, monkeypatch):
    monkeypatch.setattr(settle, "share", lambda: 1.0)
    # So that none is over before it was looked at, however busy the machine is.
    monkeypatch.setattr(settle, "FIRST_PAUSE", 10.0)
    sink = Sink()
    sink.broken = True
    one, other = deliverer(database, sink), deliverer(database, sink, "other")
    numbered(database, 1)
    pauses = []
    for served in [one, other] * 3:
        assert served.serve() is False
        with database.read() as session:
            pauses.append(sinks.standing(session, "sink").rest_seconds)
        assert (one.serve(), other.serve()) == (False, False)
        end_rests(database)

    assert sink.calls == 6
    expected = [10.0, 20.0, 40.0, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    assert all(0 <= full - seen < 5 for full, seen in zip(expected, pauses, strict=True)), pauses


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 0.0), (0.25, 1.0), (1.0, 4.0)])
def test_a_pause_is_a_random_share(monkeypatch, share, seconds):
    monkeypatch.setattr(settle, "share", lambda: share)

    assert settle.pause(3, 1.0, 60.0) == seconds


def test_what_was_delivered_and_could_not_be_noted_is_delivered_again(database, monkeypatch):
    sink = Sink()
    served = deliverer(database, sink)
    numbered(database, 2)
    with monkeypatch.context() as trouble:
        trouble.setattr(outbox, "delivered", lambda *_, **__: 1 / 0)
        served.serve()

    served.serve()

    assert sink.taken == [1, 2, 1, 2]


def test_one_at_a_time_serves_a_sink_and_what_came_meanwhile_is_not_left(database):
    slow, other = Slow("sink"), Sink()
    first, second = deliverer(database, slow, "one"), deliverer(database, other, "two")
    numbered(database, 1)
    serving = threading.Thread(target=first.serve)
    serving.start()
    assert slow.entered.wait(WAIT)
    numbered(database, 1, start=1)

    assert second.serve() is True
    second.start()
    second.wake()
    assert other.taken == []
    slow.let_go.set()
    serving.join(WAIT)

    wait_until(lambda: other.taken == [2])
    second.stop()
    second.join(WAIT)
    assert slow.taken == [1]
    assert rows(database, leases) == []


def test_one_that_died_keeps_a_sink_for_seconds(database):
    slow, other = Slow("sink"), Sink()
    numbered(database, 1)
    dead = threading.Thread(target=deliverer(database, slow, "dead").serve)
    dead.start()
    assert slow.entered.wait(WAIT)

    [held] = rows(database, leases)
    assert timedelta(0) < held.expires_at - now(database) <= timedelta(seconds=slow.call_seconds + 2.5)

    expire_leases(database)
    assert deliverer(database, other, "next").serve() is True
    assert other.taken == [1]
    slow.let_go.set()
    dead.join(WAIT)
    assert position(database, other) == 1


def test_a_long_batch_keeps_its_lease_and_ends_when_it_has_lost_it(database, monkeypatch):
    monkeypatch.setattr(deliver, "RENEW_SECONDS", 0.0)
    numbered(database, 3)

    class Robbed(Sink):
        def deliver(self, some):
            super().deliver(some)
            if self.calls == 2:
                expire_leases(database)
                assert deliverer(database, Sink(), "thief").serve() is True

    sink = Robbed()

    assert deliverer(database, sink).serve() is True

    assert sink.taken == [1, 2]
    assert position(database, sink) == 3


def test_the_thread_tries_again_after_a_pause_and_not_before(database, monkeypatch):
    monkeypatch.setattr(settle, "FIRST_PAUSE", 0.05)
    sink = Sink(refuse={1, 2, 3})
    served = deliverer(database, sink)
    numbered(database, 2)
    served.start()

    served.wake()
    wait_until(lambda: sink.taken == [1, 2])

    served.stop()
    served.join(WAIT)
    assert sink.calls == 5
    assert sink.closed.is_set()
