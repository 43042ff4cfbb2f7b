"""httpx's transport, for calls to providers and to webhook sinks: connections of httpcore's network layer, answers
parsed by httptools.

httpx's own transport parses HTTP in Python, and takes four fifths of a short call's time for it. Nothing is parsed here
either: httptools wraps the parser of Node.js. This module keeps connections, bounds the head of an answer, and says how
an answer ended. One call at a time uses a connection, and nothing is sent twice.
"""

import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import cast

import httpcore
import httptools
import httpx

from worker.clock import monotonic

KEPT_SECONDS = 30.0
"""How long an unused connection is kept. Servers commonly close theirs after a minute."""

HEAD_BYTES = 64 * 1024
"""Of an answer, before its body begins. Providers send two kilobytes."""

READ_BYTES = 64 * 1024

_HTTPCORE = (httpcore.TimeoutException, httpcore.NetworkError)

_Origin = tuple[str, str, int]


class Transport(httpx.BaseTransport):
    """Sends requests. Thread-safe: as many connections are open as there are calls at once."""

    def __init__(self, backend: httpcore.NetworkBackend, *, most_kept: int, tls: ssl.SSLContext | None = None) -> None:
        self._backend = backend
        self._tls = ssl.create_default_context() if tls is None else tls
        self._tls.set_alpn_protocols(["http/1.1"])
        self._lock = threading.Lock()
        self._idle: dict[_Origin, deque[_Connection]] = {}
        self._most_kept = most_kept

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer once its head is here; its stream reads the rest. Raises httpx's TransportErrors."""
        timeouts: Mapping[str, float | None] = request.extensions.get("timeout", {})
        whole = _head(request) + b"".join(cast("httpx.SyncByteStream", request.stream))
        connection = self._take(_origin(request.url)) or self._connect(request.url, timeouts.get("connect"))
        try:
            answer = _Answer(connection, timeouts.get("read"))
            try:
                connection.stream.write(whole, timeouts.get("write"))
            except _HTTPCORE as error:
                raise _as_httpx(error) from error
            answer.read_head()
        except BaseException:
            connection.close()
            raise
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(self, answer), request=request)

    def try_connecting(self, url: httpx.URL) -> None:
        """Open a connection, secured where the URL says so, and close it again. Raises httpx's TransportErrors."""
        self._connect(url, None).close()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            kept = [connection for connections in self._idle.values() for connection in connections]
            self._idle.clear()
        for connection in kept:
            connection.close()

    def _connect(self, url: httpx.URL, timeout: float | None) -> "_Connection":
        origin = scheme, host, port = _origin(url)
        try:
            stream = self._backend.connect_tcp(host, port, timeout)
            if scheme == "https":
                try:
                    stream = stream.start_tls(self._tls, host, timeout)
                except BaseException:
                    stream.close()
                    raise
        except _HTTPCORE as error:
            raise _as_httpx(error) from error
        return _Connection(origin, stream)

    def _take(self, origin: _Origin) -> "_Connection | None":
        """A connection that may be used again: the one that was used last, since the others may then grow old."""
        while True:
            with self._lock:
                kept = self._idle.get(origin)
                connection = kept.pop() if kept else None
            if connection is None or connection.usable():
                return connection
            connection.close()

    def give_back(self, connection: "_Connection") -> None:
        """Keep a connection whose answer was read to its end, for the next call."""
        connection.idle_since = monotonic()
        dropped: list[_Connection] = []
        with self._lock:
            kept = self._idle.setdefault(connection.origin, deque())
            kept.append(connection)
            while len(kept) > self._most_kept or kept[0].is_old():
                dropped.append(kept.popleft())
        for old in dropped:
            old.close()


class _Connection:
    def __init__(self, origin: _Origin, stream: httpcore.NetworkStream) -> None:
        self.origin = origin
        self.stream = stream
        self.idle_since = monotonic()

    def is_old(self) -> bool:
        return monotonic() - self.idle_since > KEPT_SECONDS

    def usable(self) -> bool:
        # What can be read from a connection that nobody uses is its end, or an answer that nobody asked for.
        return not self.is_old() and not self.stream.get_extra_info("is_readable")

    def close(self) -> None:
        with suppress(OSError, httpcore.NetworkError):
            self.stream.close()


class _Answer:
    """An answer on its way in. Methods named `on_…` are called by httptools."""

    def __init__(self, connection: _Connection, timeout: float | None) -> None:
        self.connection = connection
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.reusable = False
        self._timeout = timeout
        self._parser = httptools.HttpResponseParser(self)
        self._in_head = True
        self._counted = 0
        self._ends_with_connection = False
        self._chunks: list[bytes] = []

    def read_head(self) -> None:
        """Read until the body begins."""
        while self._in_head:
            self._read()

    def read_body(self) -> Iterator[bytes]:
        """The body as it comes. Raises RemoteProtocolError if it is cut."""
        while True:
            yield from self._chunks
            self._chunks.clear()
            if self.complete:
                return
            self._read()

    def _read(self) -> None:
        try:
            data = self.connection.stream.read(READ_BYTES, self._timeout)
        except _HTTPCORE as error:
            raise _as_httpx(error) from error
        if not data:
            if self._in_head or not self._ends_with_connection:
                raise httpx.RemoteProtocolError("the connection ended before the answer")
            self.complete = True
            return
        if self._in_head:
            self._counted += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.complete:
                # The answer is whole; what came behind it is nobody's.
                self.reusable = False
                return
            raise httpx.RemoteProtocolError(f"the answer is not HTTP: {type(error).__name__}") from None
        if self._in_head and self._counted > HEAD_BYTES:
            raise httpx.RemoteProtocolError("the answer's head is too long")

    def on_message_begin(self) -> None:
        if self.complete:
            # More than was asked for: whatever it is, it must not become the answer to another call.
            self.reusable = False
        self.headers = self.headers if self.complete else []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.complete or self._parser.get_status_code() < 200:
            return
        self._in_head = False
        self.status = self._parser.get_status_code()
        self._ends_with_connection = not _has_length(self.headers)

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        if not self._in_head and not self.complete:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()


class _Body(httpx.SyncByteStream):
    def __init__(self, transport: Transport, answer: _Answer) -> None:
        self._transport = transport
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.read_body()

    def close(self) -> None:
        if self._answer.complete and self._answer.reusable:
            self._transport.give_back(self._answer.connection)
        else:
            self._answer.connection.close()


def _origin(url: httpx.URL) -> _Origin:
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.UnsupportedProtocol("a call needs a URL with http or https and a host")
    return url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)


def _head(request: httpx.Request) -> bytes:
    """The request as it is sent, up to its body."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    head = b"\r\n".join(lines)
    if head.count(b"\r") != len(lines) - 1 or head.count(b"\n") != len(lines) - 1 or b"\0" in head:
        raise httpx.LocalProtocolError("a header or the URL holds a line break")
    return head + b"\r\n\r\n"


def _has_length(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the answer says where it ends. httptools refuses answers that say it twice or wrongly."""
    lengths = {name.lower(): value.lower() for name, value in headers}
    return b"content-length" in lengths or b"chunked" in lengths.get(b"transfer-encoding", b"")


def _as_httpx(error: Exception) -> httpx.TransportError:
    """httpcore's error as httpx's of the same name."""
    kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__, httpx.NetworkError)
    return kind(str(error))
