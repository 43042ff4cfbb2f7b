"""Live work goes first, and what is not live leaves it calls and slots. What was read just now waits for more news."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.pipeline.plant import wait_until
from tests.store import play
from web.simulator.faults import Faults
from worker.domain.states import Priority


def test_the_most_urgent_goes_first(plant):
    plant.build(worker_concurrency=1)
    wanted = [
        (priority, plant.create("gu1"))
        for priority in (Priority.BACKFILL, Priority.REPLAY, Priority.LIVE, Priority.RECONCILE)
    ]
    for priority, record in wanted:
        plant.want(record, priority=priority)

    plant.drain("gu1")

    called = [call.external_id for call in plant.world.calls()]
    assert called == [record.ref.external_id for _, record in sorted(wanted, key=lambda item: item[0])]


def test_a_replay_leaves_calls_for_live_work(plant):
    plant.build(source={"rate_limit_per_minute": 10})
    plant.want(*(plant.create("gu1") for _ in range(12)), priority=Priority.REPLAY)
    plant.drain("gu1")
    assert plant.calls("gu1") == 8

    live = plant.create("gu1")
    plant.retrieve(live)

    assert plant.row(live).version == 1
    assert plant.calls("gu1") == 9
    plant.drain("gu1")
    assert plant.calls("gu1") == 9, "the replay goes on waiting"


def test_what_was_not_due_is_not_paid_for(plant):
    plant.build(source={"rate_limit_per_minute": 5})
    for _ in range(5):
        plant.retrieve(plant.create("gu1"))

    assert plant.calls("gu1") == 5


def test_a_source_with_little_left_still_serves_a_replay(plant):
    plant.build(source={"rate_limit_per_minute": 2})
    plant.want(*(plant.create("gu1") for _ in range(3)), priority=Priority.BACKFILL)

    plant.drain("gu1")

    assert plant.calls("gu1") == 1


def test_a_replay_of_slow_calls_leaves_slots_for_live_work(plant):
    plant.build(worker_concurrency=4)
    plant.want(*(plant.create("gu1") for _ in range(8)), priority=Priority.REPLAY)
    plant.faults.set("gu1", Faults(hang=True))

    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(plant.drain, "gu1")
        wait_until(lambda: plant.calls("gu1") == 3)
        live = plant.create("gu1")
        plant.faults.on_call = lambda call: plant.faults.clear() if call.external_id == live.ref.external_id else None
        plant.want(live)
        plant.drain("gu1")
        wait_until(lambda: plant.row(live).version == 1)
        draining.result(20)

    assert plant.calls("gu1") == 9


def test_one_slot_serves_everybody(plant):
    plant.build(worker_concurrency=1)
    replayed = plant.create("gu1")
    plant.want(replayed, priority=Priority.REPLAY)

    plant.drain("gu1")

    assert plant.row(replayed).version == 1


@pytest.mark.parametrize("told", [1, 3])
def test_what_was_read_just_now_waits_for_more_of_it(plant, told):
    plant.build(source={"coalesce_seconds": 30})
    record = plant.create("gu1")
    again: list[bool] = []

    def tell_during_the_first_call(_call):
        if not again:
            again.append(True)
            for _ in range(told):
                plant.want(record)

    plant.faults.on_call = tell_during_the_first_call
    plant.retrieve(record)

    assert plant.calls("gu1") == 1, "the first is read at once"
    row = plant.row(record)
    assert (row.wanted, row.retrieved) == (1 + told, 1)
    assert timedelta(seconds=20) < row.due_at - play.now(plant.database) <= timedelta(seconds=30)

    plant.make_due(record)
    plant.drain("gu1")
    assert plant.calls("gu1") == 2
    assert plant.row(record).due_at is None
