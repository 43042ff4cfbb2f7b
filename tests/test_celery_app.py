"""What Celery is told, and how nudges behave on real brokers: bounded in number, and never waited for."""

import time

import pytest
import redis
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from tests.support.processes import eventually
from tests.support.rabbit import RabbitServer, queue_counts, rabbit_connection
from tests.support.services import RedisServer, redis_client
from worker import celery_app
from worker.celery_app import MOST_WAITING, QUEUE, broker_trouble, make_app, ring
from worker.settings import Settings

BOUNDED_SECONDS = 5.0
"""A publisher waits for a second, in each of the few steps of a connection; a busy machine needs room."""


def publisher(url: str):
    return make_app(Settings(broker_url=SecretStr(url)), "publisher")


def seconds_of(call, *arguments) -> float:
    """How long a call took that failed."""
    begun = time.monotonic()
    with pytest.raises((OperationalError, redis.TimeoutError)):
        call(*arguments)
    return time.monotonic() - begun


@pytest.mark.redis
def test_nudges_that_nobody_takes_do_not_fill_redis(redis_url, monkeypatch):
    monkeypatch.setattr(celery_app, "MOST_WAITING", 5)
    monkeypatch.setattr(celery_app, "LOOK_SECONDS", 0.2)
    app = publisher(redis_url)

    with redis_client(redis_url) as client:
        for _ in range(20):
            ring(app, "persona")
        # Whoever looks now and then sees that it is enough somewhat later.
        eventually(lambda: not added(client, app), "no nudge is added")
        assert 5 <= client.llen(QUEUE) <= 40


def added(client, app) -> bool:
    before = client.llen(QUEUE)
    ring(app, "persona")
    return client.llen(QUEUE) > before


@pytest.mark.rabbitmq
def test_nudges_that_nobody_takes_do_not_fill_rabbitmq(rabbit_url):
    app = publisher(rabbit_url)

    for _ in range(MOST_WAITING + 20):
        ring(app, "persona")

    assert queue_counts(rabbit_url, QUEUE) == (MOST_WAITING, 0)
    with rabbit_connection(rabbit_url) as connection:
        nudge = connection.channel().basic_get(QUEUE, no_ack=True)
        assert nudge is not None
        assert nudge.headers is not None
        assert nudge.headers["expires"] is None, "a worker would judge it by its own clock"


@pytest.mark.parametrize(
    "server",
    [pytest.param(RedisServer, marks=pytest.mark.redis), pytest.param(RabbitServer, marks=pytest.mark.rabbitmq)],
)
def test_a_frozen_broker_is_not_waited_for_and_is_used_again_when_it_goes_on(server):
    with server() as broker:
        app = publisher(broker.url)
        ring(app, "persona")
        assert broker_trouble(app) == ""

        broker.pause()

        # The first has a connection already, the next one has to make one.
        waited = [seconds_of(ring, app, "persona") for _ in range(2)]
        begun = time.monotonic()
        assert "is not available" in broker_trouble(app)
        assert max(*waited, time.monotonic() - begun) < BOUNDED_SECONDS
        broker.resume()
        ring(app, "persona")
        assert broker_trouble(app) == ""


def test_a_broker_that_refuses_is_not_waited_for():
    for scheme in ("redis", "amqp"):
        app = publisher(f"{scheme}://127.0.0.1:1/0")

        assert seconds_of(ring, app, "persona") < BOUNDED_SECONDS
        assert "is not available" in broker_trouble(app)


def test_a_process_that_only_publishes_has_no_heartbeat_to_miss():
    settings = Settings(broker_url=SecretStr("amqp://broker"))

    assert make_app(settings, "publisher").conf.broker_heartbeat == 0
    assert make_app(settings, "worker").conf.broker_heartbeat > 0


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"])
def test_another_program_s_celery_settings_take_no_nudge_away(monkeypatch, name):
    monkeypatch.setenv(name, "redis://elsewhere:1/0")

    app = publisher("amqp://here//")

    assert [app.connection_for_write().hostname, app.connection_for_read().hostname] == ["here", "here"]
