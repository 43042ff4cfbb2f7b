"""`verisink expect` and `verisink expectations`."""

from datetime import timedelta

import pytest

from tests.store import play
from tests.support.results import KIND, SOURCE, settings
from worker.cli.common import operator
from worker.pipeline.expect import Expectations
from worker.reports.build import time_text
from worker.store.tables import expectations


def deadline(database, minutes):
    return time_text(play.now(database) + timedelta(minutes=minutes))


def test_what_is_expected_is_listed_latest_first(shell, database):
    soon, later = deadline(database, 10), deadline(database, 20)
    made = shell.run("expect", SOURCE, KIND, "ver_1", "--by", soon)
    assert (made.exit_code, made.stdout.startswith("expected: ")) == (0, True)
    assert shell.run("expect", SOURCE, KIND, "ver_1", "--by", soon).stdout.startswith("expected already: ")
    assert shell.json("expect", SOURCE, KIND, "ver_2", "--by", later)["state"] == "open"

    found = shell.json("expectations")

    assert [item["external_id"] for item in found] == ["ver_2", "ver_1"]
    assert {item["actor"] for item in found} == {operator()}
    assert "ver_1" in shell.run("expectations", "--source", SOURCE).stdout
    assert shell.json("expectations", "--source", "gu1-test") == []


def test_overdue_ones_are_listed_and_counted(shell, database):
    assert shell.json("status")["overdue"] == 0
    assert shell.json("expectations", "--state", "overdue") == []
    shell.run("expect", SOURCE, KIND, "ver_1", "--by", deadline(database, -1))
    leader = Expectations(database, settings("sqlite:///nobody-connects.db", sources={}), lambda _: None)

    leader.check()

    [found] = shell.json("expectations", "--state", "overdue")
    assert found["external_id"] == "ver_1"
    assert shell.json("status")["overdue"] == 1
    assert "overdue expectations:   1" in shell.run("status").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("nowhere", KIND, "ver_1"), 1, "there is no source"),
        ((SOURCE, "no-such-kind", "ver_1"), 2, "has no kind"),
        ((SOURCE, KIND, "ver/1"), 2, "external_id"),
    ],
)
def test_what_cannot_be_expected_is_refused(shell, database, arguments, status, words):
    result = shell.run("expect", *arguments, "--by", deadline(database, 10))

    assert result.exit_code == status
    assert words in result.stderr
    assert play.rows(database, expectations) == []


def test_a_deadline_has_to_be_given_and_has_to_make_sense(shell):
    assert shell.run("expect", SOURCE, KIND, "ver_1").exit_code == 2
    refused = shell.run("expect", SOURCE, KIND, "ver_1", "--by", "1999-01-01T00:00:00Z")
    assert (refused.exit_code, "deadline" in refused.stderr) == (2, True)
