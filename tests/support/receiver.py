"""Somebody who receives webhooks over a real socket, and answers as a test says."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.support.talk import Server, serving
from worker.domain.events import Event, cloud_event
from worker.domain.states import EventType, Outcome, Stage

TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass
class Post:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Posts:
    """What a receiver got."""

    server: Server
    got: list[Post] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def ids(self) -> list[str]:
        return [str(json.loads(post.body)["id"]) for post in self.got]


def read_post(connection: socket.socket) -> Post:
    """Read one request to its end. Raises OSError where there is none."""
    with connection.makefile("rb") as stream:
        line = stream.readline().decode("ascii").strip()
        if not line:
            raise OSError
        headers = {}
        while (header := stream.readline().decode("ascii").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        return Post(line, headers, stream.read(int(headers["content-length"])))


@contextmanager
def receiving(
    answer: Callable[[Server, socket.socket], None] | bytes = TAKEN, tls: ssl.SSLContext | None = None
) -> Iterator[Posts]:
    """A receiver that reads each request, and then sends `answer` or does what it says."""

    def talk(server: Server, raw: socket.socket) -> None:
        connection = raw if tls is None else tls.wrap_socket(raw, server_side=True)
        with connection:
            while True:
                posts.got.append(read_post(connection))
                if isinstance(answer, bytes):
                    server.send(connection, answer)
                else:
                    answer(server, connection)
                    return

    with serving(talk) as server:
        posts = Posts(server)
        yield posts


def event(number: int = 7) -> dict[str, object]:
    """An event as the engine hands it over, with characters that are easily broken on the way."""
    happened = Event(
        EventType.DECIDED,
        "persona-live",
        "verification/selfie",
        f"ver_{number}",
        2,
        Stage.DECIDED,
        Outcome.APPROVED,
        data={"source": "persona-live", "version": 2, "reference": "é\u2028\ud800"},
    )
    return cloud_event(happened, f"id-{number}", number, datetime(2026, 1, 31, 12, tzinfo=UTC))
