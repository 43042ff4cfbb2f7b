"""Reingesting: stored deliveries, read again. What could not be read and now can is accepted."""

import json
import uuid

import pytest
from sqlalchemy import update

from tests.pipeline.desk import Desk
from tests.pipeline.plant import KINDS
from tests.store.play import arrival, rows
from worker.domain.model import Notification
from worker.domain.replays import Lane, ReplayLevel, Selection
from worker.domain.states import DeliveryState
from worker.errors import UnreadableNotification
from worker.pipeline.receive import read_notification
from worker.providers.base import InboundRequest
from worker.providers.gu1 import Gu1Provider
from worker.store import inbox, query_lanes
from worker.store.inbox import Arrival
from worker.store.tables import attempts, deliveries, delivery_bodies, delivery_resources, resources

REINGEST = ReplayLevel.REINGEST
UNREADABLE = Selection(parked=True)


class Gu1Old(Gu1Provider):
    """A parser of yesterday, which does not know today's envelope."""

    def parse(self, source, body):
        raise UnreadableNotification("neither event nor type says what this is about")


class Gu1Deaf(Gu1Provider):
    """A parser that finds nothing to retrieve in anything."""

    def parse(self, source, body):
        found = super().parse(source, body)
        return Notification(found.delivery_key, found.event_type, ignored_because="of no interest")


class Gu1Grand(Gu1Provider):
    """A parser that names what no database can hold as an event's type."""

    def parse(self, source, body):
        found = super().parse(source, body)
        return Notification(found.delivery_key, object(), found.resources)  # type: ignore[arg-type]


@pytest.fixture
def desk(anywhere):
    return Desk(anywhere)


def told(desk, *records, provider=None):
    """Deliveries about these records, as this parser reads them."""
    arrivals = []
    for record in records:
        body = json.dumps({"event": "kyc.validation_approved", "payload": {"id": record.ref.external_id}}).encode()
        arrivals.append(received(desk, body, provider))
    with desk.database.write() as session:
        inbox.record(session, arrivals)
    return [item.id for item in arrivals]


def received(desk, body, provider=None):
    source = desk.sources["gu1"]
    state, reason, notification = read_notification(source, provider or Gu1Provider(), InboundRequest(body))
    return Arrival(uuid.uuid4(), "gu1", "gu1", source.environment, state, reason, notification, body, {})


def delivery(desk, delivery_id):
    [row] = rows(desk.database, deliveries, id=delivery_id)
    return row


def test_what_can_be_read_now_is_accepted_and_retrieved(desk):
    record = desk.plant.create("gu1")
    [delivery_id] = told(desk, record, provider=Gu1Old())
    before = delivery(desk, delivery_id)
    assert (before.state, rows(desk.database, resources)) == ("unreadable", [])

    plan = desk.plan(REINGEST, UNREADABLE)
    assert (plan.count, plan.calls, plan.outcomes) == (1, 1, {"accepted": 1})
    assert [(item.before, item.after, item.count) for item in plan.changes] == [("unreadable", "accepted", 1)]
    assert delivery(desk, delivery_id) == before

    found = desk.run(REINGEST, UNREADABLE)

    assert found.outcomes == {"accepted": 1}
    after = delivery(desk, delivery_id)
    assert (after.state, after.reason, after.event_type) == ("accepted", None, "kyc.validation_approved")
    assert after.delivery_key == before.delivery_key
    [resource] = rows(desk.database, resources)
    assert (resource.external_id, resource.cause, resource.priority) == (record.ref.external_id, "replay", 2)
    assert [(row.resource_id, row.delivery_id) for row in rows(desk.database, delivery_resources)] == [
        (resource.id, delivery_id)
    ]
    assert "gu1" in desk.nudges
    desk.plant.drain("gu1")
    assert desk.plant.is_true(record, 1)


def test_accepted_deliveries_ask_again_and_doing_it_twice_changes_nothing_else(desk):
    records = [desk.plant.create("gu1") for _ in range(3)]
    told(desk, *records)
    desk.plant.drain("gu1")
    before = rows(desk.database, deliveries), rows(desk.database, delivery_resources)

    for _ in range(2):
        assert desk.run(REINGEST, Selection(source="gu1")).outcomes == {"accepted": 3}
        desk.plant.drain("gu1")

    assert (rows(desk.database, deliveries), rows(desk.database, delivery_resources)) == before
    assert {row.version for row in rows(desk.database, resources)} == {1}
    assert [row.outcome for row in rows(desk.database, attempts)] == ["stored"] * 3 + ["unchanged"] * 6


def test_what_was_ignored_and_names_something_now_is_accepted(desk):
    [delivery_id] = told(desk, desk.plant.create("gu1"), provider=Gu1Deaf())
    assert delivery(desk, delivery_id).state == "ignored"

    assert desk.run(REINGEST, Selection(state="ignored")).outcomes == {"accepted": 1}
    assert delivery(desk, delivery_id).state == "accepted"


def test_what_still_cannot_be_read_says_why_today(desk):
    [delivery_id] = told(desk, desk.plant.create("gu1"), provider=Gu1Old())
    desk = Desk(desk.plant, {"gu1": Gu1Deaf()})
    assert desk.run(REINGEST, UNREADABLE).outcomes == {"ignored": 1}
    assert (delivery(desk, delivery_id).state, delivery(desk, delivery_id).reason) == ("ignored", "of no interest")

    with desk.database.write() as session:
        inbox.record(session, [received(desk, b"nonsense")])
    [lane] = lanes(desk)
    with desk.database.write() as session:
        session.execute(update(deliveries).where(deliveries.c.state == "unreadable").values(reason="yesterday's"))

    assert desk.run(REINGEST, UNREADABLE).outcomes == {"unreadable": 1}
    assert lanes(desk) == [lane]


@pytest.mark.parametrize("parser", [Gu1Old(), Gu1Deaf()])
def test_what_was_accepted_stays_accepted(desk, parser):
    [delivery_id] = told(desk, desk.plant.create("gu1"))
    before = delivery(desk, delivery_id)

    found = Desk(desk.plant, {"gu1": parser}).run(REINGEST, Selection(source="gu1"))

    assert set(found.outcomes) <= {"unreadable", "ignored"}
    assert delivery(desk, delivery_id) == before


def test_erased_bodies_are_left_alone(desk):
    [delivery_id] = told(desk, desk.plant.create("gu1"), provider=Gu1Old())
    with desk.database.write() as session:
        session.execute(update(delivery_bodies).values(body=None, erased_at=desk.plant.past()))

    assert desk.plan(REINGEST, UNREADABLE).outcomes == {"erased": 1}
    assert desk.run(REINGEST, UNREADABLE).outcomes == {"erased": 1}
    assert delivery(desk, delivery_id).state == "unreadable"


def test_one_that_cannot_be_written_keeps_no_other_from_it(desk):
    told(desk, desk.plant.create("gu1"), provider=Gu1Old())
    with desk.database.write() as session:
        inbox.record(session, [received(desk, b"nonsense")])
    grand = Desk(desk.plant, {"gu1": Gu1Grand()})

    assert grand.run(REINGEST, UNREADABLE).outcomes == {"failed": 1, "unreadable": 1}
    assert rows(desk.database, resources) == [], "what went wrong is undone whole"


def test_a_lane_of_unreadable_deliveries_is_reingested_whole(desk):
    first, second = told(desk, *(desk.plant.create("gu1") for _ in range(2)), provider=Gu1Old())
    with desk.database.write() as session:
        inbox.record(session, [received(desk, b"nonsense")])
    [lane, other] = lanes(desk)
    assert (lane.count, lane.lane.step, lane.sample, other.count) == (
        2, "receive", "neither event nor type says what this is about", 1,
    )  # fmt: skip

    found = desk.run(REINGEST, Selection(lane=lane.lane))

    assert found.outcomes == {"accepted": 2}
    assert {delivery(desk, first).state, delivery(desk, second).state} == {"accepted"}
    assert lanes(desk) == [other]
    assert desk.plan(REINGEST, Selection(lane=lane.lane)).count == 0
    assert desk.plan(REINGEST, Selection(error=other.lane.fingerprint)).count == 1
    assert desk.plan(REINGEST, Selection(lane=Lane("yoti", "receive", other.lane.fingerprint))).count == 0


def test_deliveries_are_chosen_by_what_they_name(desk):
    first, second = desk.plant.create("gu1"), desk.plant.create("gu1")
    first_id, second_id = told(desk, first, second)

    def chosen(**conditions):
        return desk.plan(REINGEST, Selection(**conditions)).count

    assert chosen(ids=(first.ref.external_id,)) == 1
    assert chosen(ids=(str(second_id), first.ref.external_id)) == 2
    assert chosen(kind=KINDS["gu1"]) == 2
    assert chosen(kind="entity") == 0
    assert chosen(source="gu1", state=DeliveryState.ACCEPTED) == 2
    assert chosen(state=DeliveryState.IGNORED) == 0
    received_at = delivery(desk, first_id).received_at
    assert chosen(since=received_at) == 2
    assert chosen(until=received_at) == 0


def test_a_delivery_of_a_source_that_is_gone_is_skipped(desk):
    with desk.database.write() as session:
        inbox.record(session, [arrival("evt_1", "inq_1")])

    found = desk.run(REINGEST, Selection(everything=True))

    assert found.outcomes == {"skipped": 1}
    assert rows(desk.database, resources, external_id="inq_1")[0].wanted == 1


def lanes(desk):
    with desk.database.read() as session:
        return query_lanes.unreadable_lanes(session)


def test_a_resource_that_is_named_twice_is_one_call(desk):
    record = desk.plant.create("gu1")
    told(desk, record, provider=Gu1Old())
    body = {"event": "kyc.validation_approved", "payload": {"id": record.ref.external_id, "again": 1}}
    with desk.database.write() as session:
        inbox.record(session, [received(desk, json.dumps(body).encode(), Gu1Old())])

    assert desk.plan(REINGEST, UNREADABLE).calls == 1
    assert desk.run(REINGEST, UNREADABLE).outcomes == {"accepted": 2}
    desk.plant.drain("gu1")

    assert desk.plant.calls("gu1") == 1
