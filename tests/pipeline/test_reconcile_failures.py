"""Reconciling a provider that is down, refuses, is slow to give calls, or answers nonsense."""

from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from tests.pipeline.listed import Clock, Reconciling, age_results, aged_simulator
from tests.pipeline.plant import Plant
from tests.store import play
from web.simulator.faults import Faults
from worker.domain.model import ResourceRef
from worker.domain.reconcile import Found, ReconcileState
from worker.domain.states import Priority
from worker.pipeline import list_calls, reconcile
from worker.providers.listers import BUILT_IN
from worker.providers.listing import Listing, ListQuery, Page, Rereads
from worker.store import reconciliations, sources
from worker.store.tables import resources


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def simulator(clock):
    with aged_simulator(clock) as running:
        yield running


@pytest.fixture
def here(simulator, sqlite_database, clock):
    with Plant(simulator, sqlite_database) as plant:
        yield Reconciling(plant, clock)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(list_calls, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(list_calls, "LOOK_SECONDS", 0.05)


@pytest.fixture
def few_tries(monkeypatch):
    monkeypatch.setattr(list_calls, "TRIES", 2)


class Script:
    """A provider whose pages are written by the test."""

    rereads: Rereads | None = None

    def __init__(self, *cursors: str | None) -> None:
        self._cursors = list(cursors)
        self.asked: list[str | None] = []

    def listings(self, source):
        return (Listing("events"),)

    def list_request(self, source, query: ListQuery, *, nonce, unix_ms):
        return BUILT_IN["persona"].list_request(source, ListQuery("events", query.since), nonce=nonce, unix_ms=unix_ms)

    def read_list(self, source, query: ListQuery, document) -> Page:
        self.asked.append(query.cursor)
        number = len(self.asked)
        return Page((Found(ResourceRef("inquiry", f"inq_{number}")),), 0, self._cursors[number - 1])


def test_a_provider_that_is_down_ends_the_run_and_keeps_what_it_counted(here, few_tries):
    here.lost("persona", "inquiry")

    def break_after_the_first_list(_: object) -> None:
        here.plant.faults.set("persona", Faults(outage=True))

    report = here.run("persona", watch=break_after_the_first_list)

    assert report.state is ReconcileState.FAILED
    assert report.error == "the list inquiries: the provider answered 503, after 2 tries"
    assert (report.tally.calls, report.tally.missing) == (3, 1)
    row = here.last("persona")
    assert (row["state"], row["missing"], row["error"]) == ("failed", 1, report.error)
    here.plant.faults.clear()
    assert here.run("persona").state is ReconcileState.FINISHED


def test_one_bad_answer_is_outlived(here):
    here.lost("verifik", "app-registration")
    calls = []

    def mend_after_one(call: object) -> None:
        calls.append(call)
        here.plant.faults.set("verifik", Faults(outage=len(calls) == 1))

    here.plant.faults.on_call = mend_after_one
    report = here.run("verifik")

    assert (report.state, report.tally.missing) == (ReconcileState.FINISHED, 1)
    assert report.tally.calls == 3


@pytest.mark.parametrize(
    "fault", [Faults(html=True), Faults(empty=True), Faults(truncated=True), Faults(big_megabytes=9)]
)
def test_nonsense_ends_the_run(here, few_tries, fault):
    here.lost("gu1", "face-match")
    here.plant.faults.set("gu1", fault)

    report = here.run("gu1")

    assert report.state is ReconcileState.FAILED
    assert "after 2 tries" in str(report.error)
    assert play.rows(here.plant.database, resources) == []


def test_a_hanging_provider_costs_its_deadline_and_no_more(here, few_tries):
    here.build(deadline=0.3)
    here.plant.faults.set("persona", Faults(latency=30))

    report = here.run("persona")

    assert report.state is ReconcileState.FAILED
    assert "Timeout" in str(report.error)


def test_a_bad_credential_holds_the_source_and_it_is_not_called_again(here):
    here.plant.faults.set("persona", Faults(wrong_credentials=True))

    report = here.run("persona")

    assert report.state is ReconcileState.FAILED
    assert "refuses the credential" in str(report.error)
    assert here.plant.state("persona").held_at is not None
    assert report.tally.calls == 1

    here.plant.faults.clear()
    again = here.run("persona")
    assert (again.state, again.tally.calls) == (ReconcileState.FAILED, 0)
    assert again.error == "the list events: the source is held"


def test_a_credential_that_is_not_there_is_said(here):
    chosen = here.parts.settings.sources["persona"].model_copy(update={"api_key": None})
    settings = here.parts.settings.model_copy(update={"sources": {"persona": chosen}})
    object.__setattr__(here.parts, "settings", settings)

    report = here.run("persona")

    assert report.error == "api_key is not set, so the provider cannot be asked"
    assert report.tally.calls == 0


def test_a_provider_that_asks_to_slow_down_is_waited_for(here):
    here.lost("gu1", "face-match")
    here.plant.faults.set("gu1", Faults(rate_limit_per_minute=1))
    board = here.plant.faults
    board.take("gu1", 1)
    calls = []

    def new_minute_after_the_first(call: object) -> None:
        calls.append(call)
        if len(calls) > 1:
            board.set("gu1", Faults())

    board.on_call = new_minute_after_the_first
    report = here.run("gu1")

    assert (report.state, report.tally.missing) == (ReconcileState.FINISHED, 1)
    assert report.tally.calls == 3
    assert here.plant.state("gu1").throttled_until is not None


def test_a_throttle_that_does_not_end_ends_the_run(here, impatient):
    with here.plant.database.write() as session:
        sources.throttle(session, "persona", play.now(here.plant.database) + timedelta(hours=1))

    report = here.run("persona")

    assert (report.state, report.tally.calls) == (ReconcileState.FAILED, 0)
    assert "rate limit" in str(report.error)


def test_calls_are_spent_from_the_budget_and_leave_live_work_its_share(here, impatient, monkeypatch):
    monkeypatch.setattr("worker.providers.persona_lists.PAGE_SIZE", 1)
    here.build({"rate_limit_per_minute": 10})
    for _ in range(20):
        here.lost("persona", "inquiry", None)

    report = here.run("persona")

    assert report.state is ReconcileState.FAILED
    assert "rate limit" in str(report.error)
    assert report.tally.calls == 8
    assert len(here.world.calls("persona")) == 8
    assert here.parts.budgets.left("persona") == 2
    assert here.parts.budgets.left("persona", Priority.RECONCILE) == 0


def test_the_last_call_of_the_providers_own_window_lets_the_source_wait(here, impatient):
    here.plant.faults.set("persona", Faults(rate_limit_per_minute=1))

    report = here.run("persona")

    assert (report.state, report.tally.calls) == (ReconcileState.FAILED, 1)
    assert here.plant.state("persona").throttled_until is not None


def test_a_list_that_an_account_may_lack_is_left_out(here, monkeypatch):
    here.lost("gu1", "id-verification")
    known = BUILT_IN["gu1"].listings
    assert all(item.optional for item in known(here.parts.settings.sources["gu1"]))
    paths = {"face-match": "/api/kyc/nowhere", "id-verification": "/api/kyc/id-verification/verifications"}
    monkeypatch.setattr("worker.providers.gu1_lists.LISTS", paths)

    report = here.run("gu1")

    assert (report.state, report.tally.missing) == (ReconcileState.FINISHED, 1)
    assert report.error == "the list face-match was left out: the provider answered 404"


def test_a_list_that_is_needed_and_refused_fails_the_run_after_the_others(here, monkeypatch):
    here.lost("persona", "inquiry")
    monkeypatch.setattr("worker.providers.persona_lists.EVENTS", "happenings")

    report = here.run("persona")

    assert report.state is ReconcileState.FAILED
    assert "the list happenings was left out: the provider answered 404" in str(report.error)
    assert report.tally.missing == 1, "the inquiries were gone through all the same"


def test_a_list_that_leads_in_a_circle_is_left(here, monkeypatch):
    script = Script("a", "b", "a")
    monkeypatch.setattr(reconcile, "lister", lambda provider: script)

    report = here.run("persona")

    assert report.error == "the list events: the provider leads back to a page that was read before"
    assert (report.state, script.asked, report.tally.missing) == (ReconcileState.FAILED, [None, "a", "b"], 3)


def test_a_list_without_an_end_is_left(here, monkeypatch):
    script = Script(*(str(number) for number in range(9)))
    monkeypatch.setattr(reconcile, "lister", lambda provider: script)
    monkeypatch.setattr(reconcile, "MOST_PAGES", 5)

    report = here.run("persona")

    assert "more than 5 pages" in str(report.error)
    assert len(script.asked) == 5


def test_a_run_reads_only_so_many_open_results_again(here, monkeypatch):
    monkeypatch.setattr(reconcile, "JUDGED_AT_ONCE", 2)
    monkeypatch.setattr(reconcile, "MOST_REREADS", 5)
    for _ in range(7):
        here.plant.want(here.world.create("yoti", "session"))
    here.plant.drain("yoti")
    age_results(here, timedelta(minutes=20))

    assert here.run("yoti").tally.reread == 5
    assert here.run("yoti").tally.reread == 2
    assert here.run("yoti").tally.reread == 0


def test_what_the_provider_may_have_deleted_is_not_asked_for(here):
    record = here.world.create("yoti", "session")
    here.plant.retrieve(record)
    age_results(here, timedelta(days=2))
    now = play.now(here.plant.database)

    play.set_resource(here.plant.database, record.ref.external_id, created_at=now - timedelta(days=6, minutes=1))
    assert here.run("yoti").tally.reread == 0
    play.set_resource(here.plant.database, record.ref.external_id, created_at=now - timedelta(days=5, hours=23))
    assert here.run("yoti").tally.reread == 1


def test_a_mistake_of_ours_is_written_down_and_raised(here, monkeypatch):
    script = Script()
    monkeypatch.setattr(reconcile, "lister", lambda provider: script)

    with pytest.raises(IndexError):
        here.run("persona")

    row = here.last("persona")
    assert row["state"] == "failed"
    assert str(row["error"]).startswith("IndexError at ")


def test_a_run_that_the_database_left_is_made_up_for(here, monkeypatch):
    here.lost("persona", "inquiry")

    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(reconciliations, "standings", away)
    with pytest.raises(OperationalError):
        here.run("persona")
    monkeypatch.undo()

    last = here.last("persona")
    assert (last["state"], last["error"]) == ("stopped", "the database was away (OperationalError)")
    assert here.run("persona").tally.missing == 1, "the lease was given back"
