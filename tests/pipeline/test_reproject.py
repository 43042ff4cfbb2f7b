"""Reprojecting: the stored bytes, read by another mapping. No call is made, and no byte is changed."""

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from tests.pipeline.desk import Desk
from tests.pipeline.plant import KINDS, Plant
from tests.store.play import event_types, rows
from worker.domain.model import Check, Drift, ResourceRef, Verdict
from worker.domain.replays import ReplayLevel, Selection
from worker.domain.states import CheckOutcome, Outcome, Stage
from worker.errors import UnexpectedDocument
from worker.pipeline import replay, replay_run
from worker.providers.gu1 import Gu1Provider
from worker.store.tables import (
    attempts,
    checks,
    delivery_bodies,
    drift_issues,
    events,
    resources,
    result_documents,
    results,
    version_bodies,
    versions,
)

REPROJECT = ReplayLevel.REPROJECT
GU1 = Selection(source="gu1")
REJECTED = Verdict(Stage.DECIDED, Outcome.REJECTED, final=True)


class Gu1Anew(Gu1Provider):
    """The next release's mapping, which reads whatever a test says."""

    mapping_version = 2

    def __init__(self, **changes):
        self.changes = changes

    def read(self, source, ref, document):
        return replace(super().read(source, ref, document), **self.changes)


class Unreadable(Gu1Provider):
    mapping_version = 2

    def read(self, source, ref, document):
        raise UnexpectedDocument("the document is of another kind")


class Broken(Gu1Provider):
    mapping_version = 2

    def read(self, source, ref, document):
        raise ValueError(f"could not convert Maria: {document}")


class Unwritable(Gu1Provider):
    """A reading that no database takes."""

    mapping_version = 2

    def read(self, source, ref, document):
        reading = super().read(source, ref, document)
        object.__setattr__(reading, "score", "Maria")
        object.__setattr__(reading, "provider_created_at", "Maria")
        return reading


def stored(plant, *actions):
    """Records at gu1, changed as told and retrieved."""
    records = []
    for action in actions:
        record = plant.create("gu1")
        records.append(plant.world.change(record.ref, action) if action else record)
    plant.want(*records)
    plant.drain("gu1")
    return records


def evidence(database):
    """What no reprojecting may touch."""
    kept = ("id", "number", "document_sha256", "content_sha256", "read_started_at", "retrieved_at", "cause", "attempt")
    told = [tuple(getattr(row, name) for name in kept) for row in rows(database, versions)]
    started = [(row.version, row.read_started_at) for row in rows(database, resources)]
    return told, started, rows(database, version_bodies), rows(database, result_documents), rows(database, attempts)


def projection(database):
    names = ("resources", "results", "versions", "checks", "events")
    tables = (resources, results, versions, checks, events)
    return dict(zip(names, (rows(database, table) for table in tables), strict=True))


def test_a_changed_verdict_is_planned_written_and_told(anywhere):
    approved, declined = stored(anywhere, "approve", "decline")
    desk = Desk(anywhere, {"gu1": Gu1Anew(verdict=REJECTED)})
    before, calls = evidence(anywhere.database), anywhere.calls("gu1")
    pages = projection(anywhere.database)

    plan = desk.plan(REPROJECT, GU1)

    assert (plan.count, plan.calls, plan.examined, plan.complete) == (2, 0, 2, True)
    assert [(item.before, item.after, item.count) for item in plan.changes] == [
        ("decided/approved", "decided/rejected", 1)
    ]
    assert plan.outcomes == {"changed": 1, "unchanged": 1}
    assert projection(anywhere.database) == pages, "a plan changes nothing"

    found = desk.run(REPROJECT, GU1)

    assert found.outcomes == {"changed": 1, "unchanged": 1}
    assert evidence(anywhere.database) == before
    assert anywhere.calls("gu1") == calls
    shown = {row.resource_id: row for row in rows(anywhere.database, results)}
    assert {row.outcome for row in shown.values()} == {"rejected"}
    assert {row.mapping_version for row in shown.values()} == {2}
    assert {(row.outcome, row.mapping_version) for row in rows(anywhere.database, versions)} == {("rejected", 2)}
    assert event_types(anywhere.database, approved.ref.external_id)[-1] == "reversed"
    assert "reversed" not in event_types(anywhere.database, declined.ref.external_id)
    [told] = [row for row in rows(anywhere.database, events) if row.type.endswith("reversed")]
    assert (told.version, told.outcome) == (1, "rejected")
    assert told.data["cause"] == "reproject"
    assert told.data["previous"] == {"stage": "decided", "outcome": "approved"}


def test_a_mapping_that_is_gone_back_to_and_comes_again_is_told_each_time(anywhere):
    stored(anywhere, "approve")
    anew, old = Desk(anywhere, {"gu1": Gu1Anew(verdict=REJECTED)}), Desk(anywhere)

    for desk in (anew, old, anew):
        assert desk.run(REPROJECT, GU1).outcomes == {"changed": 1}

    told = [row for row in rows(anywhere.database, events) if row.type.endswith("reversed")]
    assert [row.outcome for row in sorted(told, key=lambda row: row.position)] == ["rejected", "approved", "rejected"]
    assert len({row.id for row in told}) == 3


@pytest.mark.postgres
def test_a_resource_that_somebody_else_holds_is_looked_at_again_and_not_waited_for(simulator, postgres_database):
    with Plant(simulator, postgres_database) as plant:
        stored(plant, "approve")
        desk = Desk(plant, {"gu1": Gu1Anew(verdict=REJECTED)})
        replay_id = desk.start(REPROJECT, GU1)
        with postgres_database.write() as session:
            session.execute(select(resources.c.id).with_for_update())
            desk.advance()
            assert desk.look(replay_id).outcomes == {}

        assert desk.until_ended(replay_id).outcomes == {"changed": 1}


def test_doing_it_twice_changes_nothing(anywhere):
    stored(anywhere, "approve", None)
    drift = (Drift("status", "odd"),)
    desk = Desk(anywhere, {"gu1": Gu1Anew(verdict=REJECTED, drift=drift, related=(ResourceRef("entity", "new-1"),))})
    desk.run(REPROJECT, GU1)
    before, drifted = projection(anywhere.database), rows(anywhere.database, drift_issues)

    found = desk.run(REPROJECT, Selection(source="gu1", kind=KINDS["gu1"]))

    assert found.outcomes == {"unchanged": 2}
    assert projection(anywhere.database) == before
    assert rows(anywhere.database, drift_issues) == drifted
    assert desk.deeds() == ["replay", "replay"]


@pytest.mark.parametrize("provider", KINDS)
def test_the_same_mapping_reads_the_same_whatever_the_provider(anywhere, provider):
    """What comes back from a database must be equal to what was written, or every result would look changed."""
    record = anywhere.create(provider, reference="customer-1") if provider == "persona" else anywhere.create(provider)
    anywhere.retrieve(anywhere.world.change(record.ref, "approve"))
    before = projection(anywhere.database)

    found = Desk(anywhere).run(REPROJECT, Selection(everything=True))

    assert set(found.outcomes) <= {"unchanged", "skipped"}
    assert found.outcomes["unchanged"] >= 1
    assert projection(anywhere.database) == before


def test_what_a_verdict_was_made_from_is_replaced_without_an_event(anywhere):
    [record] = stored(anywhere, "approve")
    told = len(rows(anywhere.database, events))
    reasons = Check("liveness\x00", CheckOutcome.FAILED, "low", 0.25, 0.5, True, ("blurred",), {"frames": [1, 2.5]})
    desk = Desk(anywhere, {"gu1": Gu1Anew(checks=(reasons,), score=0.5, drift=(Drift("status", "odd"),))})

    assert desk.plan(REPROJECT, GU1).outcomes == {"updated": 1}
    assert desk.run(REPROJECT, GU1).outcomes == {"updated": 1}

    [check] = rows(anywhere.database, checks)
    assert (check.name, check.outcome, check.reasons, check.details) == (
        "liveness\ufffd", "failed", ["blurred"], {"frames": [1, 2.5]},
    )  # fmt: skip
    assert rows(anywhere.database, results)[0].score == 0.5
    assert len(rows(anywhere.database, events)) == told
    assert [(row.field, row.value) for row in rows(anywhere.database, drift_issues)] == [("status", "odd")]
    assert desk.run(REPROJECT, GU1).outcomes == {"unchanged": 1}
    assert anywhere.row(record).version == 1


def test_a_newer_mapping_that_reads_the_same_is_noted(anywhere):
    stored(anywhere, "approve")
    [before] = rows(anywhere.database, results)

    assert Desk(anywhere, {"gu1": Gu1Anew()}).run(REPROJECT, GU1).outcomes == {"unchanged": 1}

    [after] = rows(anywhere.database, results)
    assert (after.mapping_version, after.updated_at) == (2, before.updated_at)
    assert rows(anywhere.database, versions)[0].mapping_version == 2


def test_what_the_new_mapping_discovers_is_retrieved_at_replay_priority(anywhere):
    stored(anywhere, "approve")
    entity = ResourceRef("entity", "found-1")
    desk = Desk(anywhere, {"gu1": Gu1Anew(related=(entity,))})

    assert desk.plan(REPROJECT, GU1).calls == 1
    desk.run(REPROJECT, GU1)

    [found] = rows(anywhere.database, resources, external_id="found-1")
    assert (found.kind, found.cause, found.priority, found.wanted) == ("entity", "discovered", 2, 1)
    assert "gu1" in desk.nudges


def test_erased_and_never_stored_documents_are_left_alone(anywhere):
    stored(anywhere, "approve")
    anywhere.want_missing("gu1", "nobody-1")
    with anywhere.database.write() as session:
        session.execute(update(version_bodies).values(body=None, erased_at=anywhere.past()))
    desk = Desk(anywhere, {"gu1": Gu1Anew(verdict=REJECTED)})
    before = projection(anywhere.database)

    assert desk.plan(REPROJECT, GU1).outcomes == {"erased": 1, "skipped": 1}
    found = desk.run(REPROJECT, GU1)

    assert found.outcomes == {"erased": 1, "skipped": 1}
    assert projection(anywhere.database)["results"] == before["results"]


def test_a_mapping_that_finds_an_erasure_erases(anywhere):
    [record] = stored(anywhere, "approve")
    anywhere.retrieve(anywhere.world.change(record.ref, "reverse"))
    desk = Desk(anywhere, {"gu1": Gu1Anew(verdict=Verdict(Stage.ERASED, Outcome.NONE, final=True))})

    desk.run(REPROJECT, GU1)

    first, second = rows(anywhere.database, version_bodies)
    assert (first.body, second.body is None) == (None, False)
    assert event_types(anywhere.database, record.ref.external_id)[-1] == "erased"
    assert all(row.body is None for row in rows(anywhere.database, delivery_bodies))


@pytest.mark.parametrize(
    ("provider", "outcome", "words"),
    [
        (Unreadable(), "unreadable", "of another kind"),
        (Broken(), "failed", "ValueError at"),
        (Unwritable(), "failed", "Error at"),
    ],
)
def test_a_mapping_in_trouble_changes_nothing_and_quotes_nothing(anywhere, provider, outcome, words):
    stored(anywhere, "approve")
    before = projection(anywhere.database)
    desk = Desk(anywhere, {"gu1": provider})

    found = desk.run(REPROJECT, GU1)

    assert found.outcomes == {outcome: 1}
    assert projection(anywhere.database) == before
    [item] = desk.items(found.id)
    assert words in str(item.detail)
    assert "Maria" not in str(item)


def test_one_that_cannot_be_written_keeps_no_other_from_it(anywhere):
    first, second = stored(anywhere, "approve", "approve")

    class Sometimes(Gu1Anew):
        def read(self, source, ref, document):
            reading = super().read(source, ref, document)
            if ref.external_id == first.ref.external_id:
                object.__setattr__(reading, "provider_created_at", "Maria")
            return reading

    found = Desk(anywhere, {"gu1": Sometimes(verdict=REJECTED)}).run(REPROJECT, GU1)

    assert found.outcomes == {"changed": 1, "failed": 1}
    assert event_types(anywhere.database, second.ref.external_id)[-1] == "reversed"
    assert event_types(anywhere.database, first.ref.external_id)[-1] != "reversed"


def test_a_version_that_comes_meanwhile_is_read_instead(anywhere, monkeypatch):
    [record] = stored(anywhere, "approve")
    desk = Desk(anywhere, {"gu1": Gu1Anew(score=0.5)})
    looked: list[bool] = []
    examine = desk.replayer._reprojector.examine

    def retrieve_after_the_first_look(*arguments):
        found = examine(*arguments)
        if not looked:
            looked.append(True)
            anywhere.retrieve(anywhere.world.change(record.ref, "reverse"))
        return found

    monkeypatch.setattr(desk.replayer._reprojector, "examine", retrieve_after_the_first_look)

    found = desk.run(REPROJECT, GU1)

    assert found.outcomes == {"updated": 1}
    [result] = rows(anywhere.database, results)
    assert (result.version, result.outcome, result.score, result.mapping_version) == (2, "rejected", 0.5, 2)
    first, second = rows(anywhere.database, versions)
    assert (first.mapping_version, second.mapping_version) == (1, 2)


def test_pausing_and_cancelling_stop_between_two_items(anywhere, monkeypatch):
    monkeypatch.setattr(replay_run, "ADVANCE_SECONDS", 0.0)
    stored(anywhere, *["approve"] * 5)
    desk = Desk(anywhere, {"gu1": Gu1Anew(verdict=REJECTED)})
    replay_id = desk.start(REPROJECT, GU1)
    desk.advance()
    assert desk.look(replay_id).outcomes == {"changed": 1}

    with anywhere.database.write() as session:
        replay.pause(session, replay_id, actor="cli:maria")
    desk.advance()
    assert desk.look(replay_id).outcomes == {"changed": 1}

    with anywhere.database.write() as session:
        replay.cancel(session, replay_id, actor="cli:maria")
    desk.advance()
    found = desk.look(replay_id)
    assert (found.state, found.outcomes) == ("cancelled", {"changed": 1, "cancelled": 4})
    assert found.finished_at is not None


def test_two_leaders_read_each_item_once(anywhere, monkeypatch):
    monkeypatch.setattr(replay_run, "READ_AT_ONCE", 2)
    stored(anywhere, *["approve"] * 5)
    desk = Desk(anywhere, {"gu1": Gu1Anew(verdict=REJECTED)})
    replay_id = desk.start(REPROJECT, GU1)
    other = desk.leader()
    examine = desk.replayer._reprojector.examine

    def let_the_other_in(*arguments):
        monkeypatch.setattr(desk.replayer._reprojector, "examine", examine)
        other.advance()
        return examine(*arguments)

    monkeypatch.setattr(desk.replayer._reprojector, "examine", let_the_other_in)

    assert desk.until_ended(replay_id).outcomes == {"changed": 5}
    reversals = [row for row in rows(anywhere.database, events) if row.type.endswith("reversed")]
    assert len(reversals) == 5


def test_a_plan_that_is_cut_says_so(anywhere, monkeypatch):
    monkeypatch.setattr(replay, "PLAN_ITEMS", 3)
    monkeypatch.setattr(replay, "PLAN_CHUNK", 2)
    stored(anywhere, *["approve"] * 5)

    plan = Desk(anywhere, {"gu1": Gu1Anew(verdict=REJECTED)}).plan(REPROJECT, GU1)

    assert (plan.count, plan.examined, plan.complete) == (5, 3, False)
    assert plan.outcomes == {"changed": 3}


def test_a_plan_of_a_slow_mapping_is_cut_in_time(anywhere, monkeypatch):
    monkeypatch.setattr(replay, "PLAN_SECONDS", -1.0)
    stored(anywhere, "approve")

    plan = Desk(anywhere).plan(REPROJECT, GU1)

    assert (plan.count, plan.examined, plan.complete) == (1, 0, False)
