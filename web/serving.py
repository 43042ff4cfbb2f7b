"""How the application is served: everything in one process (`up`), or as supervised processes (`web`, `worker`)."""

import os
import signal
import socket
from collections.abc import Callable
from functools import partial

import structlog

from web.app import create_app
from web.waitress_server import serve
from worker import tasks
from worker.celery_app import make_app, ring, worker_threads
from worker.embedded import EmbeddedWorker
from worker.instance_lock import only_instance
from worker.runtime import Runtime
from worker.settings import MEBIBYTE, Settings
from worker.store import schema
from worker.supervisor import Supervisor, python_commands

WORKER_GRACE_SECONDS = 45.0
"""For calls in flight when a worker stops: their deadline is at most half of the lease, and then they are written."""

WEB_GRACE_SECONDS = 25.0
"""For requests in flight when a receiver stops; they wait for a commit, never for a provider."""

API_BODY_LIMIT = MEBIBYTE

OnReady = Callable[[str], None]

log = structlog.get_logger(__name__)


def serve_embedded(settings: Settings, on_ready: OnReady) -> None:
    """Receiver, worker and scheduler in this process, until SIGTERM or SIGINT. Raises StoreError if another one
    runs."""
    with only_instance(settings):
        app = make_app(settings, "worker")
        runtime = Runtime(settings, ring_with=partial(ring, app))
        tasks.register(app, runtime.drain)
        schema.migrate(runtime.database)
        runtime.start_working()
        worker = EmbeddedWorker(app, worker_threads(settings))
        worker.start()
        try:
            _serve(settings, runtime, on_ready, worker)
        finally:
            runtime.stop_working()
            worker.stop(WORKER_GRACE_SECONDS)
            runtime.close()


def serve_receiver(settings: Settings, listener: socket.socket | None = None) -> None:
    """One web process of a distributed deployment, until SIGTERM or SIGINT."""
    runtime = Runtime(settings)
    runtime.start_receiving()
    try:
        _serve(settings, runtime, lambda url: log.info("receiver_ready", url=url), listener=listener)
    finally:
        runtime.close()


def supervise_web(settings: Settings) -> int:
    """`verisink web`: receivers that share one port. The socket is opened here, so no restart of one loses a
    connection."""
    with open_listener(settings) as listener:
        number = listener.fileno()
        commands = python_commands("web", settings.web_processes, "web.process", str(number))
        return Supervisor(commands, grace_seconds=WEB_GRACE_SECONDS, pass_fds=(number,)).run()


def supervise_worker(settings: Settings) -> int:
    """`verisink worker`: Celery workers, each with its scheduler."""
    commands = python_commands("worker", settings.worker_processes, "worker.process")
    return Supervisor(commands, grace_seconds=WORKER_GRACE_SECONDS).run()


def supervise_all(settings: Settings, on_ready: OnReady) -> int:
    """`verisink up` with a broker: receivers and workers below one supervisor, after the migration."""
    schema.migrate(Runtime(settings).database)
    with open_listener(settings) as listener:
        number = listener.fileno()
        on_ready(address(listener))
        commands = {
            **python_commands("web", settings.web_processes, "web.process", str(number)),
            **python_commands("worker", settings.worker_processes, "worker.process"),
        }
        return Supervisor(commands, grace_seconds=WORKER_GRACE_SECONDS, pass_fds=(number,)).run()


def open_listener(settings: Settings) -> socket.socket:
    """The listening socket of the receivers."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    os.set_inheritable(listener.fileno(), True)
    return listener


def body_limit(settings: Settings) -> Callable[[str], int]:
    """The longest body that a path takes, by which the server refuses others before it has read them."""
    limits = {f"/webhooks/{slug}": source.max_body_bytes for slug, source in settings.sources.items()}

    def limit(path: str) -> int:
        return limits.get("/".join(path.split("/", 3)[:3]), API_BODY_LIMIT)

    return limit


def _serve(
    settings: Settings,
    runtime: Runtime,
    on_ready: OnReady,
    worker: EmbeddedWorker | None = None,
    listener: socket.socket | None = None,
) -> None:
    checks = (
        {} if worker is None else {"worker": lambda: None if worker.alive() else "the embedded worker is restarting"}
    )
    owned = listener or open_listener(settings)
    server = serve(
        create_app(runtime, checks), listener=owned, threads=settings.web_threads, body_limit=body_limit(settings)
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    on_ready(address(owned))
    server.run()


def address(listener: socket.socket) -> str:
    """Where a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
