"""A total deadline for one HTTP call, enforced at every read, write and connect.

httpx's time-outs bound each wait by itself: a server that sends one byte a second, in the head or in the body, keeps a
call open for ever. Here each wait is cut to what is left of the call's deadline.
"""

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TypeAlias, TypeVar

import httpcore

from worker.clock import monotonic
from worker.waiting import READABLE, THREADS, WRITABLE, Waiter

ADDRESS_SECONDS = 3.0
"""How long one address of several may stay silent before the next is tried; a reachable one answers in milliseconds."""

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]
"""A host's addresses, for a port. Raises OSError or UnicodeError where there are none."""

Judge: TypeAlias = Callable[[Sequence[str]], None]
"""Raises if a host with these addresses is not to be called."""

LOOKUP_SECONDS = 30.0
"""How long a name may take to be found without any deadline."""

Result = TypeVar("Result")

_Errors: TypeAlias = tuple[type[Exception], type[Exception]]
"""What is raised when something takes too long, and when it fails."""

_READING: _Errors = (httpcore.ReadTimeout, httpcore.ReadError)
_WRITING: _Errors = (httpcore.WriteTimeout, httpcore.WriteError)
_CONNECTING: _Errors = (httpcore.ConnectTimeout, httpcore.ConnectError)

_end: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound everything that the caller sends and receives within, all together: a thread, or a greenlet."""
    before = _end.set(monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(before)


def _cut(timeout: float | None, error: type[Exception]) -> float | None:
    end = _end.get()
    if end is None:
        return timeout
    left = end - monotonic()
    if left <= 0:
        raise error("the call's deadline has passed")
    return left if timeout is None else min(timeout, left)


class DeadlineStream(httpcore.NetworkStream):
    """A connection that keeps to the deadline of whichever call uses it, and waits in that call's way."""

    def __init__(self, connected: socket.socket, waiter: Waiter) -> None:
        self._socket = connected
        self._waiter = waiter

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        receive = partial(self._socket.recv, max_bytes)
        # Hardly ever is an answer there at once, and others have their turn also while somebody sends without end. Only
        # what TLS has unpacked already makes no file readable.
        unpacked = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
        return self._patiently(receive, timeout, READABLE, _READING, at_first=0 if unpacked else READABLE)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        while buffer:
            sent = self._patiently(partial(self._socket.send, buffer), timeout, WRITABLE, _WRITING)
            buffer = buffer[sent:]

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            secured = ssl_context.wrap_socket(
                self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except OSError as error:
            # The other side has ended the connection already.
            raise httpcore.ConnectError(str(error)) from error
        stream = DeadlineStream(secured, self._waiter)
        try:
            stream._patiently(secured.do_handshake, timeout, READABLE, _CONNECTING)
        except BaseException:
            secured.close()
            raise
        return stream

    def get_extra_info(self, info: str) -> object:
        """`is_readable`, which is all that is asked for."""
        if info != "is_readable":
            return None
        return bool(THREADS.until_ready(self._socket.fileno(), READABLE, 0))

    def _patiently(
        self,
        act: Callable[[], Result],
        timeout: float | None,
        wanted: int,
        errors: _Errors,
        *,
        at_first: int = 0,
    ) -> Result:
        """What `act` returns, once it can be done without blocking. Raises `errors`."""
        late, failed = errors
        now = at_first
        while True:
            left = _cut(timeout, late)
            try:
                if now and not self._waiter.until_ready(self._socket.fileno(), now, left):
                    raise late("it took too long")
                return act()
            except BlockingIOError:
                now = wanted
            except ssl.SSLWantReadError:
                now = READABLE
            except ssl.SSLWantWriteError:
                now = WRITABLE
            except OSError as error:
                raise failed(str(error)) from error


def system_addresses(host: str, port: int) -> list[str]:
    """The host's addresses as this machine finds them."""
    return list(dict.fromkeys(str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def anywhere(_: Sequence[str]) -> None:
    """Every address may be called."""


class DeadlineBackend(httpcore.NetworkBackend):
    """Opens connections that keep to the deadline, to addresses that were judged: a name is not looked up again.

    `waiter` is how those who call may wait; the deadline is the caller's own, whatever it runs in.
    """

    def __init__(
        self, resolver: Resolver = system_addresses, judge: Judge = anywhere, waiter: Waiter = THREADS
    ) -> None:
        self._resolver = resolver
        self._judge = judge
        self._waiter = waiter

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first of the host's addresses that answers. Raises httpcore's ConnectError and
        ConnectTimeout, and what the judge raises. Nobody here asks for an address or options of its own."""
        failure: Exception = httpcore.ConnectError("the host has no address")
        addresses = self._resolve(host, port)
        self._judge(addresses)
        for address in addresses:
            patience = timeout if address == addresses[-1] else ADDRESS_SECONDS
            left = _cut(patience, httpcore.ConnectTimeout)
            try:
                return DeadlineStream(connect(address, port, left, self._waiter), self._waiter)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _resolve(self, host: str, port: int) -> Sequence[str]:
        """The host's addresses. A resolver that hangs cannot be interrupted, so it hangs in a thread of its own."""
        answers: list[Sequence[str] | Exception] = []
        answered = self._waiter.event()

        def ask() -> None:
            try:
                answers.append(self._resolver(host, port))
            except (OSError, UnicodeError) as error:
                answers.append(error)
            answered.set()

        patience = _cut(LOOKUP_SECONDS, httpcore.ConnectTimeout) or 0.0
        threading.Thread(target=ask, name="resolve", daemon=True).start()
        if not answered.wait(patience):
            raise httpcore.ConnectTimeout("the host's name was not resolved in time")
        answer = answers[0]
        if isinstance(answer, Exception):
            raise httpcore.ConnectError("the host's name cannot be resolved")
        return answer


def connect(address: str, port: int, timeout: float | None, waiter: Waiter) -> socket.socket:
    """A connection to this address, which does not block. Raises httpcore's ConnectError and ConnectTimeout."""
    try:
        # Nothing is looked up for an address; but it may name an interface, which stands elsewhere in what is called.
        numeric = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, OverflowError) as error:
        raise httpcore.ConnectError(str(error)) from error
    family, kind, _, _, place = numeric[0]
    opened = socket.socket(family, kind)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):
            opened.connect(place)
        if not waiter.until_ready(opened.fileno(), WRITABLE, timeout):
            raise httpcore.ConnectTimeout("the address did not answer in time")
        if code := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
    except (OSError, OverflowError) as error:
        opened.close()
        raise httpcore.ConnectError(str(error)) from error
    except BaseException:
        opened.close()
        raise
    return opened
