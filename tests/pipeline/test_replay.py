"""Replaying by asking the provider again: plans, windows, outcomes, and whatever may happen on the way."""

import uuid

import pytest

from tests.pipeline.desk import ACTOR, Desk
from tests.pipeline.plant import Plant
from tests.store.play import event_types, rows, set_resource
from web.simulator.faults import Answer
from worker.domain.replays import Lane, ReplayLevel, Selection
from worker.domain.states import ResourceState
from worker.errors import BadSelection, ReplayIsOver, UnknownReplay
from worker.pipeline import replay, replay_run
from worker.pipeline.budget import LOW_SHARE
from worker.pipeline.replay_run import WINDOW
from worker.store import replays as stored_replays
from worker.store.tables import attempts, audit_entries, events, replay_items, resources, results, versions

RETRIEVE = ReplayLevel.RETRIEVE
PARKED = Selection(parked=True)
REFUSED = Answer(400, b"{}")


@pytest.fixture
def desk(anywhere):
    return Desk(anywhere)


def park(plant, count=1, provider="gu1"):
    """Resources that the provider refused to serve, and would serve now."""
    records = [plant.create(provider) for _ in range(count)]
    for record in records:
        plant.faults.script(record.ref.external_id, [REFUSED])
    plant.want(*records)
    plant.drain(provider)
    assert all(plant.row(record).park_reason == "rejected" for record in records)
    return records


def everything_else(database):
    """What a replay may not change: all but attempts, counters, audit, and the replay itself."""
    kept = ("kind", "external_id", "version", "parked_at", "park_reason", "due_at", "claim_token")
    where = [tuple(getattr(row, name) for name in kept) for row in rows(database, resources)]
    said = [tuple(row)[:-2] for row in rows(database, results)]
    return where, said, rows(database, versions), rows(database, events)


def test_a_plan_counts_calls_and_time_and_changes_nothing(desk):
    park(desk.plant, 3)
    park(desk.plant, 2, "yoti")
    before = everything_else(desk.database)

    plan = desk.plan(RETRIEVE, PARKED)

    assert (plan.count, plan.calls, plan.complete, plan.changes) == (5, 5, True, ())
    assert [(share.source, share.count) for share in plan.sources] == [("gu1", 3), ("yoti", 2)]
    limit = desk.sources["gu1"].rate_limit_per_minute * LOW_SHARE
    assert plan.seconds == pytest.approx(3 * 60 / limit, abs=0.1)
    assert everything_else(desk.database) == before
    assert rows(desk.database, audit_entries) == []


def test_parked_work_is_retrieved_and_the_audit_says_who_and_why(desk):
    records = park(desk.plant, 3)

    found = desk.run(RETRIEVE, PARKED)

    assert (found.state, found.outcomes, found.done, found.waiting) == ("finished", {"stored": 3}, 3, 0)
    assert all(desk.plant.is_true(record, 1) for record in records)
    assert {row.cause for row in rows(desk.database, attempts) if row.outcome == "stored"} == {"replay"}
    [entry] = rows(desk.database, audit_entries)
    assert (entry.actor, entry.action, entry.reason, entry.subject) == (ACTOR, "replay", "because", str(found.id))
    assert entry.details == {"level": "retrieve", "selection": {"parked": True}, "total": 3}
    assert "gu1" in desk.nudges


def test_replaying_twice_changes_nothing_but_attempts_and_audit(desk):
    park(desk.plant, 3)
    desk.run(RETRIEVE, Selection(source="gu1"))
    before = everything_else(desk.database)
    tried = len(rows(desk.database, attempts))

    found = desk.run(RETRIEVE, Selection(source="gu1"))

    assert found.outcomes == {"unchanged": 3}
    assert everything_else(desk.database) == before
    assert len(rows(desk.database, attempts)) == tried + 3
    assert desk.deeds() == ["replay", "replay"]


def test_what_fails_again_is_parked_again_and_told_once_more(desk):
    [record] = park(desk.plant)
    desk.plant.faults.script(record.ref.external_id, [REFUSED])

    found = desk.run(RETRIEVE, PARKED)

    assert found.outcomes == {"parked": 1}
    [item] = desk.items(found.id)
    assert (item.state, item.outcome, item.detail) == ("done", "parked", "rejected")
    assert (item.kind, item.external_id) == (record.ref.kind, record.ref.external_id)
    assert event_types(desk.database, record.ref.external_id) == ["parked", "parked"]


def test_poison_is_tried_again_because_an_operator_knows_better(desk):
    [record] = park(desk.plant)
    set_resource(desk.database, record.ref.external_id, park_reason="poison", crashes=5)

    assert desk.plan(RETRIEVE, Selection(error="gone")).count == 0
    found = desk.run(RETRIEVE, Selection(error="crashed"))

    assert found.outcomes == {"stored": 1}
    assert desk.plant.row(record).crashes == 0


def test_a_document_that_is_older_than_the_stored_one_is_stale(desk):
    record = desk.plant.create("persona")
    desk.plant.retrieve(record)
    set_resource(desk.database, record.ref.external_id, parked_at=desk.plant.past(), park_reason="stale")
    [item] = rows(desk.database, resources)
    replay_id = desk.start(RETRIEVE, PARKED)
    desk.advance()
    set_resource(desk.database, record.ref.external_id, parked_at=desk.plant.past(), park_reason="stale", due_at=None)

    desk.advance()

    assert item.version == 1
    assert desk.look(replay_id).outcomes == {"stale": 1}


def test_a_lane_is_replayed_whole_and_nothing_else(desk):
    same = park(desk.plant, 2)
    [other] = park(desk.plant, 1, "yoti")
    row = desk.plant.row(same[0])
    lane = Lane("gu1", row.park_step, row.park_fingerprint)

    found = desk.run(RETRIEVE, Selection(lane=lane))

    assert found.outcomes == {"stored": 2}
    assert desk.plant.row(other).park_reason == "rejected"
    # The lane is stale now: nothing is in it, and whoever replays it does nothing.
    again = desk.run(RETRIEVE, Selection(lane=lane))
    assert (again.total, again.state, again.outcomes) == (0, "finished", {})


def test_what_was_parked_and_is_mended_meanwhile_is_only_read_again(desk):
    """Items are chosen at the start; each is looked at as it is when its turn comes."""
    [record] = park(desk.plant)
    replay_id = desk.start(RETRIEVE, PARKED)
    desk.plant.retrieve(record)

    found = desk.until_ended(replay_id)

    assert found.outcomes == {"unchanged": 1}
    assert desk.plant.row(record).version == 1


def test_only_a_window_is_asked_for_at_once(desk, monkeypatch):
    monkeypatch.setattr(replay_run, "WINDOW", 4)
    monkeypatch.setattr(replay_run, "ASKED_AT_ONCE", 3)
    park(desk.plant, 6)
    replay_id = desk.start(RETRIEVE, PARKED)

    for _ in range(3):
        desk.advance()

    found = desk.look(replay_id)
    assert (found.asked, found.waiting, found.done) == (4, 2, 0)
    assert desk.until_ended(replay_id).outcomes == {"stored": 6}
    assert WINDOW == 200


def test_a_source_that_hangs_keeps_no_other_from_being_replayed(desk, monkeypatch):
    monkeypatch.setattr(replay_run, "WINDOW", 2)
    park(desk.plant, 5, "gu1")
    park(desk.plant, 5, "yoti")
    replay_id = desk.start(RETRIEVE, PARKED)

    for _ in range(6):
        desk.advance()
        desk.plant.drain("yoti")
    desk.advance()

    assert desk.look(replay_id).outcomes == {"stored": 5}
    assert desk.look(replay_id).asked == 2


def test_pausing_acts_at_once_and_what_was_asked_for_still_comes(desk, monkeypatch):
    monkeypatch.setattr(replay_run, "WINDOW", 2)
    park(desk.plant, 5)
    replay_id = desk.start(RETRIEVE, PARKED)
    desk.advance()

    assert do(desk, replay.pause, replay_id) is True
    assert do(desk, replay.pause, replay_id) is False
    for _ in range(3):
        desk.plant.drain("gu1")
        desk.advance()
    paused = desk.look(replay_id)
    assert (paused.state, paused.done, paused.waiting, paused.finished_at) == ("paused", 2, 3, None)

    assert do(desk, replay.resume, replay_id) is True
    assert do(desk, replay.resume, replay_id) is False
    assert desk.until_ended(replay_id).outcomes == {"stored": 5}
    assert desk.deeds() == ["replay", "replay-pause", "replay-resume"]


def test_cancelling_gives_up_what_was_not_asked_for(desk, monkeypatch):
    monkeypatch.setattr(replay_run, "WINDOW", 2)
    records = park(desk.plant, 5)
    replay_id = desk.start(RETRIEVE, PARKED)
    desk.advance()

    assert do(desk, replay.cancel, replay_id) is True
    assert do(desk, replay.cancel, replay_id) is False
    halfway = desk.look(replay_id)
    assert (halfway.state, halfway.outcomes, halfway.asked) == ("cancelled", {"cancelled": 3}, 2)
    ended = desk.until_ended(replay_id)

    assert (ended.state, ended.outcomes) == ("cancelled", {"cancelled": 3, "stored": 2})
    assert sum(desk.plant.row(record).parked_at is not None for record in records) == 3
    for deed in (replay.pause, replay.resume):
        with pytest.raises(ReplayIsOver, match="cancelled already"):
            do(desk, deed, replay_id)
    assert desk.deeds() == ["replay", "replay-cancel"]


def test_cancelling_before_anything_was_asked_for_ends_it(desk):
    park(desk.plant, 2)
    replay_id = desk.start(RETRIEVE, PARKED)

    do(desk, replay.cancel, replay_id)

    found = desk.look(replay_id)
    assert (found.state, found.outcomes) == ("cancelled", {"cancelled": 2})
    assert found.finished_at is not None


@pytest.mark.parametrize("deed", [replay.pause, replay.resume, replay.cancel])
def test_it_can_be_too_late(desk, deed):
    park(desk.plant)
    found = desk.run(RETRIEVE, PARKED)

    with pytest.raises(ReplayIsOver, match="finished already"):
        do(desk, deed, found.id)
    with pytest.raises(UnknownReplay):
        do(desk, deed, uuid.uuid4())
    assert desk.deeds() == ["replay"]


def do(desk, deed, replay_id):
    with desk.database.write() as session:
        return deed(session, replay_id, actor=ACTOR)


def test_two_leaders_ask_once_for_each_item(desk, monkeypatch):
    monkeypatch.setattr(replay_run, "ASKED_AT_ONCE", 2)
    records = park(desk.plant, 7)
    replay_id = desk.start(RETRIEVE, PARKED)
    other = desk.leader()

    for _ in range(5):
        desk.advance()
        other.advance()

    assert {desk.plant.row(record).wanted for record in records} == {2}
    found = desk.until_ended(replay_id)
    other.advance()
    assert (found.outcomes, desk.look(replay_id).outcomes) == ({"stored": 7}, {"stored": 7})


@pytest.mark.postgres
def test_a_leader_steps_back_from_a_replay_that_another_works_on(simulator, postgres_database):
    from_elsewhere = Desk(Plant(simulator, postgres_database))
    with from_elsewhere.plant:
        park(from_elsewhere.plant, 2)
        replay_id = from_elsewhere.start(RETRIEVE, PARKED)
        with postgres_database.write() as session:
            assert stored_replays.lock(session, replay_id) is not None
            from_elsewhere.advance()
        assert from_elsewhere.look(replay_id).asked == 0
        from_elsewhere.advance()
        assert from_elsewhere.look(replay_id).asked == 2


def test_a_source_that_is_no_longer_configured_is_skipped(desk):
    park(desk.plant, 1, "gu1")
    park(desk.plant, 2, "yoti")
    replay_id = desk.start(RETRIEVE, PARKED)
    desk.replayer = desk.leader("gu1")

    found = desk.until_ended(replay_id)

    assert found.outcomes == {"skipped": 2, "stored": 1}
    assert {item.detail for item in desk.items(replay_id) if item.outcome == "skipped"} == {
        "its source is not configured"
    }


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_was_asked_of_a_source_that_is_then_no_longer_configured_does_not_stay_open(desk, cancelled):
    park(desk.plant, 2, "yoti")
    replay_id = desk.start(RETRIEVE, PARKED)
    desk.advance()
    assert desk.look(replay_id).asked == 2
    if cancelled:
        assert do(desk, replay.cancel, replay_id) is True
    desk.replayer = desk.leader("gu1")

    desk.advance()

    found = desk.look(replay_id)
    assert (found.state, found.asked) == ("cancelled" if cancelled else "finished", 0)
    assert (found.outcomes, found.finished_at is None) == ({"skipped": 2}, False)


def test_live_work_that_is_open_keeps_its_priority(desk):
    record = desk.plant.create("gu1")
    desk.plant.want(record)

    desk.start(RETRIEVE, Selection(state=ResourceState.WAITING))
    desk.advance()

    row = desk.plant.row(record)
    assert (row.wanted, row.priority) == (2, 0)


def test_an_item_waits_for_the_call_that_was_made_for_it(desk):
    """A call that began before the replay may bring what was true before it."""
    record = desk.plant.create("gu1")
    desk.plant.want(record)
    asked: list[uuid.UUID] = []

    def replay_during_the_call(_call):
        if not asked:
            asked.append(desk.start(RETRIEVE, Selection(ids=(record.ref.external_id,))))
            desk.advance()

    desk.plant.faults.on_call = replay_during_the_call
    desk.plant.drain("gu1")

    assert desk.until_ended(asked[0]).outcomes == {"unchanged": 1}
    assert [row.outcome for row in rows(desk.database, attempts)] == ["stored", "unchanged"]


def test_too_large_a_replay_is_refused_whole(desk, monkeypatch):
    monkeypatch.setattr(stored_replays, "MOST_ITEMS", 2)
    park(desk.plant, 3)

    with pytest.raises(BadSelection, match="more than 2 items"):
        desk.start(RETRIEVE, PARKED)

    assert rows(desk.database, replay_items) == rows(desk.database, audit_entries) == []


def test_an_empty_selection_starts_nothing(desk):
    with pytest.raises(BadSelection, match="say which"):
        desk.start(RETRIEVE, Selection())
    with pytest.raises(BadSelection, match="say which"):
        desk.plan(RETRIEVE, Selection())

    assert rows(desk.database, audit_entries) == []
