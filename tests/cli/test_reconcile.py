"""`verisink reconcile` and `reconciliations`: what people see of a run, and what they may say wrongly."""

from datetime import datetime, timedelta

import pytest

from tests.pipeline.listed import Clock, aged_simulator
from tests.pipeline.plant import CREDENTIALS
from tests.store import play
from web.simulator.faults import Faults
from web.simulator.loss import lose
from worker.cli.common import operator
from worker.domain.reconcile import Tally
from worker.store import leases, reconciliations
from worker.store.engine import database_time
from worker.store.tables import reconciliations as runs
from worker.store.tables import resources

SOURCE = "persona-live"


@pytest.fixture
def simulator():
    with aged_simulator(Clock()) as running:
        yield running


@pytest.fixture
def asking(shell, simulator):
    """A shell whose source is the simulator."""
    shell.environment |= {
        "VERISINK_SOURCES__PERSONA_LIVE__BASE_URL": simulator.url + "/persona/api/v1",
        "VERISINK_SOURCES__PERSONA_LIVE__API_KEY": CREDENTIALS.persona_api_key,
    }
    return shell


@pytest.fixture
def lost(simulator):
    """The id of an inquiry that nobody told us of."""
    record = simulator.world.create("persona", "inquiry")
    lose(simulator.world, record)
    return record.ref.external_id


def test_a_run_says_what_it_found(asking, database, lost):
    result = asking.run("reconcile", SOURCE)

    assert result.exit_code == 0, result.stderr
    assert "missing:                1\n" in result.stdout
    assert "loss rate:              100.0% (1 of 1 that webhooks tell of)" in result.stdout
    assert lost in result.stdout
    [wanted] = play.rows(database, resources)
    assert (wanted.external_id, wanted.cause) == (lost, "reconcile")


def test_a_run_as_json_and_in_the_list_of_runs(asking, lost):
    report = asking.json("reconcile", SOURCE, "--since", "7d")

    assert (report["state"], report["tally"]["missing"], report["loss_rate"]) == ("finished", 1, 1.0)
    assert report["findings"] == [{"judgement": "missing", "kind": "inquiry", "external_id": lost}]
    [run] = asking.json("reconciliations")
    assert (run["source"], run["actor"], run["state"], run["missing"], run["loss_rate"]) == (
        SOURCE, operator(), "finished", 1, 1.0,
    )  # fmt: skip
    week = datetime.fromisoformat(run["started_at"]) - datetime.fromisoformat(run["since"])
    assert abs(week - timedelta(days=7)) < timedelta(seconds=30)
    assert "100.0%" in asking.run("reconciliations", "--source", SOURCE).stdout
    assert asking.json("reconciliations", "--source", "other") == []
    assert [item["id"] for item in asking.json("status")["reconciliations"]] == [run["id"]]
    assert "last reconciliations" in asking.run("status").stdout


def test_a_dry_run_changes_nothing(asking, database, lost):
    result = asking.run("reconcile", SOURCE, "--dry-run")

    assert result.exit_code == 0
    assert "would be retrieved" in result.stdout
    assert play.rows(database, resources) == []
    assert play.rows(database, runs) == []


def test_since_is_a_time_or_an_age(asking, lost):
    moment = "2026-01-31T12:00:00Z"
    assert asking.json("reconcile", SOURCE, "--since", moment)["since"] == moment
    assert asking.json("reconcile", SOURCE, "--since", "30m")["tally"]["listed"] == 0
    for nonsense in ("yesterday", "-1h", "1w", "h", ""):
        assert asking.run("reconcile", SOURCE, "--since", nonsense).exit_code == 2


def test_a_failed_run_is_exit_status_1_and_its_reason(asking, simulator):
    simulator.faults.set("persona", Faults(wrong_credentials=True))

    result = asking.run("reconcile", SOURCE)

    assert result.exit_code == 1
    assert "state:                  failed" in result.stdout
    assert "the source is held" in result.stdout
    assert CREDENTIALS.persona_api_key not in result.output


def test_what_cannot_be_reconciled_now_is_one_sentence(asking, database):
    result = asking.run("reconcile", "nowhere")
    assert (result.exit_code, result.stderr) == (1, "there is no source 'nowhere'\n")

    with database.write() as session:
        now = database_time(session)
        leases.acquire(session, leases.reconcile(SOURCE), "other", now=now, lasting=timedelta(minutes=1))
    result = asking.run("reconcile", SOURCE)
    assert (result.exit_code, "another process" in result.stderr) == (1, True)


def test_a_share_that_cannot_be_told_is_a_dash(shell, database):
    with database.write() as session:
        now = database_time(session)
        run = reconciliations.begin(session, "gu1", now, actor="schedule", now=now)
        reconciliations.count(session, run, Tally(listed=3, missing=3))

    [found] = shell.json("reconciliations")
    assert (found["missing"], found["loss_rate"]) == (3, None)
    assert " - " in shell.run("reconciliations").stdout
