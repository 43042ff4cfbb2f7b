"""A running server and raw sockets to it: for what no HTTP client would send."""

import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Self, TypeVar

from flask import Flask

from web.http_server import serve

BodyLimit = Callable[[str], int]


class Served:
    """A Flask application; `release` lets go whatever a test made wait in it."""

    flask: Flask

    def release(self) -> None:
        """Nothing waits unless a test says so."""


AnyServed = TypeVar("AnyServed", bound=Served)


class RunningServer(Generic[AnyServed]):
    """A server in a thread of this process, from entering to leaving."""

    def __init__(
        self, app: AnyServed, body_limit: BodyLimit, listener: socket.socket | None = None, threads: int = 4
    ) -> None:
        self.app = app
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.server = serve(app.flask, listener=self._listener, threads=threads, body_limit=body_limit)
        self._thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.app.release()
        self.server.stop()
        self.join()

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def exchange(self, *parts: bytes, end: bool = False) -> bytes:
        """Everything the server says until it closes."""
        with self.connect() as sock:
            for part in parts:
                sock.sendall(part)
            if end:
                sock.shutdown(socket.SHUT_WR)
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while data := sock.recv(65536):
            received += data
    return received


def read_until(sock: socket.socket, pattern: bytes) -> bytes:
    received = b""
    while not re.search(pattern, received):
        data = sock.recv(65536)
        assert data, f"closed after {received!r}"
        received += data
    return received


def statuses(raw: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]


def documents(raw: bytes) -> list[dict[str, object]]:
    return [json.loads(text) for text in re.findall(rb"\{[^}]*\}", raw)]
