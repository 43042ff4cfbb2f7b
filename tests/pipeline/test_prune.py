"""The leader prunes what the settings say, for a bounded time of each sweep, and is idle when nothing is old."""

from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import event, update
from structlog.testing import capture_logs

from tests.store.play import rows
from tests.store.stocks import DAYS, Stocks
from worker.domain.states import DeliveryState
from worker.pipeline import prune
from worker.pipeline.prune import LOOK_BACK_SECONDS, PRUNE_SECONDS, REST_SECONDS, Pruner
from worker.settings import Settings
from worker.store.tables import attempts, audit_entries, cursors, deliveries, event_deliveries, replay_items, replays


class Clock:
    """A clock that tests set; it also goes on by `step` whenever somebody looks at it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(prune, "monotonic", made)
    return made


@pytest.fixture
def stocks(database):
    return Stocks(database)


@pytest.fixture
def at_once(database):
    """Rows of one transaction."""
    return prune.AT_ONCE_ON_SQLITE if database.is_sqlite else prune.AT_ONCE


@pytest.fixture
def pruner(database, clock):
    return Pruner(database, Settings(keep_deliveries_days=DAYS))


@pytest.fixture
def statements(database):
    """What is sent to the database from now on."""
    sent: list[str] = []
    for engine in {database.engine, database.writer}:
        event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
    return sent


def entries(stocks, how_many):
    entry = {"actor": "tests", "action": "hold", "subject": "x", "details": {}}
    stocks.add(audit_entries, *({**entry, "occurred_at": stocks.old - timedelta(days=n)} for n in range(how_many)))


def test_by_default_only_notes_of_what_sinks_have_got_are_deleted(database, stocks, clock):
    """What people, providers and we ourselves said is evidence, and nobody loses it by not reading the settings."""
    stocks.delivery(stocks.old)
    entries(stocks, 1)
    settled = stocks.resource("settled")
    stocks.add(attempts, {"resource_id": settled, "number": 1, "cause": "webhook", "started_at": stocks.old})
    stocks.replay(stocks.old, stocks.old, items=1)
    stocks.add(cursors, {"name": "sink:log", "value": 2})
    got = {"sink": "log", "attempts": 1}
    stocks.add(
        event_deliveries,
        {**got, "sequence": 1, "delivered_at": stocks.old},
        {**got, "sequence": 2, "delivered_at": stocks.young},
    )

    Pruner(database, Settings()).prune()

    assert [row.sequence for row in rows(database, event_deliveries)] == [2]
    assert [len(rows(database, table)) for table in (deliveries, audit_entries, attempts, replay_items)] == [1] * 4


def test_nothing_to_keep_for_less_than_ever_asks_for_nothing(database, clock, statements):
    Pruner(database, Settings(keep_event_deliveries_days=0)).prune()

    assert statements == []


def test_a_round_that_found_nothing_rests(pruner, clock, statements):
    pruner.prune()
    once = len(statements)
    for _ in range(10):
        clock.now += 1
        pruner.prune()

    assert len(statements) == once > 0
    clock.now += REST_SECONDS
    pruner.prune()
    assert len(statements) == 2 * once


def test_a_backlog_is_worked_off_a_part_each_sweep(database, stocks, clock, at_once):
    """Beside other stocks, which do not wait for its end."""
    pruner = Pruner(database, Settings(keep_deliveries_days=DAYS, keep_audit_days=DAYS))
    entries(stocks, 5)
    for _ in range(3 * at_once):
        stocks.delivery(stocks.old)
    clock.step = PRUNE_SECONDS / 3

    pruner.prune()
    left = len(rows(database, deliveries))
    assert 0 < left < 3 * at_once
    assert rows(database, audit_entries) == []
    sweeps = 1
    while rows(database, deliveries):
        pruner.prune()
        sweeps += 1

    assert 2 <= sweeps <= 5


def test_what_was_kept_is_looked_at_again_after_an_hour_and_not_before(database, stocks, clock, pruner):
    """Else a thousand unreadable deliveries would be read every minute."""
    unread = stocks.delivery(stocks.old, state=DeliveryState.UNREADABLE)
    pruner.prune()
    with database.write() as session:
        session.execute(update(deliveries).values(state=DeliveryState.ACCEPTED))

    clock.now += REST_SECONDS
    stocks.delivery(stocks.old + timedelta(minutes=1))
    pruner.prune()
    assert [row.id for row in rows(database, deliveries)] == [unread]

    clock.now += LOOK_BACK_SECONDS
    pruner.prune()
    assert rows(database, deliveries) == []


def test_a_large_replay_goes_in_parts_and_at_its_end(database, stocks, clock, at_once):
    stocks.replay(stocks.old, stocks.old, items=2 * at_once + 1)
    pruner = Pruner(database, Settings(keep_runs_days=DAYS))
    clock.step = PRUNE_SECONDS * 0.6

    left = []
    while rows(database, replays):
        pruner.prune()
        left.append(len(rows(database, replay_items)))

    assert left == sorted(left, reverse=True)
    assert {2 * at_once + 1, at_once + 1, 1, 0} >= set(left) >= {at_once + 1, 1, 0}


def test_it_says_what_it_deleted_once_a_round(database, stocks, clock, pruner):
    before = REGISTRY.get_sample_value("verisink_pruned_rows_total", {"table": "deliveries"}) or 0
    for _ in range(3):
        stocks.delivery(stocks.old)

    with capture_logs() as lines:
        pruner.prune()
        clock.now += REST_SECONDS
        pruner.prune()

    assert lines == [{"event": "pruned", "log_level": "info", "deliveries": 3}]
    assert REGISTRY.get_sample_value("verisink_pruned_rows_total", {"table": "deliveries"}) == before + 3


def test_trouble_with_one_table_leaves_the_others_to_the_next_sweep(database, stocks, clock):
    """The sweep logs it; see `Sweeper`."""
    pruner = Pruner(database, Settings(keep_deliveries_days=DAYS, keep_audit_days=DAYS))
    stocks.delivery(stocks.old)
    entries(stocks, 1)

    def break_deliveries(_connection, _cursor, statement, *_):
        if statement.startswith("DELETE FROM deliveries"):
            raise RuntimeError("broken")

    event.listen(database.writer, "before_cursor_execute", break_deliveries)
    with pytest.raises(RuntimeError):
        pruner.prune()
    pruner.prune()

    assert rows(database, audit_entries) == []
    assert len(rows(database, deliveries)) == 1
