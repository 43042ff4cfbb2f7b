"""Lists: JSON arrays for programs, tables for people, and nobody's document in either."""

import re

import pytest

from tests.support.results import (
    KIND,
    REJECTED,
    SOURCE,
    fail,
    key,
    number_events,
    reading,
    receive,
    store,
    want,
)
from worker.domain.states import DeliveryState
from worker.store.engine import database_time
from worker.store.sources import hold


@pytest.fixture
def filled(database):
    """Two results, a parked resource, and two deliveries."""
    store(database, key("ver_1"), content={"name": "personal"})
    store(database, key("ver_2"), reading(REJECTED, reference="customer-2"))
    fail(database, key("ver_3"))
    receive(database, key("ver_1"))
    receive(database, state=DeliveryState.UNREADABLE)
    number_events(database)
    return database


@pytest.mark.parametrize("name", ["results", "resources", "deliveries", "attempts", "events"])
def test_an_empty_list_is_an_empty_array_and_says_so(shell, name):
    assert shell.json(name) == []
    assert shell.run(name).stdout == f"{name}: none\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["results"], ["ver_2", "ver_1"]),
        (["results", "--limit", "1"], ["ver_2"]),
        (["results", "--source", SOURCE, "--provider", "persona", "--kind", KIND], ["ver_2", "ver_1"]),
        (["results", "--outcome", "rejected"], ["ver_2"]),
        (["results", "--stage", "decided", "--reference", "customer-1"], ["ver_1"]),
        (["results", "--updated-after", "2120-01-01"], []),
        (["results", "--source", "nowhere"], []),
        (["resources", "--state", "parked"], ["ver_3"]),
        (["resources", "--state", "settled"], ["ver_2"]),
        (["resources", "--reason", "rejected"], ["ver_3"]),
        (["attempts", "--outcome", "failed"], ["ver_3"]),
        (["attempts", "--error", "rejected", "--source", SOURCE], ["ver_3"]),
    ],
)
def test_lists_have_the_filters_of_the_api(shell, filled, arguments, expected):
    assert [item["external_id"] for item in shell.json(*arguments)] == expected


def test_deliveries_can_be_filtered(shell, filled):
    [unread] = shell.json("deliveries", "--state", "unreadable")

    assert unread["state"] == "unreadable"
    assert len(shell.json("deliveries", "--event-type", "verification.passed")) == 2
    assert shell.json("deliveries", "--source", "nowhere") == []


@pytest.mark.parametrize("name", ["results", "resources", "deliveries", "attempts", "events"])
def test_tables_name_their_columns_and_tell_nothing_personal(shell, filled, name):
    result = shell.run(name)

    assert result.exit_code == 0
    assert SOURCE in result.stdout
    assert "personal" not in result.stdout
    assert "personal" not in shell.run(name, "--json").stdout


def test_a_row_of_a_table_is_one_line_when_it_is_piped(shell, filled):
    [line] = [line for line in shell.run("results").stdout.splitlines() if "ver_2" in line]

    assert all(word in line for word in (SOURCE, KIND, "customer-2", "decided", "rejected"))


def test_what_a_provider_says_cannot_steer_the_terminal(shell, database):
    store(database, key("ver_1"), reading(reference="\x1b[31m[red]evil[/red]\nsecond line\x07"))

    output = shell.run("results").stdout

    assert "\x1b" not in output
    assert "\x07" not in output
    assert "[red]evil[/red]\ufffdsecond line" in output


def test_events_are_in_order_and_can_be_read_on(shell, filled):
    everything = shell.json("events")

    assert [item["sequence"] for item in everything] == [1, 2, 3, 4, 5]
    assert [item["sequence"] for item in shell.json("events", "--limit", "2")] == [4, 5]
    assert [item["sequence"] for item in shell.json("events", "--after", "1", "--limit", "2")] == [2, 3]
    assert everything[-1]["type"] == "verification.retrieval.parked"


def test_status_is_one_document(shell, filled):
    want(filled, key("ver_9"))

    found = shell.json("status")

    assert (found["waiting"], found["claimed"], found["parked"], found["unreadable"]) == (2, 0, 1, 1)
    assert found["oldest_unfinished_seconds"] >= 0
    assert found["parked_reasons"] == [{"source": SOURCE, "reason": "rejected", "count": 1}]
    assert found["last_sequence"] == 5
    [source] = found["sources"]
    assert (source["source"], source["configured"], source["state"]) == (SOURCE, True, "active")


def test_status_is_readable(shell, filled):
    with filled.write() as session:
        hold(session, SOURCE, "the provider answered 401", now=database_time(session), probe_at=None)
    want(filled, key("fm_1", "face-match", "gu1-test"))

    output = shell.run("status").stdout

    assert "parked:" in output
    assert "held" in output
    assert "the provider answered 401" in output
    assert "active, not configured" in output


def test_status_of_an_empty_system(shell):
    assert re.search(r"^last sweep: +never$", shell.run("status").stdout, re.MULTILINE)
