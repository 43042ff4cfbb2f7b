"""The consumer tries its broker at an even pace, however long it is away, and declares nothing that nobody uses."""

import pytest
from celery.worker import consumer as celerys
from kombu import Connection

from tests.support.services import free_port
from worker import consumer
from worker.celery_app import make_app
from worker.consumer import DELAYED_DELIVERY, Consumer
from worker.settings import Settings

TRIES = 6


class Enough(Exception):
    """The test has seen enough tries."""


class Counting(Consumer):
    """Notes the pause after each try, and stops after some."""

    def __init__(self) -> None:
        # Celery's own would start a worker's machinery.
        self.pauses: list[float] = []

    def _note_failure(self, error: Exception, pause: float) -> None:
        super()._note_failure(error, pause)
        self.pauses.append(pause)
        if len(self.pauses) == TRIES:
            raise Enough


def test_the_pauses_between_tries_do_not_grow(monkeypatch):
    monkeypatch.setattr(consumer, "RECONNECT_SECONDS", 0.01)
    counting = Counting()

    with pytest.raises(Enough), Connection(f"amqp://127.0.0.1:{free_port()}//") as connection:
        counting.ensure_connected(connection)

    assert counting.pauses == [0.01] * TRIES


def test_no_queues_are_made_for_delayed_tasks():
    assert DELAYED_DELIVERY in celerys.Consumer.Blueprint.default_steps
    assert DELAYED_DELIVERY not in Consumer.Blueprint.default_steps
    assert make_app(Settings(), "worker").conf.worker_consumer == f"{Consumer.__module__}:{Consumer.__name__}"
