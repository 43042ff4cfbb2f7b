"""A deploy under load: the previous release's processes and today's, side by side on one database, and then today's."""

import json
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from tests.flow.conftest import Install
from tests.support.evidence import Flow, assert_nothing_lost, flow
from tests.support.processes import Child, answers, eventually
from tests.support.releases import Release
from tests.support.services import free_port
from tests.support.streams import stream_entries
from web.simulator.server import Simulator
from web.simulator.traffic import Plan, run_traffic
from worker.store import schema

pytestmark = [pytest.mark.flow, pytest.mark.postgres, pytest.mark.redis]

PREVIOUS = "0.1.0"
STREAM = "tests:deploy"
SINK: Mapping[str, str] = {
    "VERISINK_SINKS__ALL__TYPE": "redis_stream",
    "VERISINK_SINKS__ALL__STREAM": STREAM,
}
RATE = 12.0
"""Webhooks a second while the deploy goes on: more than one of them is at every step of each process at any time."""

TROUBLE = re.compile(r"Traceback|\b(?:Programming|Integrity|Operational|Data|Internal|NotSupported)Error\b")


@pytest.fixture
def previous(tmp_path: Path) -> Release:
    return Release(PREVIOUS, tmp_path)


def head_of(release: Release) -> str | None:
    return ScriptDirectory(str(release.folder / "migrations")).get_current_head()


def traffic(running: Flow, count: int | None, seed: int, stop: threading.Event | None = None) -> None:
    plan = Plan(count, rate=RATE, duplicate=0.1, reorder=0.2, seed=seed)
    run_traffic(running.simulator.world, running.notifier, plan, stop=stop)
    assert running.notifier.drain()


def acknowledged(running: Flow, count: int) -> None:
    eventually(lambda: len(running.notifier.acknowledged()) >= count, f"{count} are acknowledged")


def started(web: Child, worker: Child, url: str) -> None:
    web.ready(lambda: answers(url + "/readyz"))
    worker.ready(worker.children)


def ended(*children: Child) -> None:
    for child in children:
        child.process.terminate()
    assert [child.wait() for child in children] == [0] * len(children)


def assert_no_trouble(children: Sequence[Child]) -> None:
    for child in children:
        for line in child.log.splitlines():
            assert TROUBLE.search(line) is None, f"{child.name}: {line}"
            assert '"level": "error"' not in line, f"{child.name}: {line}"


def assert_delivered(running: Flow, redis_url: str) -> None:
    """Each event is in the stream, in order; what a process that ended had not noted may be there again."""
    wanted = [str(row["id"]) for row in running.rows("SELECT id FROM v1_events ORDER BY sequence")]

    def delivered() -> list[str]:
        return list(dict.fromkeys(entry["id"] for entry in stream_entries(redis_url, STREAM)))

    eventually(lambda: len(delivered()) == len(wanted), "every event is delivered")
    assert delivered() == wanted


# Seven starts of processes, one after the other, and their ends: a busy machine needs more than a test's usual time.
@pytest.mark.timeout(300)
def test_nothing_is_lost_while_a_new_release_is_deployed(
    postgres_url: str, redis_url: str, install: Install, simulator: Simulator, previous: Release
):
    installation = install(database_url=postgres_url, broker_url=redis_url)
    first = previous.start(installation, "migrate", "--json")
    assert first.wait() == 0
    # Else today's code, which is installed in this Python as well, would have run.
    assert json.loads(first.output)["after"] == head_of(previous)
    old = [previous.start(installation, command, **SINK) for command in ("web", "worker")]
    started(old[0], old[1], installation.url)
    port = free_port()
    new_url, stop = f"http://127.0.0.1:{port}", threading.Event()
    with (
        flow(simulator, installation, installation.url) as to_old,
        flow(simulator, installation, new_url) as to_new,
        ThreadPoolExecutor(1) as pool,
    ):
        sending = pool.submit(traffic, to_old, None, 5, stop)
        try:
            acknowledged(to_old, 20)

            migration = installation.run("migrate", "--json")

            assert migration.process.returncode == 0, migration.log
            assert json.loads(migration.output)["after"] == schema.head()
            acknowledged(to_old, len(to_old.notifier.acknowledged()) + 10)
            assert answers(installation.url + "/readyz"), "old receivers stay in the balancer"

            new = [installation.start(command, VERISINK_PORT=str(port), **SINK) for command in ("web", "worker")]
            started(new[0], new[1], new_url)
            traffic(to_new, 20, 6)
        finally:
            stop.set()
        sending.result()
        ended(old[1], old[0])
        traffic(to_new, 15, 7)
        for running in (to_old, to_new):
            assert_nothing_lost(running)
        assert_delivered(to_new, redis_url)
    ended(new[1], new[0])
    assert_no_trouble([*old, *new])


def test_old_processes_that_are_started_after_the_migration_refuse(
    postgres_url: str, redis_url: str, install: Install, previous: Release
):
    if schema.head() == head_of(previous):
        pytest.skip(f"no migration since {PREVIOUS}")
    installation = install(database_url=postgres_url, broker_url=redis_url)
    assert installation.run("migrate").process.returncode == 0
    for command, event in (("web", "receiver_cannot_start"), ("worker", "worker_cannot_start")):
        child = previous.start(installation, command)
        [refusal, *_] = child.ready(partial(child.logged, event), "refuses")
        assert f"at {schema.head()}, which this release does not know: deploy a newer" in str(refusal["reason"])
        child.process.terminate()
        child.wait()
