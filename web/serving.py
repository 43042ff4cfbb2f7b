"""How the application is served: everything in one process (`up`), or as one of the receivers below a supervisor."""

import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from flask import Flask

from web.api.wire import LARGEST_BODY
from web.app import create_app
from web.http_server import serve
from web.supervising import OnReady, address, open_listeners, worker_grace
from worker import garbage, tasks
from worker.celery_app import make_app, ring, worker_threads
from worker.embedded import EmbeddedWorker
from worker.errors import SchemaMismatch
from worker.greenlets import Greenlets
from worker.instance_lock import only_instance
from worker.providers.base import matches_any
from worker.runtime import Runtime
from worker.settings import WEBHOOK_SECRET_KEYS, Settings, Source
from worker.store import schema
from worker.store.engine import UNAVAILABLE
from worker.tasks import CANNOT_START

STRANGERS_BODY_LIMIT = 16 * 1024
"""For who cannot be right, and will be refused. A provider whose token is wrong should still be seen in quarantine, and
most notifications are shorter than this."""

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
