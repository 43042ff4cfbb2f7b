"""The HTTP server: one loop that reads and writes, webhooks in greenlets, everything else in threads.

A webhook's request waits for its group's commit and nothing else, so thousands may wait without a thread each, and
none of them is kept from its answer by a slow question to the API. Why this server is ours: docs/decisions/0010.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from wsgiref.types import WSGIApplication

import structlog
import uvloop

from web.http_protocol import LONG_BODY, Connection
from web.http_request import RETRY_AFTER_SECONDS, Request, brief, call
from web.load import Load
from web.waits import ASK, Waits
from worker import metrics
from worker.clock import monotonic
from worker.greenlets import Hub, Pool
from worker.log import where

GRACE_SECONDS = 20.0
"""How long a stop waits for requests in flight: below the 30 seconds that process managers commonly give."""

ARRIVING_SECONDS = 2.0
"""Of these, for requests that have begun to arrive: most are whole within milliseconds, and some senders send once."""

MOST_CONNECTIONS = 900
"""Below the usual limit of 1,024 open files. Connections over it wait in the backlog."""

MOST_LONG_BYTES = 128 * 1024 * 1024
"""For all bodies over 64 KiB that are arriving or being answered. The next one is told to come again."""

ASIDE_THREADS = 16
"""For what blocks while a webhook waits: connecting, SQLite's commits and those of long bodies, keeping what was
refused, and the spool."""

READ_BYTES = 64 * 1024
TICK = 0.5
WEBHOOKS = "/webhooks/"

BodyLimit = Callable[[str], int]

log = structlog.get_logger(__name__)


def serve(app: WSGIApplication, *, listener: socket.socket, threads: int, body_limit: BodyLimit) -> "Server":
    """A server on a listening socket, which several processes may share. `body_limit` gives the longest body in bytes
    for a path, `threads` is for what is no webhook. Nothing is answered before `run`."""
    return Server(app, listener, threads, body_limit)


class Server:
    """Serves until told to stop, and then finishes what is in flight."""

    def __init__(self, app: WSGIApplication, listener: socket.socket, threads: int, body_limit: BodyLimit) -> None:
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.body_limit = body_limit
        self._app = app
        self._listener = listener
        self._threads = threads
        self._connections: set[Connection] = set()
        self._accepting: set[asyncio.Task[object]] = set()
        self._listening = False
        self._long_bytes = 0
        self._asides = 0
        self._load = Load()
        self._stop_wanted = False
        self._stop_by: float | None = None
        self._loop: asyncio.AbstractEventLoop
        self._hub: Hub
        self._pool: Pool
        self._waits: Waits

    def run(self) -> None:
        """Serve, in the calling thread, until `stop`."""
        aside = Pool("aside", ASIDE_THREADS)
        self._pool = Pool("request", self._threads)
        loop = uvloop.new_event_loop()
        self._hub = Hub(loop, aside)
        self._loop = loop
        self._waits = Waits(loop, self._hub.call)
        try:
            self._listener.setblocking(False)
            self._listen()
            self._tick()
            if self._stop_wanted:
                # It was stopped before there was a loop to tell.
                loop.call_soon(self._wind_down)
            loop.run_forever()
        finally:
            self._deafen()
            self._listener.close()
            for pool in (aside, self._pool):
                pool.stop()
            self._abandon()
            self._hub.end()
            loop.close()

    def stop(self) -> None:
        """Take no new connection, and end `run` once the requests in flight are answered. Any thread or signal handler
        may call it."""
        self._stop_wanted = True
        with suppress(AttributeError, RuntimeError):
            # Before it runs and when it has ended, there is nobody to wake.
            self._loop.call_soon_threadsafe(self._wind_down)

    # What connections need.

    def begin(self, connection: Connection, request: Request) -> None:
        """Answer a request; see `http_protocol.Service`."""
        if not request.path.startswith(WEBHOOKS):
            self._begin_aside(connection, request)
        elif self._load.is_too_much():
            metrics.SHED.inc()
            connection.answer(_too_many(request))
        else:
            self._load.begin()
            if request.kept or len(request.body) > LONG_BODY:
                # Reading megabytes of JSON would hold everybody else up.
                self._pool.submit(partial(self._answer_in_thread, connection, request, self._load.end))
            else:
                self._hub.spawn(partial(self._answer_here, connection, request))

    def _begin_aside(self, connection: Connection, request: Request) -> None:
        # Whoever asks and goes away leaves work behind, so connections alone do not bound it.
        if self._asides >= MOST_CONNECTIONS:
            connection.answer(_too_many(request))
            return
        self._asides += 1
        request.environ[ASK] = partial(self._waits.ask, request)
        self._pool.submit(partial(self._answer_in_thread, connection, request, self._end_aside))

    def _end_aside(self) -> None:
        self._asides -= 1

    def has_room(self, more: int) -> bool:
        """Whether so many more bytes of long bodies may be kept."""
        if more > 0 and self._long_bytes + more > MOST_LONG_BYTES:
            return False
        self._long_bytes += more
        return True

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call it in the loop's thread."""
        self._loop.call_soon(function)

    def know(self, connection: Connection) -> None:
        """A connection is open."""
        self._connections.add(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is closed, so there is room for another."""
        self._connections.discard(connection)
        if self._stop_wanted:
            self._end_if_idle()
        elif not self._listening:
            self._listen()

    # Answering.

    def _answer_here(self, connection: Connection, request: Request) -> None:
        raw = self._call(request)
        self._load.end()
        connection.answer(raw)

    def _answer_in_thread(self, connection: Connection, request: Request, ended: Callable[[], None]) -> None:
        # A webhook is stored, whoever still listens. Everything else is only an answer.
        unheard = connection.is_gone and not request.path.startswith(WEBHOOKS)
        raw = b"" if unheard else self._call(request)

        def answer() -> None:
            ended()
            if not self._waits.begin(connection, request, raw):
                connection.answer(raw)

        self._hub.call(answer)

    def _call(self, request: Request) -> bytes:
        try:
            return call(self._app, request)
        except Exception as error:  # noqa: BLE001 - the application answers for its own errors; this is what it missed
            log.error("application_failed", error=where(error))
            return _bodiless(request, brief(500, "internal trouble", keep_alive=request.keep_alive))

    # Connections.

    def _listen(self) -> None:
        if not self._stop_wanted:
            self._listening = True
            self._loop.add_reader(self._listener, self._accept)

    def _deafen(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        if self._is_full():
            self._deafen()
            return
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of files or memory: try again when connections may have ended. `_tick` listens again.
            log.warning("connection_not_accepted", error=type(error).__name__)
            self._deafen()
            return
        sock.setblocking(False)
        connection = Connection(self)
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: connection, sock))
        self._accepting.add(task)
        task.add_done_callback(partial(self._accepted, connection))

    def _accepted(self, connection: Connection, task: "asyncio.Task[object]") -> None:
        self._accepting.discard(task)
        if self._stop_by is not None and connection in self._connections:
            connection.stop()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("connection_not_accepted", error=type(error).__name__)

    def _is_full(self) -> bool:
        return len(self._connections) + len(self._accepting) >= MOST_CONNECTIONS

    def _tick(self) -> None:
        # First, so that nothing that goes wrong with one connection ends the time limits of all.
        self._loop.call_later(TICK, self._tick)
        now = monotonic()
        for connection in list(self._connections):
            connection.look(now)
        self._waits.look()
        if self._stop_by is not None and now > self._stop_by:
            self._loop.stop()
        elif not self._stop_wanted and not self._listening and not self._is_full():
            self._listen()

    # Its end.

    def _wind_down(self) -> None:
        if self._stop_by is not None:
            return
        self._stop_by = monotonic() + GRACE_SECONDS
        self._deafen()
        self._waits.stop()
        # Twice round the loop, so that what has arrived by now is read before its connection is taken for idle.
        self._loop.call_soon(self._loop.call_soon, self._stop_connections)

    def _stop_connections(self) -> None:
        for connection in list(self._connections):
            connection.stop()
        self._loop.call_later(ARRIVING_SECONDS, self._stop_arriving)
        self._loop.call_later(GRACE_SECONDS, self._loop.stop)
        self._end_if_idle()

    def _stop_arriving(self) -> None:
        for connection in list(self._connections):
            connection.stop_arriving()

    def _end_if_idle(self) -> None:
        if not self._connections and not self._accepting and self._stop_by is not None:
            self._loop.stop()

    def _abandon(self) -> None:
        """Close what the grace was too short for, and let the loop free it."""
        self._stop_by = None
        for task in self._accepting:
            task.cancel()
        for connection in list(self._connections):
            connection.abort()
        for _ in range(2):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()


def _too_many(request: Request) -> bytes:
    sentence = "too many requests are waiting"
    target = request.path.encode("latin-1")
    answer = brief(503, sentence, keep_alive=request.keep_alive, retry_after=RETRY_AFTER_SECONDS, target=target)
    return _bodiless(request, answer)


def _bodiless(request: Request, answer: bytes) -> bytes:
    """An answer to HEAD is a head: what follows would be taken for the next answer."""
    if request.environ["REQUEST_METHOD"] != "HEAD":
        return answer
    return answer[: answer.index(b"\r\n\r\n") + 4]
