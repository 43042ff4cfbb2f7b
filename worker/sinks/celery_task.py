"""The Celery sink: each event is a task on somebody else's broker, with the CloudEvent as its only argument.

The task's id is the event's, so that whoever runs it can tell a repeat. Nothing is declared on the broker, because its
queues are its owner's, and a queue that is declared differently is refused. No result is asked for.
"""

from collections.abc import Sequence
from contextlib import suppress

from celery import Celery
from kombu import Connection, Producer, Queue

from worker.settings import SinkSettings, masked_url
from worker.sinks.base import CannotDeliver, CloudEvent

ANSWER_SECONDS = 3.0
"""How long a broker may be silent. Brokers confirm within milliseconds; what was not confirmed is sent again."""

DEFAULT_QUEUE = "celery"
"""Where Celery's own workers look when they are not told anything else."""

NO_ROUTE = 312
"""AMQP's word for a message that no queue takes."""

NOT_FOUND = 404
"""And for a queue that is not there."""

_NO_RETRY = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class QueueMissing(Exception):
    """The broker has no such queue. A worker that serves it makes it when it starts."""


class BrokerAway(Exception):
    """The broker did not confirm. The text names what its client raised, whose own text names the host."""


class CeleryTaskSink:
    """Sends one task for each event, over one connection that it keeps."""

    at_once = 1
    call_seconds = 5 * ANSWER_SECONDS
    """Opening a connection takes several answers, and a broker may freeze before any of them."""

    def __init__(self, name: str, settings: SinkSettings) -> None:
        if settings.broker_url is None or settings.task is None:
            raise ValueError("a Celery sink needs the URL of a broker and the name of a task")
        self.name = name
        self._task = settings.task
        self._url = settings.broker_url.get_secret_value()
        self._queue = Queue(settings.queue or DEFAULT_QUEUE)
        # Not the current application of the process, which is the one that carries our own nudges.
        self._app = Celery(f"verisink-sink-{name}", set_as_current=False)
        self._app.conf.update(
            task_ignore_result=True, task_serializer="json", broker_transport_options=_transport_options(self._url)
        )
        self._producer: Producer | None = None
        self._connection: Connection | None = None

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Send a task for each event, and wait for the broker to confirm it. Raises QueueMissing and
        BrokerAway."""
        try:
            producer = self._connect()
            for event in events:
                self._send(producer, event)
        except Exception as error:  # noqa: BLE001 - every broker's client has errors of its own
            # What was not answered in time could be taken for the answer to the next task.
            self._disconnect()
            if getattr(error, "reply_code", None) == NO_ROUTE:
                raise QueueMissing(f"the broker has no queue {self._queue.name}") from None
            raise BrokerAway(type(error).__name__) from None

    def check(self) -> str:
        """Whether the broker answers and, where it can tell, has the queue. Raises CannotDeliver."""
        place = masked_url(self._url)
        try:
            channel = self._connect().channel
            if channel is not None and _is_rabbitmq(self._url):
                self._queue.bind(channel).queue_declare(passive=True)
        except Exception as error:  # noqa: BLE001 - every broker's client has errors of its own
            if getattr(error, "reply_code", None) == NOT_FOUND:
                why = f"{place} has no queue {self._queue.name}; its events wait in the database"
                raise CannotDeliver(why, "start the worker that serves it, or name another queue") from None
            why = f"{place} does not answer ({type(error).__name__}); its events wait in the database"
            todo = "check the sink's broker_url, and that its server runs"
            raise CannotDeliver(why, todo, fails=False) from None
        finally:
            self._disconnect()
        return f"{place} answers"

    def close(self) -> None:
        """Close the connection."""
        self._disconnect()

    def _connect(self) -> Producer:
        if self._producer is None:
            # By its URL: without one, Celery would prefer CELERY_BROKER_URL of the environment to any setting.
            self._connection = self._app.connection_for_write(
                self._url, connect_timeout=ANSWER_SECONDS, heartbeat=0, transport_options=_transport_options(self._url)
            )
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        return self._producer

    def _send(self, producer: Producer, event: CloudEvent) -> None:
        number = str(event["id"])
        message = self._app.amqp.as_task_v2(
            number, self._task, args=(dict(event),), argsrepr=number, ignore_result=True
        )
        self._app.amqp.send_task_message(
            producer,
            self._task,
            message,
            queue=self._queue,
            declare=[],
            mandatory=True,
            retry=False,
            timeout=ANSWER_SECONDS,
            confirm_timeout=ANSWER_SECONDS,
        )

    def _disconnect(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            # Without a word to the broker, which may not answer.
            with suppress(Exception):
                connection.collect()


def _transport_options(url: str) -> dict[str, object]:
    if _is_rabbitmq(url):
        # Without confirms, a broker in trouble drops what it was sent without a word.
        timeouts = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), ANSWER_SECONDS)
        return {"confirm_publish": True, **timeouts, **_NO_RETRY}
    return {"socket_connect_timeout": ANSWER_SECONDS, "socket_timeout": ANSWER_SECONDS, **_NO_RETRY}


def _is_rabbitmq(url: str) -> bool:
    return url.startswith("amqp")
