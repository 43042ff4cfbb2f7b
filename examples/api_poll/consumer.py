"""Follow decisions through the API, by long polling. Needs: httpx.

    VERISINK_URL=https://verisink.example API_TOKEN=… PLACE=place.txt python consumer.py

The token needs the scope `results:read`. Each decision is printed as a line of JSON; do your work there instead. The
place is kept after the work is done, so an event may come again after a crash, and is never left out.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from urllib.parse import quote

import httpx

DECIDING = ("verification.result.decided", "verification.result.revised", "verification.result.reversed")
WAIT_SECONDS = 20
"""How long the server keeps a request that finds nothing new. The client must wait longer."""


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    place = Path(os.environ["PLACE"])
    after = int(place.read_text()) if place.exists() else 0
    headers = {"Authorization": f"Bearer {os.environ['API_TOKEN']}"}
    with httpx.Client(base_url=os.environ["VERISINK_URL"], headers=headers, timeout=WAIT_SECONDS + 10) as api:
        while True:
            try:
                after = step(api, after)
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                # Also when there were too many requests: the answer then says how long to wait.
                time.sleep(pause_after(error))
                continue
            keep(place, after)


def step(api: httpx.Client, after: int) -> int:
    """Handle what is new, and say where to read on."""
    page = read(api, "/api/v1/events", after=after, wait=WAIT_SECONDS)
    for event in page["items"]:
        if event["type"] in DECIDING:
            path = "/".join(quote(event[name]) for name in ("source", "kind", "external_id"))
            # The event tells of a version; the result is what holds now, and may be newer.
            handle(event["id"], read(api, f"/api/v1/results/{path}"))
    return int(page["next_after"])


def read(api: httpx.Client, path: str, **query: int) -> dict:
    answer = api.get(path, params=query)
    answer.raise_for_status()
    return answer.json()


def handle(event_id: str, result: dict) -> None:
    facts = {name: result[name] for name in ("source", "kind", "external_id", "version", "outcome")}
    print(json.dumps({"event": event_id, **facts}), flush=True)


def pause_after(error: httpx.HTTPError) -> float:
    if not isinstance(error, httpx.HTTPStatusError):
        return 1.0
    if error.response.status_code not in (429, 503):
        # Such as a wrong token: nothing that waiting would mend.
        raise error
    return float(error.response.headers.get("Retry-After", "5"))


def keep(place: Path, after: int) -> None:
    new = place.with_suffix(".new")
    new.write_text(str(after))
    new.replace(place)


if __name__ == "__main__":
    main()
