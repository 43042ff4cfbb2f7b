"""How the application is served: everything in one process (`up`), or as supervised processes (`web`, `worker`)."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import structlog
from flask import Flask

from web.api.wire import LARGEST_BODY
from web.app import create_app
from web.greenlets import Greenlets
from web.http_server import serve
from worker import garbage, tasks
from worker.celery_app import make_app, ring, worker_threads
from worker.counting import counting_folder
from worker.embedded import EmbeddedWorker
from worker.errors import CannotListen, SchemaMismatch
from worker.exposition import Exposition
from worker.instance_lock import only_instance
from worker.pipeline.budget import Budgets
from worker.pipeline.retrieve import WRITE_SHARE
from worker.providers.base import matches_any
from worker.runtime import Runtime
from worker.settings import WEBHOOK_SECRET_KEYS, Settings, Source
from worker.store import schema
from worker.store.engine import UNAVAILABLE
from worker.supervisor import Supervisor, python_commands
from worker.tasks import CANNOT_START

SPARE_GRACE_SECONDS = 5.0
"""Of a worker's grace, for all that is not a call or its writing."""

WEB_GRACE_SECONDS = 25.0
"""For requests in flight when a receiver stops; they wait for a commit, never for a provider."""

STRANGERS_BODY_LIMIT = 16 * 1024
"""For who cannot be right, and will be refused. A provider whose token is wrong should still be seen in quarantine, and
most notifications are shorter than this."""

NO_RECEIVE = "--no-receive"
"""Told to a web process that takes no webhooks."""

OnReady = Callable[[str], None]

log = structlog.get_logger(__name__)


def serve_embedded(settings: Settings, on_ready: OnReady, *, receives: bool = True) -> None:
    """Receiver, worker and scheduler in this process, until SIGTERM or SIGINT. Raises StoreError if another one runs or
    the database's folder cannot be used, CannotListen, and TimeoutError if the worker does not start."""
    # The port comes first: one that is taken must not be found out about by a worker that has begun already.
    with only_instance(settings), open_listeners(settings, 1) as (listener,):
        app = make_app(settings, "worker")
        runtime = Runtime(settings, ring_with=partial(ring, app), waiter=Greenlets())
        tasks.register(app, runtime.drain)
        schema.migrate(runtime.database)
        runtime.start_working()
        runtime.start_spooling()
        worker = EmbeddedWorker(app, worker_threads(settings))
        try:
            worker.start()
            runtime.watch(worker.restart)
            site = create_app(runtime, {"worker": partial(_worker_trouble, worker)}, receives=receives)
            with runtime.exposition.served():
                _serve(settings, site, on_ready, listener)
        finally:
            runtime.stop_working()
            worker.stop(worker_grace(settings))
            runtime.close()


def serve_receiving_only(settings: Settings, on_ready: OnReady) -> None:
    """Receiver and API in this process, without a worker: what is taken waits in the database. Raises what
    `serve_embedded` does, but for TimeoutError."""
    with only_instance(settings), open_listeners(settings, 1) as (listener,):
        runtime = Runtime(settings, waiter=Greenlets())
        try:
            schema.migrate(runtime.database)
            runtime.start_receiving()
            _serve(settings, create_app(runtime), on_ready, listener)
        finally:
            runtime.close()


def serve_receiver(settings: Settings, listener: socket.socket, *, receives: bool = True) -> None:
    """One web process of a distributed deployment, until SIGTERM or SIGINT. Raises SystemExit where the database is
    not the one that it needs."""
    runtime = Runtime(settings, waiter=Greenlets())
    try:
        runtime.start_receiving()
    except SchemaMismatch as error:
        log.error("receiver_cannot_start", reason=str(error))
        raise SystemExit(CANNOT_START) from None
    except UNAVAILABLE as error:
        # Providers are better told 503 than left without an answer.
        log.warning("receiver_without_database", error=type(error).__name__)
    try:
        site = create_app(runtime, receives=receives)
        _serve(settings, site, lambda url: log.info("receiver_ready", url=url), listener)
    finally:
        runtime.close()


def supervise_web(settings: Settings) -> int:
    """`verisink web`: receivers that share one port."""
    with open_listeners(settings, settings.web_processes) as listeners:
        return _supervise(settings, _web_commands(listeners), WEB_GRACE_SECONDS, _numbers(listeners))


def supervise_worker(settings: Settings) -> int:
    """`verisink worker`: Celery workers, each with its scheduler. Raises CannotListen."""
    commands = python_commands("worker", settings.worker_processes, "worker.process")
    return _supervise(settings, commands, worker_grace(settings))


def supervise_all(settings: Settings, on_ready: OnReady, *, receives: bool = True, works: bool = True) -> int:
    """`verisink up` with a broker: receivers and workers below one supervisor, after the migration. Without receivers
    one web process serves health, metrics and the API."""
    database = Runtime(settings).database
    schema.migrate(database)
    database.dispose()
    with open_listeners(settings, settings.web_processes if receives else 1) as listeners:
        on_ready(address(listeners[0]))
        workers = python_commands("worker", settings.worker_processes if works else 0, "worker.process")
        commands = {**_web_commands(listeners, *(() if receives else (NO_RECEIVE,))), **workers}
        return _supervise(settings, commands, worker_grace(settings), _numbers(listeners))


def _supervise(
    settings: Settings, commands: Mapping[str, Sequence[str]], grace_seconds: float, pass_fds: Sequence[int] = ()
) -> int:
    """Run the commands, whose processes count together where anybody could see that."""
    receivers = any(name.startswith("web") for name in commands)
    # A single receiver too: what it had counted would be gone with it, and a crash that repeats would not be seen.
    together = settings.metrics_port is not None or receivers
    with counting_folder(wanted=together) as counting, ExitStack() as stack:
        if settings.metrics_port is not None:
            budgets = Budgets(settings.sources, settings.budget_url) if settings.budget_url is not None else None
            path = None if counting is None else counting.path
            shown = Exposition(settings, budgets.left if budgets else None, folder=path)
            stack.enter_context(shown.served())
        return Supervisor(commands, grace_seconds=grace_seconds, pass_fds=pass_fds, counting=counting).run()


def worker_grace(settings: Settings) -> float:
    """Seconds for calls in flight when a worker stops: until their deadline, and then until they are written."""
    return settings.call_deadline_seconds + settings.lease_seconds * WRITE_SHARE + SPARE_GRACE_SECONDS


@contextmanager
def open_listeners(settings: Settings, count: int) -> Iterator[list[socket.socket]]:
    """`count` listening sockets on one port, one for each process, among which the system spreads the connections.

    They are opened by who supervises, so that no connection is lost when a process is restarted. Raises
    CannotListen.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with ExitStack() as opened:
        listeners: list[socket.socket] = []
        try:
            for _ in range(count):
                port = listeners[0].getsockname()[1] if listeners else settings.port
                place = (settings.host, port)
                listener = socket.create_server(place, family=family, backlog=1024, reuse_port=count > 1)
                listener.set_inheritable(True)
                listeners.append(opened.enter_context(listener))
        except OSError as error:
            sentence = f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"
            raise CannotListen(sentence) from None
        yield listeners


def _web_commands(listeners: Sequence[socket.socket], *options: str) -> dict[str, list[str]]:
    return {
        f"web-{number}": [sys.executable, "-m", "web.process", str(listener.fileno()), str(os.getpid()), *options]
        for number, listener in enumerate(listeners, start=1)
    }


def _numbers(listeners: Sequence[socket.socket]) -> list[int]:
    return [listener.fileno() for listener in listeners]


def body_limit(settings: Settings) -> Callable[[str], int]:
    """The longest body that a path takes, by which the server refuses others before it has read them.

    The path is WSGI's: percent-decoded, each byte a character. A token in it is looked at here already, because without
    it anybody could have the longest bodies read and kept.
    """
    plain = {
        f"/webhooks/{slug}": source.max_body_bytes for slug, source in settings.sources.items() if _is_plain(source)
    }

    def limit(path: str) -> int:
        if path in plain:
            return plain[path]
        # Slashes before the path are one to the application.
        first, *rest = path.lstrip("/").split("/")
        if first != "webhooks":
            return LARGEST_BODY
        source = settings.sources.get(rest[0]) if rest else None
        return source.max_body_bytes if source and _may_be_right(source, rest[1:]) else STRANGERS_BODY_LIMIT

    return limit


def _may_be_right(source: Source, behind: Sequence[str]) -> bool:
    """Whether what stands behind the source in the path is the token, where the provider has one there."""
    if _is_plain(source):
        return True
    tokens = [token.get_secret_value().encode("utf-8") for token in source.webhook_tokens]
    return len(behind) == 1 and matches_any(behind[0].encode("latin-1"), tokens)


def _is_plain(source: Source) -> bool:
    """Whether nothing of its address is a secret."""
    return WEBHOOK_SECRET_KEYS.get(source.provider) != "webhook_tokens"


def _worker_trouble(worker: EmbeddedWorker) -> str | None:
    return None if worker.alive() else "the embedded worker is restarting"


def _serve(settings: Settings, site: Flask, on_ready: OnReady, listener: socket.socket) -> None:
    server = serve(site, listener=listener, threads=settings.web_threads, body_limit=body_limit(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    garbage.settle()
    on_ready(address(listener))
    server.run()


def address(listener: socket.socket) -> str:
    """Where a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
