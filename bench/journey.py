"""One webhook's journey, watched from outside: its answer, its row in the database, and its event in a Redis stream.

One webhook travels at a time. Who waits for the row begins to look when half of the time is over that the quickest one
took, and then a thousand times a second: each look costs the machine that is measured a third of a millisecond. The
event comes by itself, by a blocking read in a thread.
"""

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeAlias, cast

import psycopg
import redis

from bench.load import examine
from bench.protocol import Broken, Sample
from bench.statistics import percentile
from bench.webhooks import KIND, Sender, identifiers, requests

LOOK_SECONDS = 0.001
UNWATCHED = 0.5
"""Of the quickest row so far, the part during which nobody looks."""

PATIENCE_SECONDS = 15.0
STREAM = "verisink:events"

FOUND = "SELECT 1 FROM v1_results WHERE source = 'persona' AND kind = '{kind}' AND external_id = {mark}"

Visible = Callable[[str], bool]

_Entries: TypeAlias = list[tuple[str, dict[str, str]]]
_Streams: TypeAlias = list[tuple[str, _Entries]]
"""What XREAD returns: the entries of each stream."""


@dataclass(slots=True)
class Times:
    """When things were seen after the webhook was sent, in milliseconds, each in order of the webhooks."""

    ack: list[float] = field(default_factory=list)
    row: list[float] = field(default_factory=list)
    event: list[float] = field(default_factory=list)

    def sample(self) -> Sample:
        """Medians and slowest hundredths."""
        return {
            f"{name}_p{percent}_ms": percentile(sorted(values), percent)
            for name, values in (("ack", self.ack), ("row", self.row), ("event", self.event))
            for percent in (50, 99)
        }


class Journeys:
    """Whoever sends and watches. Use it as a context manager."""

    def __init__(self, port: int, secret: str, redis_url: str, database_url: str) -> None:
        self._port, self._secret = port, secret
        self._redis = redis.Redis.from_url(redis_url, decode_responses=True)
        self._database_url = database_url
        self._stack = ExitStack()
        self._seen: dict[str, float] = {}
        self._arrived = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._read_stream, name="stream-reader", daemon=True)

    def __enter__(self) -> Self:
        self._visible = self._open_database()
        # Not `$`: what came between two reads would be seen by neither.
        newest = cast("_Entries", self._redis.xrevrange(STREAM, count=1))
        self._last = newest[0][0] if newest else "0"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join(PATIENCE_SECONDS)
        self._redis.close()
        self._stack.close()

    def travel(self, batch: str, pauses: Sequence[float]) -> Times:
        """Send a webhook after each pause, and wait for all that it leads to. Raises Broken if that does not come."""
        times = Times()
        prepared = requests(Sender(self._secret, batch=batch), len(pauses))
        ids = [name.decode() for name in identifiers("ver", batch, len(pauses))]
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for request, external_id, pause in zip(prepared, ids, pauses, strict=True):
                time.sleep(pause)
                self._travel(connection, request, external_id, times)
        return times

    def _travel(self, connection: socket.socket, request: bytes, external_id: str, times: Times) -> None:
        began = time.monotonic()
        connection.sendall(request)
        head = _answer(connection)
        times.ack.append(_milliseconds(began, time.monotonic()))
        if not head.startswith(b"http/1.1 200"):
            raise Broken(f"a webhook was answered with {head[:40]!r}")
        # A row that is there by then counts as later than it was.
        time.sleep(max(0.0, began + UNWATCHED * min(times.row, default=0.0) / 1000 - time.monotonic()))
        while not self._visible(external_id):
            if time.monotonic() > began + PATIENCE_SECONDS:
                raise Broken(f"no result after {PATIENCE_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS)
        times.row.append(_milliseconds(began, time.monotonic()))
        subject = f"{KIND}/{external_id}"
        with self._arrived:
            if not self._arrived.wait_for(lambda: subject in self._seen, PATIENCE_SECONDS):
                raise Broken(f"no event after {PATIENCE_SECONDS:.0f} s")
            times.event.append(_milliseconds(began, self._seen[subject]))

    def _read_stream(self) -> None:
        last = self._last
        while not self._over:
            found = cast("_Streams", self._redis.xread({STREAM: last}, block=200))
            for _, entries in found:
                now = time.monotonic()
                with self._arrived:
                    for _, event in entries:
                        self._seen.setdefault(event.get("subject", ""), now)
                    last = entries[-1][0]
                    self._arrived.notify()

    def _open_database(self) -> Visible:
        if self._database_url.startswith("sqlite"):
            path = Path(self._database_url.removeprefix("sqlite:///"))
            file = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5, isolation_level=None)
            self._stack.callback(file.close)
            in_file = FOUND.format(kind=KIND, mark="?")
            return lambda external_id: file.execute(in_file, (external_id,)).fetchone() is not None
        url = self._database_url.replace("+psycopg", "")
        server = self._stack.enter_context(psycopg.connect(url, autocommit=True, prepare_threshold=0))
        on_server = FOUND.format(kind=KIND, mark="%s").encode()
        return lambda external_id: server.execute(on_server, (external_id,)).fetchone() is not None


def _answer(connection: socket.socket) -> bytes:
    """The head of the answer, in lower case. Raises Broken where the connection ends first."""
    answer = b""
    while data := connection.recv(65_536):
        answer += data
        head, complete, _ = examine(answer)
        if complete:
            return head
    raise Broken(f"the receiver closed the connection: {json.dumps(answer[:80].decode('latin-1'))}")


def _milliseconds(began: float, ended: float) -> float:
    return (ended - began) * 1000
