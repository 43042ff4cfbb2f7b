"""Leases: one holder at a time, and nobody waits for the dead for long."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from tests.store.play import EARLY, rows
from worker.store import leases
from worker.store.tables import leases as table

TEN = timedelta(seconds=10)


def acquire(database, holder, *, after=timedelta(0), name="sweep"):
    with database.write() as session:
        return leases.acquire(session, name, holder, now=EARLY + after, lasting=TEN)


def test_one_holds_it_until_it_runs_out(database):
    assert acquire(database, "a") is True
    assert acquire(database, "b") is False
    assert acquire(database, "b", name="other") is True
    assert acquire(database, "b", after=TEN - timedelta(milliseconds=1)) is False
    assert acquire(database, "b", after=TEN) is True
    assert acquire(database, "a", after=TEN) is False


def test_its_holder_renews_it(database):
    acquire(database, "a")
    assert acquire(database, "a", after=TEN / 2) is True

    assert acquire(database, "b", after=TEN) is False
    [row] = rows(database, table)
    assert (row.holder, row.expires_at) == ("a", EARLY + TEN * 1.5)


def test_only_its_holder_gives_it_back(database):
    acquire(database, "a")
    with database.write() as session:
        leases.release(session, "sweep", "b")
    assert acquire(database, "b") is False

    with database.write() as session:
        leases.release(session, "sweep", "a")
    assert acquire(database, "b") is True


def test_one_of_many_gets_it(database):
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda holder: acquire(database, f"h{holder}"), range(8))) == 1


def test_how_long_it_still_stands_is_seen_without_writing(database):
    def standing(holder, after):
        with database.read() as session:
            return leases.standing(session, "sweep", holder, now=EARLY + after)

    nothing = timedelta(0)
    assert standing("a", nothing) == nothing, "it was never taken"
    acquire(database, "a")

    assert standing("a", TEN / 2) == TEN / 2
    assert standing("b", TEN / 2) is None
    assert standing("a", TEN) == standing("b", TEN) == nothing
