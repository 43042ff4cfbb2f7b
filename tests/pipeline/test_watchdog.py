"""The watchdog acts when work is overdue and this process takes none, and never because something else is away."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from tests.store.play import OTHER, SOURCE, claim, now, set_resource, want
from worker import watchdog
from worker.clock import monotonic
from worker.store import sources
from worker.watchdog import LOOKS, SWEEP_SECONDS, OverdueWork, Sight, Watchdog, judge

PATIENCE = 60.0
WAIT = 10.0
IDLE, STUCK = "it takes no work, and work is overdue", "the sweep is stuck"

VERDICTS = [
    (Sight(idle=0), None),
    (Sight(idle=1000), None),
    (Sight(idle=59, overdue=1000), None),
    (Sight(idle=61, overdue=14), None),
    (Sight(idle=61, overdue=16), IDLE),
    (Sight(idle=0, sweeping=SWEEP_SECONDS), None),
    (Sight(idle=0, sweeping=SWEEP_SECONDS + 1), STUCK),
    (Sight(idle=1000, overdue=1000, sweeping=SWEEP_SECONDS + 1), STUCK),
]


@pytest.mark.parametrize(("sight", "verdict"), VERDICTS)
def test_a_process_is_of_no_use_when_it_is_idle_beside_overdue_work_or_its_sweep_is_stuck(sight, verdict):
    assert judge(sight, PATIENCE) == verdict


class Left:
    """What a source's budget has left."""

    def __init__(self) -> None:
        self.calls = 10

    def left(self, _source: str) -> int:
        return self.calls


@pytest.fixture
def left():
    return Left()


@pytest.fixture
def work(database, left):
    return OverdueWork(database, (SOURCE, OTHER), seconds=60, budget_left=left.left)


def wanted_for(database, seconds, name="inq_1", source=SOURCE):
    want(database, name, source=source)
    set_resource(database, name, due_at=now(database) - timedelta(seconds=seconds))


def test_work_is_overdue_when_it_has_been_due_for_long_and_could_be_taken(database, work):
    assert not work.exists()
    wanted_for(database, 50)
    assert not work.exists()
    wanted_for(database, 70, "older")
    assert work.exists()


def test_work_that_is_claimed_or_of_a_source_that_is_not_ours_is_not_overdue(database, work):
    wanted_for(database, 70)
    claim(database)
    wanted_for(database, 70, "elsewhere", source="elsewhere")

    assert not work.exists()


def test_work_of_a_source_that_may_not_be_called_is_not_overdue(database, work, left):
    wanted_for(database, 70)
    with database.write() as session:
        sources.throttle(session, SOURCE, now(database) + timedelta(minutes=1))
    assert not work.exists()
    wanted_for(database, 70, "other", source=OTHER)
    assert work.exists()
    left.calls = 0
    assert not work.exists()
    left.calls = 1
    with database.write() as session:
        sources.hold(session, OTHER, "by hand", now=now(database), probe_at=None)
    assert not work.exists()


class Work:
    """Says what a test wants to be true of the database."""

    def __init__(self) -> None:
        self.overdue = True
        self.away = False
        self.asked = 0
        self.closed = threading.Event()

    def exists(self) -> bool:
        self.asked += 1
        if self.away:
            raise OperationalError("SELECT", None, ConnectionError())
        return self.overdue

    def close(self) -> None:
        self.closed.set()


class Process:
    """A process that is idle and whose sweep is between two rounds, unless a test says otherwise."""

    def __init__(self) -> None:
        self.work = Work()
        self.looked_at = monotonic() - 1000
        self.sweep_began_at: float | None = None
        self.trouble: str | None = None
        self.reasons: list[str] = []
        self.acted = threading.Semaphore(0)

    def act(self, reason: str) -> None:
        self.reasons.append(reason)
        self.acted.release()

    @contextmanager
    def watched(self, patience=0.2):
        guard = Watchdog(
            self.work,  # type: ignore[arg-type]
            patience=patience,
            looked_at=lambda: self.looked_at,
            sweep_began_at=lambda: self.sweep_began_at,
            broker_trouble=lambda: self.trouble,
            act=self.act,
        )
        guard.start()
        try:
            yield
        finally:
            guard.stop()
            assert self.work.closed.wait(WAIT)

    def rests(self, looks=2 * LOOKS):
        """Wait until the database was asked so often."""
        ends, target = monotonic() + WAIT, self.work.asked + looks
        while self.work.asked < target:
            assert monotonic() < ends
            threading.Event().wait(0.01)


@pytest.fixture
def process():
    return Process()


def test_it_acts_again_when_the_deed_did_not_help(process):
    with process.watched():
        assert process.acted.acquire(timeout=WAIT)
        assert process.acted.acquire(timeout=WAIT)

    assert set(process.reasons) == {IDLE}


def test_it_spares_a_process_that_has_just_started(process):
    started = monotonic()
    with process.watched(patience=0.5):
        assert process.acted.acquire(timeout=WAIT)

    assert monotonic() - started >= 0.5


@pytest.mark.parametrize(("name", "value"), [("overdue", False), ("away", True)])
def test_it_spares_an_idle_process_without_overdue_work_or_database(process, name, value):
    setattr(process.work, name, value)

    with process.watched():
        process.rests()

    assert process.reasons == []


def test_it_spares_a_process_whose_broker_is_away(process):
    process.trouble = "the broker is not available"

    with process.watched():
        process.rests()
        assert process.reasons == []
        process.trouble = None
        assert process.acted.acquire(timeout=WAIT)


def test_a_process_that_works_costs_no_query(process):
    with process.watched():
        process.looked_at = monotonic() + WAIT
        process.rests(0)
        threading.Event().wait(0.3)

    assert (process.reasons, process.work.asked) == ([], 0)


def test_a_stuck_sweep_is_ended_even_without_a_broker_but_only_beside_a_database(process, monkeypatch):
    monkeypatch.setattr(watchdog, "SWEEP_SECONDS", 0.2)
    process.looked_at = monotonic() + 1000
    process.sweep_began_at = monotonic() - 1000
    process.trouble = "the broker is not available"
    process.work.away = True

    with process.watched():
        process.rests()
        assert process.reasons == []
        process.work.away = False
        assert process.acted.acquire(timeout=WAIT)

    assert process.reasons[0] == STUCK
