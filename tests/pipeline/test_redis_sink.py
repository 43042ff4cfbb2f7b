"""Events reach a Redis stream in order and at least once, whatever happens to Redis; others do not wait for it."""

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.pipeline.outlets import WAIT, Sink, happen, wait_until
from tests.support.services import RedisServer, redis_client
from tests.support.streams import stream_entries
from worker.clock import monotonic
from worker.pipeline import deliver
from worker.pipeline.publish import Publisher
from worker.settings import SinkSettings
from worker.sinks.redis_stream import RedisStreamSink

pytestmark = pytest.mark.redis

STREAM = "verisink:events"
PASSWORD = "canary-4be1"


@pytest.fixture
def server():
    with RedisServer() as own:
        yield own


class Town:
    """A publisher with a Redis stream and another sink. What the stream held before it was lost is remembered."""

    def __init__(self, database, server) -> None:
        self.server = server
        self.database = database
        settings = SinkSettings(name="stream", type="redis_stream", url=SecretStr(server.url))
        self.other = Sink("other", at_once=100)
        self.publisher = Publisher(database, [RedisStreamSink("stream", settings), self.other])
        self.told = 0
        self.lost: list[int] = []

    def tell(self, count: int) -> None:
        happen(self.database, count, self.told)
        self.told += count
        self.publisher.wake()

    def seen(self) -> list[int]:
        """The sequence of every entry that ever was in the stream."""
        if self.server.process is None:
            return self.lost
        return self.lost + [int(found["sequence"]) for found in stream_entries(self.server.url, STREAM)]

    def forget(self) -> None:
        """Look at the stream for the last time before it is lost."""
        self.lost = self.seen()

    def await_all(self) -> None:
        wait_until(lambda: self.told in self.seen() and self.told in self.other.taken)


@pytest.fixture
def town(sqlite_database, server, monkeypatch):
    monkeypatch.setattr(deliver, "LONGEST_PAUSE", 0.5)
    made = Town(sqlite_database, server)
    made.publisher.start()
    yield made
    made.publisher.stop(WAIT)


def first_times(seen: list[int]) -> list[int]:
    return list(dict.fromkeys(seen))


def test_all_arrive_in_order_whatever_happens_to_redis(town, server):
    town.tell(250)
    town.await_all()

    town.forget()
    server.kill()
    town.tell(30)
    wait_until(lambda: town.other.taken == list(range(1, 281)))
    server.start()
    town.await_all()

    for command in ("FLUSHALL", f"DEL {STREAM}"):
        town.forget()
        with redis_client(server.url) as client:
            client.execute_command(*command.split())
        town.tell(20)
        town.await_all()

    assert first_times(town.seen()) == town.other.taken == list(range(1, 321))


def test_a_redis_that_hangs_delays_neither_numbers_nor_others(town, server):
    town.tell(1)
    town.await_all()
    server.pause()
    town.tell(1)

    slowest = 0.0
    for _ in range(5):
        begun = monotonic()
        town.tell(1)
        wait_until(lambda: town.other.taken[-1] == town.told)
        slowest = max(slowest, monotonic() - begun)
    server.resume()
    town.await_all()

    # One call that hangs takes one and a half seconds.
    assert slowest < 1.0
    assert first_times(town.seen()) == list(range(1, 8))


def test_no_secret_is_in_the_log_of_an_outage(sqlite_database):
    happen(sqlite_database, 1)
    url = SecretStr(f"redis://user:{PASSWORD}@127.0.0.1:1/0?password={PASSWORD}")
    sink = RedisStreamSink("stream", SinkSettings(name="stream", type="redis_stream", url=url))

    with capture_logs() as logs:
        Publisher(sqlite_database, [sink]).publish()

    assert [line["event"] for line in logs] == ["sink_failed"]
    assert PASSWORD not in str(logs)
    assert "127.0.0.1" not in str(logs)
