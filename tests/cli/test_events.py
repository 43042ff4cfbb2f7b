"""`verisink events --follow`: as a real process that is stopped with Ctrl-C."""

import json
import signal

import pytest
from sqlalchemy import text

from tests.support.results import KIND, REJECTED, key, number_events, reading, store

CUT_OFF = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def followed(shell, database):
    """What follows the log, started behind two events, and ended whatever happens."""
    store(database, key("ver_1"))
    number_events(database)
    started = []

    def follow(*arguments):
        started.append(shell.start("events", "--follow", *arguments))
        return started[-1]

    yield follow
    for process in started:
        process.kill()
        process.communicate()


def stop(process):
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    return process.returncode, output, errors


def test_events_are_followed_until_ctrl_c(followed, database):
    process = followed("--json")
    first = [json.loads(process.stdout.readline())["type"] for _ in range(2)]

    store(database, key("ver_1"), reading(REJECTED))
    number_events(database)
    third = json.loads(process.stdout.readline())

    assert first == ["verification.result.created", "verification.result.decided"]
    assert (third["sequence"], third["type"]) == (3, "verification.result.reversed")
    assert stop(process) == (0, "", "")


def test_followed_events_are_lines_for_people_too(followed, database):
    process = followed("--after", "1")

    line = process.stdout.readline()

    assert line.startswith("2  ")
    assert "persona-live/verification/selfie/ver_1" in line
    assert stop(process)[0] == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--source", "gu1-test"], [5, 6]),
        (["--kind", KIND, "--type", "verification.result.decided"], [2, 4]),
        (["--kind", KIND, "--limit", "1"], [4]),
        (["--kind", KIND, "--limit", "1", "--after", "0"], [1]),
        (["--source", "nowhere"], []),
    ],
)
def test_only_what_is_wanted_is_listed(shell, database, options, expected):
    for name in ("ver_1", "ver_2"):
        store(database, key(name))
        number_events(database)
    store(database, key("fm_1", "face-match", "gu1-test"))
    number_events(database)

    listed = shell.json("events", *options)

    assert [item["sequence"] for item in listed] == expected


def test_what_nobody_wants_is_passed_over_while_following(followed, database):
    process = followed("--json", "--source", "gu1-test")

    store(database, key("ver_2"))
    store(database, key("fm_1", "face-match", "gu1-test"))
    number_events(database)
    found = json.loads(process.stdout.readline())

    assert (found["source"], found["type"]) == ("gu1-test", "verification.result.created")
    process.stdout.readline()
    assert stop(process) == (0, "", "")


@pytest.mark.postgres
def test_following_goes_on_when_the_database_is_back(followed, database):
    if database.is_sqlite:
        pytest.skip("a file is not cut off")
    process = followed("--json")
    assert [json.loads(process.stdout.readline())["sequence"] for _ in range(2)] == [1, 2]

    with database.write() as session:
        cut = session.execute(text(CUT_OFF)).all()
    assert process.stderr.readline().endswith(": waiting for it\n")
    store(database, key("ver_2"))
    number_events(database)

    assert cut
    assert [json.loads(process.stdout.readline())["sequence"] for _ in range(2)] == [3, 4]
    assert stop(process) == (0, "", "")
