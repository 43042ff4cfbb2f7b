"""Retrieving: what is kept of an answer, and what happens while the database does not take it."""

import json
import secrets
import sys
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from tests.pipeline.plant import Plant
from tests.store.play import event_types, rows
from web.simulator.faults import Answer
from worker.clock import monotonic
from worker.domain.model import Check, Drift
from worker.domain.states import CheckOutcome
from worker.pipeline.read import MOST_CHECKS, MOST_DRIFT
from worker.providers.gu1 import Gu1Provider
from worker.providers.yoti import YotiProvider
from worker.store import resources as resources_module
from worker.store import results as results_module
from worker.store.engine import Database
from worker.store.tables import attempts, checks, drift_issues, results


class Shaky(Database):
    """A database that fails the next few transactions of those who write what a call brought, and nobody else's."""

    failures = 0
    error: Exception = Exception()
    failed = 0

    def write(self):
        if self.failed < self.failures and sys._getframe(1).f_code.co_name == "write":
            self.failed += 1
            raise OperationalError("", {}, self.error)
        return super().write()


@pytest.fixture
def shaky(plant):
    made = Shaky(plant.database.engine.url.render_as_string())
    plant.build(database=made, lease_seconds=2, call_deadline_seconds=1)
    yield made
    made.dispose()


def test_an_answer_is_not_lost_because_the_database_is_away_for_a_moment(plant, shaky):
    record = plant.create("gu1")
    shaky.failures = 2

    plant.retrieve(record)

    assert (shaky.failed, plant.calls("gu1"), plant.row(record).version) == (2, 1, 1)
    assert [row.outcome for row in rows(plant.database, attempts)] == ["stored"]


def test_a_database_that_stays_away_is_waited_for_while_the_claim_lasts(plant, shaky):
    record = plant.create("gu1")
    shaky.failures = 10**6
    began = monotonic()

    plant.retrieve(record)

    assert monotonic() - began < 1.8, "before the lease of two seconds is over"
    assert 2 <= shaky.failed <= 4, "with pauses that grow"
    assert rows(plant.database, results) == []
    assert plant.row(record).claim_token is not None
    shaky.failures = 0
    plant.make_due(record)
    plant.drain("gu1")
    assert (plant.row(record).version, plant.row(record).crashes) == (1, 0)
    assert [row.outcome for row in rows(plant.database, attempts)] == ["crashed", "stored"]


def test_a_crash_that_could_not_be_noted_with_the_next_claim_is_noted_with_its_result(plant, shaky, monkeypatch):
    """The claim is committed by then, and the database may go away right after it."""
    record = plant.create("gu1")
    shaky.failures = 10**6
    plant.retrieve(record)
    shaky.failures = 0
    monkeypatch.setattr(resources_module, "note_crashes", lambda *_: None)
    plant.make_due(record)
    plant.retrieve(record)

    assert [row.outcome for row in rows(plant.database, attempts)] == ["crashed", "stored"]


def test_a_worker_that_stops_does_not_wait_for_the_database(plant, shaky):
    plant.build(database=shaky)
    shaky.failures = 10**6
    plant.faults.on_call = lambda _call: plant.retriever.stop()
    began = monotonic()

    plant.retrieve(plant.create("gu1"))

    assert shaky.failed == 1
    assert monotonic() - began < 5


def test_what_the_database_refuses_is_parked_and_not_called_for_again(plant, shaky):
    record = plant.create("gu1")
    shaky.failures, shaky.error = 1, psycopg.errors.ProgramLimitExceeded("Maria")

    with capture_logs() as logs:
        plant.retrieve(record)

    assert (plant.calls("gu1"), shaky.failed, plant.row(record).park_reason) == (1, 1, "bug")
    assert plant.row(record).last_error.startswith("OperationalError at write:")
    assert "Maria" not in str((plant.row(record), rows(plant.database, attempts), logs))


def test_a_refusal_of_that_too_is_no_endless_loop(plant, shaky):
    shaky.failures, shaky.error = 10**6, psycopg.errors.ProgramLimitExceeded()

    plant.retrieve(plant.create("gu1"))

    assert 2 <= shaky.failed <= 5


class LongReference(Gu1Provider):
    def read(self, source, ref, document):
        return replace(super().read(source, ref, document), reference=secrets.token_hex(20_000))


@pytest.mark.postgres
def test_a_value_that_postgresql_will_never_take_is_parked_after_one_call(simulator, postgres_database, monkeypatch):
    with Plant(simulator, postgres_database) as plant:
        plant.build(known={"gu1": LongReference()})
        short, long = plant.create("gu1"), plant.create("gu1")
        plant.retrieve(short)
        assert plant.row(short).version == 1, "a long reference is cut"

        monkeypatch.setattr(results_module, "LONGEST_REFERENCE", 10**6)
        plant.retrieve(long)

        assert plant.row(long).park_reason == "bug"
        assert plant.calls("gu1") == 2
        assert event_types(plant.database, long.ref.external_id) == ["parked"]


class Copying(YotiProvider):
    """A mapping that keeps the whole document in a check."""

    def read(self, source, ref, document):
        check = Check("copy", CheckOutcome.PASSED, details={"document": document})
        return replace(super().read(source, ref, document), checks=(check,))


def test_a_check_carries_no_secret(plant):
    plant.build(known={"yoti": Copying()})
    record = plant.create("yoti")
    body = json.dumps({**plant.world.serve(record), "client_session_token": "canary"}).encode()
    plant.faults.script(record.ref.external_id, [Answer(200, body)])

    plant.retrieve(record)

    [kept] = rows(plant.database, checks)
    assert record.ref.external_id in str(kept)
    assert "canary" not in str(kept)


class Flooding(Gu1Provider):
    """A mapping that finds whatever a hostile document holds."""

    def read(self, source, ref, document):
        found = tuple(Check(f"check_{number}", CheckOutcome.PASSED) for number in range(MOST_CHECKS + 1))
        drift = tuple(Drift("status", str(number)) for number in range(1000))
        return replace(super().read(source, ref, document), checks=found, drift=drift)


def test_a_document_leaves_only_so_many_checks_and_so_much_drift(plant):
    plant.build(known={"gu1": Flooding()})
    record = plant.create("gu1")

    plant.retrieve(record)

    assert plant.row(record).version == 1
    assert len(rows(plant.database, checks)) == MOST_CHECKS
    issues = [(row.field, row.value) for row in rows(plant.database, drift_issues)]
    assert len(issues) == MOST_DRIFT
    assert ("checks", f"more than {MOST_CHECKS}") in issues
