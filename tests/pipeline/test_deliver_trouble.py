"""Delivering to a sink in trouble: what stops what, for how long, and who says so."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import event, text, update
from structlog.testing import capture_logs

from tests.pipeline.outlets import WAIT, Sink, end_rests, happen, wait_until
from tests.store.play import number_all, rows
from worker.domain.states import UndeliveredState
from worker.pipeline import deliver, hand_over, settle
from worker.pipeline.deliver import Deliverer
from worker.pipeline.settle import LONGEST_ASKED, Terms
from worker.reports.sinks import one_sink, sink_states
from worker.sinks.base import EventRefused, SinkDisabled, TryLater
from worker.store import outbox, sinks, turns
from worker.store.engine import database_time
from worker.store.sink_tables import sink_states as states
from worker.store.sink_tables import undelivered_events
from worker.store.tables import audit_entries, event_deliveries, events, leases


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """No pause is over before a busy machine has looked at it."""
    monkeypatch.setattr(settle, "FIRST_REFUSED_PAUSE", 60.0)


class Picky(Sink):
    """Raises `error` for the events whose numbers are in `bad`."""

    def __init__(self, *bad, error=None, at_once=1) -> None:
        super().__init__(at_once=at_once)
        self.bad = set(bad)
        self.error = error or EventRefused("HTTP 422")

    def deliver(self, events):
        if self.bad & {int(event["sequence"]) for event in events}:
            self.calls += 1
            raise self.error
        super().deliver(events)


def numbered(database, *resources):
    """One event about each of these resources."""
    for place, name in enumerate(resources):
        happen(database, 1, name, occasion=f"{len(rows(database, events))}-{place}")
    number_all(database)


def deliverer(database, sink, holder="one", **terms):
    return Deliverer(database, sink, holder=holder, terms=Terms(**terms))


def serve(database, served):
    """Serve, when all pauses have passed."""
    end_rests(database)
    return served.serve()


def standing(database, name="sink"):
    with database.read() as session:
        return sinks.standing(session, name)


def status(database):
    with database.read() as session:
        return one_sink(session, "sink")


def undelivered(database, state=UndeliveredState.WAITING):
    return [row.sequence for row in rows(database, undelivered_events, state=state)]


def days_pass(database, days=4):
    """As if everything had happened so long ago."""
    with database.write() as session:
        then = database_time(session) - timedelta(days=days)
        session.execute(update(events).values(occurred_at=then))
        session.execute(update(states).values(away_since=then))
        session.execute(update(undelivered_events).values(since=then))


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_refused_event_stops_only_what_is_about_the_same_resource(database, at_once):
    numbered(database, 7, 8, 7, 9, 7)
    sink = Picky(1, at_once=at_once)
    served = deliverer(database, sink)

    assert served.serve() is True

    assert sink.taken == [2, 4]
    assert undelivered(database) == [1, 3, 5]
    assert status(database).state == "refusing"
    assert (status(database).lag, status(database).waiting) == (0, 3)
    calls = sink.calls
    assert served.serve() is True
    assert sink.calls == calls, "it is not yet time"
    numbered(database, 7)
    assert served.serve() is True
    assert serve(database, served) is True
    assert (sink.taken, undelivered(database)) == ([2, 4], [1, 3, 5, 6]), "nothing overtakes it, early or late"

    sink.bad.clear()
    assert serve(database, served) is True

    assert sink.taken == [2, 4, 1, 3, 5, 6]
    assert undelivered(database) == []
    noted = {row.sequence: (row.attempts, row.last_error) for row in rows(database, event_deliveries)}
    assert noted[1] == (3, "EventRefused: HTTP 422")
    assert noted[2] == noted[3] == (1, None)
    assert status(database).state == "active"


def test_the_pauses_of_a_refused_event_grow(database):
    first = settle.FIRST_REFUSED_PAUSE
    numbered(database, 1)
    served = deliverer(database, Picky(1))
    pauses = []
    for _ in range(14):
        serve(database, served)
        [row] = rows(database, undelivered_events)
        pauses.append(round((row.due_at - standing(database).now).total_seconds()))

    assert [row.attempts for row in rows(database, undelivered_events)] == [14]
    assert 0 < pauses[0] <= first
    assert pauses[:5] == sorted(pauses[:5])
    assert 1500 < pauses[-1] <= 3600


def test_what_is_refused_for_days_is_given_up_and_what_follows_goes_on(database):
    numbered(database, 1, 1, 2)
    sink = Picky(1)
    served = deliverer(database, sink, retry=timedelta(hours=72))
    for _ in range(settle.TRIES_BEFORE_GIVING_UP - 1):
        serve(database, served)
    days_pass(database)
    assert undelivered(database) == [1, 2]

    with capture_logs() as logs:
        serve(database, served)
        serve(database, served)

    assert sink.taken == [3, 2]
    assert undelivered(database, UndeliveredState.GIVEN_UP) == [1]
    assert [(line["event"], line["events"], line["log_level"]) for line in logs] == [("events_given_up", 1, "error")]
    found = status(database)
    assert (found.given_up, found.waiting, found.lag, found.state) == (1, 0, 0, "active")


def test_what_an_absent_sink_could_not_be_given_for_days_is_given_up_and_the_rest_is_not(database, monkeypatch):
    monkeypatch.setattr(deliver, "BATCH", 3)
    numbered(database, 1, 2, 3, 4)
    sink = Sink()
    sink.broken = True
    served = deliverer(database, sink)
    for _ in range(settle.TRIES_BEFORE_GIVING_UP):
        assert serve(database, served) is False
    assert status(database).state == "away"
    assert status(database).last_error == "ConnectionError"
    days_pass(database)
    for tries in range(3):
        serve(database, served)
        assert undelivered(database, UndeliveredState.GIVEN_UP) == [1, 2, 3][: tries + 1], "only what was offered"
    numbered(database, 5)
    with database.write() as session:
        session.execute(update(events).where(events.c.sequence == 4).values(occurred_at=database_time(session)))
    serve(database, served)

    sink.broken = False
    assert serve(database, served) is True

    assert sink.taken == [4, 5]
    assert [row.attempts for row in rows(database, undelivered_events)] == [6, 7, 8]
    assert {row.last_error for row in rows(database, undelivered_events)} == {"ConnectionError"}


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_event_that_breaks_the_receiver_for_days_is_given_up_without_those_that_were_never_offered(
    database, at_once
):
    numbered(database, *range(10))
    sink = Picky(1, error=ConnectionError("canary"), at_once=at_once)
    served = deliverer(database, sink)
    for _ in range(settle.TRIES_BEFORE_GIVING_UP):
        serve(database, served)
    days_pass(database)

    serve(database, served)
    assert serve(database, served) is True

    tried = list(range(1, 1 + at_once))
    assert undelivered(database, UndeliveredState.GIVEN_UP) == tried
    assert sink.taken == [number for number in range(1, 11) if number not in tried]


@pytest.mark.parametrize("error", [ConnectionError("canary"), EventRefused("HTTP 404")])
def test_a_sink_that_is_gone_for_good_is_held_instead_of_giving_up_everything(database, monkeypatch, error):
    monkeypatch.setattr(settle, "GIVEN_UP_IN_A_ROW", 2)
    sink = Picky(*range(2, 8), error=error)
    served = deliverer(database, sink)

    with capture_logs() as logs:
        # Those that are refused are given up together, and the next ones show that nothing else is taken.
        for resources in ((1, 2, 3, 4), (5, 6, 7)):
            numbered(database, *resources)
            for _ in range(2 * settle.TRIES_BEFORE_GIVING_UP):
                serve(database, served)
                days_pass(database)

    gone = undelivered(database, UndeliveredState.GIVEN_UP)
    found = status(database)
    assert (found.state, found.given_up + found.waiting + found.lag) == ("held", 6)
    assert found.hold_reason.startswith("2 given up in a row: ")
    assert "canary" not in found.hold_reason
    assert [line["event"] for line in logs][-1] == "sink_held"
    assert [entry.action for entry in rows(database, audit_entries)] == ["sink.hold"]
    assert gone == ([2, 3, 4] if isinstance(error, EventRefused) else [2, 3])
    numbered(database, 8)
    calls = sink.calls
    serve(database, served)
    assert sink.calls == calls

    sink.bad.clear()
    with database.write() as session:
        sinks.release(session, "sink", database_time(session))
    assert serve(database, served) is True
    assert set(sink.taken) | set(gone) == set(range(1, 9))


def test_a_worker_that_was_stopped_for_days_gives_up_nothing_at_once(database):
    numbered(database, 1)
    sink = Sink()
    sink.broken = True
    deliverer(database, sink).serve()
    days_pass(database)

    serve(database, deliverer(database, sink, "started later"))

    assert undelivered(database, UndeliveredState.GIVEN_UP) == []


def test_a_sink_that_refuses_everything_is_left_alone_and_fills_no_table(database, monkeypatch):
    monkeypatch.setattr(deliver, "REFUSED_IN_A_ROW", 3)
    monkeypatch.setattr(hand_over, "REFUSED_IN_A_ROW", 3)
    numbered(database, *range(10))
    sink = Picky(*range(1, 11))
    served, other = deliverer(database, sink), deliverer(database, sink, "other")

    assert served.serve() is False

    assert undelivered(database) == [1, 2, 3]
    assert status(database).state == "away"
    assert status(database).last_error == "RefusesEverything: HTTP 422"
    serve(database, served)
    serve(database, other)
    assert undelivered(database) == [1, 2, 3, 4, 5], "one more with each try"
    sink.bad.clear()
    assert serve(database, served) is True
    assert sorted(sink.taken) == list(range(1, 11))


def test_only_so_many_events_are_set_aside(database, monkeypatch):
    monkeypatch.setattr(deliver, "MOST_WAITING", 2)
    monkeypatch.setattr(deliver, "BATCH", 2)
    numbered(database, 1, 1, 2, 3)
    sink = Picky(1)
    served = deliverer(database, sink)

    served.serve()
    assert (undelivered(database), sink.taken, status(database).lag) == ([1, 2], [3, 4], 0)
    numbered(database, 4, 1, 5)
    assert served.serve() is True
    assert (undelivered(database), sink.taken, status(database).lag) == ([1, 2], [3, 4, 5], 2)
    calls = sink.calls
    assert served.serve() is True
    assert sink.calls == calls, "what would have to be set aside is not offered"

    sink.bad.clear()
    serve(database, served)
    assert sink.taken == [3, 4, 5, 1, 2, 6, 7]


def test_an_event_that_is_refused_when_no_more_may_be_set_aside_waits_at_the_cursor(database, monkeypatch):
    monkeypatch.setattr(deliver, "MOST_WAITING", 1)
    numbered(database, 1)
    sink = Picky(1, 3, at_once=2)
    served = deliverer(database, sink)
    served.serve()
    numbered(database, 2, 3, 4)

    assert served.serve() is False

    assert (undelivered(database), sink.taken, status(database).lag) == ([1], [2], 2)
    assert (status(database).state, status(database).last_error) == ("away", "NoRoom: HTTP 422")
    sink.bad = {1}
    assert serve(database, served) is True
    assert (undelivered(database), sink.taken) == ([1], [2, 3, 4])


def test_an_event_that_waits_and_breaks_the_receiver_does_not_always_come_first(database):
    numbered(database, 1, 2)
    sink = Picky(1)
    served = deliverer(database, sink)
    served.serve()
    numbered(database, 3)
    sink.error = ConnectionError("canary")

    assert serve(database, served) is False
    with database.write() as session:
        session.execute(update(states).values(due_at=None))
    assert served.serve() is True

    assert sink.taken == [2, 3]
    assert undelivered(database) == [1]
    assert status(database).state == "refusing"


def test_a_release_ends_the_pauses_of_what_was_refused(database):
    numbered(database, 1)
    sink = Picky(1)
    served = deliverer(database, sink)
    served.serve()
    sink.bad.clear()

    with database.write() as session:
        assert sinks.release(session, "sink", database_time(session)) is True
    served.serve()

    assert sink.taken == [1]
    with database.write() as session:
        assert sinks.release(session, "sink", database_time(session)) is False


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(120, 110, 120), (1e9, LONGEST_ASKED - 10, LONGEST_ASKED), (0, 0, 1)]
)
def test_a_sink_that_asks_for_a_pause_gets_it_within_reason(database, asked, least, most):
    numbered(database, 1)
    sink = Picky(1, error=TryLater(asked))

    assert deliverer(database, sink).serve() is False

    assert least <= standing(database).rest_seconds <= most
    if asked:
        assert deliverer(database, sink, "other").serve() is False
        assert sink.calls == 1, "other processes leave it alone too"


def test_a_sink_that_wants_no_more_is_held_until_somebody_releases_it(database):
    numbered(database, 1, 2)
    sink = Picky(1, error=SinkDisabled("HTTP 410"))
    served = deliverer(database, sink)

    with capture_logs() as logs:
        assert served.serve() is False
        assert serve(database, served) is True
        expire_leases_but_holds(database)
        assert serve(database, deliverer(database, sink, "other")) is True

    assert sink.calls == 1
    assert [(line["event"], line["reason"]) for line in logs] == [("sink_held", "SinkDisabled: HTTP 410")]
    [entry] = rows(database, audit_entries)
    assert (entry.actor, entry.action, entry.subject) == ("verisink", "sink.hold", "sink")
    with database.read() as session:
        [found] = sink_states(session, ["sink"])
        assert outbox.behind(session, ["sink"]) == frozenset()
    assert (found.behind, found.hold_reason, found.held_at is not None) == (2, "SinkDisabled: HTTP 410", True)

    sink.bad.clear()
    with database.write() as session:
        sinks.release(session, "sink", database_time(session))
    assert served.serve() is True
    assert sink.taken == [1, 2]


def expire_leases_but_holds(database):
    """Leases that ran out are not those that hold a sink."""
    held = [row for row in rows(database, leases) if row.holder == sinks.HOLDER]
    assert len(held) == 1
    assert held[0].expires_at == sinks.FOREVER


def test_a_hold_stops_a_batch_that_is_under_way(database, monkeypatch):
    monkeypatch.setattr(deliver, "RENEW_SECONDS", 0.0)
    numbered(database, 1, 2, 3)

    class Held(Sink):
        def deliver(self, some):
            super().deliver(some)
            with database.write() as session:
                sinks.hold(session, "sink", "why", database_time(session))

    sink = Held()
    deliverer(database, sink).serve()

    assert sink.taken == [1]
    assert standing(database).position == 1
    with database.write() as session:
        sinks.release(session, "sink", database_time(session))
    other = Sink()
    deliverer(database, other, "other").serve()
    assert other.taken == [2, 3]


def test_the_time_of_a_hold_is_nobodys_failure(database):
    """What waited while its sink was held is not given up for it."""
    numbered(database, 1)
    sink = Picky(1)
    served = deliverer(database, sink)
    served.serve()
    with database.write() as session:
        sinks.hold(session, "sink", "why", database_time(session))
    days_pass(database)
    with database.write() as session:
        sinks.release(session, "sink", database_time(session))

    served.serve()

    assert undelivered(database) == [1]
    assert undelivered(database, UndeliveredState.GIVEN_UP) == []


def test_a_call_that_fails_after_its_sink_was_held_begins_no_outage(database):
    numbered(database, 1)

    class Held(Sink):
        def deliver(self, some):
            with database.write() as session:
                sinks.hold(session, "sink", "why", database_time(session))
            super().deliver(some)

    sink = Held()
    sink.broken = True

    deliverer(database, sink).serve()

    assert (standing(database).away_since, standing(database).failures) == (None, 0)


def test_after_a_hold_time_and_tries_count_anew(database):
    numbered(database, 1)
    sink = Sink()
    sink.broken = True
    served = deliverer(database, sink)
    for _ in range(settle.TRIES_BEFORE_GIVING_UP + 1):
        serve(database, served)
    with database.write() as session:
        sinks.hold(session, "sink", "why", database_time(session))
        # As a process of the release before writes it, or one whose call ended late.
        session.execute(update(states).values(failures=1, due_at=sinks.FOREVER))
    days_pass(database)
    with database.write() as session:
        sinks.release(session, "sink", database_time(session))
    assert (standing(database).away_since, standing(database).failures) == (None, 0)

    for _ in range(settle.TRIES_BEFORE_GIVING_UP):
        days_pass(database)
        assert serve(database, served) is False
    assert undelivered(database, UndeliveredState.GIVEN_UP) == []

    serve(database, served)
    assert undelivered(database, UndeliveredState.GIVEN_UP) == [1]


@pytest.mark.postgres
def test_a_release_and_a_delivery_do_not_wait_for_each_other(postgres_database):
    """Both write to what waits, to how the sink stands and to its lease."""
    database = postgres_database
    numbered(database, 1)
    deliverer(database, Picky(1)).serve()
    with database.write() as session:
        sinks.hold(session, "sink", "why", database_time(session))

    def release():
        with database.write() as session:
            return sinks.release(session, "sink", database_time(session))

    def waits():
        with database.read() as session:
            return session.execute(text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")).first()

    with ThreadPoolExecutor(1) as beside:
        with database.write() as session:
            session.execute(update(undelivered_events).values(attempts=2))
            released = beside.submit(release)
            wait_until(waits)
            sinks.note_back(session, "sink")
            session.execute(update(leases).values(holder=sinks.HOLDER))
        assert released.result(WAIT) is True


def test_a_new_sink_may_begin_with_what_happens_from_now_on(database):
    numbered(database, 1, 2)
    sink = Sink()
    served = deliverer(database, sink, from_now=True)

    served.serve()
    numbered(database, 3)
    served.serve()
    deliverer(database, sink, "restarted", from_now=True).serve()

    assert sink.taken == [3]


def test_where_a_sink_begins_is_decided_when_its_worker_starts(database):
    """And not when the first event is there, which would be passed over."""
    numbered(database, 1)
    sink = Sink()
    served = deliverer(database, sink, from_now=True)
    served.start()
    wait_until(lambda: standing(database).position is not None)
    numbered(database, 2)

    served.wake()
    served.stop()
    served.join(10)

    assert sink.taken == [2]


def test_a_healthy_sink_costs_few_statements(database):
    """An event waits for each of them, and sinks are a fifth of what a worker does."""
    sink = Sink(at_once=100)
    served = deliverer(database, sink)
    numbered(database, 1)
    served.serve()
    numbered(database, 2, 3)
    sent: list[str] = []
    for engine in {database.engine, database.writer, database.hasty}:
        event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))

    served.serve()

    assert sink.taken == [1, 2, 3]
    # SQLite: the lease, the events; what was delivered, the cursor, the lease; and twice the time.
    statements = [statement for statement in sent if "BEGIN" not in statement]
    assert len(statements) == (7 if database.is_sqlite else 2)


def test_who_cannot_read_an_event_keeps_nobody_from_delivering_it(database, monkeypatch):
    def newer(row):
        raise ValueError(f"{row.type} is of a newer release")

    sink = Sink()
    numbered(database, 1)
    with monkeypatch.context() as patch:
        for module in (outbox, turns):
            patch.setattr(module, "numbered", newer)
        assert deliverer(database, Sink()).serve() is False

    assert deliverer(database, sink, "two").serve() is True
    assert sink.taken == [1]


def test_errors_are_kept_without_what_could_be_secret(database):
    class Unfriendly(Exception):
        http_status = 503

    numbered(database, 1)
    deliverer(database, Picky(1, error=Unfriendly("https://user:canary@host/"))).serve()

    assert standing(database).last_error == "Unfriendly: HTTP 503"
