"""A total deadline for one HTTP call, enforced at every read, write and connect.

httpx's time-outs bound each wait by itself: a server that sends one byte a second, in the head or in the body, keeps a
call open for ever. Here each wait is cut to what is left of the calling thread's deadline.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from queue import Empty, SimpleQueue
from typing import TypeAlias

import httpcore

from worker.clock import monotonic
from worker.waiting import READABLE, THREADS, WRITABLE, Waiter

ADDRESS_SECONDS = 3.0
"""How long one address of several may stay silent before the next is tried; a reachable one answers in milliseconds."""

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]
"""A host's addresses, for a port. Raises OSError or UnicodeError where there are none."""

Judge: TypeAlias = Callable[[Sequence[str]], None]
"""Raises if a host with these addresses is not to be called."""

_end: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound everything that this thread sends and receives within, all together."""
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
    """A connection that keeps to the deadline of whichever call uses it at the moment."""

    def __init__(self, stream: httpcore.NetworkStream, waiter: Waiter = THREADS) -> None:
        self._stream = stream
        self._waiter = waiter
        self._socket: socket.socket = stream.get_extra_info("socket")
        self._is_tls = isinstance(self._socket, ssl.SSLSocket)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _cut(timeout, httpcore.ReadTimeout)
        if not self._waiter.gives_way():
            return self._stream.read(max_bytes, left)
        self._socket.settimeout(0)
        if not self._is_tls:
            self._wait(READABLE, left, httpcore.ReadTimeout)
        while True:
            try:
                return self._socket.recv(max_bytes)
            except (BlockingIOError, ssl.SSLWantReadError):
                wanted = READABLE
            except ssl.SSLWantWriteError:
                wanted = WRITABLE
            except OSError as error:
                raise httpcore.ReadError(str(error)) from error
            self._wait(wanted, _cut(timeout, httpcore.ReadTimeout), httpcore.ReadTimeout)

    def _wait(self, wanted: int, left: float | None, error: type[Exception]) -> None:
        if not self._waiter.until_ready(self._socket.fileno(), wanted, left):
            raise error("timed out")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = _cut(timeout, httpcore.WriteTimeout)
        if not self._waiter.gives_way():
            self._stream.write(buffer, left)
            return
        self._socket.settimeout(0)
        while buffer:
            try:
                buffer = buffer[self._socket.send(buffer) :]
                continue
            except (BlockingIOError, ssl.SSLWantWriteError):
                wanted = WRITABLE
            except ssl.SSLWantReadError:
                wanted = READABLE
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error
            self._wait(wanted, _cut(timeout, httpcore.WriteTimeout), httpcore.WriteTimeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _cut(timeout, httpcore.ConnectTimeout)
        secured = self._waiter.aside(lambda: self._stream.start_tls(ssl_context, server_hostname, timeout))
        return DeadlineStream(secured, self._waiter)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def system_addresses(host: str, port: int) -> list[str]:
    """The host's addresses as this machine finds them."""
    return list(dict.fromkeys(str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def anywhere(_: Sequence[str]) -> None:
    """Every address may be called."""


class DeadlineBackend(httpcore.SyncBackend):
    """Opens connections that keep to the deadline, to addresses that were judged: a name is not looked up again."""

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
        context = copy_context()
        return self._waiter.aside(
            lambda: context.run(self._connect, host, port, timeout, local_address, socket_options)
        )

    def _connect(
        self,
        host: str,
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("the host has no address")
        addresses = _resolve(self._resolver, host, port)
        self._judge(addresses)
        for address in addresses:
            patience = timeout if address == addresses[-1] else ADDRESS_SECONDS
            left = _cut(patience, httpcore.ConnectTimeout)
            try:
                stream = super().connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return DeadlineStream(stream, self._waiter)
        raise failure


def _resolve(resolver: Resolver, host: str, port: int) -> Sequence[str]:
    """The host's addresses. A resolver that hangs cannot be interrupted, so it hangs in a thread of its own."""
    answers: SimpleQueue[Sequence[str] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolver(host, port))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=_cut(None, httpcore.ConnectTimeout))
    except Empty:
        raise httpcore.ConnectTimeout("the host's name was not resolved in time") from None
    if isinstance(answer, Exception):
        raise httpcore.ConnectError("the host's name cannot be resolved")
    return answer
