"""`verisink replay`, `replays` and `lanes`: planned, started, watched and stopped from a shell."""

import os
import pty
import pwd
import select
import signal
import subprocess
import threading
import time
import uuid
from datetime import timedelta

import pytest

from tests.cli.conftest import PROGRAM
from tests.support.processes import eventually
from tests.support.results import KIND, SITUATION, SOURCE, document, fail, key, reading, receive, settings, store
from tests.support.writing import write_document, write_failure
from worker.cli import replay_progress
from worker.domain.replays import ReplayLevel, Selection
from worker.domain.retry import Failure
from worker.domain.states import DeliveryState, FailureKind
from worker.pipeline import replay
from worker.pipeline.replay_run import Replayer
from worker.providers.registry import providers
from worker.reports import replays as reports
from worker.store import leases, resources
from worker.store.engine import database_time
from worker.store.query import records
from worker.store.replays import Order
from worker.store.tables import audit_entries

PARKED = ("replay", "--parked", "--yes")
REFUSED = Failure(FailureKind.REJECTED, "the provider answered 400", http_status=400)


@pytest.fixture
def parked(database):
    """Three parked resources, of which two lie in one lane."""
    for external_id in ("ver_1", "ver_2"):
        fail(database, key(external_id))
    fail(database, key("ver_3"), FailureKind.BUG, None)


@pytest.fixture
def worker(database):
    """Plays a worker that leads the sweep: it advances replays, and answers what is due with a document, or with this
    failure."""
    stopping, threads = threading.Event(), []

    def start(failure=None):
        thread = threading.Thread(target=_work, args=(database, stopping, failure))
        threads.append(thread)
        thread.start()
        eventually(lambda: _swept(database), "the first sweep")

    yield start
    stopping.set()
    for thread in threads:
        thread.join()


def _work(database, stopping, failure):
    replayer = Replayer(database, settings("sqlite:///x.db").sources, providers(), lambda _source: None)
    while not stopping.wait(0.02):
        with database.write() as session:
            now = database_time(session)
            leases.acquire(session, leases.SWEEP, "tests", now=now, lasting=leases.SWEEP_LASTING)
        replayer.advance()
        with database.write() as session:
            claims = resources.claim(session, SOURCE, limit=10, lease=timedelta(minutes=1))
        for claim in claims:
            with database.write() as session:
                if failure is not None:
                    write_failure(session, claim, failure, SITUATION)
                else:
                    write_document(session, claim, reading(), document({"a": 1}), SITUATION)


def _swept(database):
    with database.read() as session:
        return reports.idle_seconds(session) is not None


def read(database, table):
    with database.read() as session:
        return records(session, table.select())


def made(database):
    with database.read() as session:
        return reports.replays_made(session, limit=10)


def start(database, **conditions):
    with database.write() as session:
        return str(replay.start(session, Order(ReplayLevel.RETRIEVE, Selection(**conditions), "maria", "because")))


def test_a_plan_says_what_it_would_come_to_and_changes_nothing(shell, database, parked):
    result = shell.run("replay", "--parked", "--plan")
    plan = shell.json("replay", "--parked", "--source", SOURCE, "--plan")

    assert (result.exit_code, result.stderr) == (0, "")
    assert "items:                  3" in result.stdout
    assert "time at the budget" in result.stdout
    assert (plan["count"], plan["calls"], plan["level"]) == (3, 3, "retrieve")
    assert plan["sources"][0]["source"] == SOURCE
    assert made(database) == ()


def test_the_plan_of_reprojecting_tells_outcomes(shell, database):
    store(database, key("ver_1"))

    output = shell.run("replay", "--all", "--level", "reproject", "--plan").stdout

    assert "outcomes" in output
    assert "unreadable" in output
    assert "changes: none" in output


def test_a_replay_is_watched_to_its_end(shell, database, parked, worker):
    worker()

    result = shell.run(*PARKED, "--reason", "mended")

    assert (result.exit_code, result.stderr) == (0, "")
    assert "3 of 3 done: 3 stored" in result.stdout
    assert "finished: 3 stored" in result.stdout
    [entry] = read(database, audit_entries)
    assert (entry["actor"], entry["reason"]) == (f"cli:{pwd.getpwuid(os.getuid()).pw_name}", "mended")


def test_as_json_only_the_end_is_printed(shell, database, parked, worker):
    worker()

    found = shell.json(*PARKED)

    assert (found["state"], found["outcomes"], found["total"]) == ("finished", {"stored": 3}, 3)


def test_items_that_end_badly_make_it_a_failure(shell, database, parked, worker):
    worker(REFUSED)

    result = shell.run(*PARKED)

    assert result.exit_code == 1
    assert "finished: 3 parked" in result.stdout
    [found] = made(database)
    assert f"verisink replays items {found.id}" in result.stderr
    items = shell.json("replays", "items", str(found.id), "--outcome", "parked", "--limit", "2")
    assert [(item["external_id"], item["detail"]) for item in items] == [("ver_1", "rejected"), ("ver_2", "rejected")]


def test_without_a_worker_it_is_said_and_not_waited_for(shell, database, parked):
    result = shell.run(*PARKED)

    assert result.exit_code == 0
    assert "no worker has ever run here" in result.stderr
    [found] = made(database)
    assert f"verisink replays show {found.id}" in result.stdout
    assert found.state == "running"


def test_a_worker_that_ended_is_missed(shell, database, parked):
    with database.write() as session:
        past = database_time(session) - timedelta(minutes=1)
        leases.acquire(session, leases.SWEEP, "gone", now=past, lasting=leases.SWEEP_LASTING)

    assert "no worker has been seen for 6" in shell.run(*PARKED).stderr


def test_a_worker_that_ends_meanwhile_is_missed_once(database, parked, capsys):
    one = uuid.UUID(start(database, parked=True))
    sweeps = iter([0, 0, 60, 60])

    def look():
        ago = next(sweeps, None)
        with database.write() as session:
            if ago is None:
                replay.cancel(session, one, actor="maria")
            else:
                swept = database_time(session) - timedelta(seconds=ago)
                leases.acquire(session, leases.SWEEP, "tests", now=swept, lasting=leases.SWEEP_LASTING)
            found = reports.replay(session, one)
        assert found is not None
        return found

    found = replay_progress.follow(look, database, silent=False)

    assert found.state == "cancelled"
    said = capsys.readouterr()
    assert said.err.count("the replay goes on when one does") == 1
    assert "3 of 3 done: 3 cancelled" in said.out


def test_nobody_waits_when_told_not_to(shell, database, parked):
    found = shell.json(*PARKED, "--no-wait")

    assert (found["state"], found["waiting"]) == ("running", 3)


def test_nothing_is_replayed_without_a_yes(shell, database, parked):
    for arguments in (("replay", "--parked"), ("replay", "--parked", "--json")):
        result = shell.run(*arguments)
        assert result.exit_code == 1
        assert result.stderr == "nobody is here to ask: look with --plan, then say --yes\n"
    assert made(database) == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replay",), "say which"),
        (("replay", "--yes"), "say which"),
        (("replay", "--lane", "nonsense", "--plan"), "source/step/fingerprint"),
        (("replay", "--error", "no-such", "--yes"), "error is"),
        (("replay", "--id", "a/b", "--yes"), "an id is"),
        (("replay", "--since", "2026-02-01", "--until", "2026-01-01", "--yes"), "not before"),
        (("replay", "--parked", "--state", "settled", "--yes"), "leaves nothing"),
        (("replay", "--level", "reingest", "--state", "settled", "--yes"), "state is one of"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(shell, database, arguments, words):
    result = shell.run(*arguments)

    assert result.exit_code == 2
    assert words in result.stderr
    assert made(database) == ()


def test_ids_and_times_choose(shell, database, parked):
    assert shell.json("replay", "--id", "ver_1", "--id", "ver_3", "--plan")["count"] == 2
    assert shell.json("replay", "--kind", KIND, "--until", "2026-01-01", "--plan")["count"] == 0
    assert "nothing matches" in shell.run("replay", "--kind", KIND, "--until", "2026-01-01", "--plan").stdout
    result = shell.run("replay", "--kind", "no-such", "--yes")
    assert (result.exit_code, result.stdout) == (0, "nothing matches\n")


def test_lanes_are_listed_and_replayed_by_their_names(shell, database, parked, worker):
    receive(database, state=DeliveryState.UNREADABLE)
    lanes = shell.json("lanes")
    assert [(lane["count"], lane["level"]) for lane in lanes] == [(2, "retrieve"), (1, "retrieve"), (1, "reingest")]
    assert lanes[0]["lane"] in shell.run("lanes").stdout
    worker()

    found = shell.json("replay", "--lane", lanes[0]["lane"], "--yes")

    assert found["outcomes"] == {"stored": 2}
    assert [lane["count"] for lane in shell.json("lanes")] == [1, 1]


def test_replays_are_listed_shown_and_stopped(shell, database, parked):
    one = start(database, parked=True)

    assert [found["id"] for found in shell.json("replays")] == [one]
    assert one in shell.run("replays").stdout
    shown = shell.run("replays", "show", one).stdout
    assert "parked=True" in shown
    assert "maria" in shown
    for deed, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        assert shell.json("replays", deed, one)["state"] == state
    again = shell.run("replays", "cancel", one)
    assert (again.exit_code, "cancelled already" in again.stdout) == (0, True)
    late = shell.run("replays", "pause", one)
    assert (late.exit_code, late.stderr) == (1, "the replay is cancelled already\n")
    assert [entry["actor"].split(":")[0] for entry in read(database, audit_entries)] == ["maria", "cli", "cli", "cli"]


@pytest.mark.parametrize("deed", ["show", "items", "pause", "resume", "cancel"])
def test_a_replay_that_does_not_exist(shell, deed):
    result = shell.run("replays", deed, str(uuid.uuid4()))

    assert (result.exit_code, result.stderr) == (1, "there is no such replay\n")


def test_ctrl_c_leaves_it_running_and_says_how_to_look_again(shell, database, parked):
    with database.write() as session:
        later = database_time(session) + timedelta(minutes=1)
        leases.acquire(session, leases.SWEEP, "sleepy", now=later, lasting=leases.SWEEP_LASTING)
    process = shell.start(*PARKED)
    try:
        eventually(lambda: made(database), "it started", 60)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()

    [found] = made(database)
    assert "Ctrl-C leaves it running" in first
    assert (process.returncode, errors) == (0, "")
    assert f"verisink replays show {found.id}" in output
    assert found.state == "running"


def test_on_a_terminal_it_asks_and_shows_a_bar(shell, database, parked):
    with database.write() as session:
        later = database_time(session) + timedelta(minutes=1)
        leases.acquire(session, leases.SWEEP, "sleepy", now=later, lasting=leases.SWEEP_LASTING)
    terminal, end = pty.openpty()
    environment = {**os.environ, **shell.environment, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([*PROGRAM, "replay", "--parked"], stdin=end, stdout=end, stderr=end, env=environment)
    os.close(end)
    try:
        asked = _read_until(terminal, "Replay these 3?")
        assert "time at the budget" in asked
        assert made(database) == ()
        os.write(terminal, b"y\n")
        assert "0/3" in _read_until(terminal, "0/3")
        [found] = made(database)
        with database.write() as session:
            replay.cancel(session, found.id, actor="maria")
        assert "3 cancelled" in _read_until(terminal, "cancelled: 3 cancelled")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_on_a_terminal_a_no_starts_nothing(shell, database, parked):
    terminal, end = pty.openpty()
    environment = {**os.environ, **shell.environment}
    process = subprocess.Popen([*PROGRAM, "replay", "--parked"], stdin=end, stdout=end, stderr=end, env=environment)
    os.close(end)
    try:
        _read_until(terminal, "Replay these 3?")
        os.write(terminal, b"n\n")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert made(database) == ()


def _read_until(terminal, words):
    """What a terminal shows, up to these words; fails by time-out if they never come."""
    shown = ""
    while words not in shown:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, shown
        shown += os.read(terminal, 4096).decode("utf-8", "replace")
    return shown
