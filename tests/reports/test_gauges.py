"""The gauges of a scrape say what is open, why, and for how long; and look at so much of it and no more."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.support.results import PENDING, SOURCE, claim, fail, key, number_events, reading, store, want
from worker.domain.model import Drift
from worker.metrics import UNCONFIGURED
from worker.pipeline import write
from worker.pipeline.sweep import Sweeper
from worker.reports import gauges as module
from worker.reports.gauges import gauges
from worker.store import outbox, query_gauges, reconciliations, sources
from worker.store.engine import UNAVAILABLE, database_time
from worker.store.outbox import Taken
from worker.store.tables import events, resources
from worker.store.tables import reconciliations as runs

OTHER = "gu1-test"
SINKS = ("log", "stream")


def read(database, configured=(SOURCE, OTHER)):
    with database.read() as session:
        return gauges(session, configured, SINKS)


def source_of(found, slug=SOURCE):
    [item] = [item for item in found.sources if item.source == slug]
    return item


def age(database, external_id, **ages):
    with database.write() as session:
        since = database_time(session) - timedelta(**ages)
        session.execute(update(resources).where(resources.c.external_id == external_id).values(wanted_since=since))


def open_work(database):
    """Waiting, claimed and parked work of one source, and some of another that nobody has configured."""
    fail(database, key("ver_parked"))
    want(database, key("ver_claimed"))
    claim(database, key("ver_claimed"))
    want(database, key("ver_1"), key("ver_2"), key("fm_1", "face-match", OTHER))


@pytest.mark.parametrize("looked_at", [5000, 2])
def test_open_work_is_counted_by_state(database, monkeypatch, looked_at):
    """Also where there is more of it than is looked at: then the next of each source is."""
    monkeypatch.setattr(module, "LOOKED_AT", looked_at)
    open_work(database)

    found = read(database)

    counts = source_of(found).open
    assert (counts["waiting"], counts["claimed"], counts["parked"]) == (2, 1, 1)
    assert source_of(found, OTHER).open["waiting"] == 1
    assert source_of(found).parked_lately == 1


def test_sources_that_are_not_configured_are_one(database):
    open_work(database)

    found = read(database, [SOURCE])

    assert [item.source for item in found.sources] == [SOURCE, UNCONFIGURED]
    assert source_of(found, UNCONFIGURED).open["waiting"] == 1


@pytest.mark.parametrize("looked_at", [5000, 1])
@pytest.mark.parametrize("trouble", ["waiting", "held", "throttled"])
def test_the_oldest_is_shown_with_what_keeps_it(database, monkeypatch, trouble, looked_at):
    monkeypatch.setattr(module, "LOOKED_AT", looked_at)
    fail(database, key("ver_parked"))
    age(database, "ver_parked", hours=5)
    want(database, key("ver_1"))
    age(database, "ver_1", hours=2)
    with database.write() as session:
        now = database_time(session)
        if trouble == "held":
            write.hold(session, SOURCE, "401", now=now, probe_at=now, actor="worker")
        elif trouble == "throttled":
            sources.throttle(session, SOURCE, now + timedelta(minutes=1))

    found = source_of(read(database))

    ages = {name: round(seconds / 3600) for name, seconds in found.oldest_seconds.items() if seconds}
    assert ages == {trouble: 2, "parked": 5}
    assert (found.held, found.probed, found.throttled) == (
        trouble == "held",
        trouble == "held",
        trouble == "throttled",
    )


def test_what_was_parked_long_ago_is_not_parked_lately(database):
    fail(database, key("ver_1"))
    with database.write() as session:
        session.execute(update(resources).values(parked_at=database_time(session) - timedelta(hours=2)))

    assert source_of(read(database)).parked_lately == 0


def test_a_sink_lags_in_events_and_in_seconds(database):
    store(database, key("ver_1"))
    store(database, key("ver_2"))
    assert number_events(database) == 4
    with database.write() as session:
        outbox.delivered(session, "log", [Taken(number) for number in range(1, 5)], position=4)
        outbox.delivered(session, "stream", [Taken(1)], position=1)
        since = database_time(session) - timedelta(minutes=10)
        session.execute(update(events).where(events.c.sequence == 2).values(occurred_at=since))

    log, stream = read(database).sinks

    assert (log.name, log.behind, log.oldest_seconds) == ("log", 0, 0)
    assert (stream.name, stream.behind, round(stream.oldest_seconds / 60)) == ("stream", 3, 10)


def test_drift_is_new_for_a_day(database):
    store(database, key("ver_1"), reading(PENDING, drift=(Drift("status", "brand-new"),)))
    assert (source_of(read(database)).drift, source_of(read(database)).new_drift) == (1, 1)

    with database.write() as session:
        later = database_time(session) + timedelta(days=2)
        [row] = query_gauges.drift_counts(session, later, 10)

    assert (row["count"], row["recent"]) == (1, 0)


def test_the_loss_rate_is_that_of_the_last_run_that_had_one(database):
    with database.write() as session:
        now = database_time(session)
        for finished, announced, lost in ((now, 20, 5), (now, 0, 0), (None, 9, 9)):
            values = {"source": SOURCE, "since": now, "actor": "tests", "state": "done", "started_at": now}
            counts = {"finished_at": finished, "announced": announced, "lost": lost}
            session.execute(runs.insert().values(**values, **counts))

    assert source_of(read(database)).loss_rate == 0.25
    assert source_of(read(database), OTHER).loss_rate is None
    assert module.RUNS_LOOKED_AT == 3
    with database.read() as session:
        assert len(reconciliations.recent(session, SOURCE, limit=10)) == 3


def test_the_age_of_the_sweep_is_known_once_somebody_swept(database):
    assert read(database).sweep_age_seconds is None

    Sweeper(database, [SOURCE], lambda _: None, lambda: None).sweep()

    assert 0 <= read(database).sweep_age_seconds < 10


def test_what_takes_too_long_is_cut_off(database):
    """And only that: the next reader of the connection has all the time it wants."""
    forever = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000000) SELECT count(*) FROM n"
    )

    def cut_off():
        with database.read() as session, query_gauges.limited(session, 0.05):
            session.connection().exec_driver_sql(forever)

    with pytest.raises(UNAVAILABLE):
        cut_off()
    with database.read() as session:
        assert session.connection().exec_driver_sql(forever.replace("50000000", "200000")).scalar_one() == 200_000


def test_what_is_late_is_what_could_be_done_now(database):
    def late(session, name, **values):
        session.execute(update(resources).where(resources.c.external_id == name).values(**values))

    want(database, key("ver_1"))
    want(database, key("ver_2"))
    with database.write() as session:
        now = database_time(session)
        late(session, "ver_1", due_at=now - timedelta(minutes=3))
        # It has failed for days, and its turn comes in an hour.
        late(session, "ver_2", due_at=now + timedelta(hours=1), wanted_since=now - timedelta(days=2))
    assert 180 <= source_of(read(database)).overdue_seconds < 240

    with database.write() as session:
        sources.throttle(session, SOURCE, database_time(session) + timedelta(minutes=9))

    assert source_of(read(database)).overdue_seconds == 0
