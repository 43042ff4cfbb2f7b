"""What processes that serve do not load: libraries for terminals, and those of what nobody has asked for.

Python itself says what a process loads and what those below it do, but for modules that are loaded by their names.
"""

import subprocess
import sys

import pytest

from tests.flow.conftest import Install
from tests.support.processes import ROOT, Child, eventually
from tests.support.services import redis_client

pytestmark = pytest.mark.flow

SAYS_WHAT_IT_LOADS = {"PYTHONPROFILEIMPORTTIME": "1"}

FOR_TERMINALS = {"rich.text", "pygments.token", "prompt_toolkit.keys", "celery.bin.celery"}
"""A module of each that is loaded with it, and not by trying whether it is there."""

FOR_MIGRATIONS = {"alembic.context", "mako.template"}
FOR_OTHERS = {"opentelemetry.sdk.resources", "openapi_pydantic.v3", "httpx_sse", "web.simulator.world"}
FOR_SERVERS = {"psycopg.errors", "redis.client"}


SERVES = {"flask", "httpx", "celery", "sqlalchemy", "alembic", "redis"}


def loaded(child: Child) -> set[str]:
    """The modules that a process and those below it have imported so far."""
    return imported(child.log)


def imported(log: str) -> set[str]:
    """The modules that a log tells of."""
    lines = (line.split("|") for line in log.splitlines() if line.startswith("import time:"))
    return {parts[2].strip() for parts in lines if len(parts) == 3}


def test_an_installation_in_one_process_loads_what_it_needs(install: Install):
    installation = install()
    assert installation.run("migrate").process.returncode == 0

    child = installation.up(**SAYS_WHAT_IT_LOADS)

    assert {"structlog.dev", "httpx._client", "celery.worker", "flask.app"} <= loaded(child)
    assert loaded(child) & (FOR_TERMINALS | FOR_MIGRATIONS | FOR_OTHERS | FOR_SERVERS) == set()


def test_a_new_database_takes_alembic_without_what_it_shows_on_terminals(install: Install):
    child = install().up(**SAYS_WHAT_IT_LOADS)

    assert loaded(child) >= FOR_MIGRATIONS
    assert loaded(child) & FOR_TERMINALS == set()


@pytest.mark.postgres
@pytest.mark.redis
def test_a_worker_on_servers_loads_what_it_needs(install: Install, postgres_url: str, redis_url: str):
    installation = install(database_url=postgres_url, broker_url=redis_url)
    assert installation.run("migrate").process.returncode == 0

    child = installation.start("worker", **SAYS_WHAT_IT_LOADS)
    with redis_client(redis_url) as client:
        eventually(lambda: any(line["cmd"] == "brpop" for line in client.client_list()), "the worker waits for nudges")

    assert loaded(child) >= {"worker.runtime", "celery.worker.consumer", *FOR_SERVERS}
    assert loaded(child) & (FOR_TERMINALS | FOR_MIGRATIONS | FOR_OTHERS) == set()
    assert child.stop() == 0


def test_a_supervisor_loads_nothing_that_serves(install: Install):
    child = install().start("worker", VERISINK_BROKER_URL="redis://127.0.0.1:9", **SAYS_WHAT_IT_LOADS)
    child.ready(lambda: child.logged("child_started"))

    before_its_child = child.log.partition('"child_started"')[0]
    assert '"settings"' in before_its_child
    assert {name.partition(".")[0] for name in imported(before_its_child)} & SERVES == set()


def test_who_asks_for_a_hidden_library_afterwards_gets_it():
    program = "from worker import lean\nimport rich.text, pygments.token\nprint(rich.text.Text('there'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "there\n"
