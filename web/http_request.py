"""From a parsed HTTP request to WSGI's environment, and from WSGI's answer to bytes.

Whatever could be read in two ways is refused here, where the parser in front of it is more generous.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from urllib.parse import unquote_to_bytes, urlsplit
from wsgiref.types import WSGIApplication, WSGIEnvironment

import structlog
from httptools import HttpParserCallbackError, HttpParserError

from worker.clock import unix_seconds
from worker.log import where

RETRY_AFTER_SECONDS = "5"

API = b"/api/"
"""Who asks here is told of errors by problem documents."""

LINE_BYTES = 4
"""Of each header, besides its name and its value."""

MOST_NAMES = 500
"""Names of headers whose translation is remembered. Anybody can send new ones; senders know a few dozen."""

log = structlog.get_logger(__name__)

Headers = Sequence[tuple[bytes, bytes]]


class Refused(Exception):
    """The request is not taken. `status` is the answer, and the message says why without quoting what was sent."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Request:
    """One whole request."""

    __slots__ = ("body", "chunked", "environ", "expects", "keep_alive", "kept", "length", "limit", "path")

    def __init__(self, environ: WSGIEnvironment, path: str) -> None:
        self.environ = environ
        self.path = path
        self.body: bytes | bytearray = b""
        self.keep_alive = False
        self.length = 0
        self.limit = 0
        self.kept = 0
        self.chunked = "HTTP_TRANSFER_ENCODING" in environ
        self.expects = False

    def complete(self) -> None:
        """Hand the body to the application, with its true length."""
        environ = self.environ
        environ["wsgi.input"] = BytesIO(self.body)
        if self.chunked:
            environ["CONTENT_LENGTH"] = str(len(self.body))


def read_head(method: bytes, target: bytes, version: str, headers: Headers, base: WSGIEnvironment) -> Request:
    """The request of a head whose body is still to come. `base` is what all requests of a connection have in common.
    Raises Refused."""
    if version not in ("1.1", "1.0"):
        raise Refused(400, "this version of HTTP is not spoken here")
    if method == b"CONNECT":
        raise Refused(400, "this is no proxy")
    path, query = _split(target)
    environ = base.copy()
    environ["REQUEST_METHOD"] = method.decode("ascii")
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if version == "1.1" else "HTTP/1.0"
    for name, value in headers:
        key = _NAMES.get(name) or _key(name)
        if key in environ:
            _join(environ, key, value)
        elif key != _UNDERSCORED:
            environ[key] = value.decode("latin-1").strip(_BLANKS)
    request = Request(environ, path)
    _read_framing(request, version)
    return request


def _read_framing(request: Request, version: str) -> None:
    environ = request.environ
    length = environ.get("CONTENT_LENGTH")
    if request.chunked:
        if environ.pop("HTTP_TRANSFER_ENCODING").lower() != "chunked":
            raise Refused(400, "this transfer coding is not supported")
        if version == "1.0":
            # A proxy of that version would take the body for the next request.
            raise Refused(400, "Transfer-Encoding needs HTTP/1.1")
        if length is not None:
            # Two lengths for one body is how requests are smuggled past a proxy that believes the other one.
            raise Refused(400, "both Content-Length and Transfer-Encoding")
    elif length is not None:
        if not length.isascii() or not length.isdigit() or len(length) > 18:
            raise Refused(400, "the Content-Length is no number of bytes")
        request.length = int(length)
    expectation = environ.get("HTTP_EXPECT")
    request.expects = expectation is not None and version == "1.1" and expectation.lower() == "100-continue"


def _split(target: bytes) -> tuple[str, str]:
    """The path as WSGI wants it, percent-decoded with each byte a character, and the query."""
    text = target.decode("latin-1")
    if not text.startswith("/"):
        text = _of_whole_url(text)
    path, _, query = text.partition("#")[0].partition("?")
    if "%" in path:
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    return path, query


def _of_whole_url(text: str) -> str:
    if text == "*":
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        raise Refused(400, "the request's target cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Refused(400, "the request's target is neither a path nor a URL")
    return f"{parts.path or '/'}?{parts.query}"


_BLANKS = " \t"

_UNDERSCORED = ""
"""The key of a header with an underscore in its name, which would pass for one with a dash."""

_NAMES: dict[bytes, str] = {}

_ONCE = frozenset({"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_HOST"})


def _key(name: bytes) -> str:
    text = name.decode("latin-1").upper()
    key = text.replace("-", "_")
    if "_" in text:
        key = _UNDERSCORED
    elif key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = "HTTP_" + key
    if len(_NAMES) < MOST_NAMES:
        _NAMES[name] = key
    return key


def _join(environ: WSGIEnvironment, key: str, value: bytes) -> None:
    """A header that is sent twice is joined, as a proxy would, and so cannot hide a second value."""
    if key in _ONCE:
        raise Refused(400, "a header that says where the request ends or goes was sent twice")
    environ[key] += ", " + value.decode("latin-1").strip(_BLANKS)


def environment(server: tuple[str, int], client: str) -> WSGIEnvironment:
    """What all requests of a connection have in common."""
    return {
        "SCRIPT_NAME": "",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


class _Answer:
    """Collects what the application says; one for each request."""

    __slots__ = ("headers", "parts", "status")

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.parts: list[bytes] = []

    def start(self, status: str, headers: list[tuple[str, str]], _error: object = None, /) -> Callable[[bytes], object]:
        self.status = status
        self.headers = headers
        return self.parts.append


def call(app: WSGIApplication, request: Request) -> bytes:
    """The application's whole answer, as bytes. Raises whatever the application raises."""
    answer = _Answer()
    parts: Iterable[bytes] = app(request.environ, answer.start)
    try:
        answer.parts.extend(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return encode(answer.status, answer.headers, b"".join(answer.parts), request)


_BODILESS = frozenset({"204", "304"})


def encode(status: str, headers: list[tuple[str, str]], body: bytes, request: Request) -> bytes:
    """An answer as it is sent. Raises ValueError for a header in which another one hides."""
    environ = request.environ
    is_head = environ["REQUEST_METHOD"] == "HEAD"
    # The length that counts is that of what is sent; only where nothing is, the application's is all there is.
    head = _head(status, tuple(headers) if is_head else _without_length(headers))
    if is_head or status[:3] in _BODILESS:
        body = length = b""
    else:
        length = b"Content-Length: %d\r\n" % len(body)
    closing = b""
    if not request.keep_alive:
        closing = b"Connection: close\r\n"
    elif environ["SERVER_PROTOCOL"] == "HTTP/1.0":
        closing = b"Connection: keep-alive\r\n"
    return b"".join((head, length, closing, _date(unix_seconds()), body))


def _without_length(headers: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple([header for header in headers if header[0].lower() != "content-length"])


@lru_cache(maxsize=32)
def _head(status: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """The lines that many answers have in common. Raises ValueError for a header in which another one hides."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), ""]
    head = "\r\n".join(lines).encode("latin-1")
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        raise ValueError("a header of the answer has a line break in it")
    return head


@lru_cache(maxsize=2)
def _date(seconds: int) -> bytes:
    """The last line of a head, and its end."""
    return f"Date: {formatdate(seconds, usegmt=True)}\r\n\r\n".encode("ascii")


def brief(
    status: int, sentence: str, *, keep_alive: bool, retry_after: str | None = None, target: bytes = b""
) -> bytes:
    """An answer of the server's own, in the form of whom the request's `target` names: the API or the receiver."""
    kind = "application/json"
    document: dict[str, object] = {"error": sentence}
    if target.startswith(API):
        title, instance = HTTPStatus(status).phrase, target.partition(b"?")[0].decode("latin-1")
        kind = "application/problem+json"
        document = {"type": "about:blank", "title": title, "status": status, "detail": sentence, "instance": instance}
    body = json.dumps(document).encode("ascii") + b"\n"
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
    ]
    if retry_after is not None:
        lines.append(f"Retry-After: {retry_after}")
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join([*lines, ""]).encode("ascii") + _date(unix_seconds()) + body


def turned_away(refused: Refused, target: bytes) -> bytes:
    """The answer to a request that is not taken, as far as its target is known; the connection ends with it."""
    retry_after = RETRY_AFTER_SECONDS if refused.status == 503 else None
    return brief(refused.status, refused.reason, keep_alive=False, retry_after=retry_after, target=target)


def refusal(error: HttpParserError) -> Refused:
    """Why the parser gave up, as it is answered."""
    cause = error.__context__
    if isinstance(cause, Refused):
        return cause
    if isinstance(error, HttpParserCallbackError):
        log.error("request_not_read", error=where(cause or error))
        return Refused(400, "the request cannot be read")
    # The parser's own words, which quote nothing.
    return Refused(400, str(error))
