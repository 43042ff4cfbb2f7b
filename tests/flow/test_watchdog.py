"""A worker that is alive and hears no nudge ends itself when work is overdue, and its supervisor starts it again."""

import sys
from functools import partial

import pytest

from tests.flow.conftest import Install
from tests.support.evidence import OPEN_WORK, assert_nothing_lost, flow
from tests.support.processes import Child, Installation, eventually
from tests.support.services import redis_client
from web.simulator.server import Simulator
from worker.celery_app import QUEUE
from worker.watchdog import ENDED_BY_WATCHDOG

pytestmark = [pytest.mark.flow, pytest.mark.postgres, pytest.mark.redis]

SUPERVISE = """
import sys
from worker.supervisor import Supervisor
from worker import log
log.configure("info", "json")
Supervisor({"worker-1": [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "threads", *sys.argv[1:]]},
           grace_seconds=10).run()
"""
"""A worker as anybody may run it, below the supervisor of `verisink worker`."""


def supervised(installation: Installation, *options: str) -> Child:
    """A Celery worker with these options, once it runs."""
    child = installation.start_program("supervised", [sys.executable, "-c", SUPERVISE, *options])
    child.ready(partial(child.logged, "child_started"))
    return child


def restarted(child: Child) -> bool:
    return bool(child.logged("child_died", code=ENDED_BY_WATCHDOG) and child.logged("child_started", starts=2))


def test_a_worker_that_hears_nothing_is_started_again(
    postgres_url: str, redis_url: str, install: Install, simulator: Simulator
):
    installation = install(
        database_url=postgres_url, broker_url=redis_url, watchdog_seconds=1, lease_seconds=4, call_deadline_seconds=1.0
    )
    assert installation.run("migrate").process.returncode == 0
    deaf, web = supervised(installation, "-Q", "elsewhere"), installation.web()
    with flow(simulator, installation, web.url) as running:
        world = simulator.world
        told = [world.change(world.create("yoti", "session").ref, "approve") for _ in range(3)]
        assert [running.tell(record).status for record in told] == [200, 200, 200]

        eventually(lambda: restarted(deaf), "the worker is started again", 30)

        reasons = [entry["reason"] for entry in deaf.logged("process_ended_by_watchdog")]
        assert reasons == ["it takes no work, and work is overdue"]
        assert running.rows(OPEN_WORK), "nobody has worked on it yet"
        with redis_client(redis_url) as client:
            assert client.llen(QUEUE) > 0
        hearing = supervised(installation)
        assert_nothing_lost(running)
        assert not hearing.logged("process_ended_by_watchdog")
    assert [deaf.stop(), hearing.stop(), web.stop()] == [0, 0, 0]
