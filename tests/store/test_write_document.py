"""What one successful retrieve changes, all in one transaction."""

import hashlib
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.pipeline.plant import wait_until
from tests.store.play import (
    APPROVED,
    CREATED,
    EARLY,
    ERASED,
    LATE,
    PROBING,
    REJECTED,
    SITUATION,
    SOURCE,
    arrival,
    claim,
    claim_one,
    document,
    event_types,
    fail,
    make_due,
    now,
    reading,
    record,
    ref,
    resource,
    retrieved,
    rows,
    set_resource,
    store,
    undone,
    want,
    wanted_and_claimed,
)
from tests.support.writing import write_document
from worker.domain.model import Check, Drift
from worker.domain.states import AttemptOutcome, CheckOutcome, FailureKind, Priority
from worker.domain.strict_json import Json
from worker.pipeline import write
from worker.store import resources, results, sources
from worker.store.tables import (
    attempts,
    checks,
    deliveries,
    delivery_bodies,
    drift_issues,
    events,
    result_documents,
    version_bodies,
    versions,
)
from worker.store.tables import results as results_table

CHECK = Check("selfie", CheckOutcome.PASSED, "passed", 0.9, 0.5, required=True, reasons=("fine",), details={"a": [1]})


def test_the_first_version(database):
    held = wanted_and_claimed(database)
    found = reading(APPROVED, updated=EARLY, checks=(CHECK,), reference="case-7", score=1.5, derived=True)

    assert store(database, held, {"name": "x"}, found) is AttemptOutcome.STORED

    body = json.dumps({"name": "x"}).encode()
    [version] = rows(database, versions)
    assert (version.number, version.stage, version.outcome, version.final) == (1, "decided", "approved", True)
    assert version.document_sha256 == hashlib.sha256(body).hexdigest()
    assert (version.read_started_at, version.cause, version.attempt) == (held.started_at, "webhook", 1)
    assert (version.provider_status, version.api_version, version.mapping_version) == ("said", "2025-12-08", 1)
    assert zlib.decompress(rows(database, version_bodies)[0].body) == body
    [result] = rows(database, results_table)
    assert (result.version, result.stage, result.outcome, result.reference) == (1, "decided", "approved", "case-7")
    assert (result.score, result.derived, result.provider_updated_at) == (1.5, True, EARLY)
    assert rows(database, result_documents)[0].document == {"name": "x"}
    [check] = rows(database, checks)
    assert (check.name, check.outcome, check.score, check.required) == ("selfie", "passed", 0.9, True)
    assert (check.reasons, check.details) == (["fine"], {"a": [1]})
    [attempt] = rows(database, attempts)
    assert (attempt.outcome, attempt.error, attempt.finished_at) == ("stored", None, version.retrieved_at)
    after = resource(database)
    assert (after.version, after.retrieved, after.due_at, after.wanted_since) == (1, 1, None, None)
    assert (after.claim_token, after.read_started_at, after.provider_updated_at) == (None, held.started_at, EARLY)


def test_the_first_version_is_told_once_for_each_type(database):
    retrieved(database, found=reading(APPROVED, updated=EARLY))

    assert event_types(database) == ["created", "decided"]
    event = rows(database, events)[1]
    assert (event.source, event.kind, event.external_id, event.version) == (SOURCE, "inquiry", "inq_1", 1)
    assert (event.stage, event.outcome, event.sequence) == ("decided", "approved", None)
    assert set(event.data) == {
        "source", "provider", "environment", "kind", "external_id", "version", "stage", "outcome", "final",
        "derived", "previous", "provider_updated_at", "retrieved_at",
    }  # fmt: skip


def test_events_carry_nothing_of_a_person(database):
    found = reading(APPROVED, reference="Maria", checks=(replace(CHECK, reasons=("Maria",)),))
    retrieved(database, found=replace(found, provider_status="Maria", drift=(Drift("name", "Maria"),)), name="Maria")

    assert "Maria" not in str(rows(database, events))


def test_the_same_document_again_is_no_version_and_no_event(database):
    retrieved(database, a=1)
    before = rows(database, results_table)[0]

    assert retrieved(database, a=1) is AttemptOutcome.UNCHANGED

    after = rows(database, results_table)[0]
    assert after.retrieved_at > before.retrieved_at
    assert (after.updated_at, after.version) == (before.updated_at, 1)
    assert len(rows(database, versions)) == 1
    assert event_types(database) == ["created"]
    assert [row.outcome for row in rows(database, attempts)] == ["stored", "unchanged"]
    assert resource(database).retrieved == 2


def test_another_document_is_another_version_and_the_old_one_stays(database):
    retrieved(database, found=reading(CREATED, checks=(CHECK,)), a=1)
    assert retrieved(database, found=reading(APPROVED, checks=(CHECK, CHECK)), a=2) is AttemptOutcome.STORED
    assert retrieved(database, found=reading(REJECTED), a=3) is AttemptOutcome.STORED
    assert retrieved(database, found=reading(REJECTED), a=1) is AttemptOutcome.STORED

    assert [row.number for row in rows(database, versions)] == [1, 2, 3, 4]
    assert [json.loads(zlib.decompress(row.body))["a"] for row in rows(database, version_bodies)] == [1, 2, 3, 1]
    assert event_types(database) == ["created", "decided", "reversed", "updated"]
    assert rows(database, events)[2].data["previous"] == {"stage": "decided", "outcome": "approved"}
    assert [row.position for row in rows(database, checks)] == [0, 0, 1]
    assert rows(database, result_documents)[0].document == {"a": 1}


@pytest.mark.parametrize("at_once", [True, False])
def test_what_the_provider_updated_earlier_is_stale(database, at_once):
    retrieved(database, found=reading(APPROVED, updated=LATE), a=2)
    held = wanted_and_claimed(database)

    assert store(database, held, {"a": 1}, reading(CREATED, updated=EARLY)) is AttemptOutcome.STALE

    after = resource(database)
    assert (after.version, after.failures, after.provider_updated_at) == (1, 1, LATE)
    assert after.due_at is not None
    assert rows(database, result_documents)[0].document == {"a": 2}
    assert (rows(database, attempts)[1].outcome, rows(database, attempts)[1].error) == ("stale", "stale")
    make_due(database)
    assert store(database, claim_one(database), {"a": 3}, reading(APPROVED, updated=LATE)) is AttemptOutcome.STORED
    assert (resource(database).failures, resource(database).retrieved) == (0, 2)


def test_what_was_read_earlier_is_stale(database):
    retrieved(database, a=2)
    held = wanted_and_claimed(database)
    set_resource(database, read_started_at=held.started_at)

    assert store(database, held, {"a": 1}) is AttemptOutcome.STALE
    assert resource(database).version == 1


def test_a_provider_without_times_is_believed(database):
    retrieved(database, found=reading(updated=LATE), a=1)

    assert retrieved(database, found=reading(updated=None), a=2) is AttemptOutcome.STORED
    assert retrieved(database, found=reading(updated=EARLY), a=3) is AttemptOutcome.STORED


def test_what_is_wanted_during_a_call_is_due_after_it(database):
    held = wanted_and_claimed(database)
    want(database, count=2)

    store(database, held)

    after = resource(database)
    assert (after.wanted, after.retrieved) == (3, 1)
    assert after.wanted_since == after.due_at
    again = claim_one(database)
    assert again.wanted == 3
    store(database, again)
    assert (resource(database).retrieved, resource(database).due_at) == (3, None)


def test_success_forgets_failures_and_crashes(database):
    fail(database, wanted_and_claimed(database), FailureKind.TIMEOUT)
    make_due(database)
    claim_one(database)
    make_due(database)
    held = claim_one(database)
    assert (held.failures, held.crashes) == (1, 1)

    store(database, held)

    after = resource(database)
    assert (after.failures, after.crashes, after.last_error) == (0, 0, None)


def test_an_erasure_forgets_what_was_known(database):
    record(database, arrival("evt_1"), arrival("evt_2", "inq_1", "inq_9"), arrival("evt_9", "inq_9"))
    for held in claim(database):
        store(database, held, {"name": "Maria"}, reading(APPROVED, checks=(CHECK,)))

    retrieved(database, found=reading(ERASED), name=None)

    bodies = {row.number: rows(database, version_bodies, version_id=row.id)[0] for row in rows(
        database, versions, resource_id=resource(database).id)}  # fmt: skip
    assert bodies[1].body is None
    assert bodies[1].erased_at is not None
    assert json.loads(zlib.decompress(bodies[2].body)) == {"name": None}
    [first] = rows(database, versions, resource_id=resource(database).id, number=1)
    assert (first.stage, len(first.document_sha256)) == ("decided", 64)
    [check] = rows(database, checks, version_id=first.id)
    assert (check.outcome, check.reasons, check.details) == ("passed", [], {})
    kept = {row.delivery_key: rows(database, delivery_bodies, delivery_id=row.id)[0].body for row in rows(
        database, deliveries)}  # fmt: skip
    assert (kept["evt_1"], kept["evt_2"], kept["evt_9"] is not None) == (None, None, True)
    assert event_types(database) == ["created", "decided", "erased"]
    with database.read() as session:
        assert results.version_body(session, resource(database).id, 1) is None
        assert results.version_body(session, resource(database, "inq_9").id, 1) == b'{"name": "Maria"}'


def test_what_arrives_after_an_erasure_is_erased_by_the_next_read(database):
    retrieved(database, found=reading(ERASED))
    record(database, arrival("evt_late"))

    assert store(database, claim_one(database), {"a": 1}, reading(ERASED)) is AttemptOutcome.UNCHANGED

    assert [row.body for row in rows(database, delivery_bodies)] == [None]


def related(*ids):
    return tuple(ref(external_id, "report/profile") for external_id in ids)


def report(database, external_id):
    return resource(database, external_id)


def test_unknown_related_resources_are_wanted_as_discovered(database):
    want(database, priority=Priority.REPLAY)
    store(database, claim_one(database), {"a": 1}, reading(related=related("rep_1", "rep_1", "rep_2")))

    assert (report(database, "rep_1").cause, report(database, "rep_1").priority) == ("discovered", Priority.REPLAY)
    assert (report(database, "rep_1").wanted, report(database, "rep_2").wanted) == (1, 1)
    assert report(database, "rep_1").environment == "sandbox"


def test_related_resources_are_wanted_again_only_if_they_may_have_changed(database):
    wanted = [("open", CREATED), ("final", APPROVED)]
    for external_id, verdict in wanted:
        want(database, external_id, kind="report/profile")
        store(database, claim_one(database), {"id": external_id}, reading(verdict))
    retrieved(database, found=reading(related=related("open", "final")), a=1)
    assert (report(database, "open").wanted, report(database, "final").wanted) == (2, 1)

    store(database, next(held for held in claim(database)), {"id": "open"}, reading(CREATED))
    retrieved(database, found=reading(related=related("open", "final")), a=1)
    assert (report(database, "open").wanted, report(database, "final").wanted) == (2, 1), "nothing changed"

    retrieved(database, found=reading(ERASED, related=related("open", "final")), a=2)
    assert (report(database, "open").wanted, report(database, "final").wanted) == (3, 2), "an erasure is followed"


def test_a_resource_does_not_want_itself(database):
    retrieved(database, found=reading(related=(ref("inq_1"),)))

    assert (resource(database).wanted, resource(database).due_at) == (1, None)


def test_a_document_that_names_thousands_is_drift(database):
    retrieved(database, found=reading(related=related(*(f"rep_{number}" for number in range(1000)))))

    assert len(claim(database, limit=2000)) == write.MOST_RELATED
    [issue] = rows(database, drift_issues)
    assert (issue.field, issue.value) == ("related", f"more than {write.MOST_RELATED}")


def test_drift_is_counted_even_when_nothing_changed(database):
    found = reading(drift=(Drift("status", "new\x00"), Drift("check", "x" * 500)))
    retrieved(database, found=found)
    retrieved(database, found=found)

    issues = {row.field: row for row in rows(database, drift_issues)}
    assert (issues["status"].value, issues["status"].seen) == ("new\ufffd", 2)
    assert (len(issues["check"].value), issues["check"].kind) == (200, "inquiry")
    assert issues["status"].last_seen_at > issues["status"].first_seen_at


def test_only_so_many_unknown_values_are_kept_for_a_field(database, monkeypatch):
    monkeypatch.setattr(sources, "MOST_DRIFT_VALUES", 3)
    values = [Drift("check", str(number)) for number in range(5)]
    retrieved(database, found=reading(drift=(*values, Drift("status", "new"))))
    retrieved(database, found=reading(drift=tuple(values)))

    issues = {(row.field, row.value): row.seen for row in rows(database, drift_issues)}
    assert issues == {("check", "0"): 2, ("check", "1"): 2, ("check", "2"): 2, ("status", "new"): 1}


def test_a_long_reference_is_cut(database):
    retrieved(database, found=reading(reference="r" * 100_000))

    assert rows(database, results_table)[0].reference == "r" * results.LONGEST_REFERENCE


def test_a_probe_that_brings_a_document_releases_the_source(database):
    with database.write() as session:
        write.hold(session, SOURCE, "401", now=EARLY, probe_at=EARLY, actor="worker")

    store(database, wanted_and_claimed(database), {"a": 1}, situation=PROBING)

    with database.read() as session:
        assert sources.state(session, SOURCE).held_at is None
    assert event_types(database, None) == ["held", "released"]


def test_what_no_database_holds_is_replaced_in_the_copy_and_kept_in_the_evidence(database):
    content: dict[str, Json] = {"na\x00me": "Mar\x00ia", "list": ["\ud800", {"deep": "\udfff"}], "fine": "\U0001f600 é"}
    check = Check("a\x00", CheckOutcome.UNKNOWN, "b\ud800", reasons=("c\x00",), details={"d\x00": "e\ud800"})
    found = reading(checks=(check,), reference="f\x00")
    store(database, wanted_and_claimed(database), content, replace(found, provider_status="g\x00"))

    assert rows(database, result_documents)[0].document == {
        "na\ufffdme": "Mar\ufffdia", "list": ["\ufffd", {"deep": "\ufffd"}], "fine": "\U0001f600 é",
    }  # fmt: skip
    with database.read() as session:
        kept = results.version_body(session, resource(database).id, 1)
    assert kept is not None
    assert json.loads(kept) == content
    [row] = rows(database, checks)
    assert (row.name, row.provider_outcome, row.reasons, row.details) == ("a\ufffd", "b\ufffd", ["c\ufffd"],
                                                                          {"d\ufffd": "e\ufffd"})  # fmt: skip
    [result] = rows(database, results_table)
    assert (result.reference, result.provider_status) == ("f\ufffd", "g\ufffd")


@pytest.mark.parametrize("body", [b"{}", b'{"a":1.10, "b" :\t2}\n', '{"é":"\U0001f600"}'.encode(), b"\x00\xff" * 5000])
def test_a_version_keeps_exactly_the_bytes_that_came(database, body):
    held = wanted_and_claimed(database)
    with database.write() as session:
        write_document(session, held, reading(), replace(document({}), body=body), SITUATION)

    with database.read() as session:
        assert results.version_body(session, held.resource_id, 1) == body
        assert results.version_body(session, held.resource_id, 2) is None


@pytest.mark.parametrize("number", [0, -1, 2**63, 10**299, 1.5, 1e22, 5e-324, True, None])
def test_numbers_survive_in_the_copy(database, number):
    retrieved(database, n=number)

    assert rows(database, result_documents)[0].document == {"n": number}


def test_an_interrupted_write_leaves_the_claim_and_nothing_else(database):
    held = wanted_and_claimed(database)
    before = resource(database)

    with undone(database) as session:
        write_document(session, held, reading(related=related("rep_1")), document({}), SITUATION)

    assert resource(database) == before
    assert rows(database, versions) == rows(database, events) == []
    assert now(database) - held.started_at < timedelta(minutes=1)
    assert store(database, held) is AttemptOutcome.STORED


def _somebody_waits(database):
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.read() as session:
        return session.execute(text(query)).scalar_one()


@pytest.mark.postgres
def test_the_last_answer_of_a_window_does_not_cross_one_that_is_told_to_wait(postgres_database):
    want(postgres_database, "inq_1", "inq_2")
    held, other = sorted(claim(postgres_database), key=lambda item: item.key.ref.external_id)
    last = replace(SITUATION, exhausted_for=timedelta(seconds=30))

    with ThreadPoolExecutor(1) as pool, postgres_database.write() as session:
        resources.lock_claimed(session, [other])
        named = reading(related=(other.key.ref,))
        writing = pool.submit(store, postgres_database, held, None, named, last)
        wait_until(lambda: _somebody_waits(postgres_database))
        sources.throttle(session, SOURCE, other.started_at + timedelta(seconds=10))
        session.commit()
        assert writing.result(10) is AttemptOutcome.STORED

    with postgres_database.read() as session:
        until = sources.state(session, SOURCE).throttled_until
    assert until is not None
    assert until > other.started_at + timedelta(seconds=25), "the later end counts"
