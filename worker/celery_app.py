"""The Celery application: queues, serializer and transport options, by role.

Celery carries nudges only. Results, retries, ETAs, beat and remote control are off: waits live in the database, and a
lost or repeated message changes nothing but latency.
"""

from contextlib import AbstractContextManager
from math import inf
from typing import Any, Literal, Protocol, cast
from weakref import WeakKeyDictionary

from celery import Celery
from kombu import Connection, Exchange, Queue

from worker import lean
from worker.clock import monotonic
from worker.settings import Settings

DRAIN_TASK = "verisink.drain.v1"
"""Named with a version, because messages outlive a deploy."""

QUEUE = "verisink"

MOST_WAITING = 1000
"""Nudges kept by a broker while nobody takes them. They all say the same few things, and the sweep says them again."""

LOOK_SECONDS = 0.5
"""Between two looks how many wait. Each takes half as long as the nudge itself."""

MEMORY_BROKER = "memory://localhost/"
MEMORY_TRANSPORT = "worker.memory_broker:Transport"
"""By its name, so that a process with a broker loads nothing of it."""

HEARTBEAT_SECONDS = 10
"""How often RabbitMQ and a worker tell each other that they are there. A publisher has nobody who would do so between
two nudges, and RabbitMQ would cut its connection for it."""

PUBLISHER_SECONDS = 1
WORKER_SECONDS = 5
"""How long a broker may take to answer. Nobody waits for a publisher but other nudges; a worker may wait longer."""

Role = Literal["publisher", "worker"]

_NO_RETRY = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class Application(Celery):
    """Celery, which talks to the broker of our settings. Its own class believes `CELERY_BROKER_URL` first, which in a
    shared environment is another program's."""

    url = MEMORY_BROKER

    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:  # noqa: ANN401 - handed on
        return super().connection_for_read(url or self.url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:  # noqa: ANN401 - handed on
        return super().connection_for_write(url or self.url, **options)


def make_app(settings: Settings, role: Role) -> Application:
    """The application for a process that only publishes nudges, or for one that works."""
    url = settings.broker_url.get_secret_value() if settings.broker_url else MEMORY_BROKER
    if _is_redis(url):
        lean.load("redis")
    app = Application("verisink", broker=url, set_as_current=role == "worker")
    app.url = url
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=QUEUE,
        task_queues=[Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE, queue_arguments=_queue_arguments(url))],
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_publish_retry=True,
        task_publish_retry_policy=_NO_RETRY,
        worker_prefetch_multiplier=16 if url == MEMORY_BROKER else 4,
        worker_pool="threads",
        # By its name, so that a process that only publishes loads nothing of a worker.
        worker_consumer="worker.consumer:Consumer",
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_transport=MEMORY_TRANSPORT if url == MEMORY_BROKER else None,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=HEARTBEAT_SECONDS if role == "worker" else 0,
        broker_transport_options=_transport_options(url, role),
    )
    return app


def worker_threads(settings: Settings) -> int:
    """How many nudges a worker process handles at once: one pump a source, and room for the rings that find it busy."""
    return max(8, 2 * len(settings.sources))


def ring(app: Application, source: str) -> None:
    """Publish a nudge for `source`. Raises whatever the broker's client raises, within a few seconds."""
    with app.producer_pool.acquire(block=True) as producer:
        try:
            if _is_redis(app.url) and _is_full(app, cast(_RedisChannel, producer.channel)):
                return
            # Without a time to expire: workers judge that by their own clocks, and a wrong one would hear nothing.
            app.send_task(DRAIN_TASK, args=[source], producer=producer)
        except Exception:
            # What a broker had not answered in time could be taken for its answer to the next nudge.
            if producer.connection is not None:
                producer.connection.collect()
            raise


def broker_trouble(app: Celery) -> str:
    """One sentence if the broker cannot be reached within about a second, else an empty text."""
    try:
        with app.connection_for_write(connect_timeout=1) as connection:
            connection.ensure_connection(max_retries=0, timeout=1)
    except Exception as error:  # noqa: BLE001 - every broker's client has errors of its own
        return f"the broker is not available ({type(error).__name__}); work goes on by the sweep, more slowly"
    return ""


def _is_redis(url: str) -> bool:
    return url.startswith("redis")


def _is_rabbitmq(url: str) -> bool:
    return url.startswith("amqp")


class _RedisClient(Protocol):
    def llen(self, name: str) -> int: ...


class _RedisChannel(Protocol):
    """What of kombu's channel to Redis is used here."""

    def conn_or_acquire(self) -> AbstractContextManager[_RedisClient]: ...


_looks: "WeakKeyDictionary[Celery, float]" = WeakKeyDictionary()
"""When each application last saw that few enough nudges wait."""


def _is_full(app: Celery, channel: _RedisChannel) -> bool:
    """Whether enough nudges wait already. Redis has no limit for a list, so whoever adds to it looks now and then; what
    is added in between is some dozens."""
    if monotonic() < _looks.get(app, -inf) + LOOK_SECONDS:
        return False
    with channel.conn_or_acquire() as client:
        full = client.llen(QUEUE) >= MOST_WAITING
    if not full:
        _looks[app] = monotonic()
    return full


def _queue_arguments(url: str) -> dict[str, object] | None:
    """A queue on a majority of RabbitMQ's nodes. They cannot be changed afterwards without deleting the queue."""
    if not _is_rabbitmq(url):
        return None
    return {"x-queue-type": "quorum", "x-max-length": MOST_WAITING, "x-overflow": "drop-head"}


def _transport_options(url: str, role: Role) -> dict[str, object]:
    seconds = PUBLISHER_SECONDS if role == "publisher" else WORKER_SECONDS
    if url == MEMORY_BROKER:
        return {}
    if _is_rabbitmq(url):
        # Without confirms, a broker in trouble drops what it was sent without a word.
        options: dict[str, object] = {"confirm_publish": True}
        options |= dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), seconds)
    else:
        options = {
            # What a worker has taken and not done is not kept for another one: its death costs a nudge, and the sweep
            # says the same within a second. To keep it would take two more words with Redis for each.
            "ack_emulation": False,
            "health_check_interval": 10,
            "socket_keepalive": True,
            "socket_connect_timeout": 1,
            "socket_timeout": seconds,
        }
    return {**options, **_NO_RETRY} if role == "publisher" else options
