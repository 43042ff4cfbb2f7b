"""The API against its own description: schemathesis asks whatever the document allows, and much that it forbids.

It runs as a process, as a stranger would run it, against our server and a PostgreSQL with rows in it.
"""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.store.conftest import postgres_database
from tests.support.raw_http import RunningServer, Served
from tests.support.results import PENDING, REJECTED, SOURCE, TOKEN, fail, key, number_events, reading, settings, store
from web.app import create_app
from web.serving import body_limit
from web.waits import Waits
from worker.domain.replays import ReplayLevel, Selection
from worker.greenlets import Greenlets
from worker.pipeline import expect, replay
from worker.runtime import Runtime
from worker.store.expectations import Wanted
from worker.store.replays import Order

__all__ = ["postgres_database"]

CONFIG = """
continue-on-failure = true
seed = 5

[auth.openapi.token]
bearer = "%(token)s"

# What is really there, so that more is asked than what is not.
[dictionaries]
source = { values = ["persona-live"] }
kind = { values = ["verification/selfie"] }
external_id = { values = ["ver_0", "ver_1", "ver_9"] }
replay_id = { values = ["%(replay)s"] }
expectation_id = { values = ["%(expectation)s"] }

[parameters]
source = { dictionary = "source", probability = 0.8 }
kind = { dictionary = "kind", probability = 0.8 }
external_id = { dictionary = "external_id", probability = 0.8 }
replay_id = { dictionary = "replay_id", probability = 0.8 }
expectation_id = { dictionary = "expectation_id", probability = 0.8 }

# What a schema cannot say: a cursor must be one that was given out, a kind one of its provider's, and some fields go
# together or not.
[[operations]]
include-operation-id = [
    "list_results", "list_expectations", "get_result", "add_expectation", "start_replay", "retrieve",
]
[operations.checks.positive_data_acceptance]
enabled = false
"""


class Api(Served):
    def __init__(self, flask):
        self.flask = flask


LONGEST_WAIT = 0.2
"""Seconds that a poll really waits here, whatever it asks for."""


@pytest.fixture
def server(postgres_database, monkeypatch):
    ask = Waits.ask
    monkeypatch.setattr(Waits, "ask", lambda self, request, wait, who: ask(self, request, min(wait, LONGEST_WAIT), who))
    url = postgres_database.engine.url.render_as_string(hide_password=False)
    runtime = Runtime(settings(url), ring_with=lambda _source: None, waiter=Greenlets())
    with RunningServer(Api(create_app(runtime)), body_limit(runtime.settings), threads=8) as running:
        yield running, CONFIG % fill(postgres_database, runtime)
    runtime.close()


def fill(database, runtime):
    """Something of each kind that can be read, and what the configuration calls it."""
    for number, verdict in enumerate((PENDING, REJECTED, PENDING)):
        store(database, key(f"ver_{number}"), reading(verdict))
    store(database, key("ver_0"), reading(REJECTED))
    store(database, key("fm_1", "face-match", "gu1-test"))
    fail(database, key("ver_9"))
    number_events(database)
    with database.write() as session:
        deadline = datetime.now(UTC) + timedelta(hours=1)
        wanted = Wanted(source=SOURCE, kind="inquiry", external_id="inq_1", reference=None, deadline=deadline)
        expectation, _ = expect.add(session, runtime.settings, wanted, actor="tests")
        order = Order(ReplayLevel.RETRIEVE, Selection(source=SOURCE, everything=True), "tests", None)
        return {"token": TOKEN, "replay": replay.start(session, order), "expectation": expectation}


@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_every_answer_is_one_that_is_described(server, tmp_path):
    running, config = server
    (tmp_path / "schemathesis.toml").write_text(config)
    options = ["--max-examples", "8", "--generation-database", "none"]
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", *options,
         f"http://127.0.0.1:{running.port}/api/v1/openapi.json"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"Selected: (\d\d)/\1\n +Tested: \1\n", run.stdout), run.stdout
