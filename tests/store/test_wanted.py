"""Many resources are marked as wanted in one statement: each as it would be alone, and in one order."""

import threading
from datetime import timedelta

from sqlalchemy import select, update

from tests.store.play import OTHER, SOURCE, key, now
from worker.domain.states import Cause, Priority
from worker.store.engine import database_time
from worker.store.tables import resources
from worker.store.wanted import Want, mark_wanted

MANY = 40
PAUSES = {SOURCE: timedelta(seconds=30), OTHER: timedelta(seconds=300), "nobody": timedelta(seconds=5)}


def mark(database, wants, **how):
    with database.write() as session:
        return mark_wanted(session, wants, database_time(session), **how)


def found(database):
    with database.read() as session:
        return {(row.source, row.external_id): row for row in session.execute(select(*resources.c))}


def test_each_has_what_was_wanted_of_it(database):
    wants = {
        key("inq_1"): Want("persona", "sandbox", Cause.WEBHOOK, count=3),
        key("inq_1", source=OTHER): Want("persona", "production", Cause.REPLAY, Priority.REPLAY, count=1),
        key("inq_2"): Want("persona", "sandbox", Cause.WEBHOOK, count=0),
    }
    ids = mark(database, wants)

    rows = found(database)
    assert {one: rows[one.source, one.ref.external_id].id for one in wants} == ids
    first, second, third = (rows[one.source, one.ref.external_id] for one in wants)
    assert (first.wanted, first.environment, first.cause, first.priority) == (3, "sandbox", "webhook", 0)
    assert (second.wanted, second.environment, second.cause) == (1, "production", "replay")
    assert second.priority == int(Priority.REPLAY)
    assert first.due_at == first.wanted_since == second.due_at == first.created_at
    assert (third.wanted, third.wanted_since, third.due_at) == (0, None, None)

    assert mark(database, wants) == ids
    assert [found(database)[one.source, one.ref.external_id].wanted for one in wants] == [6, 2, 0]


def test_each_source_has_its_own_pause(database):
    wants = {key(source=source): Want("persona", "sandbox", Cause.WEBHOOK) for source in (SOURCE, OTHER, "third")}
    mark(database, wants)
    moment = now(database)
    with database.write() as session:
        idle = {"due_at": None, "wanted_since": None, "retrieved": 1, "read_started_at": moment}
        session.execute(update(resources).values(**idle))
    mark(database, wants, coalesce=PAUSES)

    rows = found(database)
    waits = [(rows[source, "inq_1"].due_at - moment).total_seconds() for source in (SOURCE, OTHER, "third")]
    assert 30 <= waits[0] < 60
    assert 300 <= waits[1] < 330
    assert 0 <= waits[2] < 30


def test_those_who_take_the_same_ones_do_not_wait_for_each_other_in_a_ring(database):
    keys = [key(f"inq_{number}") for number in range(MANY)]
    # In PostgreSQL's own order of words, capitals and small letters would mix.
    keys += [key(f"{letter}nq_{number}") for number in range(MANY) for letter in "Ii"]
    orders = [keys, keys[::-1], sorted(keys, key=lambda one: one.ref.external_id[::-1])]
    errors = []

    def often(order):
        try:
            for _ in range(15):
                mark(database, {one: Want("persona", "sandbox", Cause.WEBHOOK) for one in order})
        except Exception as error:  # noqa: BLE001 - whatever it is, it fails the test
            errors.append(error)

    threads = [threading.Thread(target=often, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert errors == []
    assert {row.wanted for row in found(database).values()} == {45}
