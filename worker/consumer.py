"""Celery's consumer, as this project wants it: it comes back soon after its broker, and leaves nothing unused there.

Celery loads it by its name, which `worker.celery_app` gives it, in processes that work.
"""

import structlog
from celery import bootsteps
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
    """Celery's, with these two differences."""

    Blueprint = _Blueprint

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
