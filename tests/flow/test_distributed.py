"""Receivers and workers as separate processes on PostgreSQL and Redis, as the Procfile runs them, and their deaths."""

import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import psutil
import pytest

from tests.conftest import unavailable
from tests.flow.conftest import NO_LIMIT, Install
from tests.store import databases
from tests.support.evidence import Flow, assert_nothing_lost, flow
from tests.support.processes import Child, Installation, answers, eventually
from tests.support.services import Postgres, RedisServer, ServiceUnavailable
from web.simulator.credentials import Credentials, Setting
from web.simulator.faults import Faults
from web.simulator.records import Ref
from web.simulator.server import Simulator
from web.simulator.traffic import Plan, run_traffic

pytestmark = [pytest.mark.flow, pytest.mark.postgres, pytest.mark.redis]

SOON = 2.0
"""Seconds from the acknowledgement of a notification to the stored result, with everything in order."""

PAGES = [
    ("persona", "verification/selfie", "approve", "approved"),
    ("persona", "inquiry", "decline", "rejected"),
    ("verifik", "biometric-validation", "approve", "approved"),
    ("gu1", "kyc-validation", "decline", "rejected"),
    ("yoti", "session", "approve", "approved"),
]
PROCESSES: Mapping[str, Setting] = {"web_processes": 2, "worker_processes": 2}


class Town:
    """Two receivers and two workers below their supervisors, and what they stand on."""

    def __init__(self, running: Flow, web: Child, worker: Child, redis: RedisServer) -> None:
        self.running, self.web, self.worker, self.redis = running, web, worker, redis


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis of this module's own, because it is stopped."""
    try:
        server = RedisServer()
    except ServiceUnavailable as reason:
        unavailable(reason)
        raise
    with server:
        yield server


@pytest.fixture(scope="module")
def town(
    credentials: Credentials,
    postgres_server: Postgres,
    redis: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Town]:
    url = postgres_server.create_database()
    folder = tmp_path_factory.mktemp("town")
    with ExitStack() as stack:
        stack.callback(postgres_server.drop_database, url)
        simulator = stack.enter_context(Simulator(credentials, seed=8))
        simulator.faults.set("persona", Faults(rate_limit_per_minute=NO_LIMIT))
        settings = {"database_url": url, "broker_url": redis.url, **PROCESSES}
        installation = stack.enter_context(Installation(folder, credentials, simulator.url, settings))
        stack.callback(installation.show)
        assert installation.run("migrate").process.returncode == 0
        worker, web = installation.start("worker"), installation.web()
        worker.ready(lambda: len(worker.children()) == 2)
        running = stack.enter_context(flow(simulator, installation, web.url))
        yield Town(running, web, worker, redis)
        for child in (web, worker):
            child.process.send_signal(signal.SIGTERM)
        assert [web.wait(), worker.wait()] == [0, 0]
        assert installation.survivors() == []


@pytest.fixture
def migrated_url(postgres_server: Postgres) -> Iterator[str]:
    """A migrated database, dropped when whoever was connected to it is gone."""
    url = postgres_server.create_database(postgres_server.template("migrated", databases.migrate))
    yield url
    postgres_server.drop_database(url)


@contextmanager
def shown(town: Town) -> Iterator[Flow]:
    """The logs of this test, should it fail."""
    try:
        yield town.running
    finally:
        town.running.installation.show()


def notify(running: Flow, provider: str, kind: str, action: str) -> Ref:
    world = running.simulator.world
    ref = world.create(provider, kind).ref
    receipt = running.tell(world.change(ref, action))  # type: ignore[arg-type]
    assert receipt.status == 200, receipt.answer
    return ref


@pytest.mark.parametrize(("provider", "kind", "action", "outcome"), PAGES)
def test_a_notification_becomes_a_result_soon(town, provider, kind, action, outcome):
    with shown(town) as running:
        ref = notify(running, provider, kind, action)

        found = running.result(ref, SOON, stage="decided", outcome=outcome)

        [row] = running.rows(f"SELECT stage, outcome FROM v1_results WHERE external_id = '{ref.external_id}'")  # noqa: S608
        assert (row["stage"], row["outcome"]) == (found["stage"], outcome)


def test_what_is_discovered_and_asked_for_arrives(town):
    with shown(town) as running:
        world = running.simulator.world
        liveness = world.change(world.create("verifik", "document-liveness", shape="nested").ref, "approve").ref
        paper = world.create("verifik", "document-validation", liveness=liveness.external_id).ref
        face = world.change(world.create("gu1", "face-match").ref, "approve").ref
        assert running.tell(world.change(paper, "approve")).status == 200
        asked = {"source": "gu1", "kind": "face-match", "external_id": face.external_id}
        assert running.api.post("/api/v1/retrievals", json=asked).status_code == 202

        for ref in (paper, liveness, face):
            running.result(ref, stage="decided", outcome="approved")


def test_a_killed_receiver_and_a_killed_worker_are_replaced_and_lose_nothing(town):
    with shown(town) as running:
        receivers, workers = set(town.web.children()), set(town.worker.children())
        assert (len(receivers), len(workers)) == (2, 2)

        def kill_on_the_way(_notice: object) -> None:
            if len(running.notifier.acknowledged()) >= 40 and receivers and workers:
                for pids in (receivers, workers):
                    psutil.Process(pids.pop()).kill()
                    pids.clear()

        before = set(town.web.children()) | set(town.worker.children())
        plan = Plan(120, rate=60, duplicate=0.1, reorder=0.2, seed=9)
        run_traffic(running.simulator.world, running.notifier, plan, on_sent=kill_on_the_way)
        for supervisor in (town.web, town.worker):
            eventually(partial(has_children, supervisor, 2), "respawned")
        after = set(town.web.children()) | set(town.worker.children())
        assert len(before - after) == 2
        assert town.web.logged("child_died", code=-9)
        assert town.worker.logged("child_died", code=-9)
        assert_nothing_lost(running)


def has_children(supervisor: Child, count: int) -> bool:
    return len(supervisor.children()) == count


@pytest.mark.parametrize(("away", "back"), [("stop", "start"), ("pause", "resume")])
def test_without_redis_webhooks_are_acknowledged_fast_and_results_arrive(town, away, back):
    """A hung Redis is worse than one that is gone: whoever asks it waits."""
    with shown(town) as running:
        getattr(town.redis, away)()
        try:
            refs = [notify(running, *page[:3]) for page in PAGES]
            slowest = max(receipt.seconds for receipt in running.notifier.receipts()[-len(refs) :])
            assert slowest < 1
            for ref in refs:
                running.result(ref, 25, stage="decided")
            # The answer about a broker is believed for some seconds, so this is asked in one of the cases only.
            assert away == "pause" or eventually(lambda: running.api.get("/readyz").status_code == 503, "not ready")
        finally:
            getattr(town.redis, back)()
        running.result(notify(running, *PAGES[0][:3]), 25, stage="decided")
        assert_nothing_lost(running)


def test_celery_by_itself_works_and_stops(
    migrated_url: str, install: Install, simulator: Simulator, redis: RedisServer
):
    installation = install(database_url=migrated_url, broker_url=redis.url.removesuffix("0") + "1")
    command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "threads"]
    celery, web = installation.start_program("celery", command), installation.web()
    with flow(simulator, installation, web.url) as running:
        for ref, outcome in [(notify(running, *page[:3]), page[3]) for page in PAGES]:
            running.result(ref, stage="decided", outcome=outcome)
        assert_nothing_lost(running)
    for child in (celery, web):
        child.process.send_signal(signal.SIGTERM)
    assert [celery.wait(), web.wait()] == [0, 0]


def test_processes_wait_for_the_migration_and_end_with_their_supervisor(
    postgres_url: str, install: Install, simulator: Simulator, redis: RedisServer
):
    installation = install(database_url=postgres_url, broker_url=redis.url.removesuffix("0") + "2")
    worker, web = installation.start("worker"), installation.start("web")
    for child, event in ((worker, "worker_cannot_start"), (web, "receiver_cannot_start")):
        [refusal, *_] = child.ready(partial(child.logged, event), "refuses")
        assert "run `verisink migrate`" in str(refusal["reason"])

    migration = installation.run("migrate", "--json")

    assert migration.process.returncode == 0, migration.log
    web.ready(lambda: answers(installation.url + "/readyz"))
    with flow(simulator, installation, installation.url) as running:
        running.result(notify(running, *PAGES[0][:3]), stage="decided")
    assert "Traceback" not in web.log + worker.log

    # The child of this one is so young that its supervisor is gone before it has looked who that is.
    young = installation.worker()
    for child in (young, web, worker):
        child.kill()

    eventually(lambda: not installation.survivors(), "all processes have ended")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", installation.port), timeout=5)
