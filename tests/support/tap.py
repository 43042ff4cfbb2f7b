"""Everything that is said to a Redis, as it stands there and as Celery's messages mean it."""

import base64
import re
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_BODY = re.compile(rb'body\\*": \\*"([A-Za-z0-9+/=]+)')


class Tap:
    """Listens to all commands of a Redis while it lasts."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=5)
        self._heard = bytearray()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        self._socket.settimeout(None)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _listen(self) -> None:
        while part := self._socket.recv(65_536):
            self._heard += part

    @property
    def commands(self) -> str:
        """All that was said."""
        return bytes(self._heard).decode("utf-8", "replace")

    @property
    def messages(self) -> list[str]:
        """The bodies of Celery's messages: their arguments above all."""
        return [base64.b64decode(body).decode("utf-8", "replace") for body in _BODY.findall(bytes(self._heard))]
