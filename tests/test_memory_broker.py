"""The broker in memory: a consumer sleeps until there is a message for it, room for one, or an end."""

import threading
from contextlib import suppress

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue

from worker.celery_app import MEMORY_TRANSPORT
from worker.clock import monotonic

WAIT = 10.0
SOON = 2.0
"""A wake-up takes less than a millisecond, on a busy machine perhaps a hundred times that."""

QUEUE = Queue("test-memory", Exchange("test-memory"), routing_key="test-memory")


def connect():
    return Connection("memory://localhost/", transport=MEMORY_TRANSPORT)


class Listener:
    """Consumes in a thread of its own, as the embedded worker does."""

    def __init__(self, *, prefetch=0) -> None:
        self.connection = connect()
        self.messages: list = []
        self.came = threading.Condition()
        self.prefetch = prefetch
        self.stopping = False
        self.timeouts = 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        consumer = Consumer(self.connection.channel(), [QUEUE], callbacks=[self.take], auto_declare=True)
        if self.prefetch:
            consumer.qos(prefetch_count=self.prefetch)
        with consumer:
            while not self.stopping:
                try:
                    self.connection.drain_events(timeout=2 * WAIT)
                except TimeoutError:
                    self.timeouts += 1

    def take(self, _body, message):
        with self.came:
            self.messages.append(message)
            self.came.notify()

    def count_within(self, count, seconds=SOON):
        with self.came:
            return self.came.wait_for(lambda: len(self.messages) >= count, seconds)


@pytest.fixture
def listener():
    made = []

    def listen(**more):
        made.append(Listener(**more))
        made[-1].thread.start()
        return made[-1]

    yield listen
    for one in made:
        one.stopping = True
        one.connection.release()
        one.thread.join(WAIT)
        assert not one.thread.is_alive()


@pytest.fixture
def send():
    with connect() as connection:
        producer = Producer(connection.channel(), QUEUE.exchange, routing_key=QUEUE.routing_key)
        QUEUE(connection.channel()).declare()
        QUEUE(connection.channel()).purge()
        yield lambda: producer.publish({})


def test_a_message_ends_the_wait_at_once(listener, send):
    heard = listener()
    for count in range(1, 20):
        send()
        assert heard.count_within(count)
    assert heard.timeouts == 0


def test_one_that_has_as_much_as_it_may_have_waits_until_it_gives_some_back(listener, send):
    heard = listener(prefetch=1)
    send()
    send()
    assert heard.count_within(1)
    assert not heard.count_within(2, 0.1)

    heard.messages[0].ack()

    assert heard.count_within(2)


def test_what_is_given_back_is_handed_out_again(listener, send):
    heard = listener(prefetch=1)
    send()
    assert heard.count_within(1)

    heard.messages[0].requeue()

    assert heard.count_within(2)


def test_a_wait_ends_when_its_time_is_over():
    with connect() as connection, Consumer(connection.channel(), [QUEUE], callbacks=[lambda *_: None]):
        with suppress(TimeoutError):
            while True:
                connection.drain_events(timeout=0)
        begun = monotonic()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.2)
        assert 0.2 <= monotonic() - begun < SOON


def test_closing_the_connection_ends_the_wait(listener, send):
    heard = listener()
    send()
    assert heard.count_within(1)
    heard.stopping = True
    begun = monotonic()

    heard.connection.release()
    heard.thread.join(WAIT)

    assert not heard.thread.is_alive()
    assert monotonic() - begun < SOON
