"""The Redis Streams sink: each event is one entry, whose fields are the attributes of the CloudEvent.

Redis gives entries ids of its own, also in a stream that was deleted or lost and begins anew. So they say nothing about
an event: readers know a repeated one by its CloudEvents `id`, and a missing one by a gap in `sequence`.
"""

import json
from collections.abc import Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.typing import EncodableT, FieldT

from worker.settings import SinkSettings
from worker.sinks.base import CloudEvent

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 1.5
"""An event that waited for a Redis that hangs is offered again."""


class NotAStream(Exception):
    """The key holds something else. An event takes it when it is deleted or another stream is named."""


class RedisStreamSink:
    """Adds events to a stream, and lets Redis drop the oldest entries beyond a length."""

    at_once = 100
    call_seconds = CONNECT_SECONDS + ANSWER_SECONDS

    def __init__(self, name: str, settings: SinkSettings) -> None:
        if settings.url is None:
            raise ValueError("a Redis stream needs the URL of its Redis")
        self.name = name
        self._stream = settings.stream
        self._max_length = settings.max_length
        self._client = redis.Redis.from_url(
            settings.url.get_secret_value(),
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            # Whoever calls tries again, and keeps the order; the client's own tries would only hide the trouble.
            retry=Retry(NoBackoff(), 0),
        )

    def deliver(self, events: Sequence[CloudEvent]) -> None:
        """Add all of them or none. Raises NotAStream, and what the client raises."""
        try:
            with self._client.pipeline(transaction=True) as together:
                for event in events:
                    # About the length: cutting it exactly would cost Redis a search for each entry.
                    together.xadd(self._stream, fields(event), maxlen=self._max_length, approximate=True)
                together.execute()
        except redis.RedisError as error:
            # A name may point to another server by now, as it does after a failover.
            self._client.connection_pool.disconnect()
            if isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error):
                # The client's own text quotes the event.
                raise NotAStream(f"{self._stream} is no stream") from None
            raise

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def fields(event: CloudEvent) -> dict[FieldT, EncodableT]:
    """The entry for an event: every attribute is a field, and `data` is JSON text."""
    return {name: value if isinstance(value, str) else _json(value) for name, value in event.items()}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
