"""Events reach a webhook's receiver in order, genuine, and nobody else waits for one that is silent."""

import base64

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from tests.pipeline.outlets import Sink, happen, wait_until
from tests.support.receiver import receiving
from tests.support.talk import serving
from worker.pipeline.publish import Publisher
from worker.settings import SinkSettings
from worker.sinks.webhook import WebhookSink

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


@pytest.fixture
def webhook():
    made = []

    def make(url):
        settings = SinkSettings(
            name="hook", type="webhook", url=SecretStr(url), secrets=(SecretStr(SECRET),), allow_private=True
        )
        made.append(WebhookSink("hook", settings.model_copy(update={"timeout_seconds": 0.5})))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def test_events_arrive_in_order_and_genuine(sqlite_database, webhook):
    happen(sqlite_database, 30)
    with receiving() as posts:
        Publisher(sqlite_database, [webhook(posts.url)]).publish()

    events = [Webhook(SECRET).verify(post.body, post.headers) for post in posts.got]
    assert [event["sequence"] for event in events] == [str(number) for number in range(1, 31)]
    assert [event["id"] for event in events] == [post.headers["webhook-id"] for post in posts.got]


def silent(server, _):
    server.stop.wait(30)


def test_a_receiver_that_is_silent_delays_nobody_else(sqlite_database, webhook):
    with serving(silent) as server:
        other = Sink("other", at_once=100)
        publisher = Publisher(sqlite_database, [webhook(server.url), other])
        publisher.start()
        happen(sqlite_database, 5)
        publisher.wake()
        wait_until(lambda: other.taken == list(range(1, 6)))
        publisher.stop(10)
