"""Celery's consumer, as this project wants it: it comes back soon after its broker, ends when it is told to, and
leaves nothing unused there.

Celery loads it by its name, which `worker.celery_app` gives it, in processes that work.
"""

import socket
from contextlib import suppress

import amqp
import structlog
from celery import bootsteps, signals
from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection

log = structlog.get_logger(__name__)

RECONNECT_SECONDS = 2
"""Between two tries to reach the broker. Celery's own pauses grow to 30 seconds, and a worker must be back within 10
seconds of a broker that is back: this pause and one try of four seconds leave room for the rest."""

DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
"""The step that makes 28 quorum queues for tasks with a countdown, of which there are none here."""


class _Blueprint(bootsteps.Blueprint):
    name = "Consumer"
    default_steps = set(consumer.Consumer.Blueprint.default_steps) - {DELAYED_DELIVERY}

    def shutdown(self, parent: object) -> None:
        self.send_all(parent, "shutdown")


class Consumer(consumer.Consumer):
    """Celery's, with these differences."""

    Blueprint = _Blueprint
    _hears = False

    def start(self) -> None:
        signals.worker_shutting_down.connect(self._hang_up)
        super().start()

    def on_ready(self) -> None:
        super().on_ready()
        self._hears = True

    def on_close(self) -> None:
        self._hears = False
        super().on_close()

    def _hang_up(self, **_: object) -> None:
        """Hang up on a broker that still lets this worker wait for its queue, when the worker is told to end.

        RabbitMQ lets a consumer of a queue without a leader wait for as long as that takes, and its heartbeats keep the
        wait from timing out. Celery only notes the signal, and looks at its note when the wait is over.
        """
        connection = self.connection
        if self._hears or connection is None or not connection.connected:
            return
        if isinstance(connection.connection, amqp.Connection) and (line := connection.connection.sock) is not None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def ensure_connected(self, connection: Connection) -> Connection:
        """Try until the broker answers, or until the worker is told to stop."""
        self.broker_connection_retry_attempt = 0
        connection.ensure_connection(
            self._note_failure,
            interval_start=RECONNECT_SECONDS,
            interval_step=0,
            interval_max=RECONNECT_SECONDS,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return connection

    def _note_failure(self, error: Exception, _pause: float) -> None:
        # Once an outage is enough; the error's text could name the broker's URL.
        if self.broker_connection_retry_attempt == 0:
            log.warning("broker_away", error=type(error).__name__)
        self.broker_connection_retry_attempt += 1
