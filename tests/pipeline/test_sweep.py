"""The sweep rings for what nobody works on, and no more than once a source."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.store.play import EARLY, OTHER, SOURCE, claim, now, rows, set_resource, want
from worker.pipeline.sweep import Sweeper
from worker.store import leases, sources
from worker.store.tables import leases as leases_table


class Rings:
    def __init__(self, database) -> None:
        self.rung: list[str] = []
        self.publishes = 0
        self.sweeper = Sweeper(database, (SOURCE, OTHER), self.rung.append, self.publish)

    def publish(self):
        self.publishes += 1

    def sweep(self):
        """What one sweep rings for."""
        self.rung.clear()
        self.sweeper.sweep()
        return list(self.rung)


@pytest.fixture
def rings(database):
    return Rings(database)


def test_nothing_due_rings_for_nobody_and_still_publishes(rings):
    assert rings.sweep() == []
    assert rings.publishes == 1


def test_a_backlog_rings_once(database, rings):
    want(database, *(f"inq_{number}" for number in range(300)))

    assert rings.sweep() == [SOURCE]
    assert rings.sweep() == [SOURCE], "again each time, because a nudge may be lost"


def test_only_sources_with_work_due_are_rung_for(database, rings):
    want(database, "later", source=OTHER)
    set_resource(database, "later", due_at=now(database) + timedelta(minutes=1))
    want(database, "mine")
    want(database, "unknown", source="elsewhere")

    assert rings.sweep() == [SOURCE]
    claim(database)
    assert rings.sweep() == []


def test_stranded_work_is_found_when_its_lease_has_run_out(database, rings):
    want(database)
    claim(database)
    set_resource(database, due_at=now(database) - timedelta(seconds=1))

    assert rings.sweep() == [SOURCE]


@pytest.mark.parametrize(("wait", "rung"), [(timedelta(minutes=1), []), (timedelta(minutes=-1), [SOURCE])])
def test_throttled_and_held_sources_are_rung_for_when_they_may_be_called(database, rings, wait, rung):
    want(database)
    with database.write() as session:
        sources.throttle(session, SOURCE, now(database) + wait)
    assert rings.sweep() == rung

    with database.write() as session:
        sources.hold(session, SOURCE, "401", now=EARLY, probe_at=now(database) + wait)
    assert rings.sweep() == rung


def test_an_operators_hold_is_not_rung_for(database, rings):
    want(database)
    with database.write() as session:
        sources.hold(session, SOURCE, "why", now=EARLY, probe_at=None)

    assert rings.sweep() == []


def test_one_of_two_sweeps_and_the_other_takes_over_when_it_dies(database, rings):
    want(database)
    other = Rings(database)

    assert rings.sweep() == [SOURCE]
    assert other.sweep() == []
    assert (rings.publishes, other.publishes) == (1, 1), "either may be the one whose publisher serves a sink"

    with database.write() as session:
        session.execute(update(leases_table).where(leases_table.c.name == leases.SWEEP).values(expires_at=EARLY))
    assert other.sweep() == [SOURCE]
    assert rings.sweep() == []


def test_a_leader_renews_its_lease_in_time_and_not_each_second(database, rings):
    def lease():
        [found] = [row for row in rows(database, leases_table) if row.name == leases.SWEEP]
        return found

    rings.sweep()
    first = lease()
    rings.sweep()
    assert lease() == first

    near = now(database) + leases.SWEEP_RENEWED
    with database.write() as session:
        session.execute(update(leases_table).where(leases_table.c.name == leases.SWEEP).values(expires_at=near))
    assert Rings(database).sweep() == []
    assert lease().expires_at == near, "another one leaves it alone while it lasts"

    rings.sweep()
    assert lease().holder == first.holder
    assert lease().expires_at > near
