"""The Celery sink on real brokers, with the worker of somebody who knows nothing of us."""

import json
import subprocess
import sys

import pytest
from celery import current_app
from pydantic import SecretStr

from tests.pipeline.plant import wait_until
from tests.support.rabbit import RabbitServer
from tests.support.receiver import event
from tests.support.services import RedisServer
from worker.clock import monotonic
from worker.settings import SinkSettings
from worker.sinks.celery_task import ANSWER_SECONDS, BrokerAway, CeleryTaskSink, QueueMissing

THEIR_APP = """
import json, sys
from celery import Celery

app = Celery("billing", broker={url!r})

@app.task(name="billing.on_verification", bind=True)
def on_verification(self, event):
    with open({out!r}, "a") as out:
        out.write(json.dumps([self.request.id, event]) + "\\n")
"""

brokers = pytest.mark.parametrize(
    "broker",
    [pytest.param("redis_url", marks=pytest.mark.redis), pytest.param("rabbit_url", marks=pytest.mark.rabbitmq)],
)


@pytest.fixture
def make():
    made = []

    def sink(url, queue="billing"):
        settings = SinkSettings(
            name="billing", type="celery", broker_url=SecretStr(url), task="billing.on_verification", queue=queue
        )
        made.append(CeleryTaskSink("billing", settings))
        return made[-1]

    yield sink
    for each in made:
        each.close()


@pytest.fixture
def their_worker(tmp_path):
    """Starts a worker of another company; what it was told is in the file that comes back."""
    started = []

    def start(url, queue="billing"):
        out = tmp_path / "told"
        out.touch()
        (tmp_path / "their_app.py").write_text(THEIR_APP.format(url=url, out=str(out)))
        options = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = [sys.executable, "-m", "celery", "-A", "their_app", "worker", "-P", "solo", "-Q", queue, *options]
        with (tmp_path / "log").open("wb") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log))
        return out

    yield start
    for process in started:
        process.kill()
        process.wait()


def told(out):
    return [json.loads(line) for line in out.read_text().splitlines()]


def offer(sink, *events):
    """Until it is taken, as the engine does; a queue is there once its worker is."""

    def taken():
        try:
            sink.deliver(events)
        except QueueMissing:
            return False
        return True

    wait_until(taken)


@brokers
def test_another_company_s_worker_gets_each_event_under_its_id(broker, request, make, their_worker):
    url = request.getfixturevalue(broker)
    out = their_worker(url)
    sink = make(url)
    offer(sink, event(1))
    connection = sink._connection
    for number in (2, 3, 3):
        sink.deliver([event(number)])

    wait_until(lambda: len(told(out)) == 4)
    assert told(out) == [[f"id-{number}", event(number)] for number in (1, 2, 3, 3)]
    assert sink._connection is connection


def test_neither_our_application_nor_the_environment_is_touched(make, redis_url, monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", "redis://127.0.0.1:1/0")
    before = current_app.main, current_app.conf.broker_transport_options
    sink = make(redis_url)
    sink.deliver([event(1)])

    assert (current_app.main, current_app.conf.broker_transport_options) == before
    assert current_app.main != sink._app.main


@pytest.mark.parametrize("url", ["redis://:canary@127.0.0.1:1/0", "amqp://user:canary@127.0.0.1:1//"])
def test_a_broker_that_is_not_there(make, url):
    begun = monotonic()
    with pytest.raises(BrokerAway) as refusal:
        make(url).deliver([event(1)])

    assert "127.0.0.1" not in f"{refusal.value!r}"
    assert monotonic() - begun < ANSWER_SECONDS


@pytest.mark.rabbitmq
def test_a_queue_that_is_not_there_is_said_and_nothing_is_lost_silently(make, rabbit_url):
    with pytest.raises(QueueMissing, match="the broker has no queue nobody-s"):
        make(rabbit_url, "nobody-s").deliver([event(1)])


@pytest.mark.parametrize(
    ("kind", "prepared"),
    [
        pytest.param(RedisServer, True, marks=pytest.mark.redis),
        pytest.param(RabbitServer, False, marks=pytest.mark.rabbitmq),
    ],
)
def test_a_broker_that_freezes_or_restarts_is_waited_for_a_bounded_time(kind, prepared, make, their_worker):
    with kind() as server:
        out = their_worker(server.url)
        sink = make(server.url)
        offer(sink, event(1))
        server.pause()
        for _ in range(2):
            begun = monotonic()
            with pytest.raises(BrokerAway):
                sink.deliver([event(2)])
            assert monotonic() - begun < sink.call_seconds
        server.resume()
        offer(sink, event(3))
        wait_until(lambda: "id-3" in [name for name, _ in told(out)])
        server.kill()
        with pytest.raises(BrokerAway):
            sink.deliver([event(4)])
