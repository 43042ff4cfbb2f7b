"""`verisink sinks`: how they stand, and what operators do about them."""

import json
from datetime import timedelta

import pytest

from tests.support.results import KIND, SOURCE, key, number_events, store
from worker.cli.common import operator
from worker.domain.events import Event
from worker.domain.states import EventType
from worker.pipeline import operate_sinks
from worker.store import outbox, sent_again, sinks, undelivered
from worker.store.engine import database_time
from worker.store.outbox import Taken
from worker.store.query import records
from worker.store.tables import audit_entries, event_deliveries

FAILED = "EventRefused: HTTP 422"


@pytest.fixture
def served(shell, database):
    """A configured sink that got its first event and was given up with its second; and one that is configured no
    more."""
    name = "VERISINK_SINKS__DECISIONS__"
    shell.environment |= {f"{name}TYPE": "redis_stream", f"{name}URL": "redis://127.0.0.1:1/0"}
    store(database, key("ver_1"))
    store(database, key("ver_2"))
    number_events(database)
    with database.write() as session:
        found = outbox.read(session, 0, 2)
        outbox.delivered(session, "decisions", [Taken(1, 3, FAILED)], position=2)
        undelivered.give_up(session, "decisions", [(found[1], 7, FAILED)], database_time(session))
        outbox.delivered(session, "old", [Taken(1)], position=1)
    return [item.id for item in found]


def audits(database):
    with database.read() as session:
        found = records(session, audit_entries.select())
    return [(entry["actor"], entry["action"], entry["subject"]) for entry in found]


def test_the_list_says_how_each_sink_stands(shell, served):
    [decisions, log, old] = shell.json("sinks")

    assert (decisions["sink"], decisions["state"], decisions["position"]) == ("decisions", "active", 2)
    assert (decisions["lag"], decisions["given_up"], decisions["waiting"]) == (2, 1, 0)
    assert decisions["oldest_seconds"] >= 0
    assert (log["sink"], log["position"], log["lag"]) == ("log", 0, 4)
    assert (old["sink"], old["state"]) == ("old", "removed")
    assert [item["state"] for item in shell.json("status")["sinks"]] == ["active", "active", "removed"]
    assert "removed" in shell.run("status").stdout
    assert "removed" in shell.run("sinks").stdout


def test_a_sink_is_held_and_released_by_hand(shell, database, served):
    result = shell.run("sinks", "hold", "decisions", "--reason", "their release")
    assert (result.exit_code, "is held" in result.stdout) == (0, True)
    [held, *_] = shell.json("sinks")
    assert (held["state"], held["hold_reason"]) == ("held", f"their release (by {operator()})")
    assert held["held_at"] is not None
    assert "held already" in shell.run("sinks", "hold", "decisions", "--reason", "another").stdout
    assert shell.json("sinks", "hold", "decisions", "--reason", "another")["changed"] is False

    result = shell.run("sinks", "release", "decisions")
    assert (result.exit_code, "2 events are waiting" in result.stdout) == (0, True)
    assert shell.json("sinks", "release", "decisions")["sink"]["state"] == "active"
    assert "neither held nor waited for" in shell.run("sinks", "release", "decisions").stdout
    assert audits(database) == [(operator(), f"sink.{deed}", "decisions") for deed in ("hold", "release")]


def test_the_log_says_what_became_of_each_event(shell, served):
    [first] = shell.json("sinks", "log", "decisions")
    [second] = shell.json("sinks", "log", "decisions", "--state", "given_up")

    assert (first["id"], first["state"], first["attempts"], first["last_error"]) == (served[0], "delivered", 3, FAILED)
    assert first["delivered_at"] is not None
    assert (second["id"], second["state"], second["attempts"]) == (served[1], "given_up", 7)
    assert shell.json("sinks", "log", "decisions", "--event", served[1]) == [second]
    assert shell.json("sinks", "log", "old", "--event", served[1]) == []
    assert shell.run("sinks", "log", "decisions", "--event", "nothing").exit_code == 1
    assert FAILED in shell.run("sinks", "log", "decisions").stdout


def test_one_resource_shows_where_its_events_are(shell, served):
    shown = shell.json("show", SOURCE, KIND, "ver_1")["event_deliveries"]

    assert [(line["sink"], line["sequence"], line["state"]) for line in shown] == [
        ("decisions", 1, "delivered"),
        ("decisions", 2, "given_up"),
    ]
    assert "given_up" in shell.run("show", SOURCE, KIND, "ver_1").stdout


@pytest.mark.parametrize("by", ["given_up", "event", "since", "until"])
def test_events_are_sent_again(shell, database, served, by):
    choices = {
        "given_up": (["--given-up"], [2]),
        "event": (["--event", served[0]], [1]),
        "since": (["--since", "2020-01-01T00:00:00Z"], [1, 2]),
        "until": (["--until", "2100-01-01T00:00:00Z"], [1, 2]),
    }
    arguments, expected = choices[by]

    assert shell.json("sinks", "resend", "decisions", *arguments) == {"events": len(expected)}

    with database.read() as session:
        now = database_time(session) + timedelta(seconds=1)
        waiting = undelivered.due(session, "decisions", now, resources=10, limit=10)
        assert "decisions" in outbox.behind(session, ["decisions"])
    assert [item.item.sequence for item in waiting] == expected
    assert audits(database) == [(operator(), "sink.resend", "decisions")]


def test_many_events_are_sent_again_in_several_transactions(shell, database, served, monkeypatch):
    """A writer of SQLite's keeps all others waiting."""
    monkeypatch.setattr(operate_sinks, "SENT_AGAIN_TOGETHER", 1)

    assert shell.json("sinks", "resend", "decisions", "--since", "2020-01-01T00:00:00Z") == {"events": 2}

    assert audits(database) == [(operator(), "sink.resend", "decisions")] * 2
    with database.read() as session:
        assert undelivered.count_waiting(session, "decisions", 10) == 2


def test_no_more_are_sent_again_than_may_wait(shell, database, served, monkeypatch):
    monkeypatch.setattr(operate_sinks, "MOST_WAITING", 1)

    result = shell.run("sinks", "resend", "decisions", "--since", "2020-01-01T00:00:00Z")
    assert (result.exit_code, "2 events, and only 1 more may wait" in result.stderr) == (1, True)
    assert shell.json("sinks", "resend", "decisions", "--given-up") == {"events": 1}
    for choice in (["--given-up"], ["--event", served[0]]):
        result = shell.run("sinks", "resend", "decisions", *choice)
        assert (result.exit_code, "1 events wait for decisions already" in result.stderr) == (1, True)


def test_a_stretch_of_time_is_found_by_its_numbers(database):
    with database.write() as session:
        now = database_time(session)
        for hours in range(20):
            happened = Event(EventType.UPDATED, SOURCE, KIND, f"ver_{hours}", 1)
            outbox.append(session, [happened], now + timedelta(hours=hours))
    number_events(database)

    def found(since, until, position=20, limit=100):
        with database.read() as session:
            first, last = (None if hours is None else now + timedelta(hours=hours) for hours in (since, until))
            return [item.sequence for item in sent_again.happened(session, first, last, position, limit)]

    assert found(5, 8) == [6, 7, 8]
    assert found(None, 2) == [1, 2]
    assert found(18, None) == [19, 20]
    assert found(18, None, position=19) == [19]
    assert found(30, None) == found(None, -1) == []
    assert found(None, None, limit=3) == [1, 2, 3]


def test_a_sink_that_is_configured_no_more_can_be_forgotten(shell, database, served):
    assert "old is forgotten" in shell.run("sinks", "forget", "old").stdout

    assert [item["sink"] for item in shell.json("sinks")] == ["decisions", "log"]
    with database.read() as session:
        assert {row["sink"] for row in records(session, event_deliveries.select())} == {"decisions"}
    assert audits(database) == [(operator(), "sink.forget", "old")]
    assert shell.run("sinks", "forget", "old").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("hold", "nowhere", "--reason", "why"), 1, "there is no sink"),
        (("hold", "log", "--reason", " "), 2, "say why"),
        (("hold", "log"), 2, "--reason"),
        (("release", "nowhere"), 1, "there is no sink"),
        (("forget", "log"), 1, "is configured"),
        (("resend", "nowhere", "--given-up"), 1, "there is no sink"),
        (("resend", "log", "--given-up"), 1, "no such event"),
        (("resend", "log", "--event", "nothing"), 1, "no such event"),
        (("resend", "log"), 2, "choose one"),
        (("resend", "log", "--given-up", "--since", "2026-01-01"), 2, "choose one"),
    ],
)
def test_what_cannot_be_done_is_said(shell, database, arguments, status, words):
    result = shell.run("sinks", *arguments)

    assert (result.exit_code, words in result.stderr) == (status, True)
    assert audits(database) == []


def test_doctor_says_what_to_do_about_each(shell, database, served):
    with database.write() as session:
        sinks.hold(session, "log", "why", database_time(session))

    # Its exit status is about all else as well.
    told = json.loads(shell.run("doctor", "--offline", "--json").stdout)
    found = {check["name"]: check for check in told if "delivery" in check["name"]}

    assert "held: why; 4 events wait" in found["sink log: delivery"]["detail"]
    assert "1 events were given up" in found["sink decisions: delivery"]["detail"]
    assert (found["sink old: delivery"]["state"], found["sink log: delivery"]["state"]) == ("ok", "warn")
