"""How a connection reads: the same bytes mean the same, however they are cut, and nobody's bytes fill the memory."""

import asyncio
import re
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web import http_protocol
from web.http_protocol import HEAD_BYTES, MOST_AHEAD, Connection
from web.http_request import Request, encode

pytestmark = pytest.mark.flow

LIMIT = 100_000
GOOD = (
    b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /empty HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n"
    b"0\r\nTrailer: z\r\n\r\n",
    b"POST /long HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + b"L" * 9_000,
    b"GET /twice HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\nX-Empty:\r\n\r\n",
    b"HEAD /head HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\nGET http://x/whole%20url HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /kept HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /h2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
    b"POST /h2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nbody",
    b"POST /h2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nab\r\n0\r\n\r\n",
)
LAST = (
    b"",
    b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /unread HTTP/1.1\r\n\r\n",
    b"GET /old HTTP/1.0\r\n\r\nGET /unread HTTP/1.1\r\n\r\n",
    b"nonsense\r\n\r\nGET /unread HTTP/1.1\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1),
    b"GET / HTTP/1.1\r\nX-Long: " + b"x" * (HEAD_BYTES + 5_000) + b"\r\n\r\n",
    b"POST /cut HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
)


class Wire:
    """What a connection writes, and whether it wants to read. Stands where asyncio's transport stands."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.ended = False

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    close = abort = write_eof

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1)


class Echo:
    """A service that answers with what it understood, at once or when told to."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.buffer = memoryview(bytearray(64 * 1024))
        self.at_once = at_once
        self.begun: list[tuple[Connection, Request]] = []
        self.soon: list[Callable[[], None]] = []
        self.long_bytes = 0

    def body_limit(self, path: str) -> int:
        return LIMIT

    def begin(self, connection: Connection, request: Request) -> None:
        self.begun.append((connection, request))
        if self.at_once:
            self.answer()

    def answer(self) -> None:
        connection, request = self.begun.pop(0)
        names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "HTTP_ACCEPT", "HTTP_X_EMPTY")
        said = repr([request.environ.get(name) for name in names]).encode()
        assert "HTTP_TRAILER" not in request.environ
        connection.answer(encode("200 OK", [], said + request.environ["wsgi.input"].read(), request))

    def has_room(self, more: int) -> bool:
        self.long_bytes += more
        return True

    def call_soon(self, function: Callable[[], None]) -> None:
        self.soon.append(function)

    def know(self, connection: Connection) -> None:
        """Nothing is kept of it."""

    def forget(self, connection: Connection) -> None:
        """Nothing was kept of it."""


class Line:
    """One connection to an echo."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.echo = Echo(at_once=at_once)
        self.wire = Wire()
        self.connection = Connection(self.echo)
        self.connection.connection_made(cast("asyncio.Transport", self.wire))

    def send(self, data: bytes) -> None:
        """As asyncio would: as much as fits into the buffer, and nothing while reading is paused."""
        while data and self.wire.reading:
            buffer = self.connection.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            self.connection.buffer_updated(size)
            self.settle()

    def settle(self) -> None:
        while self.echo.soon:
            self.echo.soon.pop(0)()

    def said(self) -> bytes:
        return re.sub(rb"Date: [^\r]*\r\n", b"", self.wire.written)


@given(
    st.lists(st.sampled_from(GOOD), max_size=40),
    st.sampled_from(LAST),
    st.lists(st.integers(0, 40_000), max_size=12),
    st.booleans(),
)
def test_however_the_bytes_are_cut_the_answers_are_the_same(
    requests: list[bytes], last: bytes, cuts: list[int], in_bytes: bool
) -> None:
    raw = b"".join(requests) + last
    whole = Line()
    whole.send(raw)
    places = range(0, min(len(raw), 600)) if in_bytes else sorted({cut for cut in cuts if cut < len(raw)})
    bounds = [0, *places, len(raw)]
    parts = Line()
    for start, end in pairwise(bounds):
        parts.send(raw[start:end])

    assert parts.said() == whole.said()
    assert parts.wire.ended == whole.wire.ended
    assert whole.said().count(b"HTTP/1.1 200 ") >= len(requests)


def test_requests_ahead_of_their_turn_are_few() -> None:
    line = Line(at_once=False)
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    line.send(request * 2_000)
    assert not line.wire.reading
    ahead = len(line.connection._waiting)
    assert MOST_AHEAD <= ahead < MOST_AHEAD + http_protocol.SLICE // len(request) + 2

    while line.echo.begun:
        line.echo.answer()
        line.settle()
    assert line.said().count(b"HTTP/1.1 200 ") == 2_000
    assert line.wire.reading


def test_while_an_answer_is_not_taken_no_other_is_made() -> None:
    line = Line()
    line.send(GOOD[0])
    line.connection.pause_writing()
    line.send(GOOD[0] * 2)
    assert line.said().count(b"HTTP/1.1 200 ") == 1

    line.connection.resume_writing()
    assert line.said().count(b"HTTP/1.1 200 ") == 3


def test_who_never_takes_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(http_protocol, "monotonic", lambda: now[0])
    line = Line()
    line.send(GOOD[0])
    line.connection.pause_writing()
    line.connection.look(1000.0 + http_protocol.TAKING_SECONDS)
    assert not line.wire.ended
    line.connection.look(1001.0 + http_protocol.TAKING_SECONDS)
    assert line.wire.ended


def test_long_bodies_are_counted_until_they_are_answered() -> None:
    line = Line(at_once=False)
    body = b"x" * 90_000
    line.send(b"POST /l HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + body)
    assert line.echo.long_bytes == 90_000
    line.send(b"POST /l HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + body[:80_000])
    assert line.echo.long_bytes == 170_000
    line.echo.answer()
    assert line.echo.long_bytes == 80_000
    line.connection.connection_lost(None)
    assert line.echo.long_bytes == 0
