"""How the databases find what the readers ask for: nothing that grows is scanned or sorted for one page."""

import re

import pytest
from sqlalchemy import event

from tests.store.play import EARLY
from tests.support.results import KIND, SOURCE, key
from worker.domain.events import EventFilter
from worker.domain.states import DeliveryState, ExpectationState, ResourceState
from worker.reports import events, expectations, gauges, resources, results, sinks, status
from worker.reports.expectations import ExpectationFilter
from worker.reports.resources import AttemptFilter, DeliveryFilter, ResourceFilter
from worker.reports.results import ResultFilter
from worker.store import expectations as due
from worker.store import outbox, query_gauges, sent_again, undelivered
from worker.store import sinks as standing
from worker.store.engine import database_time
from worker.store.expectations import Wanted

GROWING = (
    "attempts", "deliveries", "event_deliveries", "events", "expectations", "resources", "results",
    "undelivered_events", "versions",
)  # fmt: skip


@pytest.fixture
def plan(database):
    """The plans of all statements that a reader sends."""

    def explain_all(read):
        lines: list[str] = []

        def explain(connection, cursor, statement, parameters, *_):
            if not statement.startswith(("EXPLAIN", "SET", "BEGIN")):
                word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
                lines.extend(str(row[-1]) for row in connection.exec_driver_sql(f"{word} {statement}", parameters))

        # A session for writing, because one of the readers locks what it reads.
        with database.write() as session:
            if not database.is_sqlite:
                # Empty tables are scanned whatever indexes there are, unless scanning is made to look expensive.
                session.connection().exec_driver_sql("SET LOCAL enable_seqscan = off")
            event.listen(session.connection(), "before_cursor_execute", explain)
            read(session)
        return lines

    return explain_all


def scans(lines):
    """Where a table that grows is read from end to end."""
    tables = "|".join(GROWING)
    sqlite, postgresql = rf"SCAN ({tables})(?! USING)", rf"Seq Scan on ({tables})\b"
    return [line for line in lines if re.search(f"{sqlite}|{postgresql}", line)]


def test_the_status_scans_nothing_that_grows(plan, database):
    """A status page that gets slower with every delivery is closed when it is needed."""
    lines = plan(lambda session: status.status(session, [SOURCE]))

    assert scans(lines) == []
    # PostgreSQL chooses by statistics, which empty tables have not.
    wanted = ("ix_resources_oldest", "ix_resources_parked", "ix_deliveries_unreadable") if database.is_sqlite else ()
    assert [index for index in wanted if not any(index in line for line in lines)] == []


def test_a_scrape_scans_nothing_that_grows(plan, database):
    """Every fifteen seconds, for years."""
    lines = plan(lambda session: gauges.gauges(session, [SOURCE], ["log"]))
    lines += plan(lambda session: query_gauges.next_due(session, SOURCE, database_time(session), 10))

    assert scans(lines) == []
    wanted = ("ix_resources_oldest", "ix_resources_parked", "ix_resources_due") if database.is_sqlite else ()
    assert [index for index in wanted if not any(index in line for line in lines)] == []
    assert [line for line in lines if line == "USE TEMP B-TREE FOR ORDER BY"] == []


@pytest.mark.parametrize(
    "read",
    [
        lambda session: results.page(session, ResultFilter(source=SOURCE, kind=KIND), limit=50),
        lambda session: results.page(session, ResultFilter(provider="persona"), limit=50, newest_first=True),
        lambda session: results.page(session, ResultFilter(), limit=50, after="MS4xLjE"),
        lambda session: resources.attempts(session, AttemptFilter(source=SOURCE), limit=50),
        lambda session: resources.deliveries(session, DeliveryFilter(source=SOURCE), limit=50),
        lambda session: resources.deliveries(session, DeliveryFilter(state=DeliveryState.UNREADABLE), limit=50),
        lambda session: resources.resources(session, ResourceFilter(source=SOURCE), limit=50),
        lambda session: resources.resources(session, ResourceFilter(state=ResourceState.PARKED), limit=50),
        lambda session: events.events(session, after=7, limit=50),
        lambda session: events.events(session, after=7, limit=50, wanted=EventFilter(sources=frozenset({SOURCE}))),
        lambda session: events.newest_events(session, limit=50),
        lambda session: events.newest_events(session, limit=50, wanted=EventFilter(kinds=frozenset({KIND}))),
        lambda session: expectations.page(session, ExpectationFilter(source=SOURCE), limit=50),
        lambda session: expectations.page(session, ExpectationFilter(), limit=50, newest_first=True),
        lambda session: expectations.page(session, ExpectationFilter(state=ExpectationState.OVERDUE), limit=50),
        lambda session: expectations.page(
            session, ExpectationFilter(SOURCE, ExpectationState.MET), limit=50, newest_first=True
        ),
    ],
)
def test_a_page_is_read_along_its_order(plan, database, read):
    """Else each page of a list sorts the whole list."""
    lines = plan(read)

    assert [line for line in lines if line == "USE TEMP B-TREE FOR ORDER BY"] == []


@pytest.mark.parametrize(
    "read",
    [
        lambda session: sinks.sink_list(session, ["log", "other"]),
        lambda session: sinks.delivery_log(session, "log", "delivered", limit=50),
        lambda session: sinks.delivery_log(session, "log", "given_up", limit=50),
        lambda session: sinks.deliveries_of(session, ["log"], [1, 2]),
        lambda session: outbox.look(session, "log", 250),
        lambda session: outbox.behind(session, ["log"]),
        lambda session: standing.standing(session, "log"),
        lambda session: undelivered.due(session, "log", EARLY, resources=10, limit=250),
        lambda session: undelivered.blocked(session, "log", {"a", "b"}),
        lambda session: undelivered.count_waiting(session, "log", 100),
        lambda session: undelivered.last_were_given_up(session, "log", 20),
        lambda session: undelivered.wake_first(session, "log", {"a"}, EARLY),
        lambda session: sent_again.happened(session, EARLY, None, 100, 10),
    ],
)
def test_what_is_asked_about_sinks_is_found_by_an_index(plan, read):
    """Most of it is asked with each batch, and events only become more."""
    lines = plan(read)

    assert lines
    assert scans(lines) == []


def test_one_resource_is_found_by_its_name(plan):
    lines = plan(lambda session: resources.story(session, key("ver_1")))
    lines += plan(lambda session: results.history(session, key("ver_1"), limit=50))
    lines += plan(lambda session: results.result(session, key("ver_1"), version=1))

    assert scans(lines) == []


def test_expectations_that_are_due_are_found_by_their_time(plan, database):
    """The leader asks every second, however many results were ever expected."""
    lines = plan(lambda session: due.any_due(session))
    lines += plan(lambda session: due.lock_due(session, database_time(session), 100))

    assert scans(lines) == []
    assert not database.is_sqlite or sum("ix_expectations_check_at" in line for line in lines) == 2


@pytest.mark.parametrize("name", [{"external_id": "ver_1", "reference": None}, {"external_id": None, "reference": "c"}])
def test_what_is_expected_is_found_by_its_name(plan, database, name):
    with database.write() as session:
        now = database_time(session)
        due.add(session, Wanted(SOURCE, KIND, deadline=now, **name), "tests", now)
        [item] = due.lock_due(session, database_time(session), 1)

    lines = plan(lambda session: due.find(session, item, now))

    assert scans(lines) == []
    # PostgreSQL may take another index while the tables are small.
    assert not database.is_sqlite or name["external_id"] or any("ix_results_reference" in line for line in lines)
