"""`verisink events --follow`: as a real process that is stopped with Ctrl-C."""

import json
import signal

import pytest

from tests.support.results import REJECTED, key, number_events, reading, store


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
