"""Reconciling by itself: when a run is due, how far it looks back, and that it ends with its process."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.pipeline.listed import Clock, Reconciling, aged_simulator
from tests.pipeline.plant import Plant
from tests.support.processes import eventually
from web.simulator.faults import Faults
from worker.pipeline import reconcile_schedule
from worker.pipeline.reconcile_schedule import ReconcileSchedule
from worker.store import leases, reconciliations
from worker.store.engine import database_time
from worker.store.tables import reconciliations as runs

HOUR = timedelta(hours=1)


@pytest.fixture
def here(database):
    clock = Clock()
    with aged_simulator(clock) as simulator, Plant(simulator, database) as plant:
        made = Reconciling(plant, clock)
        made.build({"reconcile_hours": 24})
        yield made


@pytest.fixture
def schedule(here, monkeypatch):
    monkeypatch.setattr(reconcile_schedule, "LOOK_SECONDS", 0.0)
    sources = {"persona": here.parts.settings.sources["persona"]}
    made = ReconcileSchedule(here.reconciler, here.plant.database, sources)
    yield made
    made.stop()
    made.join(10)


def go(schedule: ReconcileSchedule) -> None:
    """One sweep, and the end of whatever it started."""
    schedule.start_due()
    schedule.join(20)


def change_last(here: Reconciling, **values: object) -> None:
    newest = here.rows()[-1].id
    with here.plant.database.write() as session:
        session.execute(update(runs).where(runs.c.id == newest).values(**values))


def test_the_first_run_looks_back_a_week_and_the_next_is_due_a_period_later(here, schedule):
    here.lost("persona", "inquiry")

    go(schedule)
    go(schedule)

    [run] = here.rows()
    assert (run.source, run.actor, run.state, run.missing) == ("persona", "schedule", "finished", 1)
    assert timedelta(0) <= run.started_at - run.since - timedelta(days=7) < timedelta(seconds=30)
    change_last(here, started_at=run.started_at - 24 * HOUR)
    go(schedule)
    assert [row.missing for row in here.rows()] == [1, 0]


def test_a_run_looks_back_to_the_last_scheduled_one_that_reached_its_end(here, schedule):
    go(schedule)
    first = here.rows()[-1].started_at - 30 * HOUR
    change_last(here, started_at=first)
    here.run("persona", hours=1)
    change_last(here, started_at=first + 2 * HOUR)
    here.plant.faults.set("persona", Faults(wrong_credentials=True))
    go(schedule)
    change_last(here, started_at=first + 3 * HOUR)
    here.plant.faults.clear()
    here.plant.set_state("persona", held_at=None)

    go(schedule)

    assert [row.state for row in here.rows()] == ["finished", "finished", "failed", "finished"]
    assert here.rows()[-1].since == first - HOUR


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_run_that_was_cut_short_is_made_up_for_at_once(here, schedule, state):
    go(schedule)
    change_last(here, state=state)

    go(schedule)

    assert len(here.rows()) == 2


def test_a_run_in_another_process_is_waited_for(here, schedule):
    go(schedule)
    change_last(here, state="running")
    with here.plant.database.write() as session:
        now = database_time(session)
        leases.acquire(session, leases.reconcile("persona"), "other", now=now, lasting=HOUR)
        assert reconcile_schedule._is_due(session, "persona", HOUR, now) is False

    go(schedule)

    assert len(here.rows()) == 1


def test_the_sweep_does_not_wait_for_a_run_and_stopping_ends_it(here, schedule):
    here.plant.faults.set("persona", Faults(outage=True))
    schedule.start_due()
    eventually(lambda: here.world.calls("persona"), "the run has begun")

    schedule.stop()
    schedule.join(20)

    last = here.last("persona")
    assert last is not None
    assert (last["state"], last["actor"]) == ("stopped", reconciliations.SCHEDULE)
    go(schedule)
    assert len(here.rows()) == 1, "nothing is started any more"


def test_a_source_without_hours_is_never_reconciled_by_itself(here):
    here.build()
    idle = ReconcileSchedule(here.reconciler, here.plant.database, here.parts.settings.sources)

    go(idle)

    assert here.rows() == []
