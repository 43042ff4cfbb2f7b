"""Requests that wait for news: they hold a connection and nothing else, no thread and nothing of the database.

Whoever answers a request asks for a `Wait`, and answers all the same: that is what is sent if no news comes.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeAlias
from wsgiref.types import WSGIApplication

from web.http_protocol import Connection
from web.http_request import Request, call

MOST_WAITS = 256
"""For each process: below a third of its connections, so that webhooks find one however many wait. Whoever comes when
all are taken is answered at once."""

MOST_OF_ONE = 16
"""For each process and each token, so that a few of them leave places for the others. Consumers of one kind that share
a token are a few; whoever opens more has lost count of them."""

ASK = "verisink.wait"
"""Where a request's environment has the way to a `Wait`; other servers offer none."""

Ask: TypeAlias = "Callable[[float, str], Wait | None]"
"""For how many seconds, and who asks."""

_MADE = "verisink.waiting"
_GOOD = b"HTTP/1.1 200 "


class Wait:
    """One request that waits. Only once it `has_begun` may it be finished."""

    def __init__(self, waits: "Waits", request: Request, seconds: float, owner: str) -> None:
        self.owner = owner
        self.request = request
        self.seconds = seconds
        self.has_begun = False
        self.is_over = False
        self.connection: Connection
        self.otherwise = b""
        self.timer: asyncio.TimerHandle
        self._waits = waits

    def finish(self, answer: WSGIApplication) -> None:
        """Send this answer, unless its time is up already. Any thread may call it."""
        self._waits.call(partial(self._waits.end, self, call(answer, self.request)))


class Waits:
    """The requests of one server that wait. All but `ask` is called in its loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[Callable[[], object]], None]) -> None:
        self.call = call
        self._loop = loop
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._begun: set[Wait] = set()
        self._stopped = False

    def ask(self, request: Request, seconds: float, owner: str) -> Wait | None:
        """A place for this request, if there is one left for its `owner`. Its answer must follow."""
        if self._stopped:
            return None
        with self._lock:
            if self._taken[owner] >= MOST_OF_ONE or self._taken.total() >= MOST_WAITS:
                return None
            self._taken[owner] += 1
        wait = request.environ[_MADE] = Wait(self, request, seconds, owner)
        return wait

    def begin(self, connection: Connection, request: Request, raw: bytes) -> bool:
        """Whether the request waits from now on; `raw` is its answer otherwise."""
        wait: Wait | None = request.environ.pop(_MADE, None)
        if wait is None:
            return False
        if self._stopped or not raw.startswith(_GOOD):
            self._forget(wait)
            return False
        wait.connection, wait.otherwise = connection, raw
        wait.timer = self._loop.call_later(wait.seconds, self.end, wait)
        self._begun.add(wait)
        wait.has_begun = True
        return True

    def end(self, wait: Wait, raw: bytes | None = None) -> None:
        """Answer it now, with `raw` or what it has."""
        if not wait.is_over:
            wait.timer.cancel()
            self._forget(wait)
            wait.connection.answer(wait.otherwise if raw is None else raw)

    def _forget(self, wait: Wait) -> None:
        wait.is_over = True
        self._begun.discard(wait)
        with self._lock:
            self._taken[wait.owner] -= 1
            # Only names that wait are kept, and those that are done with are forgotten.
            self._taken += Counter()

    def look(self) -> None:
        """End what nobody listens to any more. Who only has nothing more to say gets an answer, if an early one."""
        for wait in list(self._begun):
            if wait.connection.is_gone or wait.connection.ended:
                self.end(wait)

    def stop(self) -> None:
        """End all, and begin none."""
        self._stopped = True
        for wait in list(self._begun):
            self.end(wait)
