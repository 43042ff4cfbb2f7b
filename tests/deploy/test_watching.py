"""The dashboard and the alert rules ask for what is exported; alerts, doctor and runbook name the same."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from tests.conftest import unavailable
from tests.deploy.watched import (
    ALERT_TESTS,
    ALERTS,
    DASHBOARD,
    GIVEN,
    RUNBOOK,
    exported,
    expressions,
    grouped_by,
    selectors,
    wrong,
)
from tests.store.databases import migrated_file, sqlite_url
from tests.support.results import SOURCE
from worker.cli import alerts
from worker.domain.reconcile import ReconcileState, Tally
from worker.store import reconciliations
from worker.store.engine import Database, database_time

NOT_SHOWN = {
    "verisink_gauges_read_seconds": "for whoever looks why a scrape is slow",
    "verisink_freshness_told_seconds_sum": "means of freshness hide what is late",
    "verisink_freshness_told_seconds_count": "the same as accepted deliveries",
    "verisink_freshness_stored_seconds_sum": "means of freshness hide what is late",
    "verisink_freshness_stored_seconds_count": "the same as attempts that stored",
    "verisink_freshness_delivered_seconds_sum": "means of freshness hide what is late",
    "verisink_freshness_delivered_seconds_count": "how far a sink is says more",
    "verisink_ack_seconds_sum": "quantiles say more",
    "verisink_ack_seconds_count": "the same as deliveries",
    "verisink_retrieve_seconds_sum": "quantiles say more",
}
"""What is exported and neither shown nor alerted on, and why."""


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scraped")
    url = sqlite_url(migrated_file(tmp_path_factory.mktemp("schema")), folder)
    database = Database(url)
    with database.write() as session:
        now = database_time(session)
        run = reconciliations.begin(session, SOURCE, now, actor="tests", now=now)
        reconciliations.count(session, run, Tally(listed=2, announced=2, lost=1))
        reconciliations.finish(session, run, ReconcileState.FINISHED, None, now)
    database.dispose()
    return exported(url, folder) | GIVEN


def rules():
    [group] = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def promtool():
    found = shutil.which("promtool")
    if found is None:
        unavailable("there is no promtool: the package `prometheus` brings it")
    return str(found)


@pytest.mark.parametrize("panel", sorted(expressions()))
def test_a_panel_asks_for_what_is_exported(known, panel):
    """A graph without data looks like a quiet night."""
    assert wrong(expressions()[panel], known) == []


@pytest.mark.parametrize("name", sorted(rules()))
def test_an_alert_asks_for_what_is_exported(known, name):
    """One with a spelling mistake never fires."""
    rule = rules()[name]

    assert wrong(rule["expr"], known) == []
    left = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert left <= grouped_by(rule["expr"]) | {"job", "instance"}


@pytest.mark.parametrize("name", sorted(rules()))
def test_an_alert_says_what_whoever_is_woken_needs(name):
    rule = rules()[name]

    assert rule["labels"]["severity"] in ("page", "ticket")
    assert all(rule["annotations"][part].strip() for part in ("summary", "description"))
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_all_that_is_exported_is_shown_or_said_not_to_be(known):
    read = {
        selector.name
        for expression in [*expressions().values(), *(rule["expr"] for rule in rules().values())]
        for selector in selectors(expression)
    }

    assert set(known) - read == set(NOT_SHOWN)


def test_alerts_doctor_and_runbook_name_the_same():
    sections = re.findall(r"^## (Verisink\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)

    assert list(rules()) == [*dict.fromkeys(rules())]
    assert sorted(sections) == sorted(alerts.NAMES) == sorted(rules())


def test_the_doctor_s_thresholds_are_those_of_the_rules():
    ends = {name: float(rule["expr"].rsplit(maxsplit=1)[1]) for name, rule in rules().items()}

    assert ends["VerisinkOldestUnfinishedTooOld"] == alerts.OLDEST_SECONDS
    assert ends["VerisinkSinkLagging"] == alerts.SINK_LAG_SECONDS
    assert ends["VerisinkNoSweep"] == alerts.SWEEP_SECONDS
    assert ends["VerisinkParkedGrowing"] == alerts.MOST_PARKED_LATELY
    assert ends["VerisinkWebhooksLost"] == alerts.MOST_LOSS
    assert ends["VerisinkSpoolFilling"] == alerts.SPOOL_SHARE


def test_every_rule_is_tried_firing_and_silent():
    tried = [case["name"] for case in yaml.safe_load(ALERT_TESTS.read_text("utf-8"))["tests"]]

    assert {f"{name} {what}" for name in rules() for what in ("fires", "is silent")} <= set(tried)


@pytest.mark.parametrize("command", [["check", "rules", ALERTS], ["test", "rules", ALERT_TESTS]])
def test_promtool_agrees(command):
    done = subprocess.run([promtool(), *map(str, command)], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_the_dashboard_can_be_loaded():
    board = json.loads(DASHBOARD.read_text("utf-8"))
    ids = [panel["id"] for panel in board["panels"]]

    assert board["uid"] == "verisink"
    assert len(ids) == len(set(ids))
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("sum(verisink_nothing)", "no such series: verisink_nothing"),
        ('verisink_sink_held{source="a"}', "verisink_sink_held has no label source"),
        ("sum by (sink) (verisink_source_held)", "nothing has a label sink"),
    ],
)
def test_the_checks_can_fail(known, expression, problem):
    assert wrong(expression, known) == [problem]
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's only error
        wrong("sum by (", known)
