"""Temporary."""
import threading, time
import pytest
from tests.pipeline.desk import Desk
from tests.pipeline.test_reproject import Gu1Anew, REJECTED, stored, GU1
from tests.store.play import event_types, rows
from worker.domain.model import ResourceKey, ResourceRef, Verdict
from worker.domain.replays import ReplayLevel
from worker.domain.states import Cause, Outcome, Stage
from worker.store import resources as res
from worker.store.engine import database_time, is_deadlock
from worker.store.resources import Want
from worker.store.tables import results, resources, events


def test_back_and_forth(plant):
    stored(plant, "approve")
    new, old = Desk(plant, {"gu1": Gu1Anew(verdict=REJECTED)}), Desk(plant)
    for desk in (new, old, new):
        desk.run(ReplayLevel.REPROJECT, GU1)
        print("ROUND", [(r.stage, r.outcome, r.mapping_version) for r in rows(plant.database, results)],
          [(r.type, r.outcome) for r in rows(plant.database, events)])


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_deadlocks(anywhere):
    plant = anywhere
    for _ in range(20): stored(plant, "approve")
    keys = [ResourceKey(r.source, ResourceRef(r.kind, r.external_id)) for r in rows(plant.database, resources)]
    found = {"receiver": 0, "replay": 0}
    stop = threading.Event()
    longest = [0.0]

    def receive():
        while not stop.is_set():
            began = time.monotonic()
            try:
                with plant.database.write() as session:
                    res.mark_wanted(session, {k: Want("gu1", "live", Cause.WEBHOOK) for k in keys}, database_time(session))
            except Exception as error:
                found["receiver"] += is_deadlock(error)
                print("RECEIVER", type(error).__name__)
            longest[0] = max(longest[0], time.monotonic() - began)
    thread = threading.Thread(target=receive)
    thread.start()
    try:
        verdicts = [REJECTED, Verdict(Stage.DECIDED, Outcome.APPROVED, final=True)]
        for n in range(15):
            mapping = Gu1Anew(verdict=verdicts[n % 2]); mapping.mapping_version = n + 2
            desk = Desk(plant, {"gu1": mapping})
            made = desk.start(ReplayLevel.REPROJECT, GU1)
            for _ in range(30):
                try:
                    desk.advance()
                except Exception as error:
                    found["replay"] += is_deadlock(error)
                    print("REPLAY", type(error).__name__, str(error)[:80])
                if desk.look(made).finished_at: break
    finally:
        stop.set(); thread.join()
    print("DEADLOCKS", found, "longest receive", longest)
