"""Reconciling against the simulator: what is found, what is left alone, and what a run counts."""

import threading
from datetime import timedelta

import pytest

from tests.pipeline.listed import AN_HOUR, Clock, Reconciling, age_results, aged_simulator
from tests.pipeline.plant import Plant
from tests.store import play
from web.simulator.loss import lose
from web.simulator.notifications import compose
from worker.domain.reconcile import Judgement, ReconcileState
from worker.domain.states import Cause, Priority
from worker.errors import ReconcileRunning, UnknownSource
from worker.pipeline import reconcile
from worker.store import leases, reconciliations
from worker.store.engine import database_time
from worker.store.tables import audit_entries, events, versions
from worker.store.tables import resources as resources_table


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def simulator(clock):
    with aged_simulator(clock) as running:
        yield running


@pytest.fixture
def plant(simulator, sqlite_database):
    with Plant(simulator, sqlite_database) as made:
        yield made


@pytest.fixture
def anywhere(simulator, database):
    with Plant(simulator, database) as made:
        yield made


@pytest.fixture
def here(plant, clock):
    return Reconciling(plant, clock)


@pytest.fixture
def both(anywhere, clock):
    return Reconciling(anywhere, clock)


LOST = [
    ("persona", "inquiry"),
    ("persona", "verification/selfie"),
    ("verifik", "app-registration"),
    ("verifik", "document-validation"),
    ("gu1", "face-match"),
    ("gu1", "id-verification"),
]


@pytest.mark.parametrize(("provider", "kind"), LOST)
def test_what_no_webhook_told_of_is_found_and_retrieved(both, provider, kind):
    record = both.lost(provider, kind)

    report = both.run(provider)

    assert report.state is ReconcileState.FINISHED, report.error
    assert (report.tally.listed, report.tally.missing, report.tally.outdated) == (1, 1, 0)
    assert [(item.judgement, item.external_id) for item in report.findings] == [
        (Judgement.MISSING, record.ref.external_id)
    ]
    assert both.plant.nudges == [provider]
    wanted = both.plant.row(record)
    assert (wanted.cause, wanted.priority) == (Cause.RECONCILE, Priority.RECONCILE)
    both.plant.drain(provider)
    assert both.plant.is_true(record, 1)
    [version] = play.rows(both.plant.database, versions)
    assert version.cause == Cause.RECONCILE


@pytest.mark.parametrize(("provider", "kind"), LOST)
def test_a_second_run_finds_nothing_and_makes_no_calls_but_lists(both, provider, kind):
    record = both.lost(provider, kind)
    both.run(provider)
    both.plant.drain(provider)
    before = len(both.world.calls(provider))

    report = both.run(provider)

    assert (report.tally.listed, report.tally.missing, report.tally.outdated, report.tally.reread) == (1, 0, 0, 0)
    assert both.plant.row(record).due_at is None
    assert len(both.world.calls(provider)) - before == report.tally.calls
    assert {call.external_id for call in both.world.calls(provider)[before:]} == {None}


@pytest.mark.parametrize(("provider", "kind"), [("persona", "inquiry"), ("verifik", "app-registration")])
def test_what_changed_behind_our_back_is_read_again(both, provider, kind):
    record = both.lost(provider, kind, "start")
    both.clock.behind = timedelta(minutes=30)
    both.run(provider)
    both.plant.drain(provider)
    # It changes after it was read, and the run after that comes later still.
    both.clock.behind = timedelta(minutes=10)
    changed = both.world.change(record.ref, "approve")
    play.set_resource(
        both.plant.database, record.ref.external_id, read_started_at=play.now(both.plant.database) - timedelta(hours=1)
    )
    lose(both.world, changed)

    report = both.run(provider)

    assert (report.tally.missing, report.tally.outdated, report.tally.lost) == (0, 1, 1)
    both.plant.drain(provider)
    assert both.plant.is_true(changed, 2)


def test_the_loss_rate_is_what_only_the_run_found(both):
    told = [both.world.create("persona", "inquiry") for _ in range(6)]
    for record in told:
        compose(both.world, record)
        both.plant.retrieve(record)
    for _ in range(3):
        both.lost("persona", "inquiry", None)

    report = both.run("persona")

    assert (report.tally.announced, report.tally.lost) == (9, 3)
    assert report.loss_rate == pytest.approx(1 / 3)
    row = both.last("persona")
    assert (row["state"], row["lost"], row["announced"], row["error"]) == ("finished", 3, 9, None)
    assert row["finished_at"] >= row["started_at"]


def test_face_matches_say_nothing_about_webhooks(here):
    here.lost("gu1", "face-match")

    report = here.run("gu1")

    assert report.tally.missing == 1
    assert report.loss_rate is None


def test_what_is_younger_than_two_minutes_may_still_be_on_its_way(both):
    both.clock.behind = timedelta(seconds=100)
    both.lost("persona", "inquiry")
    both.clock.behind = timedelta(seconds=140)
    older = both.lost("verifik", "app-registration")

    assert both.run("persona").tally.listed == 0
    assert both.run("verifik").tally.missing == 1
    assert [row.external_id for row in play.rows(both.plant.database, resources_table)] == [older.ref.external_id]


def test_what_was_before_the_window_is_left_alone(here):
    here.clock.behind = timedelta(hours=5)
    for provider, kind in LOST:
        here.lost(provider, kind)
    for provider in ("persona", "verifik", "gu1"):
        assert here.run(provider, hours=4).tally.listed == 0
        assert here.run(provider, hours=6).tally.listed > 0


def test_work_that_is_open_is_not_asked_for_twice(here):
    record = here.lost("persona", "inquiry")
    here.plant.want(record)

    report = here.run("persona")

    assert (report.tally.listed, report.tally.missing, report.tally.outdated) == (1, 0, 0)
    assert here.plant.row(record).wanted == 1


def test_parked_work_stays_parked_unless_something_happened_since(here):
    record = here.lost("persona", "inquiry", "start")
    here.plant.want(record)
    play.set_resource(
        here.plant.database, record.ref.external_id,
        parked_at=play.now(here.plant.database), due_at=None, park_reason="rejected",
    )  # fmt: skip

    report = here.run("persona")
    assert (report.tally.parked, report.tally.outdated) == (1, 0)
    assert here.plant.row(record).parked_at is not None

    play.set_resource(
        here.plant.database, record.ref.external_id, parked_at=play.now(here.plant.database) - timedelta(hours=2)
    )
    report = here.run("persona")
    assert (report.tally.parked, report.tally.outdated) == (0, 1)
    assert here.plant.row(record).parked_at is None


def test_an_event_of_another_family_only_leads_to_what_is_known(here):
    here.lost("persona", "account", None)

    report = here.run("persona")

    assert (report.tally.listed, report.tally.missing) == (0, 0)
    assert play.rows(here.plant.database, resources_table) == []


@pytest.mark.parametrize(("provider", "kind"), [("yoti", "session"), ("gu1", "kyc-validation")])
def test_open_results_are_read_again(both, provider, kind):
    record = both.world.change(both.world.create(provider, kind).ref, "start")
    both.plant.retrieve(record)
    changed = both.world.change(record.ref, "approve")
    assert both.run(provider).tally.reread == 0, "it was read a moment ago"
    age_results(both, timedelta(minutes=20))

    report = both.run(provider)

    assert (report.state, report.tally.reread) == (ReconcileState.FINISHED, 1)
    assert both.plant.row(record).cause == Cause.RECONCILE
    both.plant.drain(provider)
    assert both.plant.is_true(changed, 2)
    age_results(both, timedelta(minutes=20))
    assert both.run(provider).tally.reread == 0, "it is final"


def test_pages_are_followed_to_the_end(here, monkeypatch):
    for _ in range(7):
        here.lost("persona", "inquiry", None)
        here.lost("verifik", "app-registration", None)
        here.lost("gu1", "face-match", None)
    for module in ("persona_lists", "verifik_lists", "gu1_lists"):
        monkeypatch.setattr(f"worker.providers.{module}.PAGE_SIZE", 3)

    for provider in ("persona", "verifik", "gu1"):
        assert here.run(provider).tally.missing == 7
    assert len(play.rows(here.plant.database, resources_table)) == 21


def test_a_dry_run_shows_and_changes_nothing(here):
    record = here.lost("persona", "inquiry")

    report = here.run("persona", dry_run=True)

    assert [item.external_id for item in report.findings] == [record.ref.external_id]
    assert report.tally.missing == 1
    assert play.rows(here.plant.database, resources_table) == []
    assert here.rows() == []
    assert here.plant.nudges == []


def test_one_run_a_source_at_a_time(both):
    database = both.plant.database
    with database.write() as session:
        now = database_time(session)
        assert leases.acquire(session, leases.reconcile("persona"), "x", now=now, lasting=timedelta(seconds=60))

    with pytest.raises(ReconcileRunning):
        both.run("persona")
    assert both.run("verifik").state is ReconcileState.FINISHED

    with database.write() as session:
        leases.release(session, leases.reconcile("persona"), "x")
    assert both.run("persona").state is ReconcileState.FINISHED
    assert both.run("persona").state is ReconcileState.FINISHED, "the lease was given back"


def test_a_run_that_lost_its_lease_stops(here, monkeypatch):
    for _ in range(3):
        here.lost("persona", "inquiry", None)
    monkeypatch.setattr("worker.providers.persona_lists.PAGE_SIZE", 1)
    monkeypatch.setattr(reconcile, "RENEW_SECONDS", 0.0)

    def steal(_: object) -> None:
        with here.plant.database.write() as session:
            name, now = leases.reconcile("persona"), database_time(session)
            leases.acquire(session, name, "thief", now=now + timedelta(hours=2), lasting=AN_HOUR)

    report = here.run("persona", watch=steal)

    assert report.state is ReconcileState.STOPPED
    assert "taken over" in str(report.error)
    assert report.tally.calls == 1


def test_the_row_of_a_dead_runner_is_closed_by_the_next(both):
    with both.plant.database.write() as session:
        reconciliations.begin(session, "persona", database_time(session), actor="schedule", now=database_time(session))

    both.run("persona")

    assert [row.state for row in both.rows()] == ["stopped", "finished"]


def test_a_run_ends_when_it_is_told_to(here):
    stopping = threading.Event()
    stopping.set()

    report = here.run("yoti", stopping=stopping)

    assert report.state is ReconcileState.STOPPED
    assert here.last("yoti")["state"] == "stopped"


def test_a_run_by_hand_is_audited_and_a_scheduled_one_is_not(here):
    here.run("yoti", actor="schedule")
    assert play.rows(here.plant.database, audit_entries) == []
    here.run("yoti", actor="ada")
    [entry] = play.rows(here.plant.database, audit_entries)
    assert (entry.actor, entry.action, entry.subject) == ("ada", "reconcile", "yoti")
    assert play.rows(here.plant.database, events) == []


def test_an_unknown_source(here):
    with pytest.raises(UnknownSource):
        here.run("nowhere")
