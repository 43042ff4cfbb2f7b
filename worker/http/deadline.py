"""A total deadline for one HTTP call, enforced at every read, write and connect.

httpx's time-outs bound each wait by itself: a server that sends one byte a second, in the head or in the body, keeps a
call open for ever. Here each wait is cut to what is left of the calling thread's deadline.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TypeAlias

import httpcore

from worker.clock import monotonic

ADDRESS_SECONDS = 3.0
"""How long one address of several may stay silent before the next is tried; a reachable one answers in milliseconds."""

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]
"""A host's addresses, for a port. Raises OSError or UnicodeError where there are none."""

Judge: TypeAlias = Callable[[Sequence[str]], None]
"""Raises if a host with these addresses is not to be called."""

_current = threading.local()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound everything that this thread sends and receives within, all together."""
    _current.end = monotonic() + seconds
    try:
        yield
    finally:
        _current.end = None


def _cut(timeout: float | None, error: type[Exception]) -> float | None:
    end: float | None = getattr(_current, "end", None)
    if end is None:
        return timeout
    left = end - monotonic()
    if left <= 0:
        raise error("the call's deadline has passed")
    return left if timeout is None else min(timeout, left)


class DeadlineStream(httpcore.NetworkStream):
    """A connection that keeps to the deadline of whichever thread uses it at the moment."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _cut(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _cut(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _cut(timeout, httpcore.ConnectTimeout)
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def system_addresses(host: str, port: int) -> list[str]:
    """The host's addresses as this machine finds them."""
    return list(dict.fromkeys(str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def anywhere(_: Sequence[str]) -> None:
    """Every address may be called."""


class DeadlineBackend(httpcore.SyncBackend):
    """Opens connections that keep to the deadline, to addresses that were judged: a name is not looked up again."""

    def __init__(self, resolver: Resolver = system_addresses, judge: Judge = anywhere) -> None:
        self._resolver = resolver
        self._judge = judge

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
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
                return DeadlineStream(stream)
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
