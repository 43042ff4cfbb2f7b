"""Take events from a Redis stream, as one of a group of consumers. Needs: redis.

    REDIS_URL=redis://redis:6379/0 STREAM=verisink:events GROUP=billing CONSUMER=one python consumer.py

Each consumer of the group gets a share of the entries. One that dies keeps its entries until another claims them, so
an event may be handled twice: `seen` keeps the ids of a day.
"""

import json
import os
import signal
import sys

import redis

CLAIM_AFTER_MS = int(os.environ.get("CLAIM_AFTER_MS", "60000"))
"""An entry that was handed out so long ago and not confirmed belongs to a consumer that is dead, or will be."""

DAY = 24 * 3600


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stream, group, me = os.environ["STREAM"], os.environ["GROUP"], os.environ["CONSUMER"]
    client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    join(client, stream, group)
    while True:
        try:
            left = client.xautoclaim(stream, group, me, CLAIM_AFTER_MS, count=50)[1]
            new = client.xreadgroup(group, me, {stream: ">"}, count=50, block=1000)
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            # The stream was deleted, and began anew with the next event.
            join(client, stream, group)
            continue
        for entry, event in [*left, *(item for _, items in new for item in items)]:
            take(client, group, event)
            client.xack(stream, group, entry)


def join(client: redis.Redis, stream: str, group: str) -> None:
    try:
        client.xgroup_create(stream, group, id="0", mkstream=True)
    except redis.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def take(client: redis.Redis, group: str, event: dict) -> None:
    seen = f"{group}:seen:{event['id']}"
    if client.exists(seen):
        return
    handle(event["id"], event["type"], json.loads(event["data"]))
    # Only now: if the work fails, the entry comes again.
    client.set(seen, "1", ex=DAY)


def handle(event_id: str, event_type: str, data: dict) -> None:
    print(json.dumps({"event": event_id, "type": event_type, **data}), flush=True)


if __name__ == "__main__":
    main()
