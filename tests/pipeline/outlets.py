"""Sinks for tests, and events for them."""

import threading

from sqlalchemy import update

from tests.store.play import EARLY, SOURCE
from worker.clock import monotonic
from worker.domain.events import Event
from worker.domain.states import EventType
from worker.store import outbox
from worker.store.sink_tables import sink_states, undelivered_events
from worker.store.tables import leases

WAIT = 10.0


class Sink:
    """Keeps what it is given. `refuse` holds the calls at which it raises instead; `broken` raises always."""

    call_seconds = 3.0

    def __init__(self, name="sink", refuse=(), at_once=1) -> None:
        self.name = name
        self.at_once = at_once
        self.refuse = set(refuse)
        self.broken = False
        self.taken: list[int] = []
        self.ids: list[str] = []
        self.sizes: list[int] = []
        self.calls = 0
        self.closed = threading.Event()

    def deliver(self, events):
        self.calls += 1
        if self.broken or self.calls in self.refuse:
            raise ConnectionError("canary")
        self.sizes.append(len(events))
        self.taken.extend(int(event["sequence"]) for event in events)
        self.ids.extend(event["id"] for event in events)

    def close(self):
        self.closed.set()


class Slow(Sink):
    """Waits in the first call until it is let go."""

    def __init__(self, name="slow") -> None:
        super().__init__(name)
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def deliver(self, events):
        if not self.entered.is_set():
            self.entered.set()
            assert self.let_go.wait(WAIT)
        super().deliver(events)


def happen(database, count, start=0, **more):
    """Write events, as many as that."""
    facts = {"type": EventType.UPDATED, "source": SOURCE, "kind": "inquiry", **more}
    with database.write() as session:
        new = [Event(external_id=f"inq_{start + number}", version=1, **facts) for number in range(count)]
        outbox.append(session, new, EARLY)


def expire_leases(database):
    """As if their holders had died seconds ago."""
    with database.write() as session:
        session.execute(update(leases).values(expires_at=EARLY))


def end_rests(database):
    """As if the pauses of all that waits had passed."""
    with database.write() as session:
        session.execute(update(sink_states).values(due_at=None))
        session.execute(update(undelivered_events).where(undelivered_events.c.due_at.is_not(None)).values(due_at=EARLY))


def wait_until(true):
    """Wait for a condition."""
    ends = monotonic() + WAIT
    while not true():
        assert monotonic() < ends, "it never happened"
        threading.Event().wait(0.005)
