"""The HTTP server: waitress, which reads a whole request before a thread is spent on it.

Added to it here: limits that differ by path and are applied to the head of a request, a time limit for a whole request,
answers that survive an early refusal, and a stop that finishes what is in flight. Why waitress: docs/decisions/0001.
"""

import copy
import logging
import socket
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import cast
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import BadRequest, RequestEntityTooLarge, ServerNotImplemented

from worker.clock import monotonic

REQUEST_SECONDS = 15
"""How long a request may take to arrive. Less cuts off honest senders on bad lines; more lets idle sockets pile up."""

SLOWEST_BYTES_PER_SECOND = 16 * 1024
"""A long body gets the time that it needs at this rate, besides."""

IDLE_SECONDS = 75
"""Between two requests of a connection: longer than the 60 seconds of common proxies, so that they close first. One
that sends a webhook into a connection that is just being closed loses it, and some providers send it only once."""

LINGER_SECONDS = 2.0
"""After a refusal, what the sender is still sending is read and thrown away for so long: closing at once would reset
the connection, and the sender would never see why."""

GRACE_SECONDS = 20.0
"""How long a stop waits for requests in flight: below the 30 seconds that process managers commonly give."""

HEAD_BYTES = 16 * 1024
MOST_CONNECTIONS = 900
"""Below the usual limit of 1,024 open files. Connections over it wait in the backlog."""

FRAMING_ALLOWANCE = 64 * 1024
"""Chunked bodies are counted with their framing, so they get some more; the receiver counts the body exactly."""

TICK = 0.5

BodyLimit = Callable[[str], int]


def serve(
    app: WSGIApplication,
    *,
    listener: socket.socket,
    threads: int,
    body_limit: BodyLimit,
) -> "Server":
    """A server on a listening socket, which several processes may share. `body_limit` gives the longest body in bytes
    for a path. Nothing is answered before `run`."""
    adjustments = Adjustments(
        sockets=[listener],
        threads=threads,
        connection_limit=MOST_CONNECTIONS,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=2,
        max_request_header_size=HEAD_BYTES,
        asyncore_use_poll=True,
        # With the default of 0, waitress's loop spins while an answer is half written, and takes the interpreter.
        channel_request_lookahead=1,
        ident=None,
        expose_tracebacks=False,
    )
    return Server(app, listener, adjustments, body_limit)


class _Parser(HTTPRequestParser):
    """Refuses by path as soon as the head has arrived, and never answers a sender's mistake with a 5xx."""

    body_limit: BodyLimit
    path = ""

    def __init__(self, adjustments: Adjustments) -> None:
        super().__init__(adjustments)
        self.began = monotonic()

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError:
            # A URL that is none, or a length of thousands of digits. waitress would close without an answer.
            raise ParsingError("the request line or a header cannot be read") from None
        if "TRANSFER_ENCODING" in self.headers:
            # waitress took it out if it understood it; in HTTP/1.0 it would take the body for the next request.
            raise ParsingError("Transfer-Encoding needs HTTP/1.1")
        if self.chunked and b"\ncontent-length:" in header_plus.lower():
            # Two lengths for one body is how requests are smuggled past a proxy that believes the other one.
            raise ParsingError("both Content-Length and Transfer-Encoding")
        limit = self.body_limit(self.path)
        self.adj = _with_limit(self.adj, limit + (FRAMING_ALLOWANCE if self.chunked else 1))

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if isinstance(self.error, ServerNotImplemented):
            self.error = BadRequest("this transfer coding is not supported")
        if self.error is not None:
            # Else a sender that asks first is told to go on, and the refusal waits for its body.
            self.expect_continue = False
        return consumed

    def too_slow(self, now: float) -> bool:
        """Whether the request should have arrived by now."""
        return now > self.began + REQUEST_SECONDS + self.body_bytes_received / SLOWEST_BYTES_PER_SECOND


@lru_cache(maxsize=64)
def _with_limit(adjustments: Adjustments, longest: int) -> Adjustments:
    limited = copy.copy(adjustments)
    limited.max_request_body_size = longest
    return limited


class _PathlessLog(logging.LoggerAdapter[logging.Logger]):
    """waitress ends its complaints with the request's path, in which a webhook's secret token may stand."""

    def process(self, msg: object, kwargs: MutableMapping[str, object]) -> tuple[str, MutableMapping[str, object]]:
        return str(msg).partition(" while serving ")[0], kwargs


class _Channel(HTTPChannel):
    """A connection that lets a refusal arrive before it closes."""

    logger = cast("logging.Logger", _PathlessLog(HTTPChannel.logger))
    request: _Parser | None = None
    socket: socket.socket
    lingers_until: float | None = None
    refused = False
    heard = False
    silent_since: float | None = None

    def received(self, data: bytes) -> bool:
        self.heard = True
        if self.lingers_until is not None:
            return False
        accepted: bool = super().received(data)
        self.refused = self.refused or any(
            isinstance(request.error, RequestEntityTooLarge | BadRequest) for request in self.requests
        )
        return accepted

    def readable(self) -> bool:
        return self.lingers_until is not None or super().readable()

    def writable(self) -> bool:
        return self.lingers_until is None and bool(super().writable())

    def handle_close(self) -> None:
        if self.refused and self.lingers_until is None and self.connected:
            self.lingers_until = monotonic() + LINGER_SECONDS
            self.will_close = False
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                super().handle_close()
            return
        super().handle_close()

    def handle_read(self) -> None:
        super().handle_read()
        if self.lingers_until is not None and not self.connected:
            super().handle_close()

    def end(self) -> None:
        """Close without lingering any longer."""
        super().handle_close()

    def overdue(self, now: float) -> bool:
        """Whether this connection has had its time."""
        if self.lingers_until is not None:
            return now > self.lingers_until
        if not self.heard:
            self.silent_since = self.silent_since or now
            return now > self.silent_since + REQUEST_SECONDS
        return self.request is not None and self.request.too_slow(now)

    def busy(self) -> bool:
        """Whether a request is being answered, or its answer is being sent."""
        return bool(self.requests or self.total_outbufs_len)


class Server(TcpWSGIServer):
    """Serves until told to stop, and then finishes what is in flight."""

    _map: Mapping[int, socket.socket]  # What the stubs say. They are dispatchers, which only waitress looks into.

    def __init__(
        self, app: WSGIApplication, listener: socket.socket, adjustments: Adjustments, body_limit: BodyLimit
    ) -> None:
        parser = type("Parser", (_Parser,), {"body_limit": staticmethod(body_limit)})
        self.channel_class = type("Channel", (_Channel,), {"parser_class": parser})
        self._stop_by: float | None = None
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(adjustments.threads)
        place = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(
            app, {}, True, listener, dispatcher=dispatcher, adj=adjustments, sockinfo=place, bind_socket=False
        )

    def run(self) -> None:
        """Serve, in the calling thread, until `stop`."""
        while self._stop_by is None or self._winding_down():
            wasyncore.loop(timeout=TICK, use_poll=True, map=self._map, count=1)
        self.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._map)

    def stop(self) -> None:
        """Take no new connection, and end `run` once the requests in flight are answered. Any thread or signal handler
        may call it."""
        if self._stop_by is None:
            self._stop_by = monotonic() + GRACE_SECONDS
            self.accepting = False
            self.pull_trigger()

    def maintenance(self, now: int) -> None:
        """Close connections that had their time; waitress's own rule asks only when they were last heard of."""
        super().maintenance(now)
        for channel in list(self._channels()):
            if channel.overdue(monotonic()):
                channel.will_close = True
                if channel.lingers_until is not None:
                    channel.end()

    def _winding_down(self) -> bool:
        busy = any(channel.busy() for channel in self._channels())
        return busy and self._stop_by is not None and monotonic() < self._stop_by

    def _channels(self) -> "Iterable[_Channel]":
        # The stubs take this for one channel; it is a dictionary of them.
        return cast("dict[int, _Channel]", self.active_channels).values()
