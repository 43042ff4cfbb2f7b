"""Both brokers, as separate processes use them: alive, dead, frozen, and back. They carry nudges, and nothing else."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.conftest import unavailable
from tests.flow.conftest import NO_LIMIT
from tests.store import databases
from tests.support.evidence import Flow, assert_nothing_lost, flow
from tests.support.processes import START_SECONDS, Child, Installation, eventually
from tests.support.rabbit import CONNECTION_ERRORS, RabbitServer, queue_counts
from tests.support.services import Postgres, RedisServer, ServiceUnavailable, redis_client
from web.simulator.credentials import Credentials, Setting
from web.simulator.faults import Faults
from web.simulator.notifier import Receipt
from web.simulator.records import Ref
from web.simulator.server import Simulator
from web.simulator.traffic import Plan, run_traffic
from worker.celery_app import QUEUE

pytestmark = [pytest.mark.flow, pytest.mark.postgres]

WORKERS = 2
SOON = 5.0
"""Seconds from the acknowledgement of a notification to the stored result, with everything in order; for a busy
machine."""

BACK_SECONDS = 10.0
"""From a broker that answers again to workers that hear it."""

ACKNOWLEDGED_SECONDS = 1.0
"""The slowest of a hundred, on a busy machine. A publisher in the request would wait as long for a frozen broker."""

Broker = RedisServer | RabbitServer

BROKERS = {"redis": RedisServer, "rabbitmq": RabbitServer}
EACH_BROKER = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in BROKERS]


class Town:
    """A receiver, two workers, and the broker between them."""

    def __init__(self, running: Flow, worker: Child, broker: Broker) -> None:
        self.running, self.worker, self.broker = running, worker, broker


@pytest.fixture(scope="module", params=EACH_BROKER)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker of this module's own, because it is stopped."""
    try:
        server: Broker = BROKERS[request.param]()
    except ServiceUnavailable as reason:
        unavailable(reason)
        raise
    with server:
        yield server


@pytest.fixture(scope="module")
def town(
    credentials: Credentials, postgres_server: Postgres, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    url = postgres_server.create_database(postgres_server.template("migrated", databases.migrate))
    folder = tmp_path_factory.mktemp("town")
    with ExitStack() as stack:
        stack.callback(postgres_server.drop_database, url)
        simulator = stack.enter_context(Simulator(credentials, seed=8))
        simulator.faults.set("persona", Faults(rate_limit_per_minute=NO_LIMIT))
        settings: dict[str, Setting] = {"database_url": url, "broker_url": broker.url, "worker_processes": WORKERS}
        installation = stack.enter_context(Installation(folder, credentials, simulator.url, settings))
        stack.callback(installation.show)
        worker, web = installation.worker(WORKERS), installation.web()
        running = stack.enter_context(flow(simulator, installation, web.url))
        made = Town(running, worker, broker)
        yield made
        assert [made.worker.stop(), web.stop()] == [0, 0]
        assert installation.survivors() == []


def listeners(broker: Broker) -> int:
    """How many worker processes wait for nudges, as the broker sees it."""
    if isinstance(broker, RedisServer):
        with redis_client(broker.url) as client:
            return sum(1 for connection in client.client_list() if connection["cmd"] == "brpop")
    try:
        return queue_counts(broker.url, QUEUE)[1]
    except CONNECTION_ERRORS:
        # The server answers some moments before the queue does.
        return 0


def notify(running: Flow) -> Ref:
    world = running.simulator.world
    ref = world.create("yoti", "session").ref
    receipt = running.tell(world.change(ref, "approve"))
    assert receipt.status == 200, receipt.answer
    return ref


def send(running: Flow, count: int) -> list[Receipt]:
    """Notifications of all providers, and how each was answered."""
    before = len(running.notifier.receipts())
    run_traffic(running.simulator.world, running.notifier, Plan(count, rate=50, seed=count))
    return running.notifier.receipts()[before:]


@contextmanager
def shown(installation: Installation) -> Iterator[None]:
    """The logs of this test, should it fail."""
    try:
        yield
    finally:
        installation.show()


def all_hear(broker: Broker, count: int) -> None:
    eventually(lambda: listeners(broker) == count, f"{count} workers hear the broker", BACK_SECONDS)


def test_webhooks_become_results(town):
    with shown(town.running.installation):
        all_hear(town.broker, WORKERS)

        town.running.result(notify(town.running), SOON, stage="decided", outcome="approved")
        receipts = send(town.running, 60)

        assert {receipt.status for receipt in receipts} == {200}
        assert_nothing_lost(town.running)


@pytest.mark.parametrize(("away", "back"), [("kill", "start"), ("pause", "resume")])
def test_a_broker_that_goes_while_work_is_in_flight_delays_no_answer_and_is_heard_when_it_is_back(town, away, back):
    running, broker = town.running, town.broker
    with shown(running.installation):
        all_hear(broker, WORKERS)
        slow = Faults(latency=0.5, rate_limit_per_minute=NO_LIMIT)
        for provider in ("persona", "yoti", "gu1", "verifik"):
            running.simulator.faults.set(provider, slow)
        before = send(running, 10)
        getattr(broker, away)()
        try:
            during = send(running, 100)
            assert {receipt.status for receipt in before + during} == {200}
            assert sorted(receipt.seconds for receipt in during)[-2] < ACKNOWLEDGED_SECONDS
            assert_nothing_lost(running)
        finally:
            running.simulator.faults.clear()
            getattr(broker, back)()

        all_hear(broker, WORKERS)

        assert len(town.worker.children()) == WORKERS
        running.result(notify(running), SOON, stage="decided")


def test_workers_start_without_their_broker(town):
    running, broker = town.running, town.broker
    with shown(running.installation):
        assert town.worker.stop() == 0
        broker.stop()
        try:
            town.worker = running.installation.worker(WORKERS)
            eventually(lambda: len(town.worker.logged("broker_away")) == WORKERS, "both miss the broker", START_SECONDS)
            running.result(notify(running), stage="decided")
        finally:
            broker.start()

        all_hear(broker, WORKERS)

        running.result(notify(running), SOON, stage="decided")
        assert len(town.worker.logged("child_started")) == WORKERS
