"""Fixtures that every test may use: real servers, started when first asked for, and guards that no test can forget."""

import os
from collections.abc import Generator, Iterator

import pytest
import structlog

from tests.support.rabbit import RabbitServer, rabbit_connection
from tests.support.services import Postgres, PostgresServer, RedisServer, ServiceUnavailable, redis_client
from worker.celery_app import QUEUE

# Read when this file is imported, because the guard below hides them from the tests.
OWN_POSTGRES_URL = os.environ.get("VERISINK_TEST_POSTGRES_URL", "")
OWN_REDIS_URL = os.environ.get("VERISINK_TEST_REDIS_URL", "")
OWN_AMQP_URL = os.environ.get("VERISINK_TEST_AMQP_URL", "")
SERVICES_REQUIRED = os.environ.get("VERISINK_REQUIRE_SERVICES", "") == "1"


def unavailable(reason: object) -> None:
    """Skips the test that wanted the service, or fails it where no service is excused."""
    if SERVICES_REQUIRED:
        pytest.fail(f"VERISINK_REQUIRE_SERVICES=1, but {reason}", pytrace=False)
    pytest.skip(str(reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """A fixture that starts a server of its own is excused like one that borrows the session's."""
    try:
        return (yield)
    except ServiceUnavailable as reason:
        unavailable(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """So is a test that does."""
    try:
        return (yield)
    except ServiceUnavailable as reason:
        unavailable(reason)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A test that runs a command of ours in this process sets up logging, and the next test knows nothing of that."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's settings do not reach the tests, nor the processes that tests start."""
    for name in list(os.environ):
        if name.startswith("VERISINK_") or name == "PORT":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL for the session: the one named in VERISINK_TEST_POSTGRES_URL, or one of our own."""
    if OWN_POSTGRES_URL:
        server = Postgres(OWN_POSTGRES_URL)
        yield server
        server.drop_templates()
        return
    try:
        own = PostgresServer()
        own.start()
    except ServiceUnavailable as reason:
        unavailable(reason)
        raise
    yield own
    own.remove()


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database, dropped afterwards."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """One Redis for the session: the one named in VERISINK_TEST_REDIS_URL, or one of our own."""
    if OWN_REDIS_URL:
        yield OWN_REDIS_URL
        return
    try:
        server = RedisServer()
        server.start()
    except ServiceUnavailable as reason:
        unavailable(reason)
        raise
    yield server.url
    server.remove()


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """The URL of an empty Redis database."""
    with redis_client(redis_server_url) as client:
        client.flushdb()
    return redis_server_url


@pytest.fixture(scope="session")
def rabbit_server_url() -> Iterator[str]:
    """One RabbitMQ for the session: the one named in VERISINK_TEST_AMQP_URL, or one of our own."""
    if OWN_AMQP_URL:
        yield OWN_AMQP_URL
        return
    try:
        server = RabbitServer()
        server.start()
    except ServiceUnavailable as reason:
        unavailable(reason)
        raise
    yield server.url
    server.remove()


@pytest.fixture
def rabbit_url(rabbit_server_url: str) -> str:
    """The URL of a RabbitMQ without our queue."""
    with rabbit_connection(rabbit_server_url) as connection:
        connection.channel().queue_delete(QUEUE)
    return rabbit_server_url
