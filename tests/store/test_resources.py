"""What is wanted, who may work on it, and when."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import event, select, text, update

from tests.store.play import (
    LEASE,
    OTHER,
    SOURCE,
    claim,
    claim_one,
    fail,
    key,
    make_due,
    now,
    resource,
    retrieved,
    rows,
    set_resource,
    store,
    want,
    wanted_and_claimed,
)
from tests.support.writing import settle
from worker.domain.retry import POISON_CRASHES
from worker.domain.states import AttemptOutcome, Cause, FailureKind, Priority, Step
from worker.errors import ClaimLost
from worker.store import claims, resources, sources
from worker.store.engine import database_time
from worker.store.resources import Want
from worker.store.tables import attempts, versions
from worker.store.tables import events as events_table
from worker.store.tables import resources as table

SECOND = timedelta(seconds=1)


def test_a_new_resource_is_due_at_once(database):
    want(database, cause=Cause.RECONCILE, priority=Priority.RECONCILE)

    found = resource(database)
    assert (found.wanted, found.retrieved, found.cause, found.priority) == (1, 0, "reconcile", 1)
    assert found.due_at == found.wanted_since == found.created_at
    assert (found.attempts, found.failures, found.crashes, found.version, found.claim_token) == (0, 0, 0, 0, None)


def test_wants_are_counted(database):
    want(database)
    want(database, count=3)

    assert resource(database).wanted == 4


def test_a_resource_of_a_delivery_that_wants_nothing_is_known_and_not_due(database):
    want(database, count=0)

    assert (resource(database).wanted, resource(database).due_at) == (0, None)
    assert claim(database) == []


def test_row_ids_come_back_for_old_and_new(database):
    want(database, "inq_1")
    wants = {key(name): Want("persona", "sandbox", Cause.WEBHOOK) for name in ("inq_2", "inq_1")}

    with database.write() as session:
        found = resources.mark_wanted(session, wants, database_time(session))
        assert resources.mark_wanted(session, {}, database_time(session)) == {}

    assert found == {key(name): resource(database, name).id for name in ("inq_1", "inq_2")}


def test_work_in_flight_is_left_alone_when_more_is_wanted(database):
    held = wanted_and_claimed(database)
    before = resource(database)

    want(database)

    after = resource(database)
    assert (after.claim_token, after.due_at, after.wanted) == (held.token, before.due_at, 2)
    assert claim(database) == []


def test_backoff_is_woken_and_keeps_its_failures_and_its_beginning(database):
    fail(database, wanted_and_claimed(database), FailureKind.TIMEOUT)
    set_resource(database, due_at=now(database) + timedelta(hours=1))
    before = resource(database)

    want(database)

    after = resource(database)
    assert (after.failures, after.wanted_since) == (1, before.wanted_since)
    assert claim_one(database).failures == 1


def test_parked_work_is_woken_and_starts_over(database):
    fail(database, wanted_and_claimed(database), FailureKind.REJECTED)
    set_resource(database, wanted_since=now(database) - timedelta(days=9), failures=7)

    want(database)

    after = resource(database)
    assert (after.parked_at, after.park_reason, after.failures) == (None, None, 0)
    assert after.wanted_since > now(database) - timedelta(minutes=1)
    assert claim_one(database).wanted == 2


def test_poison_is_not_woken_but_counted(database):
    want(database)
    set_resource(database, crashes=POISON_CRASHES)
    fail(database, claim_one(database), FailureKind.CRASHED)
    assert resource(database).park_reason == resources.POISON

    want(database)

    after = resource(database)
    assert (after.wanted, after.due_at, after.park_reason) == (2, None, resources.POISON)
    assert claim(database) == []


def test_a_want_of_nothing_new_leaves_settled_work_settled(database):
    retrieved(database)

    want(database, count=0)

    after = resource(database)
    assert (after.due_at, after.wanted_since) == (None, None)


def test_the_most_urgent_want_sets_the_priority(database):
    want(database, priority=Priority.BACKFILL)
    want(database, priority=Priority.LIVE)
    assert resource(database).priority == Priority.LIVE

    want(database, priority=Priority.REPLAY)
    assert resource(database).priority == Priority.LIVE

    store(database, claim_one(database))
    want(database, priority=Priority.REPLAY, cause=Cause.REPLAY)
    assert (resource(database).priority, resource(database).cause) == (Priority.REPLAY, "replay")


def test_claims_come_by_priority_and_then_by_due_time(database):
    want(database, "live_2", "live_1")
    want(database, "replay", priority=Priority.REPLAY)
    want(database, "reconcile", priority=Priority.RECONCILE)
    want(database, "backfill", priority=Priority.BACKFILL)
    want(database, "not_yet")
    past = now(database) - timedelta(hours=1)
    set_resource(database, "live_1", due_at=past, wanted_since=past)
    set_resource(database, "replay", due_at=past - timedelta(hours=1))
    set_resource(database, "not_yet", due_at=past + timedelta(hours=2))

    order = [[held.key.ref.external_id for held in claim(database, limit=2)] for _ in range(3)]

    assert order == [["live_1", "live_2"], ["reconcile", "replay"], ["backfill"]]


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_claim_takes_no_more_than_its_limit(database, analyzed):
    """PostgreSQL's planner may run a sub-select once for each row, and its limit then limits nothing."""
    want(database, *(f"inq_{number}" for number in range(30)))
    if analyzed:
        with database.write() as session:
            session.connection().exec_driver_sql("ANALYZE resources")

    assert [len(claim(database, limit=limit)) for limit in (1, 2, 7, 50)] == [1, 2, 7, 20]


def test_a_claim_books_an_attempt_and_leases_the_resource(database):
    held = wanted_and_claimed(database)

    found = resource(database)
    assert (found.claim_token, found.attempts) == (held.token, 1)
    assert found.due_at == held.started_at + LEASE
    [attempt] = rows(database, attempts)
    assert (attempt.number, attempt.cause, attempt.outcome, attempt.finished_at) == (1, "webhook", None, None)
    assert attempt.started_at == held.started_at
    assert (held.attempt, held.wanted, held.failures, held.crashes) == (1, 1, 0, 0)
    assert (held.provider, held.environment, held.wanted_since) == ("persona", "sandbox", found.wanted_since)


def test_a_claim_is_for_one_source(database):
    want(database, source=OTHER)

    assert claim(database, source=SOURCE) == []
    assert len(claim(database, source=OTHER)) == 1


def test_many_claimers_never_share(database):
    want(database, *(f"inq_{number}" for number in range(60)))
    together = threading.Barrier(6)

    def take(_):
        together.wait(10)
        return [held.resource_id for _ in range(5) for held in claim(database, limit=4)]

    with ThreadPoolExecutor(6) as pool:
        taken = [found for part in pool.map(take, range(6)) for found in part]

    assert len(taken) == len(set(taken)) == 60
    assert {row.attempts for row in rows(database, table)} == {1}


@pytest.mark.postgres
def test_a_claimer_does_not_wait_for_another_transaction(postgres_database):
    want(postgres_database, "inq_1", "inq_2")

    with postgres_database.write() as slow:
        slow.execute(update(table).where(table.c.external_id == "inq_1").values(failures=1))
        assert [held.key.ref.external_id for held in claim(postgres_database)] == ["inq_2"]


def test_an_expired_lease_is_a_crash_and_a_new_attempt(database):
    first = wanted_and_claimed(database)
    make_due(database)

    second = claim_one(database)

    assert (second.attempt, second.crashes, second.failures) == (2, 1, 0)
    assert second.token != first.token
    assert [row.outcome for row in rows(database, attempts)] == ["crashed", None]
    assert rows(database, attempts)[0].finished_at == second.started_at

    make_due(database)
    assert claim_one(database).crashes == 2
    assert [row.outcome for row in rows(database, attempts)] == ["crashed", "crashed", None]


def test_an_attempt_that_ended_is_no_crash(database):
    wanted_and_claimed(database)
    make_due(database)
    fail(database, claim_one(database), FailureKind.TIMEOUT)
    make_due(database)

    assert claim_one(database).crashes == 0
    assert [row.outcome for row in rows(database, attempts)] == ["crashed", "failed", None]


def test_a_want_does_not_hide_a_crash(database):
    wanted_and_claimed(database)
    make_due(database)

    want(database)

    assert claim_one(database).crashes == 1


@pytest.fixture
def outlived(database):
    """A claim whose lease ran out, and whose resource somebody else works on now."""
    old = wanted_and_claimed(database)
    make_due(database)
    claim_one(database)
    return old


def postpone(session, held):
    resources.postpone(session, held, held.started_at)


def park(session, held):
    resources.park(session, held, held.started_at, resources.Parked("bug", Step.WRITE, "0" * 16, "no matter"))


@pytest.mark.parametrize("end", [settle, postpone, park])
def test_a_lost_claim_can_end_nothing(database, outlived, end):
    before = resource(database)

    with pytest.raises(ClaimLost), database.write() as session:
        end(session, outlived)

    assert resource(database) == before


@pytest.mark.parametrize("kind", [None, FailureKind.TIMEOUT, FailureKind.REJECTED, FailureKind.CREDENTIAL])
def test_a_lost_claim_changes_nothing_at_all(database, outlived, kind):
    before = resource(database), rows(database, attempts)

    with pytest.raises(ClaimLost):
        store(database, outlived) if kind is None else fail(database, outlived, kind)

    assert (resource(database), rows(database, attempts)) == before
    assert rows(database, versions) == rows(database, events_table) == []


def test_a_worker_that_was_slow_and_not_dead_takes_its_crash_back(database, outlived):
    assert resource(database).crashes == 1

    for _ in range(2):
        with database.write() as session:
            claims.note_fenced(session, outlived, database_time(session))

    assert resource(database).crashes == 0, "and never fewer than none"
    assert [row.outcome for row in rows(database, attempts)] == ["fenced", None]


def test_failures_of_a_kind_are_counted_back_to_the_first_of_another(database):
    def in_a_row(kind):
        with database.read() as session:
            return claims.failed_in_a_row(session, held, kind)

    held = wanted_and_claimed(database)
    assert in_a_row(FailureKind.CONFLICT) == 0
    for kind in (FailureKind.TIMEOUT, FailureKind.STALE, FailureKind.TIMEOUT, FailureKind.TIMEOUT):
        fail(database, held, kind)
        make_due(database)
        held = claim_one(database)

    assert (in_a_row(FailureKind.TIMEOUT), in_a_row(FailureKind.STALE)) == (2, 0)


def test_a_claim_that_was_settled_is_lost_too(database):
    held = wanted_and_claimed(database)
    store(database, held)

    with pytest.raises(ClaimLost):
        store(database, held)
    assert resource(database).version == 1


def test_what_is_told_of_again_and_again_keeps_its_place(database):
    want(database, "inq_1")
    set_resource(database, "inq_1", due_at=now(database) - timedelta(minutes=2))
    want(database, "inq_2")
    set_resource(database, "inq_2", due_at=now(database) - timedelta(minutes=1))

    want(database, "inq_1")

    assert [item.key.ref.external_id for item in claim(database, limit=1)] == ["inq_1"]


@pytest.mark.postgres
def test_what_somebody_refers_to_is_still_worked_on(postgres_database):
    want(postgres_database)
    with postgres_database.write() as other:
        # As a large replay does while it is being written.
        other.execute(select(table.c.id).with_for_update(read=True, key_share=True))

        with postgres_database.write() as session:
            session.execute(text("SET LOCAL lock_timeout = '500ms'"))
            [held] = resources.claim(session, SOURCE, limit=1, lease=LEASE)
        store(postgres_database, held)

        assert resource(postgres_database).version == 1
        with postgres_database.write() as session:
            set_due = update(table).values(due_at=database_time(session) + SECOND)
            session.execute(set_due)
        with postgres_database.write() as session:
            assert sources.wake_work(session, SOURCE, database_time(session), 10) == 1


def test_which_sources_are_due(database):
    want(database, source=SOURCE)
    want(database, "later", source=OTHER)
    set_resource(database, "later", due_at=now(database) + timedelta(minutes=1))

    with database.read() as session:
        assert resources.sources_due(session, [OTHER, SOURCE, "unknown"]) == [SOURCE]


def test_claiming_uses_the_index(database):
    """A claim must not read the whole table: it is asked for all the time, and the table only grows."""
    want(database, *(f"inq_{number}" for number in range(1000)))
    with database.write() as session:
        session.execute(update(table).values(due_at=None))
    want(database, *(f"inq_due_{number}" for number in range(20)))
    with database.write() as session:
        session.execute(text("ANALYZE"))
    statements = []

    @event.listens_for(database.writer, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, _context, _many):
        statements.append((statement, parameters))

    claim(database, limit=1)

    statement, parameters = next(found for found in statements if "UPDATE resources" in found[0])
    with database.read() as session:
        connection = session.connection()
        if database.is_sqlite:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        else:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).all()
    assert "ix_resources_due" in str(plan)


def test_attempt_outcomes_are_written(database):
    held = wanted_and_claimed(database)
    with database.write() as session:
        claims.finish_attempt(session, held, held.started_at, AttemptOutcome.FENCED, detail="x\x00", http_status=200)

    [attempt] = rows(database, attempts)
    assert (attempt.outcome, attempt.detail, attempt.http_status) == ("fenced", "x\ufffd", 200)
