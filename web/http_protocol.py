"""One HTTP connection: what may arrive on it, how long that may take, and that answers leave in order.

httptools parses (llhttp, strict). What is decided here is what a parser leaves open: limits by path, applied to the
head of a request; a time limit for a whole request; who is told why; and how much of a sender is kept in memory.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast
from wsgiref.types import WSGIEnvironment

import structlog
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from web.http_request import LINE_BYTES, Refused, Request, environment, read_head, refusal, turned_away
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

ANSWER_SECONDS = 120.0
"""Nothing that is asked for takes so long. What does is a fault of ours, and must not keep its connection for ever."""

TAKING_SECONDS = 30.0
"""How long a client may take to read an answer. Until it has, no further request of its connection is begun."""

HEAD_BYTES = 16 * 1024

FRAMING_ALLOWANCE = 64 * 1024
"""Chunked bodies are counted with their framing, so they get some more; the body itself is counted exactly."""

SLICE = 4 * 1024
"""Bytes parsed in one go. The parser cannot be stopped within them, so they bound how many requests are read ahead."""

MOST_AHEAD = 16
"""Requests of one connection that wait for their turn. Pipelining is rare, and none of our senders does it."""

LONG_BODY = 64 * 1024
"""Of bodies longer than this, one at most waits for its turn, and they are counted for the whole server."""


class Service(Protocol):
    """What a connection needs of its server."""

    buffer: memoryview
    """Shared by all connections: what is read into it is parsed before the next one reads."""

    def body_limit(self, path: str) -> int:
        """The longest body in bytes that a path takes."""

    def begin(self, connection: "Connection", request: Request) -> None:
        """Answer a request: `connection.answer` is called for it, now or later, in the loop's thread."""

    def has_room(self, more: int) -> bool:
        """Whether `more` bytes of long bodies may be kept. What was is given back as a negative number."""

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call it in the loop's thread, after others had their turn."""

    def know(self, connection: "Connection") -> None:
        """The connection is open."""

    def forget(self, connection: "Connection") -> None:
        """The connection is closed."""


log = structlog.get_logger(__name__)


class Connection(asyncio.BufferedProtocol):
    """Parses requests, has them answered one after the other, and gives up on whoever takes too long."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._parser = HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._base: WSGIEnvironment = {}
        # What has arrived: the head of the next request, the request whose body comes, and those that came whole.
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._arriving: Request | None = None
        self._waiting: deque[Request | Refused] = deque()
        self._current: Request | None = None
        self._held: bytes | None = None
        self._counted = 0
        self._long_bytes = 0
        # What goes on: see what sets them.
        self._mute = self._deaf = self._gone = self.ended = self._stopping = self._served = self._going_on = False
        self._quiet_since = self._current_since = monotonic()
        self._began: float | None = None
        self._stuck_since: float | None = None
        self._abort_at: float | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._base = environment(_place(transport, "sockname"), _place(transport, "peername")[0])
        self._service.know(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._service.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._deaf:
            self._feed(self._service.buffer[:nbytes])

    def eof_received(self) -> bool:
        self.ended = self._deaf = True
        # The answers to what came whole are still sent. What did not is forgotten.
        return self._abort_at is None and self._in_work()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = self._deaf = True
        for item in self._waiting:
            if isinstance(item, Request):
                self._let_go(item)
        self._waiting.clear()
        if self._arriving is not None:
            self._let_go(self._arriving)
        # The one that is being answered is let go with its answer: until then its body is there.
        self._held = None
        self._service.forget(self)

    @property
    def is_gone(self) -> bool:
        """Whether nobody is left to hear an answer."""
        return self._gone

    def pause_writing(self) -> None:
        self._stuck_since = monotonic()

    def resume_writing(self) -> None:
        self._stuck_since = None
        self._go_on()

    # What the parser calls. A request is begun only after it has returned.

    def on_message_begin(self) -> None:
        if self._mute:
            return
        self._began = monotonic()
        self._target = b""
        self._headers = []
        self._head_bytes = self._counted = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Behind a chunked body come trailers, which must not pass for headers.
        if self._arriving is None:
            self._headers.append((name, value))
            self._head_bytes += len(name) + len(value) + LINE_BYTES

    def on_headers_complete(self) -> None:
        if self._mute:
            return
        parser = self._parser
        if self._head_bytes > HEAD_BYTES:
            raise Refused(431, "the head of the request is too long")
        request = read_head(parser.get_method(), self._target, parser.get_http_version(), self._headers, self._base)
        request.limit = self._service.body_limit(request.path)
        if request.length > request.limit:
            raise Refused(413, "the body is too long")
        request.keep_alive = parser.should_keep_alive()
        if request.expects and not self._in_work():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._arriving = request
        self._counted = 0

    def on_body(self, body: bytes) -> None:
        request = self._arriving
        if request is None:
            return
        size = len(request.body) + len(body)
        if size > request.limit:
            raise Refused(413, "the body is too long")
        if size > LONG_BODY:
            self._keep_long(request, size)
        if not request.body:
            request.body = body
        elif isinstance(request.body, bytearray):
            request.body += body
        else:
            request.body = bytearray(request.body + body)

    def on_message_complete(self) -> None:
        if not self._mute and not self._parser.should_upgrade():
            self._complete()

    # Arriving.

    def _feed(self, data: memoryview) -> None:
        start, end = 0, len(data)
        while start < end and not self._deaf:
            if self._waiting and self._is_far_ahead():
                self._held = bytes(data[start:])
                self._transport.pause_reading()
                break
            start += self._parse(data[start : start + SLICE] if start or end > SLICE else data)
        self._go_on()

    def _parse(self, piece: memoryview) -> int:
        """Parse a piece, and say how many bytes of it were parsed."""
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            self._without_upgrade()
            return int(upgrade.args[0])
        except HttpParserError as error:
            if not self._deaf:
                self._refuse(refusal(error))
        else:
            self._count(len(piece))
        return len(piece)

    def _count(self, more: int) -> None:
        """Heads that never end, and chunks whose framing is longer than what they bring."""
        if self._began is None:
            return
        self._counted += more
        request = self._arriving
        if request is None:
            if self._counted > HEAD_BYTES + SLICE:
                self._refuse(Refused(431, "the head of the request is too long"))
        elif request.chunked and self._counted > request.limit + FRAMING_ALLOWANCE:
            self._refuse(Refused(413, "the body is too long"))

    def _without_upgrade(self) -> None:
        """Nothing but HTTP/1 is spoken here, so a request that offers more is taken as if it did not. The parser takes
        what follows its head for the other protocol; a new one is told what kind of body it is."""
        request = self._arriving
        if request is None:
            return
        framing = b"Transfer-Encoding: chunked" if request.chunked else b"Content-Length: %d" % request.length
        self._parser = HttpRequestParser(self)
        self._mute = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n\r\n" % framing)
        self._mute = False
        if not request.chunked and not request.length:
            self._complete()

    def _complete(self) -> None:
        request = self._arriving
        if request is None:
            return
        self._arriving = self._began = None
        if self._stopping:
            request.keep_alive = False
        if not request.keep_alive:
            self._deaf = True
        request.complete()
        self._waiting.append(request)

    def _keep_long(self, request: Request, size: int) -> None:
        more = size - request.kept
        if not self._service.has_room(more):
            raise Refused(503, "too much is being received; come again")
        request.kept = size
        self._long_bytes += more

    def _let_go(self, request: Request) -> None:
        self._long_bytes -= request.kept
        self._service.has_room(-request.kept)
        request.kept = 0

    def _is_far_ahead(self) -> bool:
        ahead = sum(len(item.body) for item in self._waiting if isinstance(item, Request))
        return len(self._waiting) >= MOST_AHEAD or ahead > LONG_BODY

    def _refuse(self, refused: Refused) -> None:
        if self._arriving is not None:
            self._let_go(self._arriving)
        self._arriving = self._began = None
        self._deaf = True
        self._waiting.append(refused)

    # Answering.

    def _go_on(self) -> None:
        if self._going_on or self._gone:
            return
        self._going_on = True
        while self._waiting and self._current is None and self._stuck_since is None and self._abort_at is None:
            item = self._waiting.popleft()
            if isinstance(item, Refused):
                self._turn_away(item)
            else:
                self._current, self._current_since = item, monotonic()
                self._service.begin(self, item)
        self._going_on = False
        if self._held is not None and not self._is_far_ahead():
            self._service.call_soon(partial(self._feed_held, self._held))
            self._held = None

    def _feed_held(self, held: bytes) -> None:
        if self._deaf:
            return
        if self._began is not None:
            # That it took so long was our doing.
            self._began = monotonic()
        self._transport.resume_reading()
        self._feed(memoryview(held))

    def answer(self, raw: bytes) -> None:
        """Send the answer to the request that was begun."""
        request, self._current = self._current, None
        if request is None:
            return
        self._let_go(request)
        if self._gone:
            return
        self._served = True
        self._quiet_since = monotonic()
        self._transport.write(raw)
        if request.keep_alive and not (self.ended and not self._waiting):
            self._go_on()
        else:
            self.close()

    def _turn_away(self, refused: Refused) -> None:
        self._transport.write(turned_away(refused, self._target))
        if self.ended:
            self.close()
            return
        self._abort_at = monotonic() + LINGER_SECONDS
        self._transport.write_eof()

    # Its end.

    def look(self, now: float) -> None:
        """Close what had its time. Called now and then."""
        if self._abort_at is not None:
            if now > self._abort_at:
                self._transport.abort()
        elif self._stuck_since is not None:
            if now > self._stuck_since + TAKING_SECONDS:
                self._transport.abort()
        elif self._current is not None and now > self._current_since + ANSWER_SECONDS:
            log.error("request_without_an_answer")
            self._transport.abort()
        elif not self._in_work() and now > self._patience():
            self.close()

    def _patience(self) -> float:
        if self._began is None:
            return self._quiet_since + (IDLE_SECONDS if self._served else REQUEST_SECONDS)
        arrived = len(self._arriving.body) if self._arriving is not None else 0
        return self._began + REQUEST_SECONDS + arrived / SLOWEST_BYTES_PER_SECOND

    def stop(self) -> None:
        """Close once what came whole is answered. What is arriving may still do so."""
        self._stopping = True
        last = self._waiting[-1] if self._waiting else self._current
        if isinstance(last, Request):
            last.keep_alive = False
            self._deaf = True
        elif last is None and self._began is None:
            self.close()

    def close(self) -> None:
        """Close once what is written has been sent, and take nothing more."""
        self._deaf = True
        if self._abort_at is None:
            self._abort_at = monotonic() + TAKING_SECONDS
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def stop_arriving(self) -> None:
        """Close unless something is being answered."""
        if not self._in_work():
            self.close()

    def _in_work(self) -> bool:
        return self._current is not None or bool(self._waiting)


def _place(transport: asyncio.BaseTransport, name: str) -> tuple[str, int]:
    """An end of the connection; nothing is known of one that is reset already."""
    place = transport.get_extra_info(name)
    return (str(place[0]), int(place[1])) if isinstance(place, tuple) else ("", 0)
