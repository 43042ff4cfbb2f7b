"""Servers that answer over real sockets as a test says, well or badly."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

OK = b"HTTP/1.1 200 OK\r\n"
DRIP = 0.02
"""Seconds between two bytes: far below any time-out on a single wait."""


class Server:
    """Accepts connections and lets `talk` answer each, in a thread of its own. Keeps what it was sent."""

    def __init__(self, talk: "Callable[[Server, socket.socket], None]") -> None:
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.stop = threading.Event()
        self.heads: list[str] = []
        self.port = int(self._listener.getsockname()[1])
        self.closed = threading.Event()
        self.connections = 0
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self.stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def read_head(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(65536)
            if not part:
                raise OSError
            received += part
        self.heads.append(received.decode("latin-1"))

    def send(self, connection: socket.socket, data: bytes) -> None:
        # Counted before: the other side may have it, and a test may ask, before `sendall` is back.
        self.sent += len(data)
        connection.sendall(data)

    def drip(self, connection: socket.socket, data: bytes) -> None:
        """Sends byte after byte, again and again, until the other side gives up."""
        while not self.stop.is_set():
            for byte in data:
                self.send(connection, bytes([byte]))
                if self.stop.wait(DRIP):
                    return

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._talk(self, connection)
        self.closed.set()


@contextmanager
def serving(talk: Callable[[Server, socket.socket], None]) -> Iterator[Server]:
    server = Server(talk)
    thread = threading.Thread(target=server.accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def answer(head: bytes, body: bytes = b"") -> Callable[[Server, socket.socket], None]:
    """Gives one answer on each connection."""

    def talk(server: Server, connection: socket.socket) -> None:
        server.read_head(connection)
        server.send(connection, head + b"Connection: close\r\n\r\n" + body)

    return talk


def whole(body: bytes, headers: bytes = b"") -> Callable[[Server, socket.socket], None]:
    return answer(OK + headers + f"Content-Length: {len(body)}\r\n".encode(), body)
