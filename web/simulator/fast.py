"""`verisink simulate --fast`: retrieve calls answered at next to no cost, for measuring whoever makes them.

A real HTTP server on a loopback port, but one that knows every id, asks for no credentials and plays no faults. It
counts calls: `GET /fast/stats` tells, and `POST /fast/reset` begins anew.
"""

import asyncio
import json
import re
import signal
import time
from collections.abc import Callable
from typing import cast

from web.simulator.fast_documents import Catalogue
from worker.clock import monotonic

BACKLOG = 4096
REFRESH_SECONDS = 1.0
"""How often documents change. Each time costs a millisecond, and a call that is repeated within it brings no news."""

LONGEST_HEAD = 64 * 1024
STATS = b"/fast/stats"
RESET = b"/fast/reset"

_REQUEST = re.compile(rb"(GET|POST) ([^ ?]*?)([A-Za-z0-9_-]*)(?:\?[^ ]*)? HTTP/1\.[01]\r\n")

RATE_HEADERS = b"RateLimit-Limit: 1000000\r\nRateLimit-Remaining: 999999\r\nRateLimit-Reset: 60\r\n"
"""Persona's, on every answer. Whoever calls Persona reads them each time, so they belong to the cost of a call."""


class Stats:
    """What was asked for so far."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Begin anew; calls in flight stay in flight."""
        self.calls = self.unknown = 0
        self.max_in_flight = self.in_flight
        self.began, self.cpu = monotonic(), time.process_time()

    def arrived(self) -> None:
        """Note one call."""
        self.calls += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def as_json(self) -> bytes:
        """All of it; the times are in seconds since the last reset."""
        return json.dumps(
            {
                "calls": self.calls,
                "unknown": self.unknown,
                "in_flight": self.in_flight,
                "max_in_flight": self.max_in_flight,
                "seconds": monotonic() - self.began,
                "cpu_seconds": time.process_time() - self.cpu,
            }
        ).encode("ascii")


class FastServer:
    """The documents, the counts, and how long a call takes."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.catalogue = Catalogue()
        self.stats = Stats()

    def protocol(self) -> asyncio.Protocol:
        """One connection."""
        return _Connection(self)

    def control(self, method: bytes, path: bytes) -> bytes | None:
        """The answer to a question about this server itself."""
        if method == b"GET" and path == STATS:
            return response(self.stats.as_json())
        if method == b"POST" and path == RESET:
            self.stats.reset()
            return response(self.stats.as_json())
        return None

    def retrieve(self, method: bytes, path: bytes, external_id: bytes) -> bytes:
        """The answer to a retrieve call."""
        document = self.catalogue.document(path, external_id) if method == b"GET" and external_id else None
        if document is None:
            self.stats.unknown += 1
            return response(b'{"errors":[{"title":"Record not found"}]}', b"404 Not Found")
        return response(document)


class _Connection(asyncio.Protocol):
    """Reads requests without bodies, several after another, and answers each in time."""

    def __init__(self, server: FastServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio promises this kind to a protocol of a TCP server.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        *heads, rest = (self._rest + data).split(b"\r\n\r\n")
        self._rest = rest
        for head in heads:
            self._request(head + b"\r\n")
        if len(rest) > LONGEST_HEAD:
            self._refuse()

    def _request(self, head: bytes) -> None:
        server = self._server
        found = _REQUEST.match(head)
        if not found:
            self._refuse()
            return
        method, path, external_id = found.groups()
        own = server.control(method, path + external_id)
        if own:
            self._write(own)
            return
        server.stats.arrived()
        answer = server.retrieve(method, path, external_id)
        if server.latency:
            self._loop.call_later(server.latency, self._answer, answer)
        else:
            self._answer(answer)

    def _answer(self, answer: bytes) -> None:
        self._server.stats.in_flight -= 1
        self._write(answer)

    def _write(self, answer: bytes) -> None:
        # Who gave up waiting is answered by nobody.
        if self._transport is not None:
            self._transport.write(answer)

    def _refuse(self) -> None:
        self._write(response(b"{}", b"400 Bad Request"))
        if self._transport is not None:
            self._transport.close()


def response(body: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer that keeps the connection."""
    return b"HTTP/1.1 %b\r\nContent-Type: application/json; charset=utf-8\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status, RATE_HEADERS, len(body), body,
    )  # fmt: skip


def serve(host: str, port: int, latency: float, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is told the URL. Raises OSError where the port is taken."""
    asyncio.run(_serve(FastServer(latency), host, port, on_ready))


async def _serve(server: FastServer, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    listening = await loop.create_server(server.protocol, host, port, backlog=BACKLOG)
    refreshing = asyncio.create_task(_refresh(server.catalogue))
    async with listening:
        taken = listening.sockets[0].getsockname()[1]
        on_ready(f"http://{host}:{taken}")
        await over.wait()
        refreshing.cancel()


async def _refresh(catalogue: Catalogue) -> None:
    while True:
        catalogue.refresh()
        await asyncio.sleep(REFRESH_SECONDS)
