"""What is in a Redis stream."""

from typing import cast

import redis


def stream_entries(url: str, stream: str) -> list[dict[str, str]]:
    """The fields of every entry, in order."""
    client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, decode_responses=True)
    try:
        # Stubs that cover every version of the protocol say little about this one.
        found = cast("list[tuple[str, dict[str, str]]]", client.xrange(stream))
        return [fields for _, fields in found]
    finally:
        client.close()
        client.connection_pool.disconnect()
