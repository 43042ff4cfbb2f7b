"""Retrieving: what goes wrong, and what follows."""

from datetime import timedelta

import pytest
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.testing import capture_logs

from tests.pipeline.plant import KINDS
from tests.store import play
from tests.store.play import event_types, rows
from web.simulator.faults import Answer, Faults
from worker.domain.retry import FEWEST_TRIES, NOT_FOUND_HORIZON, POISON_CRASHES
from worker.providers.gu1 import Gu1Provider
from worker.store.tables import attempts, quarantined_deliveries, versions


def last_attempt(plant, record):
    return rows(plant.database, attempts, resource_id=plant.row(record).id)[-1]


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        (Faults(outage=True), "server_error", 503),
        (Faults(error_rate=1.0), "server_error", 500),
        (Faults(truncated=True), "network", None),
        (Faults(html=True), "unreadable", None),
        (Faults(empty=True), "unreadable", None),
        (Faults(big_megabytes=10), "unreadable", 200),
    ],
    ids=["outage", "500", "truncated", "HTML", "empty", "10 MB"],
)
@pytest.mark.parametrize("provider", ["gu1", "yoti"])
def test_what_may_pass_is_tried_again_later(plant, provider, fault, error, status):
    record = plant.create(provider)
    plant.faults.set(provider, fault)

    plant.retrieve(record)

    row = plant.row(record)
    assert (row.failures, row.version, row.parked_at, row.claim_token) == (1, 0, None, None)
    assert row.due_at is not None
    attempt = last_attempt(plant, record)
    assert (attempt.outcome, attempt.error, attempt.http_status) == ("failed", error, status)
    plant.faults.clear()
    plant.make_due(record)
    plant.drain(provider)
    assert (plant.row(record).version, plant.row(record).failures) == (1, 0)


def test_a_provider_that_does_not_answer_costs_one_deadline(plant):
    plant.build(call_deadline_seconds=0.2)
    record = plant.create("gu1")
    plant.faults.set("gu1", Faults(hang=True))

    plant.retrieve(record)

    assert last_attempt(plant, record).error == "timeout"
    assert plant.row(record).failures >= 1


def test_what_never_passes_is_parked_at_the_horizon(plant):
    record = plant.create("gu1")
    plant.faults.set("gu1", Faults(outage=True))
    plant.want(record)
    plant.make_due(record, wanted_since=play.now(plant.database) - timedelta(hours=73), failures=FEWEST_TRIES - 1)

    plant.drain("gu1")

    row = plant.row(record)
    assert (row.park_reason, row.due_at, row.parks) == ("server_error", None, 1)
    assert event_types(plant.database, record.ref.external_id) == ["parked"]
    assert plant.calls("gu1") == 1


def test_the_horizon_is_a_setting_of_the_source(plant):
    plant.build(source={"retry_horizon_hours": 1e-6})
    record = plant.create("gu1")
    plant.faults.set("gu1", Faults(outage=True))
    plant.want(record)
    long_ago = play.now(plant.database) - timedelta(seconds=1)
    plant.make_due(record, wanted_since=long_ago, failures=FEWEST_TRIES - 1)

    plant.drain("gu1")

    assert plant.row(record).park_reason == "server_error"


def test_a_day_without_workers_parks_nothing(plant):
    record = plant.create("gu1")
    plant.faults.script(record.ref.external_id, [Answer(503)])
    plant.want(record)
    plant.make_due(record, wanted_since=play.now(plant.database) - timedelta(days=9))

    plant.drain("gu1")
    assert (plant.row(record).parked_at, plant.row(record).failures) == (None, 1)

    plant.make_due(record)
    plant.drain("gu1")
    assert plant.row(record).version == 1


@pytest.mark.parametrize("provider", KINDS)
def test_what_the_provider_does_not_have_is_gone_after_a_while(plant, provider):
    record = plant.create(provider)
    plant.world.forget(record.ref)

    plant.retrieve(record)
    assert (plant.row(record).failures, plant.row(record).parked_at) == (1, None), "reads lag webhooks"
    assert last_attempt(plant, record).error == "not_found"

    long_ago = play.now(plant.database) - NOT_FOUND_HORIZON
    plant.make_due(record, wanted_since=long_ago, failures=FEWEST_TRIES - 1)
    plant.drain(provider)
    assert plant.row(record).park_reason == "gone"
    assert event_types(plant.database, record.ref.external_id) == ["parked"]


def test_a_success_that_says_there_is_nothing_is_the_same(plant):
    record = plant.create("verifik")
    plant.faults.script(record.ref.external_id, [Answer(200, b'{"data": null}')] * 9)

    plant.retrieve(record)

    assert (plant.row(record).version, plant.row(record).parked_at) == (0, None)
    assert (last_attempt(plant, record).error, last_attempt(plant, record).http_status) == ("not_found", 200)


def test_what_comes_a_little_late_is_found(plant):
    record = plant.create("gu1")
    plant.faults.script(record.ref.external_id, [Answer(404), Answer(404)])

    plant.retrieve(record)
    for _ in range(2):
        plant.make_due(record)
        plant.drain("gu1")

    assert plant.row(record).version == 1


@pytest.mark.parametrize(("status", "reason"), [(400, "rejected"), (410, "rejected"), (422, "rejected")])
def test_what_is_refused_is_parked_at_once(plant, status, reason):
    record = plant.create("gu1")
    plant.faults.script(record.ref.external_id, [Answer(status, b'{"name": "Maria"}')])

    plant.retrieve(record)

    row = plant.row(record)
    assert (row.park_reason, row.last_error) == (reason, f"the provider answered {status}")
    plant.retrieve(record)
    assert plant.row(record).version == 1, "a new notification starts over"


@pytest.mark.parametrize(("status", "error"), [(422, "rejected"), (503, "server_error"), (409, "conflict")])
def test_a_notification_during_a_call_that_fails_is_followed_at_once(plant, status, error):
    record = plant.create("gu1")
    plant.faults.script(record.ref.external_id, [Answer(status)])
    plant.want(record)
    told: list[bool] = []

    def tell_during_the_first_call(_call):
        if not told:
            told.append(True)
            plant.want(record)

    plant.faults.on_call = tell_during_the_first_call
    plant.drain("gu1")

    assert plant.calls("gu1") == 2
    assert plant.row(record).version == 1
    assert [row.error for row in rows(plant.database, attempts)] == [error, None]
    assert "parked" not in event_types(plant.database, record.ref.external_id)


def test_a_redirect_is_not_followed(plant):
    record, other = plant.create("gu1"), plant.create("gu1")
    elsewhere = f"{plant.simulator.url}/gu1/api/kyc/validations/{other.ref.external_id}"
    plant.faults.script(record.ref.external_id, [Answer(302, b"", {"Location": elsewhere})])

    plant.retrieve(record)

    assert (plant.calls("gu1"), plant.row(record).failures) == (1, 1)
    assert (last_attempt(plant, record).error, last_attempt(plant, record).http_status) == ("unreadable", 302)


def test_another_resource_than_the_one_asked_for_is_not_stored(plant):
    record, other = plant.create("gu1"), plant.create("gu1")
    body = b'{"id": "%s"}' % other.ref.external_id.encode()
    plant.faults.script(record.ref.external_id, [Answer(200, body)])

    plant.retrieve(record)

    assert last_attempt(plant, record).error == "unreadable"
    assert rows(plant.database, versions) == []


@pytest.mark.parametrize("body", [b'{"id": 1, "id": 2}', b"[]", b"null", b'{"a": NaN}', b"[" * 100_000])
def test_an_answer_that_is_not_strict_json_is_unreadable(plant, body):
    record = plant.create("gu1")
    plant.faults.script(record.ref.external_id, [Answer(200, body)])

    plant.retrieve(record)

    assert last_attempt(plant, record).error == "unreadable"


def test_a_bad_credential_holds_the_source_until_a_probe_succeeds(plant):
    plant.build(worker_concurrency=1)
    records = [plant.create("gu1") for _ in range(3)]
    plant.want(*records)
    plant.faults.set("gu1", Faults(wrong_credentials=True))

    plant.drain("gu1")
    plant.drain("gu1")
    held = plant.state("gu1")
    assert plant.calls("gu1") == 1, "after the first refusal nobody is asked any more"
    assert held.held_at is not None
    assert held.hold_reason == "the provider answered 401"
    assert event_types(plant.database, None) == ["held"]
    assert [plant.row(record).parked_at for record in records] == [None] * 3

    plant.set_state("gu1", probe_at=plant.past())
    plant.drain("gu1")
    assert plant.calls("gu1") == 2, "a probe is one call"
    assert plant.state("gu1").held_at is not None

    plant.faults.clear()
    plant.set_state("gu1", probe_at=plant.past())
    plant.drain("gu1")
    assert plant.state("gu1").held_at is None
    assert event_types(plant.database, None) == ["held", "released"]
    assert [plant.row(record).version for record in records] == [1, 1, 1]


def test_calls_that_were_in_flight_when_the_credential_went_bad_alert_once(plant):
    plant.want(*(plant.create("gu1") for _ in range(4)))
    plant.faults.set("gu1", Faults(wrong_credentials=True))

    plant.drain("gu1")

    assert event_types(plant.database, None) == ["held"]


def test_a_hold_is_of_one_source(plant):
    plant.faults.set("gu1", Faults(wrong_credentials=True))
    plant.retrieve(plant.create("gu1"))
    other = plant.create("persona")

    plant.retrieve(other)

    assert plant.row(other).version == 1


def test_a_source_without_a_credential_is_held_without_a_call(plant):
    plant.build(sources={"gu1": {"slug": "gu1", "provider": "gu1", "base_url": plant.simulator.url}})

    plant.retrieve(plant.create("gu1"))

    assert plant.calls("gu1") == 0
    assert plant.state("gu1").hold_reason == "api_key is not set"


def test_a_throttled_source_waits_and_loses_nothing(plant):
    plant.build(worker_concurrency=1)
    first, second = plant.create("gu1"), plant.create("gu1")
    plant.want(first)
    plant.want(second)
    plant.faults.set("gu1", Faults(rate_limit_per_minute=1))

    plant.drain("gu1")
    plant.drain("gu1")
    [waiting] = [record for record in (first, second) if plant.row(record).version == 0]
    row, until = plant.row(waiting), plant.state("gu1").throttled_until
    assert until is not None
    assert plant.calls("gu1") == 2
    assert (row.failures, row.due_at) == (0, until)
    assert timedelta(seconds=0) < until - play.now(plant.database) < timedelta(seconds=62)

    plant.faults.clear()
    plant.faults.new_minute("gu1")
    plant.set_state("gu1", throttled_until=plant.past())
    plant.make_due(waiting)
    plant.drain("gu1")
    assert plant.row(waiting).version == 1


def test_the_last_call_of_a_window_is_not_followed_by_one_that_is_refused(plant):
    plant.build(worker_concurrency=1)
    first, second = plant.create("persona"), plant.create("persona")
    plant.want(first, second)
    plant.faults.set("persona", Faults(rate_limit_per_minute=1))

    plant.drain("persona")

    until = plant.state("persona").throttled_until
    assert until is not None
    assert timedelta(seconds=0) < until - play.now(plant.database) < timedelta(seconds=62)
    assert plant.calls("persona") == 1, "Persona says with each answer how many calls remain"
    assert {plant.row(first).version, plant.row(second).version} == {0, 1}


class Broken(Gu1Provider):
    """A mapping with a bug that quotes the document."""

    def read(self, source, ref, document):
        raise ValueError(f"could not convert Maria: {document}")


def test_a_bug_of_ours_is_parked_with_where_it_was_and_nothing_personal(plant):
    plant.build(known={"gu1": Broken()})
    record = plant.create("gu1")

    with capture_logs() as logs:
        plant.retrieve(record)

    row = plant.row(record)
    assert row.park_reason == "bug"
    assert row.last_error.startswith("ValueError at read:")
    assert "Maria" not in str((row, rows(plant.database, attempts), logs))
    assert "retrieve_bug" in {line["event"] for line in logs}
    plant.build()
    plant.retrieve(record)
    assert plant.row(record).version == 1


def test_what_a_thread_says_of_a_call_carries_the_task_and_the_resource(plant):
    """Threads of a pool inherit nothing by themselves, and a line without a name is of no use."""
    plant.build(known={"gu1": Broken()})
    record = plant.create("gu1")

    with bound_contextvars(task="task-1"), capture_logs([merge_contextvars]) as logs:
        plant.retrieve(record)

    told = [line for line in logs if line["event"] in ("retrieve_bug", "attempt_written")]
    assert {line["event"] for line in told} == {"retrieve_bug", "attempt_written"}
    assert {(line["task"], line["source"], line["resource"], line["attempt"]) for line in told} == {
        ("task-1", "gu1", plant.row(record).id, 1)
    }
    assert len({line["trail"] for line in told}) == 1


def test_a_document_that_cannot_be_written_is_parked_with_nothing_personal(plant):
    class Unwritable(Gu1Provider):
        def read(self, source, ref, document):
            reading = super().read(source, ref, document)
            object.__setattr__(reading, "score", "Maria")
            object.__setattr__(reading, "provider_created_at", "Maria")
            return reading

    plant.build(known={"gu1": Unwritable()})
    record = plant.create("gu1")

    with capture_logs() as logs:
        plant.retrieve(record)

    assert plant.row(record).park_reason == "bug"
    assert "Maria" not in str((plant.row(record), rows(plant.database, attempts), logs))


def test_what_kills_workers_is_parked_as_poison_without_another_call(plant):
    record = plant.create("gu1")
    plant.want(record)
    plant.make_due(record, crashes=POISON_CRASHES)

    plant.drain("gu1")

    assert plant.calls("gu1") == 0
    assert plant.row(record).park_reason == "poison"


def test_no_personal_datum_is_logged_on_the_way(plant):
    record = plant.create("persona", reference="Maria-reference")
    body = str(plant.world.serve(record))

    with capture_logs() as logs:
        plant.retrieve(record)

    assert logs
    assert "Maria-reference" in body
    assert "Maria-reference" not in str(logs)
    assert record.ref.external_id not in str(logs), "external ids lead to people"
    assert rows(plant.database, quarantined_deliveries) == []
