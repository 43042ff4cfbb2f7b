"""Holding and releasing a source by hand: nothing is called, nothing is lost, and all goes on after the release."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from tests.pipeline.plant import key_of, settings
from tests.store import play
from web.simulator.faults import Answer, Faults
from worker.domain.states import Cause, EventType, Priority
from worker.errors import UnknownSource
from worker.pipeline import operate
from worker.pipeline.sweep import Sweeper
from worker.store import resources, sources
from worker.store.engine import database_time
from worker.store.resources import Want
from worker.store.tables import audit_entries, events


@pytest.fixture
def chosen(simulator):
    return settings(simulator.url)


def hold(plant, chosen, reason="the contract is being renewed", source="gu1"):
    with plant.database.write() as session:
        return operate.hold(session, chosen, source, actor="alice", reason=reason)


def release(plant, chosen, source="gu1", reason=None):
    with plant.database.write() as session:
        return operate.release(session, chosen, source, actor="bob", reason=reason)


def told(plant):
    """The events about sources, in order."""
    with plant.database.read() as session:
        found = session.execute(select(events.c.type, events.c.data).order_by(events.c.position)).all()
    return [(row.type, row.data) for row in found if row.type in (EventType.HELD, EventType.RELEASED)]


def deeds(plant):
    return [(entry.actor, entry.action, entry.reason) for entry in play.rows(plant.database, audit_entries)]


def due(plant):
    """The sources that the sweep rings for now."""
    rung: list[str] = []
    Sweeper(plant.database, ("persona", "verifik", "gu1", "yoti"), rung.append, lambda: None).sweep()
    return rung


def test_a_held_source_is_not_called_and_its_work_waits(anywhere, chosen):
    record = anywhere.create("gu1")
    assert hold(anywhere, chosen) is True

    anywhere.retrieve(record)

    assert (anywhere.calls("gu1"), due(anywhere)) == (0, [])
    assert anywhere.row(record).due_at is not None
    state = anywhere.state("gu1")
    assert (state.hold_reason, state.probe_at) == ("the contract is being renewed (by alice)", None)


def test_a_release_lets_everything_go_on_at_once(anywhere, chosen):
    record = anywhere.create("gu1")
    hold(anywhere, chosen)
    anywhere.retrieve(record)

    done = release(anywhere, chosen, reason="renewed")

    assert (done.hold, done.throttle, done.changed) == (True, False, True)
    assert due(anywhere) == ["gu1"]
    anywhere.drain("gu1")
    assert anywhere.row(record).version == 1
    assert [(kind.rpartition(".")[2], data) for kind, data in told(anywhere)] == [
        ("held", {"source": "gu1", "reason": "held by an operator"}),
        ("released", {"source": "gu1"}),
    ]
    assert deeds(anywhere) == [
        ("alice", "hold", "the contract is being renewed (by alice)"),
        ("bob", "release", "renewed"),
    ]


@pytest.mark.parametrize(("cause", "priority"), [(Cause.DISCOVERED, Priority.LIVE), (Cause.REPLAY, Priority.REPLAY)])
def test_work_of_every_cause_waits_and_goes_on(anywhere, chosen, cause, priority):
    record = anywhere.create("gu1")
    hold(anywhere, chosen)
    with anywhere.database.write() as session:
        want = Want("gu1", "sandbox", cause, priority)
        resources.mark_wanted(session, {key_of(record): want}, database_time(session))

    anywhere.drain("gu1")
    assert (anywhere.calls("gu1"), anywhere.row(record).wanted) == (0, 1)

    release(anywhere, chosen)
    anywhere.drain("gu1")
    assert anywhere.row(record).version == 1


def test_holding_and_releasing_twice_changes_nothing_more(anywhere, chosen):
    assert [hold(anywhere, chosen, reason) for reason in ("first", "second")] == [True, False]
    assert anywhere.state("gu1").hold_reason == "first (by alice)"
    assert [release(anywhere, chosen).changed for _ in range(2)] == [True, False]

    assert len(told(anywhere)) == 2
    assert len(deeds(anywhere)) == 2


def test_a_hold_by_a_refused_credential_becomes_the_operators(anywhere, chosen):
    record = anywhere.create("gu1")
    anywhere.faults.set("gu1", Faults(wrong_credentials=True))
    anywhere.retrieve(record)
    assert anywhere.state("gu1").probe_at is not None

    assert hold(anywhere, chosen, "not before Monday") is True

    state = anywhere.state("gu1")
    assert (state.hold_reason, state.probe_at, state.holds) == ("not before Monday (by alice)", None, 1)
    assert [kind for kind, _ in told(anywhere)] == [EventType.HELD]
    assert deeds(anywhere)[-1] == ("alice", "hold", "not before Monday (by alice)")


def test_a_hold_by_a_refused_credential_can_be_released_by_hand(anywhere, chosen):
    record = anywhere.create("gu1")
    anywhere.faults.set("gu1", Faults(wrong_credentials=True))
    anywhere.retrieve(record)
    anywhere.faults.clear()

    assert release(anywhere, chosen).hold is True
    anywhere.drain("gu1")

    assert anywhere.row(record).version == 1
    assert [kind for kind, _ in told(anywhere)] == [EventType.HELD, EventType.RELEASED]


def test_a_release_ends_a_throttle_and_makes_its_work_due(anywhere, chosen):
    record = anywhere.create("gu1")
    anywhere.faults.script(record.ref.external_id, [Answer(status=429, headers={"Retry-After": "600"})])
    anywhere.retrieve(record)
    assert anywhere.state("gu1").throttled_until is not None
    assert due(anywhere) == []
    anywhere.faults.clear()

    done = release(anywhere, chosen)

    assert (done.hold, done.throttle, done.woken) == (False, True, 1)
    anywhere.drain("gu1")
    assert anywhere.row(record).version == 1
    assert (told(anywhere), deeds(anywhere)) == ([], [("bob", "release", None)])


def test_a_release_ends_the_wait_for_a_retry(anywhere, chosen):
    """Who releases a source has mended it, and does not want to wait for an hour until that shows."""
    waiting, claimed, parked = (anywhere.create("gu1") for _ in range(3))
    anywhere.want(waiting, claimed, parked)
    later = play.now(anywhere.database) + timedelta(minutes=50)
    play.set_resource(anywhere.database, waiting.ref.external_id, due_at=later)
    play.set_resource(anywhere.database, parked.ref.external_id, due_at=None, parked_at=later, park_reason="gone")
    [taken] = play.claim(anywhere.database, source="gu1")
    hold(anywhere, chosen)

    assert release(anywhere, chosen).woken == 1

    assert anywhere.row(waiting).due_at <= play.now(anywhere.database)
    assert anywhere.row(claimed).claim_token == taken.token
    assert anywhere.row(claimed).due_at > play.now(anywhere.database)
    assert anywhere.row(parked).park_reason == "gone"


def test_a_release_wakes_no_other_source_and_only_so_much(anywhere, chosen):
    mine, other = [anywhere.create("gu1") for _ in range(3)], anywhere.create("yoti")
    anywhere.want(*mine, other)
    later = play.now(anywhere.database) + timedelta(minutes=50)
    for number, record in enumerate((*mine, other)):
        play.set_resource(anywhere.database, record.ref.external_id, due_at=later + timedelta(seconds=number))

    with anywhere.database.write() as session:
        now = database_time(session)
        assert sources.wake_work(session, "gu1", now, 2) == 2

    assert [anywhere.row(record).due_at <= now for record in (*mine, other)] == [True, True, False, False]


def test_a_release_of_what_is_not_held_changes_nothing(anywhere, chosen):
    record = anywhere.create("gu1")
    anywhere.want(record)
    later = play.now(anywhere.database) + timedelta(minutes=50)
    play.set_resource(anywhere.database, record.ref.external_id, due_at=later)

    done = release(anywhere, chosen)

    assert (done.changed, done.woken) == (False, 0)
    assert anywhere.row(record).due_at == later
    assert (told(anywhere), deeds(anywhere)) == ([], [])


def test_an_unknown_source_is_neither_held_nor_released(anywhere, chosen):
    with pytest.raises(UnknownSource):
        hold(anywhere, chosen, source="nowhere")
    with pytest.raises(UnknownSource):
        release(anywhere, chosen, source="nowhere")
    assert (told(anywhere), deeds(anywhere)) == ([], [])
