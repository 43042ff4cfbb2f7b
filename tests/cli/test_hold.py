"""`verisink hold` and `verisink release`."""

import pytest

from tests.cli.conftest import Shell
from tests.support.results import SOURCE
from tests.support.services import redis_client
from worker.cli.common import operator
from worker.store import sources
from worker.store.engine import database_time


def state(database):
    with database.read() as session:
        return sources.state(session, SOURCE)


def test_a_source_is_held_and_released_by_hand(shell, database):
    result = shell.run("hold", SOURCE, "--reason", "the key is rotated")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "is held" in result.stdout
    assert state(database).hold_reason == f"the key is rotated (by {operator()})"

    again = shell.run("hold", SOURCE, "--reason", "another")
    assert (again.exit_code, f"held already: the key is rotated (by {operator()})" in again.stdout) == (0, True)

    result = shell.run("release", SOURCE)
    assert (result.exit_code, "hold ended" in result.stdout) == (0, True)
    assert state(database).held_at is None
    assert "neither held nor throttled" in shell.run("release", SOURCE).stdout


def test_the_status_says_who_holds_it_and_why(shell):
    shell.run("hold", SOURCE, "--reason", "the key is rotated")

    [found] = [item for item in shell.json("status")["sources"] if item["source"] == SOURCE]

    assert (found["state"], found["reason"]) == ("held", f"the key is rotated (by {operator()})")
    assert found["since"] is not None
    assert f"the key is rotated (by {operator()})" in shell.run("status").stdout


def test_programs_are_told_what_changed(shell, database):
    with database.write() as session:
        sources.throttle(session, SOURCE, database_time(session).replace(year=2100))
    held = shell.json("hold", SOURCE, "--reason", "why")
    assert (held["changed"], held["source"]["state"]) == (True, "held")
    assert shell.json("hold", SOURCE, "--reason", "why")["changed"] is False

    released = shell.json("release", SOURCE, "--reason", "done")

    assert (released["changed"], released["hold_ended"], released["throttle_ended"]) == (True, True, True)
    assert released["source"]["state"] == "active"
    assert shell.json("release", SOURCE)["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("hold", "nowhere", "--reason", "why"), 1, "there is no source"),
        (("release", "nowhere"), 1, "there is no source"),
        (("hold", SOURCE), 2, "--reason"),
        (("hold", SOURCE, "--reason", " "), 2, "say why"),
        (("hold",), 2, "SOURCE"),
    ],
)
def test_what_cannot_be_done_is_said(shell, database, arguments, status, words):
    result = shell.run(*arguments)

    assert result.exit_code == status
    assert words in result.stderr
    assert state(database).held_at is None


@pytest.mark.redis
def test_workers_elsewhere_are_told_of_a_release(shell, redis_url):
    distributed = Shell({**shell.environment, "VERISINK_BROKER_URL": redis_url})
    distributed.run("hold", SOURCE, "--reason", "why")
    with redis_client(redis_url) as client:
        assert client.llen("verisink") == 0

    assert distributed.run("release", SOURCE).exit_code == 0

    with redis_client(redis_url) as client:
        assert client.llen("verisink") == 1
