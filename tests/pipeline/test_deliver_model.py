"""Delivering, explored: two processes that crash, a sink that refuses, goes away or wants no more, and operators.

Whatever happens in whatever order: each event comes at least once or is given up visibly, always with its id, and those
of one resource come in order for the first time. For a longer walk: `VERISINK_TEST_MODEL_EXAMPLES=500`.
"""

import itertools
import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, event, update

from tests.pipeline.outlets import end_rests
from tests.store.play import EARLY, SOURCE, number_all, rows
from worker.domain.events import Event, EventFilter
from worker.domain.states import EventType, UndeliveredState
from worker.pipeline import deliver, hand_over, settle
from worker.pipeline.deliver import Deliverer
from worker.pipeline.operate_sinks import MOST_SENT_AGAIN
from worker.pipeline.settle import Terms
from worker.sinks.base import EventRefused, SinkDisabled, TryLater
from worker.store import outbox, sent_again, sinks, undelivered
from worker.store.engine import Database, database_time
from worker.store.sink_tables import sink_states, undelivered_events
from worker.store.tables import cursors, event_deliveries, events, leases

# Read when this file is imported, because a guard hides them from the tests.
EXAMPLES = int(os.environ.get("VERISINK_TEST_MODEL_EXAMPLES", "12"))
STEPS = 40
RESOURCES = 3
REFUSABLE = 4
ROUNDS = 60
"""Of serving until all is quiet: refusals are mended one resource at a time."""

UNWANTED = "report/unwanted"
WANTED = EventFilter(kinds=frozenset({"inquiry"}))

resources = st.integers(0, RESOURCES - 1)
processes = st.integers(0, 1)


class Killed(BaseException):
    """The process ends here."""


class Mortal(Deliverer):
    """A process that may die after it has handed events over and before it has noted them."""

    dies = False

    def _settle(self, work, done, failure):
        if self.dies:
            raise Killed
        return super()._settle(work, done, failure)


class Receiver:
    """What stands behind the sink. `meanwhile` is done once in the middle of a call."""

    name = "sink"
    call_seconds = 3.0

    def __init__(self) -> None:
        self.at_once = 1
        self.refused: set[int] = set()
        self.trouble: Exception | None = None
        self.meanwhile: Callable[[], object] | None = None
        self.held = False
        self.called_while_held = False
        self.got: list[tuple[int, str]] = []

    def deliver(self, some):
        # Not asserted here, because whoever delivers would take it for an error of the sink.
        self.called_while_held |= self.held
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        if self.trouble is not None:
            raise self.trouble
        if any(int(event["sequence"]) % REFUSABLE in self.refused for event in some):
            raise EventRefused("no")
        self.got.extend((int(event["sequence"]), event["id"]) for event in some)

    def close(self):
        """Nothing to give back."""


class Delivering(RuleBasedStateMachine):
    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        empty(self.database)
        self.receiver = Receiver()
        self.counter = itertools.count(1)
        self.processes = [self.born(), self.born()]

    def born(self) -> Mortal:
        terms = Terms(wanted=WANTED, retry=timedelta(hours=72))
        return Mortal(self.database, self.receiver, holder=f"process-{next(self.counter)}", terms=terms)

    @initialize(at_once=st.sampled_from([1, 3]))
    def begin(self, at_once):
        self.receiver.at_once = at_once

    @rule(resource=resources, count=st.integers(1, 4), wanted=st.sampled_from([True, True, True, False]))
    def happen(self, resource, count, wanted):
        kind = "inquiry" if wanted else UNWANTED
        new = [
            Event(EventType.UPDATED, SOURCE, kind, f"inq_{resource}", occasion=str(next(self.counter)))
            for _ in range(count)
        ]
        with self.database.write() as session:
            outbox.append(session, new, database_time(session))
        number_all(self.database)

    @rule(which=st.integers(0, REFUSABLE - 1), process=processes)
    def refuse_or_take(self, which, process):
        """Events of one resource are refused and taken by turns."""
        self.receiver.refused ^= {which}
        self.processes[process].serve()

    @rule(trouble=st.sampled_from([None, None, None, ConnectionError("canary"), TryLater(30), SinkDisabled("gone")]))
    def change(self, trouble):
        self.receiver.trouble = trouble

    @rule(which=processes, waits=st.booleans())
    def serve(self, which, waits):
        if waits:
            end_rests(self.database)
        self.processes[which].serve()

    @rule(which=processes)
    def die(self, which):
        """At the end of a batch, if there is one; another process is started instead."""
        self.processes[which].dies = True
        with suppress(Killed):
            self.processes[which].serve()
        self.processes[which] = self.born()

    @rule(which=processes)
    def hang(self, which):
        """A call takes so long that the lease runs out, and another process serves meanwhile."""

        def meanwhile():
            self.outlive()
            self.processes[1 - which].serve()

        self.receiver.meanwhile = meanwhile
        self.processes[which].serve()
        self.receiver.meanwhile = None

    @rule()
    def outlive(self):
        """The leases of the dead run out; a hold does not."""
        with self.database.write() as session:
            session.execute(update(leases).where(leases.c.holder != sinks.HOLDER).values(expires_at=EARLY))

    @rule()
    def grow_old(self):
        """Days pass."""
        with self.database.write() as session:
            now = database_time(session) - timedelta(days=4)
            session.execute(update(events).values(occurred_at=now))
            session.execute(update(sink_states).where(sink_states.c.failures > 0).values(away_since=now))
            session.execute(
                update(undelivered_events).where(undelivered_events.c.due_at.is_not(None)).values(since=now)
            )

    @rule(which=processes)
    def hold(self, which):
        with self.database.write() as session:
            sinks.hold(session, "sink", "why", database_time(session))
        self.receiver.held = True
        self.processes[which].serve()

    @rule()
    def release(self):
        with self.database.write() as session:
            sinks.release(session, "sink", database_time(session))
        self.receiver.held = False

    @invariant()
    def in_order(self):
        """Of each resource exactly a beginning has come, but for what was given up, and it came in order."""
        assert not self.receiver.called_while_held
        stored = {row.sequence: row for row in rows(self.database, events)}
        gone = {row.sequence for row in rows(self.database, undelivered_events, state=UndeliveredState.GIVEN_UP)}
        got: dict[int, str] = {}
        came: dict[str, list[int]] = defaultdict(list)
        for sequence, event_id in self.receiver.got:
            assert stored[sequence].id == event_id
            if sequence not in got:
                came[stored[sequence].external_id].append(sequence)
            got[sequence] = event_id
        for resource in range(RESOURCES):
            name = f"inq_{resource}"
            all_of_it = [n for n, row in sorted(stored.items()) if row.external_id == name and row.kind != UNWANTED]
            firsts = [sequence for sequence in came[name] if sequence not in gone]
            assert firsts == [n for n in all_of_it if n not in gone][: len(firsts)]

    def teardown(self):
        """In the end everything is mended, and nothing may be missing."""
        self.receiver.refused.clear()
        self.receiver.trouble = None
        self.release()
        for turn in range(ROUNDS):
            end_rests(self.database)
            self.outlive()
            self.processes[turn % 2].serve()
            if not self.has_work():
                break
        self.in_order()
        missing = {row.sequence for row in rows(self.database, events) if row.kind != UNWANTED} - {
            sequence for sequence, _ in self.receiver.got
        }
        left = rows(self.database, undelivered_events)
        assert {row.state for row in left} <= {UndeliveredState.GIVEN_UP}
        assert missing <= {row.sequence for row in left}
        assert {row.sequence for row in rows(self.database, event_deliveries)} | missing >= {
            sequence for sequence, _ in self.receiver.got
        }
        self.send_again()

    def has_work(self) -> bool:
        with self.database.read() as session:
            standing = sinks.standing(session, "sink")
            return standing.waiting or bool(outbox.behind(session, ["sink"]))

    def send_again(self):
        """What was given up comes when an operator says so."""
        with self.database.write() as session:
            some = sent_again.given_up(session, "sink", MOST_SENT_AGAIN)
            undelivered.send_again(session, "sink", some, database_time(session))
        self.processes[0].serve()
        assert {item.sequence for item in some} <= {sequence for sequence, _ in self.receiver.got}
        assert rows(self.database, undelivered_events) == []


def empty(database: Database) -> None:
    with database.write() as session:
        for table in (events, event_deliveries, undelivered_events, sink_states, leases):
            session.execute(delete(table))
        session.execute(delete(cursors).where(cursors.c.name != "events"))
        session.execute(update(cursors).values(value=0))


@pytest.mark.timeout(60 + EXAMPLES * 10)
def test_whatever_happens_nothing_is_lost_and_nothing_overtakes(database, monkeypatch):
    monkeypatch.setattr(deliver, "BATCH", 5)
    monkeypatch.setattr(deliver, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(deliver, "REFUSED_IN_A_ROW", 3)
    monkeypatch.setattr(hand_over, "REFUSED_IN_A_ROW", 3)
    monkeypatch.setattr(settle, "TRIES_BEFORE_GIVING_UP", 1)
    monkeypatch.setattr(settle, "GIVEN_UP_IN_A_ROW", 2)
    if database.is_sqlite:
        # No power fails here, and the syncs would be most of the time.
        event.listen(database.writer, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    machine = type("Delivering", (Delivering,), {"database": database})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
