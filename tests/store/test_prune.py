"""What is open, new, or still of use is never pruned; all else goes, and with it what hangs on it."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import product

import pytest
from sqlalchemy import event, update

from tests.store.play import EARLY, SOURCE, arrival, record, rows, undone
from tests.store.stocks import DAYS, OPEN, WORK, Stocks
from worker.domain.reconcile import ReconcileState
from worker.domain.states import Cause, DeliveryState, ExpectationState, ReceiptStatus
from worker.store import prune
from worker.store.engine import Database
from worker.store.prune import Stock
from worker.store.reconciliations import SCHEDULE
from worker.store.tables import (
    attempts,
    audit_entries,
    cursors,
    deliveries,
    delivery_bodies,
    delivery_resources,
    event_deliveries,
    expectations,
    reconciliations,
    replay_items,
    replays,
    resources,
)

CHUNK = 7
"""Small, so that a walk has many stretches."""


@pytest.fixture
def stocks(database):
    return Stocks(database)


def walk(database: Database, stock: Stock, before: datetime, limit: int = CHUNK) -> int:
    """Prunes a stock from its beginning to its end, as the leader does; returns how many rows went."""
    deleted, behind = 0, None
    while True:
        with database.read() as session:
            found = prune.stretch(session, stock, behind=behind, limit=limit)
        old = [passed for passed in found if passed.moment is None or passed.moment < before]
        if not old:
            return deleted
        with database.write() as session:
            gone, all_of_it = prune.discard(session, stock, [passed.key for passed in old], before, limit=limit)
        deleted += gone
        if all_of_it:
            behind = old[-1].place


def test_of_all_kinds_of_deliveries_exactly_those_go_that_nothing_needs(database, stocks):
    """Every combination of age, repeats, state, work and replay."""
    before = stocks.now - timedelta(days=DAYS)
    work = {name: stocks.resource(name) for name in WORK}
    running, ended = stocks.replay(stocks.young, None), stocks.replay(stocks.young, stocks.young)
    in_replays: dict[object, list[object]] = {running: [], ended: []}
    expected = set()
    ways = product(("old", "young"), (None, "old", "young"), DeliveryState, (None, *WORK), (None, running, ended))
    for age, repeat, state, way, replay in ways:
        named = [work[way], work["settled"]] if way in OPEN else [work[way]] if way else []
        repeated = {"last_repeat_at": stocks.at(repeat), "repeats": 1} if repeat else {}
        delivery_id = stocks.delivery(stocks.at(age), *named, state=state, **repeated)
        if replay:
            in_replays[replay].append(delivery_id)
        expendable = age == "old" and repeat != "young" and state is not DeliveryState.UNREADABLE
        if not expendable or way in OPEN or replay == running:
            expected.add(delivery_id)
    for replay, ids in in_replays.items():
        stocks.items(replay, ids)

    deleted = walk(database, prune.DELIVERIES, before)

    left = {row.id for row in rows(database, deliveries)}
    assert left == expected
    assert deleted == 2 * 3 * 3 * 6 * 3 - len(expected) > 0
    assert {row.delivery_id for row in rows(database, delivery_bodies)} == left
    assert {row.delivery_id for row in rows(database, delivery_resources)} < left
    assert {row.delivery_id for row in rows(database, replay_items, replay_id=running)} == set(in_replays[running])
    assert walk(database, prune.DELIVERIES, before) == 0


def test_what_was_pruned_and_comes_again_is_taken_as_new(database, stocks):
    [first] = record(database, arrival("evt_1"))
    walk(database, prune.DELIVERIES, stocks.now + timedelta(days=1))
    [kept] = rows(database, deliveries)
    with database.write() as session:
        session.execute(update(resources).values(retrieved=1, due_at=None, wanted_since=None))

    assert walk(database, prune.DELIVERIES, stocks.now + timedelta(days=1)) == 1
    [again] = record(database, arrival("evt_1"))

    assert kept.id == first.delivery_id != again.delivery_id
    assert again.status is ReceiptStatus.ACCEPTED


def attempt(resource_id: int, number: int, started_at: datetime) -> dict[str, object]:
    return {"resource_id": resource_id, "number": number, "cause": Cause.WEBHOOK, "started_at": started_at}


def test_attempts_go_unless_their_work_is_open(database, stocks):
    ids = {name: stocks.resource(name) for name in WORK}
    for number, name in product(range(1, 6), WORK):
        stocks.add(attempts, attempt(ids[name], number, stocks.old))
    stocks.add(attempts, attempt(ids["settled"], 6, stocks.young))

    walk(database, prune.ATTEMPTS, stocks.now - timedelta(days=DAYS))

    left = {(row.resource_id, row.number) for row in rows(database, attempts)}
    assert left == {(ids[name], number) for name in OPEN for number in range(1, 6)} | {(ids["settled"], 6)}


def test_attempts_stay_that_an_unfinished_replay_may_ask_for(database, stocks):
    """A replay tells by them how its items ended, and one that is paused may do so after months."""
    settled = stocks.resource("settled")
    began = stocks.old - timedelta(days=5)
    earlier, later = began - timedelta(hours=1), began + timedelta(hours=1)
    stocks.add(attempts, attempt(settled, 1, earlier), attempt(settled, 2, later))
    replay_id = stocks.replay(began, None)

    assert walk(database, prune.ATTEMPTS, stocks.now) == 1
    assert [row.number for row in rows(database, attempts)] == [2]

    with database.write() as session:
        session.execute(update(replays).where(replays.c.id == replay_id).values(finished_at=stocks.now))
    assert walk(database, prune.ATTEMPTS, stocks.now) == 1


def test_a_replay_goes_after_the_last_of_its_items_a_part_at_a_time(database, stocks):
    before = stocks.now - timedelta(days=DAYS)
    large = stocks.replay(stocks.old, stocks.old, items=3 * CHUNK + 1)
    lately = stocks.replay(stocks.old, stocks.young, items=2)
    running = stocks.replay(stocks.old, None, items=2)

    with database.write() as session:
        assert prune.discard(session, prune.REPLAYS, [large], before, limit=CHUNK) == (0, False)
    assert len(rows(database, replay_items, replay_id=large)) == 2 * CHUNK + 1
    walk(database, prune.REPLAYS, before)

    assert {row.id for row in rows(database, replays)} == {lately, running}
    assert {row.replay_id for row in rows(database, replay_items)} == {lately, running}


def run(started_at: datetime, state: ReconcileState, actor: str = SCHEDULE, source: str = SOURCE) -> dict[str, object]:
    finished_at = None if state is ReconcileState.RUNNING else started_at
    row = {"source": source, "since": started_at, "actor": actor, "state": state}
    return {**row, "started_at": started_at, "finished_at": finished_at}


def test_of_reconciliations_the_newest_and_the_last_success_of_each_source_stay(database, stocks):
    """The schedule looks back to the one, and the status shows the other."""
    good, bad = ReconcileState.FINISHED, ReconcileState.FAILED
    ids = stocks.add(
        reconciliations,
        run(stocks.old, good),
        run(stocks.old, good),
        run(stocks.old, good, actor="cli:maria"),
        run(stocks.old, bad),
        run(stocks.old, good, source="other"),
        run(stocks.old, ReconcileState.RUNNING),
        run(stocks.old, bad),
    )

    walk(database, prune.RECONCILIATIONS, stocks.now - timedelta(days=DAYS))

    assert [row.id for row in rows(database, reconciliations)] == [ids[1], ids[4], ids[5], ids[6]]


def expected(state: ExpectationState, deadline: datetime, closed_at: datetime | None, name: str) -> dict[str, object]:
    row = {"id": uuid.uuid4(), "source": SOURCE, "kind": "inquiry", "external_id": name, "actor": "tests"}
    return {**row, "deadline": deadline, "state": state, "created_at": deadline, "closed_at": closed_at}


def test_expectations_go_when_they_were_closed_long_ago(database, stocks):
    met, overdue, cancelled = ExpectationState.MET, ExpectationState.OVERDUE, ExpectationState.CANCELLED
    ahead = stocks.now + timedelta(days=90)
    stocks.add(
        expectations,
        expected(met, stocks.old, stocks.old, "met long ago"),
        expected(met, stocks.old, stocks.young, "met lately"),
        expected(overdue, stocks.old, None, "missed"),
        expected(overdue, stocks.old, stocks.old, "given up"),
        expected(cancelled, ahead, stocks.old, "cancelled"),
    )

    walk(database, prune.EXPECTATIONS, stocks.now - timedelta(days=DAYS))

    assert {row.external_id for row in rows(database, expectations)} == {"met lately", "missed", "cancelled"}


def test_audit_entries_go_by_their_age(database, stocks):
    entry = {"actor": "tests", "action": "hold", "subject": SOURCE, "details": {}}
    stocks.add(audit_entries, *({**entry, "occurred_at": when} for when in (stocks.old, stocks.old, stocks.young)))

    assert walk(database, prune.AUDIT_ENTRIES, stocks.now - timedelta(days=DAYS)) == 2
    assert len(rows(database, audit_entries)) == 1


def notes(sink: str, sequences: Sequence[int], when: datetime | None) -> list[dict[str, object]]:
    return [{"sink": sink, "sequence": number, "attempts": 1, "delivered_at": when} for number in sequences]


def test_what_a_sink_has_not_got_is_not_forgotten(database, stocks):
    before = stocks.now - timedelta(days=DAYS)
    stocks.add(cursors, {"name": "sink:log", "value": 20}, {"name": "sink:far", "value": 5})
    stocks.add(event_deliveries, *notes("log", range(1, 10), stocks.old), *notes("log", range(12, 21), stocks.young))
    stocks.add(event_deliveries, *notes("log", [10, 11], None), *notes("far", range(1, 9), stocks.old))

    with database.read() as session:
        assert prune.sinks(session) == ["far", "log"]
    walk(database, prune.event_deliveries_to("log"), before)
    walk(database, prune.event_deliveries_to("far"), before)

    left = [(row.sink, row.sequence) for row in rows(database, event_deliveries)]
    assert left == [("far", 6), ("far", 7), ("far", 8), *(("log", number) for number in range(10, 21))]


@pytest.mark.postgres
def test_a_prune_under_way_keeps_no_receiver_waiting(postgres_database):
    """Its transaction is open while webhooks come: about the same resources, and again the same one that is kept."""
    stocks = Stocks(postgres_database)
    settled = stocks.resource("settled")
    [known] = rows(postgres_database, resources)
    [unread] = record(postgres_database, arrival("kept", state=DeliveryState.UNREADABLE))
    going = [stocks.delivery(stocks.old, settled) for _ in range(200)]
    before = stocks.now + timedelta(days=1)

    with postgres_database.write() as pruning:
        keys = [*going, unread.delivery_id]
        assert prune.discard(pruning, prune.DELIVERIES, keys, before, limit=1000) == (200, True)
        # Whoever had to wait for the transaction above would wait for this test, and give up after five seconds.
        new = record(postgres_database, *(arrival(f"new_{number}", known.external_id) for number in range(32)))
        [repeat] = record(postgres_database, arrival("kept", state=DeliveryState.UNREADABLE))
        with postgres_database.write() as other:
            assert prune.discard(other, prune.DELIVERIES, keys, before, limit=1000) == (0, True), "another leader"

    assert {receipt.status for receipt in new} == {ReceiptStatus.ACCEPTED}
    assert repeat.status is ReceiptStatus.DUPLICATE
    assert len(rows(postgres_database, deliveries)) == 33


@pytest.mark.postgres
def test_a_prune_waits_for_no_receiver(postgres_database):
    """A delivery that is being counted as a repeat is left alone."""
    stocks = Stocks(postgres_database)
    ids = [stocks.delivery(stocks.old) for _ in range(3)]

    with postgres_database.write() as receiving:
        receiving.execute(update(deliveries).where(deliveries.c.id == ids[1]).values(last_repeat_at=stocks.now))
        with postgres_database.write() as pruning:
            before = stocks.now - timedelta(days=DAYS)
            assert prune.discard(pruning, prune.DELIVERIES, ids, before, limit=1000) == (2, True)

    assert [row.id for row in rows(postgres_database, deliveries)] == [ids[1]]


@pytest.mark.parametrize(
    "stock",
    [
        prune.DELIVERIES,
        prune.ATTEMPTS,
        prune.REPLAYS,
        prune.RECONCILIATIONS,
        prune.EXPECTATIONS,
        prune.AUDIT_ENTRIES,
        prune.event_deliveries_to("log"),
    ],
    ids=lambda stock: stock.key.table.name,
)
def test_nothing_that_grows_is_scanned_or_sorted(sqlite_database, stock):
    """SQLite keeps no statistics, so what it does with few rows it does with many."""
    plans: list[str] = []

    def explain(connection, _cursor, statement, parameters, *_):
        if not statement.startswith("EXPLAIN"):
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(str(row[-1]) for row in found)

    key = uuid.UUID(int=1) if stock.key.type.python_type is uuid.UUID else 1
    place = (EARLY, key) if len(stock.order) == 2 else (key,)
    with undone(sqlite_database) as session:
        event.listen(session.connection(), "before_cursor_execute", explain)
        prune.stretch(session, stock, behind=place, limit=10)
        prune.discard(session, stock, [key], EARLY, limit=10)

    assert len(plans) > 1
    grows = [line for line in plans if line.startswith("SCAN") and "USING INDEX ix_replays_open" not in line]
    assert grows == []
    assert [line for line in plans if line == "USE TEMP B-TREE FOR ORDER BY"] == []
