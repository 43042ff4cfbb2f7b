"""The supervisors of a distributed deployment (`web`, `worker`), and what they hand to those below them.

They serve nothing themselves, so nothing is imported here of what serves: it is loaded by its name where it is needed.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from worker import lean
from worker.counting import counting_folder
from worker.errors import CannotListen
from worker.settings import WRITE_SHARE, Settings
from worker.supervisor import Supervisor, python_commands

SPARE_GRACE_SECONDS = 5.0
"""Of a worker's grace, for all that is not a call or its writing."""

WEB_GRACE_SECONDS = 25.0
"""For requests in flight when a receiver stops; they wait for a commit, never for a provider."""

NO_RECEIVE = "--no-receive"
"""Told to a web process that takes no webhooks."""

OnReady = Callable[[str], None]


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
    database = lean.load("worker.runtime").Runtime(settings).database
    lean.load("worker.store.schema").migrate(database)
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
            stack.enter_context(_exposition(settings, None if counting is None else counting.path))
        return Supervisor(commands, grace_seconds=grace_seconds, pass_fds=pass_fds, counting=counting).run()


def _exposition(settings: Settings, folder: Path | None) -> AbstractContextManager[None]:
    """The metrics of all below this process, served on a port of their own until the context is left."""
    left = None
    if settings.budget_url is not None:
        left = lean.load("worker.pipeline.budget").Budgets(settings.sources, settings.budget_url).left
    shown = lean.load("worker.exposition").Exposition(settings, left, folder=folder)
    served: AbstractContextManager[None] = shown.served()
    return served


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


def address(listener: socket.socket) -> str:
    """Where a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
