"""Retrieving: what ends well."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.pipeline.plant import KINDS, WAIT_SECONDS, wait_until
from tests.store.play import claim, event_types, make_due, rows, want
from web.simulator.faults import Answer, Faults
from worker.clock import monotonic
from worker.domain.states import Priority
from worker.pipeline import retrieve
from worker.store.tables import attempts, result_documents, results, versions


@pytest.mark.parametrize("provider", KINDS)
def test_a_document_is_stored_and_told(anywhere, provider):
    record = anywhere.create(provider)

    anywhere.retrieve(record)

    row = anywhere.row(record)
    assert (row.version, row.retrieved, row.due_at, row.claim_token) == (1, 1, None, None)
    assert anywhere.is_true(record, 1)
    assert event_types(anywhere.database, record.ref.external_id)[0] == "created"
    assert anywhere.published > 0


@pytest.mark.parametrize("provider", KINDS)
def test_reading_the_same_again_makes_no_version_and_a_change_makes_one(plant, provider):
    record = plant.create(provider)
    plant.retrieve(record)

    plant.retrieve(record)
    assert plant.row(record).version == 1
    outcomes = [row.outcome for row in rows(plant.database, attempts, resource_id=plant.row(record).id)]
    assert outcomes == ["stored", "unchanged"]

    record = plant.world.change(record.ref, "update")
    plant.retrieve(record)
    assert plant.row(record).version == 2
    assert plant.is_true(record, 2)


def test_the_evidence_is_the_bytes_that_were_sent(plant):
    record = plant.create("gu1")
    body = json.dumps({**plant.world.serve(record), "x": 1.50}, indent=3).replace("1.5", "1.50").encode()
    plant.faults.script(record.ref.external_id, [Answer(200, body)])

    plant.retrieve(record)

    assert plant.stored(record, 1) == body
    [version] = rows(plant.database, versions)
    assert (version.redacted, version.api_version) == (False, None)


def test_secrets_are_stored_nowhere_and_the_digest_is_that_of_the_original(plant):
    record = plant.create("yoti")
    served = {**plant.world.serve(record), "client_session_token": "canary"}
    body = json.dumps(served).encode()
    plant.faults.script(record.ref.external_id, [Answer(200, body)])

    plant.retrieve(record)

    kept = plant.stored(record, 1)
    assert kept is not None
    assert b"canary" not in kept
    assert "canary" not in str(rows(plant.database, result_documents))
    assert rows(plant.database, versions)[0].redacted is True


@pytest.fixture
def long_pauses(monkeypatch):
    monkeypatch.setattr(retrieve, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(retrieve, "LONGEST_PAUSE", 1000.0)


def test_whoever_has_more_than_slots_calls_for_help(plant, long_pauses):
    plant.build(worker_concurrency=4)
    plant.want(*[plant.create("gu1") for _ in range(12)])

    plant.drain("gu1")

    assert plant.nudges == ["gu1"]


def test_a_replay_that_fills_its_share_of_the_slots_calls_for_help(plant, long_pauses):
    plant.build(worker_concurrency=4)
    plant.want(*[plant.create("gu1") for _ in range(12)], priority=Priority.REPLAY)

    plant.drain("gu1")

    assert plant.nudges == ["gu1"]


def test_the_next_backlog_is_called_for_anew(plant, long_pauses):
    plant.build(worker_concurrency=4)
    for _ in range(2):
        plant.want(*[plant.create("gu1") for _ in range(12)])
        plant.drain("gu1")

    assert plant.nudges == ["gu1"] * 2


def test_calls_for_help_go_on_while_there_is_more(plant, monkeypatch):
    monkeypatch.setattr(retrieve, "FIRST_PAUSE", 0.0)
    plant.build(worker_concurrency=1)
    plant.want(*[plant.create("gu1") for _ in range(10)])

    plant.drain("gu1")

    assert 3 <= len(plant.nudges) <= 11


def test_whoever_has_room_for_all_calls_nobody(plant):
    plant.build(worker_concurrency=4)
    plant.want(*[plant.create("gu1") for _ in range(3)])

    plant.drain("gu1")

    assert plant.nudges == []


def test_many_resources_are_retrieved_in_one_go(plant):
    records = [plant.create("gu1") for _ in range(25)]
    plant.want(*records)

    plant.drain("gu1")

    assert len(rows(plant.database, results)) == 25
    assert plant.calls("gu1") == 25


def test_what_a_document_names_is_retrieved_too(plant):
    inquiry = plant.world.create("persona", "inquiry")
    child = plant.world.create("persona", "verification/selfie", parent=inquiry.ref)

    plant.want(inquiry)
    plant.drain("persona")

    row = plant.row(child)
    assert (row.version, row.cause) == (1, "discovered")


def test_what_is_wanted_during_a_call_causes_one_more(plant):
    record = plant.create("gu1")
    plant.want(record)
    told: list[bool] = []

    def tell_twice_during_the_first_call(_call):
        if not told:
            told.append(True)
            plant.want(record)
            plant.want(record)

    plant.faults.on_call = tell_twice_during_the_first_call
    plant.drain("gu1")

    assert plant.calls("gu1") == 2
    row = plant.row(record)
    assert (row.wanted, row.retrieved, row.due_at) == (3, 3, None)


def test_calls_in_flight_are_bound(plant):
    plant.build(worker_concurrency=3)
    records = [plant.create("gu1") for _ in range(8)]
    plant.want(*records)
    plant.faults.set("gu1", Faults(hang=True))

    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(plant.drain, "gu1")
        wait_until(lambda: plant.calls("gu1") == 3)
        plant.drain("gu1")
        assert plant.calls("gu1") == 3
        assert sum(plant.row(record).claim_token is not None for record in records) == 3
        plant.faults.clear()
        draining.result(WAIT_SECONDS)

    assert plant.calls("gu1") == 8
    assert len(rows(plant.database, results)) == 8


def test_a_source_that_hangs_delays_no_other(plant):
    slow, quick = [plant.create("persona") for _ in range(6)], plant.create("gu1")
    plant.want(*slow, quick)
    plant.faults.set("persona", Faults(hang=True))

    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(plant.drain, "persona")
        wait_until(lambda: plant.calls("persona") == 4)
        plant.drain("gu1")
        assert plant.row(quick).version == 1
        assert not draining.done()
        plant.faults.clear()
        draining.result(WAIT_SECONDS)


def test_a_source_that_is_being_drained_is_only_told_to_look_again(plant):
    first, second = plant.create("gu1"), plant.create("gu1")
    plant.want(first)
    plant.faults.set("gu1", Faults(hang=True))

    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(plant.drain, "gu1")
        wait_until(lambda: plant.calls("gu1") == 1)
        plant.want(second)
        began = monotonic()
        plant.drain("gu1")
        assert monotonic() - began < 0.4
        wait_until(lambda: plant.calls("gu1") == 2)
        plant.faults.clear()
        draining.result(WAIT_SECONDS)

    assert plant.row(second).version == 1


def test_a_source_that_is_not_configured_is_somebody_elses(plant):
    want(plant.database, source="elsewhere")

    plant.drain("elsewhere")

    assert claim(plant.database, source="elsewhere")


def test_no_more_calls_are_made_than_the_budget_gives(plant):
    plant.build(source={"rate_limit_per_minute": 3})
    plant.want(*(plant.create("gu1") for _ in range(5)))

    plant.drain("gu1")
    plant.drain("gu1")

    assert plant.calls("gu1") == 3
    assert len(claim(plant.database, source="gu1")) == 2, "the others are still due"


def test_a_worker_that_stops_claims_nothing_more_and_finishes_what_it_began(plant):
    records = [plant.create("gu1") for _ in range(6)]
    plant.want(*records)
    plant.faults.set("gu1", Faults(hang=True))

    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(plant.drain, "gu1")
        wait_until(lambda: plant.calls("gu1") == 4)
        plant.retriever.stop()
        plant.faults.clear()
        draining.result(WAIT_SECONDS)
    plant.drain("gu1")

    assert plant.calls("gu1") == 4
    assert len(rows(plant.database, results)) == 4
    assert len(claim(plant.database, source="gu1")) == 2


def test_an_answer_that_comes_after_its_claim_ended_is_thrown_away(plant):
    record = plant.create("gu1")
    plant.want(record)
    others = []

    def let_the_lease_run_out(_call):
        make_due(plant.database, record.ref.external_id)
        others.extend(claim(plant.database, source="gu1"))

    plant.faults.on_call = let_the_lease_run_out
    plant.drain("gu1")

    [other] = others
    row = plant.row(record)
    assert (row.claim_token, row.version, row.attempts) == (other.token, 0, 2)
    assert (other.crashes, row.crashes) == (1, 0), "it was slow and did not die"
    assert rows(plant.database, results) == rows(plant.database, versions) == []
    assert [attempt.outcome for attempt in rows(plant.database, attempts)] == ["fenced", None]
    assert event_types(plant.database, record.ref.external_id) == []


def test_no_transaction_is_open_during_a_call(plant):
    """A slow provider must cost threads and nothing else."""
    record = plant.create("gu1")
    plant.want(record)
    plant.faults.set("gu1", Faults(hang=True))

    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(plant.drain, "gu1")
        wait_until(lambda: plant.calls("gu1") == 1)
        assert plant.database.writer.pool.checkedout() == 0
        assert plant.database.engine.pool.checkedout() == 0
        plant.faults.clear()
        draining.result(WAIT_SECONDS)
