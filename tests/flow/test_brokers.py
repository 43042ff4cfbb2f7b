"""Both brokers, as separate processes use them: alive, dead, frozen, and back. They carry nudges, and nothing else."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest
from pydantic import SecretStr

from tests.conftest import unavailable
from tests.flow.conftest import NO_LIMIT
from tests.store import databases
from tests.support.evidence import Flow, assert_nothing_lost, flow
from tests.support.processes import START_SECONDS, Child, Installation, eventually
from tests.support.rabbit import CONNECTION_ERRORS, RabbitServer, queue_counts, rabbit_connection
from tests.support.services import Postgres, RedisServer, ServiceUnavailable, redis_client
from web.simulator.credentials import Credentials, Setting
from web.simulator.faults import Faults
from web.simulator.notifier import Receipt
from web.simulator.records import Ref
from web.simulator.server import Simulator
from web.simulator.traffic import Plan, run_traffic
from worker.celery_app import QUEUE, make_app
from worker.settings import Settings

pytestmark = [pytest.mark.flow, pytest.mark.postgres]

WORKERS = 2
SOON = 5.0
"""Seconds from the acknowledgement of a notification to the stored result, with everything in order; for a busy
machine."""

WITHOUT_LEADER_SECONDS = 2.0
"""For which a queue lets a consumer wait, to call it one without a leader."""

BACK_SECONDS = 10.0
"""From a broker that answers again to workers that hear it."""

SETTLED_SECONDS = 3.0
"""RabbitMQ 3.10 leaves a quorum queue without a leader for a minute when it is killed within a second of the queue's
declaration. No test but the last is about that."""

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


@pytest.fixture
def rabbit() -> Iterator[RabbitServer]:
    """A RabbitMQ of one test's own."""
    try:
        server = RabbitServer()
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
        all_hear(broker, WORKERS)
        if isinstance(broker, RabbitServer):
            time.sleep(SETTLED_SECONDS)
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


def connected(worker: Child, port: int) -> bool:
    """Whether a process below this one has a connection to this port."""
    lines = [line for child in worker.children().values() for line in child.net_connections("tcp")]
    return any(line.status == psutil.CONN_ESTABLISHED and line.raddr.port == port for line in lines)


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


@pytest.mark.rabbitmq
def test_a_worker_that_waits_for_a_queue_without_a_leader_ends_when_it_is_told_to(credentials, rabbit, tmp_path):
    app = make_app(Settings(broker_url=SecretStr(rabbit.url)), "worker")
    with app.connection_for_write() as connection:
        app.amqp.queues[QUEUE].bind(connection.channel()).declare()
        rabbit.kill()
    rabbit.start()

    with Installation(tmp_path, credentials, "http://127.0.0.1:9", {"broker_url": rabbit.url}) as installation:
        assert installation.run("migrate").process.returncode == 0
        worker = installation.worker()
        eventually(lambda: connected(worker, rabbit.port), "it is connected")
        with pytest.raises(CONNECTION_ERRORS), rabbit_connection(rabbit.url, WITHOUT_LEADER_SECONDS) as connection:
            connection.channel().basic_consume(QUEUE)

        assert worker.stop() == 0
        assert worker.logged("child_killed") == []
