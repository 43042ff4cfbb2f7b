"""The Redis Streams sink on a real Redis: entries, their length, and servers that are away."""

import json
from datetime import UTC, datetime

import pytest
import redis
from pydantic import SecretStr

from tests.support.services import RedisServer, redis_client
from tests.support.streams import stream_entries
from worker.clock import monotonic
from worker.domain.events import Event, cloud_event
from worker.domain.states import EventType, Outcome, Stage
from worker.settings import SinkSettings
from worker.sinks.redis_stream import NotAStream, RedisStreamSink

pytestmark = pytest.mark.redis

STREAM = "verisink:events"
BOUNDED_SECONDS = 3.0


def make(url: str, **more) -> RedisStreamSink:
    return RedisStreamSink("sink", SinkSettings(name="sink", type="redis_stream", url=SecretStr(url), **more))


def event(number: int):
    happened = Event(
        EventType.DECIDED,
        "persona-live",
        "verification/selfie",
        f"ver_{number}",
        2,
        Stage.DECIDED,
        Outcome.APPROVED,
        data={"source": "persona-live", "version": 2, "reference": "é\u2028"},
    )
    return cloud_event(happened, f"id-{number}", number, datetime(2026, 1, 31, 12, tzinfo=UTC))


def entries(url: str, stream: str = STREAM):
    return stream_entries(url, stream)


def test_an_entry_has_the_attributes_of_the_cloud_event(redis_url):
    make(redis_url).deliver([event(7)])

    [found] = entries(redis_url)
    assert json.loads(found.pop("data")) == {"source": "persona-live", "version": 2, "reference": "é\u2028"}
    assert found == {
        "specversion": "1.0",
        "id": "id-7",
        "type": "verification.result.decided",
        "source": "/verisink/sources/persona-live",
        "subject": "verification/selfie/ver_7",
        "time": "2026-01-31T12:00:00Z",
        "datacontenttype": "application/json",
        "sequence": "7",
    }


def test_the_stream_is_named_and_kept_at_about_its_length(redis_url):
    sink = make(redis_url, stream="mine", max_length=200)
    for start in range(0, 1000, 100):
        sink.deliver([event(number) for number in range(start, start + 100)])

    kept = [int(found["sequence"]) for found in entries(redis_url, "mine")]
    assert kept == list(range(kept[0], 1000))
    # Redis cuts whole nodes of a hundred entries or so.
    assert 200 <= len(kept) <= 400


def test_a_key_that_is_no_stream_is_said_and_taken_once_it_is_gone(redis_url):
    sink = make(redis_url)
    with redis_client(redis_url) as client:
        client.set(STREAM, "no stream")
        with pytest.raises(NotAStream) as refusal:
            sink.deliver([event(1), event(2)])
        client.delete(STREAM)
    sink.deliver([event(1), event(2)])

    assert str(refusal.value) == f"{STREAM} is no stream"
    assert [found["id"] for found in entries(redis_url)] == ["id-1", "id-2"]


def test_a_server_that_was_restarted_or_emptied_is_written_to_again():
    with RedisServer() as server:
        sink = make(server.url)
        sink.deliver([event(1)])
        server.kill()
        with pytest.raises(redis.ConnectionError):
            sink.deliver([event(2)])
        server.start()
        sink.deliver([event(2)])
        with redis_client(server.url) as client:
            client.flushall()
        sink.deliver([event(3)])

        assert [found["id"] for found in entries(server.url)] == ["id-3"]


def test_a_server_that_hangs_is_not_waited_for():
    with RedisServer() as server:
        sink = make(server.url)
        sink.deliver([event(1)])
        server.pause()
        for _ in range(2):
            begun = monotonic()
            with pytest.raises(redis.TimeoutError):
                sink.deliver([event(2)])
            assert monotonic() - begun < BOUNDED_SECONDS
        server.resume()
        sink.deliver([event(3)])
        sink.close()

        # What a frozen server had received it adds when it goes on: at least once, and never after what came later.
        found = [found["id"] for found in entries(server.url)]
        assert found[0] == "id-1"
        assert found[-1] == "id-3"
        assert set(found[1:-1]) <= {"id-2"}
