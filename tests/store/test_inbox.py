"""Deliveries: each once, byte for byte, and what they make wanted."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from tests.store import databases
from tests.store.play import BODY, LATE, OTHER, SOURCE, arrival, claim_one, fail, record, resource, rows, store, undone
from worker.domain.states import DeliveryState, FailureKind, ReceiptStatus
from worker.store import inbox
from worker.store.tables import (
    deliveries,
    delivery_bodies,
    delivery_resources,
    quarantined_deliveries,
    resources,
)


def test_a_delivery_is_kept_and_its_resources_are_wanted(database):
    first = arrival("evt_1", "inq_1", "inq_2")

    [receipt] = record(database, first)

    assert (receipt.delivery_id, receipt.status) == (first.id, ReceiptStatus.ACCEPTED)
    [row] = rows(database, deliveries)
    assert (row.id, row.source, row.delivery_key, row.event_id) == (first.id, SOURCE, "evt_1", "evt_1")
    assert (row.state, row.repeats, row.body_sha256) == ("accepted", 0, hashlib.sha256(BODY).hexdigest())
    assert row.received_at > LATE
    [kept] = rows(database, delivery_bodies)
    assert (kept.body, kept.headers) == (BODY, {"content-type": "application/json"})
    for external_id in ("inq_1", "inq_2"):
        found = resource(database, external_id)
        assert (found.wanted, found.retrieved, found.cause, found.environment) == (1, 0, "webhook", "sandbox")
        assert found.due_at == found.wanted_since == row.received_at
    assert {(link.delivery_id, link.resource_id) for link in rows(database, delivery_resources)} == {
        (first.id, resource(database, external_id).id) for external_id in ("inq_1", "inq_2")
    }


def test_duplicates_in_one_group_and_across_groups_are_one_row(database):
    first, second, third = arrival(), arrival(), arrival()

    receipts = record(database, first, second)
    receipts += record(database, third)

    assert [receipt.status for receipt in receipts] == ["accepted", "duplicate", "duplicate"]
    assert {receipt.delivery_id for receipt in receipts} == {first.id}
    [row] = rows(database, deliveries)
    assert (row.repeats, row.last_repeat_at > row.received_at) == (2, True)
    assert len(rows(database, delivery_bodies)) == 1
    assert resource(database).wanted == 1


def test_equal_keys_of_two_sources_are_two_deliveries(database):
    receipts = record(database, arrival(source=SOURCE), arrival(source=OTHER))

    assert [receipt.status for receipt in receipts] == ["accepted", "accepted"]
    assert len(rows(database, deliveries)) == len(rows(database, resources)) == 2


def test_answers_are_in_the_order_of_the_arrivals(database):
    record(database, arrival("evt_b"))
    group = [arrival("evt_c"), arrival("evt_b"), arrival("evt_a"), arrival("evt_c")]

    receipts = record(database, *group)

    assert [receipt.status for receipt in receipts] == ["accepted", "duplicate", "accepted", "duplicate"]
    assert [receipts[0].delivery_id, receipts[2].delivery_id] == [group[0].id, group[2].id]
    assert receipts[3].delivery_id == group[0].id


def test_a_repeat_that_looks_again_wants_again(database):
    record(database, arrival(looks_again=True), arrival(looks_again=True))
    assert resource(database).wanted == 2

    store(database, claim_one(database))
    [receipt] = record(database, arrival(looks_again=True))

    assert receipt.status is ReceiptStatus.DUPLICATE
    assert (resource(database).wanted, resource(database).retrieved) == (3, 2)
    assert claim_one(database).wanted == 3


def test_a_duplicate_of_finished_work_is_only_counted(database):
    record(database, arrival())
    store(database, claim_one(database))

    record(database, arrival())

    found = resource(database)
    assert (found.wanted, found.retrieved, found.due_at, found.wanted_since) == (1, 1, None, None)


@pytest.mark.parametrize("failure", [FailureKind.TIMEOUT, FailureKind.REJECTED], ids=["backing off", "parked"])
def test_a_duplicate_of_unfinished_work_wakes_it(database, failure):
    record(database, arrival())
    fail(database, claim_one(database), failure)

    record(database, arrival())

    found = resource(database)
    assert (found.wanted, found.parked_at, found.park_reason) == (1, None, None)
    assert claim_one(database).resource_id == found.id


@pytest.mark.parametrize("state", [DeliveryState.IGNORED, DeliveryState.UNREADABLE])
def test_what_names_nothing_is_kept_with_its_reason(database, state):
    receipts = record(database, arrival("sha256:1", state=state), arrival("sha256:1", state=state))

    assert [receipt.status for receipt in receipts] == [state, "duplicate"]
    [row] = rows(database, deliveries)
    assert (row.state, row.reason, row.repeats) == (state, "because", 1)
    assert rows(database, resources) == []
    assert rows(database, delivery_bodies)[0].body == BODY


@pytest.mark.parametrize("body", [b"", b"\x00\xff\xfe\x00", bytes(range(256)) * 4, b'{"a": "\\u0000"}'])
def test_bytes_are_kept_as_they_came(database, body):
    record(database, arrival(body=body))

    assert rows(database, delivery_bodies)[0].body == body
    assert rows(database, deliveries)[0].body_sha256 == hashlib.sha256(body).hexdigest()


def test_text_that_no_database_holds_is_replaced(database):
    record(database, arrival("a\x00b\ud800", event_type="x\x00\udfff"))
    [receipt] = record(database, arrival("a\x00b\ud800"))

    [row] = rows(database, deliveries)
    assert (row.delivery_key, row.event_type, row.repeats) == ("a\ufffdb\ufffd", "x\ufffd\ufffd", 1)
    assert receipt.delivery_id == row.id


def test_keys_that_become_equal_in_the_database_share_a_row(database):
    receipts = record(database, arrival("a\x00"), arrival("a\ud800"))

    assert [receipt.status for receipt in receipts] == ["accepted", "duplicate"]
    assert len(rows(database, deliveries)) == 1


def test_many_threads_that_record_one_delivery_make_one_row(database):
    threads = 8
    together = threading.Barrier(threads)

    def deliver(number):
        together.wait(10)
        return [
            receipt.status
            for turn in range(5)
            for receipt in record(database, arrival(f"evt_{turn}"), arrival(f"own_{number}_{turn}", f"inq_{turn}"))
        ]

    with ThreadPoolExecutor(threads) as pool:
        statuses = [status for found in pool.map(deliver, range(threads)) for status in found]

    assert statuses.count(ReceiptStatus.DUPLICATE) == (threads - 1) * 5
    assert len(rows(database, deliveries)) == 5 + threads * 5
    assert sum(row.repeats for row in rows(database, deliveries)) == (threads - 1) * 5
    assert sum(row.wanted for row in rows(database, resources)) == 5 + threads * 5


def test_a_group_is_stored_whole_or_not_at_all(database):
    with undone(database) as session:
        inbox.record(session, [arrival()])

    assert rows(database, deliveries) == rows(database, resources) == []


def test_the_quarantine_keeps_the_newest_of_each_source_and_no_header_values(database):
    with database.write() as session:
        for number in range(inbox.QUARANTINE_ROWS + 20):
            inbox.quarantine(session, SOURCE, f"reason {number}", b"x" * 5000, ["b", "a"])
        inbox.quarantine(session, OTHER, "other\x00", b"", [])

    kept = rows(database, quarantined_deliveries, source=SOURCE)
    assert len(kept) == inbox.QUARANTINE_ROWS
    assert (kept[0].reason, kept[-1].reason) == ("reason 20", f"reason {inbox.QUARANTINE_ROWS + 19}")
    assert (kept[0].body_bytes, len(kept[0].body_start)) == (5000, inbox.QUARANTINE_BODY_BYTES)
    assert (kept[0].header_names, kept[0].body_sha256) == (["a", "b"], hashlib.sha256(b"x" * 5000).hexdigest())
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(quarantined_deliveries)).scalar_one() == len(kept) + 1


@pytest.mark.postgres
def test_a_repeat_of_what_is_just_being_pruned_is_kept_as_the_first(postgres_database, monkeypatch):
    """And what is new beside it is still wanted."""
    record(postgres_database, arrival("evt_old", "inq_old"))
    look = inbox._recorded_before
    pruned: list[object] = []

    def prune_then_look(session, arrivals):
        if not pruned:
            with postgres_database.write() as other:
                pruned.extend(other.execute(delete(deliveries).returning(deliveries.c.id)).all())
        return look(session, arrivals)

    monkeypatch.setattr(inbox, "_recorded_before", prune_then_look)
    again, new = arrival("evt_old", "inq_old", body=b"again"), arrival("evt_new", "inq_new")
    with postgres_database.write() as session:
        receipts = inbox.record(session, [new, again])

    assert len(pruned) == 1
    assert [(item.status, item.delivery_id) for item in receipts] == [("accepted", new.id), ("accepted", again.id)]
    assert {row.body for row in rows(postgres_database, delivery_bodies)} == {b"again", BODY}
    assert (resource(postgres_database, "inq_new").wanted, resource(postgres_database, "inq_old").wanted) == (1, 2)
    assert resource(postgres_database, "inq_new").due_at is not None
    assert len(rows(postgres_database, delivery_resources)) == 2


IDS = st.sampled_from(["inq_1", "inq_2", "inq_3"])
ARRIVALS = st.tuples(st.sampled_from(["evt_1", "evt_2", "evt_3"]), st.lists(IDS, max_size=4), st.booleans())


@pytest.mark.postgres
@given(groups=st.lists(st.lists(ARRIVALS, min_size=1, max_size=5), max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_statement_records_what_a_transaction_of_several_does(postgres_database, postgres_server, groups):
    """Deliveries, links and what is wanted are the same, whatever repeats what."""
    url = postgres_database.engine.url.render_as_string(hide_password=False)

    def recorded(write):
        databases.clear(postgres_server, url)
        statuses = []
        for group in groups:
            new = [arrival(key, *ids, looks_again=again) for key, ids, again in group]
            statuses += [receipt.status for receipt in write(new)]
        kept = [(row.delivery_key, row.state, row.repeats) for row in rows(postgres_database, deliveries)]
        wanted = [
            (row.external_id, row.wanted, row.cause, row.due_at is None) for row in rows(postgres_database, resources)
        ]
        names = {row.id: row.external_id for row in rows(postgres_database, resources)}
        keys = {row.id: row.delivery_key for row in rows(postgres_database, deliveries)}
        links = {(names[row.resource_id], keys[row.delivery_id]) for row in rows(postgres_database, delivery_resources)}
        return statuses, sorted(kept), sorted(wanted), links

    def in_a_transaction(new):
        with postgres_database.write() as session:
            return inbox.record(session, new)

    assert recorded(partial(inbox.record_group, postgres_database)) == recorded(in_a_transaction)
