"""`verisink doctor --alerts`: would an alert fire now, and what is to be done?"""

import json
from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from tests.cli.conftest import SETTINGS, Shell
from tests.support.results import PENDING, SOURCE, fail, key, number_events, reading, receive, store, want
from tests.support.services import free_port
from worker.cli.alerts import NAMES
from worker.domain.model import Drift
from worker.domain.reconcile import ReconcileState, Tally
from worker.domain.states import DeliveryState, ExpectationState, UndeliveredState
from worker.pipeline import write
from worker.pipeline.sweep import Sweeper
from worker.store import expectations, outbox, reconciliations, sources
from worker.store.engine import database_time
from worker.store.expectations import Wanted
from worker.store.sink_tables import undelivered_events
from worker.store.tables import events, leases, resources


@pytest.fixture
def shell(database_url):
    return Shell({"VERISINK_DATABASE_URL": database_url, **SETTINGS})


def judged(shell, *arguments):
    """The alerts by name, as the doctor judges them."""
    result = shell.run("doctor", "--json", *(arguments or ["--alerts"]))
    assert result.exit_code == 0
    return {check["name"]: check for check in json.loads(result.stdout)}


def firing(shell):
    return {name for name, check in judged(shell).items() if check["state"] == "warn"}


def old_work(database, session):
    session.execute(update(resources).values(wanted_since=database_time(session) - timedelta(hours=2)))


def hold(database, session, probed):
    now = database_time(session)
    write.hold(session, SOURCE, "why", now=now, probe_at=now if probed else None, actor="tests")


def reconcile(database, session):
    now = database_time(session)
    run = reconciliations.begin(session, SOURCE, now, actor="tests", now=now)
    reconciliations.count(session, run, Tally(listed=10, announced=10, lost=1))
    reconciliations.finish(session, run, ReconcileState.FINISHED, None, now)


def overdue(database, session):
    now = database_time(session)
    made, _ = expectations.add(session, Wanted(SOURCE, "inquiry", "inq_1", None, now), "tests", now)
    expectations.change(session, made, state=ExpectationState.OVERDUE)


def lag(database, session):
    outbox.delivered(session, "log", [outbox.Taken(1)], position=1)
    session.execute(update(events).values(occurred_at=database_time(session) - timedelta(hours=1)))


def give_up(database, session):
    row = {"sink": "log", "sequence": 1, "resource": "any", "state": UndeliveredState.GIVEN_UP}
    session.execute(insert(undelivered_events).values(since=database_time(session), **row))
    outbox.delivered(session, "log", [], position=2)


def throttle(database, session):
    old_work(database, session)
    sources.throttle(session, SOURCE, database_time(session) + timedelta(minutes=9))


TROUBLES = {
    "VerisinkNoSweep": [
        lambda database, session: session.execute(
            update(leases).values(expires_at=database_time(session) - timedelta(minutes=5))
        ),
    ],
    "VerisinkOldestUnfinishedTooOld": [old_work, throttle],
    "VerisinkCredentialFailing VerisinkSourceHeld": [lambda database, session: hold(database, session, True)],
    "VerisinkSourceHeld": [lambda database, session: hold(database, session, False)],
    "VerisinkWebhooksLost": [reconcile],
    "VerisinkExpectationOverdue": [overdue],
    "VerisinkSinkLagging": [lag],
    "VerisinkEventsGivenUp": [give_up],
}


@pytest.mark.parametrize(
    ("names", "trouble"), [(names, trouble) for names, troubles in TROUBLES.items() for trouble in troubles]
)
def test_the_doctor_says_what_would_fire_and_nothing_else(shell, database, names, trouble):
    want(database, key("ver_1"))
    store(database, key("ver_2", source="gu1-test"))
    number_events(database)
    Sweeper(database, [SOURCE], lambda _: None, lambda: None).sweep()
    assert firing(shell) == set()

    with database.write() as session:
        trouble(database, session)

    assert firing(shell) == set(names.split())
    shown = judged(shell, "--alert", names.split()[0])
    [(name, check)] = shown.items()
    assert check["detail"].startswith("would fire: ")
    assert check["todo"].endswith(f"docs/runbook.md#{name.lower()}")


def test_trouble_with_what_comes_in_is_judged_too(shell, database):
    receive(database, state=DeliveryState.UNREADABLE)
    store(database, key("ver_1"), reading(PENDING, drift=(Drift("status", "brand-new"),)))
    for number in range(11):
        fail(database, key(f"ver_parked_{number}"))

    assert firing(shell) == {
        "VerisinkUnreadable",
        "VerisinkDrift",
        "VerisinkParkedGrowing",
        # Nobody has swept yet, and whoever waits for results should know.
        "VerisinkNoSweep",
    }
    # What would fire is part of every examination.
    listed = json.loads(shell.run("doctor", "--offline", "--json").stdout)
    assert {check["name"] for check in listed if check["name"] in NAMES} == firing(shell)


def test_what_only_prometheus_knows_is_said(shell):
    found = judged(shell)

    assert list(found) == list(NAMES)
    unknown = {name for name, check in found.items() if check["state"] == "unknown"}
    assert unknown == {
        "VerisinkTargetDown",
        "VerisinkWebhooksRefused",
        "VerisinkShedding",
        "VerisinkAcksSlow",
        "VerisinkWatchdogRestarts",
        "VerisinkRestarting",
    }


def test_without_a_database_that_is_what_would_fire(tmp_path):
    shell = Shell({"VERISINK_DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none", **SETTINGS})

    found = judged(shell)

    assert {name for name, check in found.items() if check["state"] == "warn"} == {"VerisinkDatabaseAway"}
    assert "cannot be used" in found["VerisinkSinkLagging"]["detail"]


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    shell = Shell({"VERISINK_DATABASE_URL": f"sqlite:///{tmp_path / 'missing.db'}", **SETTINGS})

    assert judged(shell)["VerisinkDatabaseAway"]["state"] == "warn"
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_fills_would_fire(tmp_path, sqlite_template, monkeypatch):
    values = {"VERISINK_SPOOL_DIR": str(tmp_path / "spool"), "VERISINK_DATABASE_URL": f"sqlite:///{sqlite_template}"}
    shell = Shell({**values, **SETTINGS})
    assert judged(shell)["VerisinkSpoolFilling"]["state"] == "ok"

    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "spool.db").write_bytes(b"no database at all" * 100)

    assert judged(shell)["VerisinkSpoolFilling"]["state"] == "warn"


def test_an_alert_that_there_is_not_is_wrong_usage(shell):
    assert shell.run("doctor", "--alert", "Nothing").exit_code == 2
