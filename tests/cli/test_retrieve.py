"""`verisink retrieve`: wants one resource, rings for it, and waits as long as it was told to."""

import threading
import time
from datetime import timedelta

import pytest

from tests.cli.conftest import Shell
from tests.support.results import KIND, SITUATION, SOURCE, document, fail, key, reading, store
from tests.support.services import redis_client
from tests.support.writing import write_document, write_failure
from worker.domain.retry import Failure
from worker.domain.states import FailureKind
from worker.reports import resources as work
from worker.store import resources

ONE = ("retrieve", SOURCE, KIND, "ver_1")


@pytest.fixture
def worker(database):
    """Plays a worker: once something is due, answers it with a document or a failure."""
    threads = []

    def start(answer):
        thread = threading.Thread(target=_work, args=(database, answer))
        threads.append(thread)
        thread.start()

    yield start
    for thread in threads:
        thread.join()


def _work(database, answer):
    claims = []
    for _ in range(1000):
        time.sleep(0.01)
        with database.write() as session:
            claims = resources.claim(session, SOURCE, limit=1, lease=timedelta(minutes=1))
        if claims:
            break
    [claim] = claims
    with database.write() as session:
        if isinstance(answer, Failure):
            write_failure(session, claim, answer, SITUATION)
        else:
            write_document(session, claim, reading(), document(answer), SITUATION)


def standing(database):
    with database.read() as session:
        return work.resource(session, key("ver_1"))


def test_a_resource_is_wanted_and_nobody_waits(shell, database):
    result = shell.run(*ONE)

    assert (result.exit_code, result.stderr) == (0, "")
    assert "wanted" in result.stdout
    assert (standing(database).wanted, standing(database).cause) == (1, "retrieval")


def test_waiting_ends_with_the_result(shell, database, worker):
    store(database, key("ver_1"), content={"number": 1})
    worker({"number": 2, "name": "personal"})

    found = shell.json(*ONE, "--wait", "20")

    assert found["finished"] is True
    assert (found["result"]["version"], found["result"]["outcome"]) == (2, "approved")
    assert "document" not in found["result"]
    assert found["resource"]["state"] == "settled"


def test_the_result_is_printed_for_people(shell, worker):
    worker({"number": 1})

    output = shell.run(*ONE, "--wait", "20").stdout

    assert "approved" in output
    assert "liveness" in output


def test_waiting_ends_when_it_is_parked(shell, worker):
    worker(Failure(FailureKind.REJECTED, "the provider answered 422", http_status=422))

    result = shell.run(*ONE, "--wait", "20")

    assert result.exit_code == 1
    assert "parked as rejected: the provider answered 422" in result.stderr


def test_waiting_in_vain_fails_and_says_where_it_stands(shell, worker):
    worker(Failure(FailureKind.SERVER_ERROR, "the provider answered 503", http_status=503))

    result = shell.run(*ONE, "--wait", "1.5")

    assert result.exit_code == 1
    assert "the provider answered 503" in result.stderr


def test_waiting_without_a_worker_asks_for_one(shell):
    result = shell.run(*ONE, "--wait", "0.3", "--json")

    assert result.exit_code == 1
    assert "is a worker running?" in result.stderr
    assert '"finished": false' in result.stdout


def test_parked_work_is_asked_for_again(shell, database):
    fail(database, key("ver_1"))

    assert shell.run(*ONE).exit_code == 0
    assert standing(database).state == "waiting"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("retrieve", "nowhere", KIND, "ver_1"), 1, "there is no source"),
        (("retrieve", SOURCE, "no-such-kind", "ver_1"), 2, "has no kind"),
    ],
)
def test_what_cannot_be_retrieved_is_refused(shell, database, arguments, status, words):
    result = shell.run(*arguments)

    assert result.exit_code == status
    assert words in result.stderr
    assert standing(database) is None


@pytest.mark.redis
def test_workers_elsewhere_are_told_through_the_broker(shell, redis_url):
    distributed = Shell({**shell.environment, "VERISINK_BROKER_URL": redis_url})

    assert distributed.run(*ONE).exit_code == 0

    with redis_client(redis_url) as client:
        assert client.llen("verisink") == 1


def test_a_broker_that_is_away_delays_nobody(shell, database):
    away = Shell({**shell.environment, "VERISINK_BROKER_URL": "redis://127.0.0.1:1/0"})

    result = away.run(*ONE)

    assert result.exit_code == 0
    assert standing(database).state == "waiting"
