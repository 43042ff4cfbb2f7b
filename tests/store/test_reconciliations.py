"""What reconciling asks of the database, on every engine: standings, open results, and the rows of the runs."""

from datetime import timedelta

import pytest
from sqlalchemy import event, update

from tests.store import play
from tests.store.play import SOURCE, ref
from worker.domain.reconcile import ReconcileState, Standing, Tally
from worker.domain.retry import Failure
from worker.domain.states import FailureKind
from worker.reports.reconciliations import last_reconciliation, reconciliation_list
from worker.store import leases, reconciliations
from worker.store.engine import Database, database_time
from worker.store.tables import results

HOUR = timedelta(hours=1)


def standing(database: Database, external_id: str = "inq_1") -> Standing | None:
    with database.read() as session:
        return reconciliations.standings(session, SOURCE, [ref(external_id), ref("inq_none")]).get(ref(external_id))


def test_what_is_not_known_has_no_standing(database):
    play.want(database, "inq_1", source=play.OTHER)

    assert standing(database) is None


def test_open_work_and_settled_work(database):
    play.want(database)
    found = standing(database)
    assert found is not None
    assert found.open

    claim = play.claim_one(database)
    assert standing(database) == found
    play.store(database, claim, found=play.reading(updated=play.EARLY))

    assert standing(database) == Standing(
        open=False, read_started_at=claim.started_at, provider_updated_at=play.EARLY, provider_status="said"
    )


def test_parked_work(database):
    claim = play.wanted_and_claimed(database)
    play.fail(database, claim, Failure(FailureKind.REJECTED, "no"))

    found = standing(database)

    assert found is not None
    assert (found.open, found.poison, found.parked_at is not None) == (False, False, True)
    play.set_resource(database, park_reason="poison")
    assert standing(database) == Standing(open=False, parked_at=found.parked_at, poison=True)


def test_which_webhooks_have_arrived(database):
    play.record(database, play.arrival("evt_1"), play.arrival("evt_2", source=play.OTHER))

    with database.read() as session:
        assert reconciliations.delivered(session, SOURCE, {"evt_1", "evt_2", "evt_3"}) == {"evt_1"}
        assert reconciliations.delivered(session, SOURCE, set()) == set()


def stored(database: Database, external_id: str, *, changed: timedelta, verdict=play.CREATED) -> None:
    """A result that changed so long ago."""
    play.retrieved(database, external_id, play.reading(verdict), told=external_id)
    row = play.resource(database, external_id)
    at = play.now(database) - changed
    with database.write() as session:
        session.execute(update(results).where(results.c.resource_id == row.id).values(updated_at=at, retrieved_at=at))


def open_ids(database: Database, kinds=None, *, within=10 * HOUR, behind=None, limit=10) -> list[str]:
    with database.read() as session:
        since = database_time(session) - within
        found = reconciliations.open_results(session, SOURCE, kinds, changed_since=since, behind=behind, limit=limit)
        return [item.ref.external_id for item in found]


def test_open_results_are_those_that_are_not_final_and_that_nobody_works_on(database):
    stored(database, "inq_old", changed=11 * HOUR)
    stored(database, "inq_1", changed=3 * HOUR)
    stored(database, "inq_2", changed=4 * HOUR)
    stored(database, "inq_final", changed=3 * HOUR, verdict=play.APPROVED)
    stored(database, "inq_waiting", changed=3 * HOUR)
    stored(database, "inq_parked", changed=3 * HOUR)
    play.want(database, "inq_waiting")
    play.set_resource(database, "inq_parked", parked_at=play.now(database))

    assert open_ids(database) == ["inq_2", "inq_1"]
    assert open_ids(database, ["inquiry"]) == ["inq_2", "inq_1"]
    assert open_ids(database, ["session"]) == []
    assert open_ids(database, within=12 * HOUR) == ["inq_old", "inq_2", "inq_1"]


def test_open_results_come_in_chunks(database):
    for number in range(5):
        stored(database, f"inq_{number}", changed=timedelta(minutes=50 - number))
    seen, behind = [], None
    with database.read() as session:
        since = database_time(session) - HOUR
        while chunk := reconciliations.open_results(session, SOURCE, None, changed_since=since, behind=behind, limit=2):
            seen += [item.ref.external_id for item in chunk]
            behind = chunk[-1].place

    assert seen == [f"inq_{number}" for number in range(5)]


def test_open_results_are_found_by_their_index(sqlite_database):
    """However many results are final."""
    plans: list[str] = []

    def explain(connection, cursor, statement, parameters, *_):
        if statement.startswith("SELECT"):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(str(row[-1]) for row in rows)

    with sqlite_database.read() as session:
        now = database_time(session)
        event.listen(session.connection(), "before_cursor_execute", explain)
        place = (now - HOUR, 1)
        reconciliations.open_results(session, SOURCE, ["inquiry"], changed_since=now - HOUR, behind=place, limit=5)

    assert any("ix_results_open" in line for line in plans), plans
    assert not any(line.startswith("SCAN") or "TEMP B-TREE" in line for line in plans), plans


def begin(database: Database, *, actor: str = "schedule") -> int:
    with database.write() as session:
        now = database_time(session)
        return reconciliations.begin(session, SOURCE, now - HOUR, actor=actor, now=now)


def finish(database: Database, run: int, state: ReconcileState, error: str | None = None) -> None:
    with database.write() as session:
        reconciliations.finish(session, run, state, error, database_time(session))


def test_a_run_from_its_beginning_to_its_end(database):
    run = begin(database)
    tally = Tally(calls=3, listed=8, announced=8, missing=1, outdated=1, lost=2, parked=1, reread=4, unreadable=5)
    with database.write() as session:
        reconciliations.count(session, run, tally)
    finish(database, run, ReconcileState.FINISHED, "a list was left out")

    with database.read() as session:
        last = last_reconciliation(session, SOURCE)
        assert last_reconciliation(session, play.OTHER) is None
        [listed] = reconciliation_list(session, SOURCE, limit=5)
    assert last == listed
    assert last is not None
    assert {name: getattr(last, name) for name in Tally.__slots__} == {
        name: getattr(tally, name) for name in Tally.__slots__
    }
    assert (last.state, last.error, last.loss_rate) == ("finished", "a list was left out", 0.25)


def test_an_ended_run_is_not_ended_again(database):
    run = begin(database)
    begin(database)
    finish(database, run, ReconcileState.FINISHED)

    with database.read() as session:
        newest, oldest = reconciliation_list(session, limit=5)
    assert (oldest.state, oldest.error) == ("stopped", "the process that ran it has ended")
    assert newest.state == "running"


def test_only_scheduled_runs_that_reached_their_end_move_the_window(database):
    with database.read() as session:
        assert reconciliations.last_scheduled_success(session, SOURCE) is None
    good = begin(database)
    finish(database, good, ReconcileState.FINISHED)
    finish(database, begin(database), ReconcileState.FAILED)
    finish(database, begin(database, actor="cli"), ReconcileState.FINISHED)

    with database.read() as session:
        runs = {run.id: run for run in reconciliation_list(session, limit=5)}
        assert reconciliations.last_scheduled_success(session, SOURCE) == runs[good].started_at


@pytest.mark.parametrize("slug", ["a", "a" * 53, "a" * 54, "a" * 63])
def test_every_source_has_a_lease_of_its_own(database, slug):
    other = slug[:-1] + "b"
    with database.write() as session:
        now = database_time(session)
        for name in (slug, other):
            assert leases.acquire(session, leases.reconcile(name), name, now=now, lasting=HOUR)
        assert not leases.acquire(session, leases.reconcile(slug), other, now=now, lasting=HOUR)
    assert len(leases.reconcile(slug)) <= leases.LONGEST_NAME
