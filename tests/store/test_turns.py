"""A sink's turn: one holder at a time, who sees what the one before has done."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.store.play import EARLY, SOURCE, number_all, rows
from tests.support.processes import eventually
from worker.domain.events import Event
from worker.domain.states import EventType
from worker.store import leases, outbox, sinks, turns
from worker.store.outbox import Look, Taken
from worker.store.sinks import Away
from worker.store.tables import cursors, event_deliveries
from worker.store.tables import leases as lease_rows
from worker.store.turns import Turn

LONG = timedelta(minutes=1)
ONE = Turn("sink", "sink:sink", "one", LONG)
OTHER = Turn("sink", "sink:sink", "other", LONG)


def happened(database, count: int) -> None:
    with database.write() as session:
        new = [Event(EventType.UPDATED, SOURCE, "inquiry", f"inq_{number}") for number in range(count)]
        outbox.append(session, new, EARLY)
    number_all(database)


def begun(database, turn: Turn, limit: int = 100) -> Look | None:
    with database.write_at_once() as session:
        return turns.begin(session, turn, limit)


def ended(database, turn: Turn, *taken: int) -> None:
    with database.write_at_once() as session:
        turns.end(session, turn, taken, position=max(taken))


def sequences(look: Look | None) -> list[int]:
    assert look is not None
    return [item.sequence for item in look.batch]


def test_one_has_it_and_the_next_goes_on_behind_what_was_taken(database):
    happened(database, 5)

    assert sequences(begun(database, ONE, limit=3)) == [1, 2, 3]
    assert begun(database, OTHER) is None
    ended(database, ONE, 1, 2, 3)

    assert sequences(begun(database, OTHER)) == [4, 5]
    assert [(row.sequence, row.attempts) for row in rows(database, event_deliveries)] == [(1, 1), (2, 1), (3, 1)]
    assert all(row.delivered_at is not None for row in rows(database, event_deliveries))


def test_what_is_taken_again_counts_as_a_second_attempt_and_moves_nothing_back(database):
    happened(database, 3)
    ended(database, ONE, 1, 2, 3)
    ended(database, OTHER, 1)

    assert [(row.sequence, row.attempts) for row in rows(database, event_deliveries)] == [(1, 2), (2, 1), (3, 1)]
    assert [row.value for row in rows(database, cursors, name="sink:sink")] == [3]


def test_a_lease_that_ran_out_is_had_by_the_next(database):
    gone = Turn("sink", "sink:sink", "gone", timedelta(0))
    assert begun(database, gone) is not None

    assert begun(database, ONE) is not None
    assert [row.holder for row in rows(database, lease_rows)] == ["one"]


def test_a_sink_that_never_began_is_looked_at_closely(database):
    look = begun(database, ONE)

    assert look is not None
    assert (look.batch, look.troubled) == ([], True)


@pytest.mark.postgres
def test_who_waited_for_the_lease_sees_what_was_done_meanwhile(postgres_database):
    happened(postgres_database, 3)
    ended(postgres_database, ONE, 1)
    assert sequences(begun(postgres_database, ONE)) == [2, 3]

    with ThreadPoolExecutor(1) as pool, postgres_database.write() as session:
        turns.end(session, ONE, [2], position=2)
        found = pool.submit(begun, postgres_database, OTHER)
        eventually(lambda: waits_for_a_lock(postgres_database), "the other waits for the lease")
        session.commit()

    assert sequences(found.result()) == [3]


def waits_for_a_lock(database) -> bool:
    with database.read() as session:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(session.execute(query).scalar_one())


def test_the_journal_of_a_sink_in_trouble_stays_as_it_is(database):
    happened(database, 1)
    with database.write() as session:
        outbox.delivered(session, "sink", [Taken(1, 4, "before")], position=1)

    ended(database, ONE, 1)

    assert [(row.attempts, row.last_error) for row in rows(database, event_deliveries)] == [(5, "before")]


@pytest.mark.postgres
def test_who_waited_for_the_lease_sees_that_the_sink_is_away(postgres_database):
    """Its cursor did not move."""
    happened(postgres_database, 2)
    ended(postgres_database, ONE, 1)
    assert sequences(begun(postgres_database, ONE)) == [2]

    with ThreadPoolExecutor(1) as pool, postgres_database.write() as session:
        leases.release(session, ONE.lease, ONE.holder)
        sinks.note_away(session, "sink", Away("TimeoutError", 2, EARLY), EARLY)
        found = pool.submit(begun, postgres_database, OTHER)
        eventually(lambda: waits_for_a_lock(postgres_database), "the other waits for the lease")
        session.commit()

    look = found.result()
    assert look is not None
    assert look.troubled


def test_a_lease_is_given_back_with_nothing_done(database):
    happened(database, 1)
    assert begun(database, ONE) is not None

    with database.write_at_once() as session:
        turns.give_back(session, OTHER)
    assert begun(database, OTHER) is None
    with database.write_at_once() as session:
        turns.give_back(session, ONE)

    assert sequences(begun(database, OTHER)) == [1]
