"""What selections choose, and in which lanes parked work lies."""

from datetime import timedelta

import pytest
from sqlalchemy import event

from tests.store.play import (
    OTHER,
    SOURCE,
    arrival,
    claim,
    claim_one,
    fail,
    now,
    record,
    resource,
    retrieved,
    rows,
    set_resource,
    want,
    wanted_and_claimed,
)
from worker.domain.lanes import fingerprint
from worker.domain.replays import UNKNOWN, Lane, ReplayLevel, Selection
from worker.domain.retry import Failure
from worker.domain.states import DeliveryState, FailureKind, ResourceState
from worker.store import query_lanes, replays, selection
from worker.store.engine import database_time
from worker.store.replays import Order
from worker.store.selection import Chosen
from worker.store.tables import replay_items, resources

RETRIEVE, REINGEST = ReplayLevel.RETRIEVE, ReplayLevel.REINGEST
REFUSED = Failure(FailureKind.REJECTED, "the provider answered 400", http_status=400)


def park(database, external_id, failure=REFUSED):
    fail(database, wanted_and_claimed(database, external_id), failure)


@pytest.fixture
def town(database):
    """One resource in each state: three parked in two lanes, one settled, one claimed, one waiting, one elsewhere."""
    for external_id in ("parked_1", "parked_2"):
        park(database, external_id)
    park(database, "bug_1", Failure(FailureKind.BUG, "KeyError at read:12"))
    retrieved(database, "settled_1")
    wanted_and_claimed(database, "claimed_1")
    want(database, "waiting_1")
    want(database, "waiting_2", source=OTHER, kind="case")
    return database


def names(database, level=RETRIEVE, **conditions):
    """The external ids that are chosen."""
    wanted = Selection(**conditions).checked(level)
    with database.read() as session:
        ids = {item.resource_id for item in selection.chunk(session, level, wanted, after=None, limit=100)}
    return {row.external_id for row in rows(database, resources) if row.id in ids}


PARKED = {"parked_1", "parked_2", "bug_1"}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"everything": True}, {*PARKED, "settled_1", "claimed_1", "waiting_1", "waiting_2"}),
        ({"source": OTHER}, {"waiting_2"}),
        ({"source": SOURCE, "everything": True, "kind": "case"}, set()),
        ({"kind": "case"}, {"waiting_2"}),
        ({"ids": ("parked_1", "waiting_2", "nobody")}, {"parked_1", "waiting_2"}),
        ({"parked": True}, PARKED),
        ({"parked": True, "source": OTHER}, set()),
        ({"state": ResourceState.PARKED}, PARKED),
        ({"state": ResourceState.SETTLED}, {"settled_1"}),
        ({"state": ResourceState.CLAIMED}, {"claimed_1"}),
        ({"state": ResourceState.WAITING}, {"waiting_1", "waiting_2"}),
        ({"error": "rejected"}, {"parked_1", "parked_2"}),
        ({"error": "bug", "ids": ("bug_1", "parked_1")}, {"bug_1"}),
        ({"error": fingerprint(REFUSED)}, {"parked_1", "parked_2"}),
        ({"lane": Lane(SOURCE, "call", fingerprint(REFUSED))}, {"parked_1", "parked_2"}),
        ({"lane": Lane(SOURCE, "read", fingerprint(REFUSED))}, set()),
        ({"lane": Lane(OTHER, "call", fingerprint(REFUSED))}, set()),
    ],
)
def test_all_conditions_must_hold(town, conditions, expected):
    assert names(town, **conditions) == expected


def test_failures_with_another_name_for_their_parking(town):
    set_resource(town, "parked_1", park_reason="gone")
    set_resource(town, "parked_2", park_reason="poison")

    assert names(town, error="gone") == names(town, error="not_found") == {"parked_1"}
    assert names(town, error="poison") == names(town, error="crashed") == {"parked_2"}


def test_the_time_is_that_of_parking_and_else_of_the_last_change(town):
    past = now(town) - timedelta(days=2)
    set_resource(town, "parked_1", parked_at=past)
    set_resource(town, "waiting_1", created_at=past)
    set_resource(town, "settled_1", created_at=past)
    yesterday = past + timedelta(days=1)

    assert names(town, parked=True, until=yesterday) == {"parked_1"}
    assert names(town, parked=True, since=yesterday) == PARKED - {"parked_1"}
    # The result of the settled one changed just now, however old the resource is.
    assert names(town, until=yesterday) == {"parked_1", "waiting_1"}
    assert names(town, since=past, until=yesterday) == {"parked_1", "waiting_1"}
    assert names(town, until=past) == set()


def test_counts_are_by_source_and_chunks_follow_each_other(town):
    everything = Selection(everything=True)
    with town.read() as session:
        counts = selection.count_by_source(session, RETRIEVE, everything)
        first = selection.chunk(session, RETRIEVE, everything, after=None, limit=5)
        second = selection.chunk(session, RETRIEVE, everything, after=first[-1], limit=5)

    assert counts == {SOURCE: 6, OTHER: 1}
    assert (len(first), len(second)) == (5, 2)
    assert len({item.resource_id for item in first + second}) == 7


def test_deliveries_are_chunked_too(database):
    record(database, *(arrival(f"evt_{number}") for number in range(5)))
    found, after = [], None
    with database.read() as session:
        while some := selection.chunk(session, REINGEST, Selection(everything=True), after=after, limit=2):
            found += some
            after = some[-1]

    assert len({item.delivery_id for item in found}) == len(found) == 5
    assert {(item.source, item.resource_id) for item in found} == {(SOURCE, None)}
    assert isinstance(after, Chosen)


def test_items_are_numbered_from_one(town):
    with town.write() as session:
        replay_id, total = replays.create(session, Order(RETRIEVE, Selection(parked=True), "maria"), now(town))

    items = rows(town, replay_items, replay_id=replay_id)
    assert total == 3
    assert [(row.position, row.source, row.state) for row in items] == [(n, SOURCE, "waiting") for n in (1, 2, 3)]
    assert {row.resource_id for row in items} == {resource(town, name).id for name in PARKED}


def test_lanes_gather_what_stopped_in_the_same_way(town):
    elsewhere = Failure(FailureKind.REJECTED, "the provider answered 422", http_status=422)
    for external_id, failure in (("parked_3", elsewhere), ("old_1", REFUSED)):
        want(town, external_id)
        [held] = [one for one in claim(town) if one.key.ref.external_id == external_id]
        fail(town, held, failure)
    set_resource(town, "old_1", park_step=None, park_fingerprint=None, last_error=None)
    with town.read() as session:
        lanes = query_lanes.parked_lanes(session)

    found = [(lane.count, lane.lane.step) for lane in lanes]
    assert found == [(2, "call"), (1, "call"), (1, UNKNOWN), (1, "write")]
    refused = lanes[0]
    assert refused.lane == Lane(SOURCE, "call", fingerprint(REFUSED))
    assert refused.sample == "the provider answered 400"
    times = sorted(resource(town, name).parked_at for name in ("parked_1", "parked_2"))
    assert [refused.first_at, refused.last_at] == times
    assert names(town, lane=lanes[2].lane) == {"old_1"}


def test_deliveries_that_could_not_be_read_are_lanes_of_receiving(database):
    record(database, *(arrival(f"evt_{number}", state=DeliveryState.UNREADABLE) for number in range(3)))
    record(database, arrival("evt_4"), arrival("evt_5", state=DeliveryState.IGNORED))
    with database.read() as session:
        [lane] = query_lanes.unreadable_lanes(session)
        assert query_lanes.parked_lanes(session) == []

    assert (lane.count, lane.lane.source, lane.lane.step, lane.sample) == (3, SOURCE, "receive", "because")
    assert lane.first_at <= lane.last_at


def test_only_so_many_unreadable_deliveries_are_looked_at(database, monkeypatch):
    monkeypatch.setattr(query_lanes, "MOST_UNREADABLE", 2)
    record(database, *(arrival(f"evt_{number}", state=DeliveryState.UNREADABLE) for number in range(3)))

    with database.read() as session:
        [lane] = query_lanes.unreadable_lanes(session)

    assert lane.count == 2


@pytest.mark.parametrize(
    ("level", "conditions", "index"),
    [
        (RETRIEVE, {"parked": True, "source": SOURCE}, "ix_resources_parked"),
        (RETRIEVE, {"lane": Lane(SOURCE, "call", "0123456789abcdef")}, "ix_resources_parked"),
        (RETRIEVE, {"state": ResourceState.WAITING, "source": SOURCE}, "ix_resources_oldest"),
        (REINGEST, {"parked": True, "source": SOURCE}, "ix_deliveries_unreadable"),
        (REINGEST, {"since": None, "lane": Lane(SOURCE, "receive", "0123456789abcdef")}, "ix_deliveries_unreadable"),
    ],
)
def test_parked_and_open_work_is_found_by_its_own_index(sqlite_database, level, conditions, index):
    """An operator looks at parked work most often when there is much of everything else."""
    plans: list[str] = []

    def explain(connection, cursor, statement, parameters, *_):
        if not statement.startswith("EXPLAIN"):
            plans.extend(
                str(row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            )

    wanted = Selection(**conditions).checked(level)
    with sqlite_database.write() as session:
        event.listen(session.connection(), "before_cursor_execute", explain)
        selection.count_by_source(session, level, wanted)
        counting, plans = plans, []
        replays.create(session, Order(level, wanted, "maria"), database_time(session))

    for lines in (counting, plans):
        assert any(index in line for line in lines), lines


def test_a_claim_that_ends_by_parking_is_a_lane_at_once(database):
    want(database, "one")
    fail(database, claim_one(database), Failure(FailureKind.BUG, "KeyError at read:12"))

    with database.read() as session:
        [lane] = query_lanes.parked_lanes(session)

    assert (lane.lane.step, lane.sample) == ("write", "KeyError at read:12")
