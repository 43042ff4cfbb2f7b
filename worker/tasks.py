"""The Celery tasks. A task is an address: the work is in `worker.pipeline`, callable without a broker."""

from collections.abc import Callable
from typing import NoReturn

import structlog
from celery import Celery, Task, signals

from worker import garbage
from worker.celery_app import DRAIN_TASK, make_app, ring, worker_threads
from worker.errors import SchemaMismatch
from worker.runtime import Runtime
from worker.settings import Settings
from worker.store.engine import UNAVAILABLE
from worker.watchdog import end_process

log = structlog.get_logger(__name__)

CANNOT_START = 3
"""The exit status of a worker that must not run on this database; its supervisor tries again, more and more seldom."""


def register(app: Celery, drain: Callable[[str], None]) -> None:
    """Make `app` answer nudges by calling `drain(source)`."""

    # Shared, it would also be given to every other application of this process, where the first of its name stays.
    @app.task(name=DRAIN_TASK, shared=False, bind=True)
    def drain_source(self: "Task[[str], None]", source: str) -> None:
        with structlog.contextvars.bound_contextvars(task=self.request.id):
            drain(source)


def make_worker_app(settings: Settings) -> Celery:
    """The application that `celery -A worker` runs: its runtime starts with the worker and stops with it."""
    app = make_app(settings, "worker")
    app.conf.worker_concurrency = worker_threads(settings)
    runtime = Runtime(settings, ring_with=(lambda source: ring(app, source)) if settings.embedded else None)
    register(app, runtime.drain)
    _follow_worker(runtime)
    return app


def work(app: Celery) -> int:
    """Work until told to stop, as `celery worker` does; returns the exit status. Celery's command line itself would
    load what it needs to read from a terminal, seven megabytes of it."""
    worker = app.Worker(
        pool_cls="threads",
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return worker.exitcode or 0


def _follow_worker(runtime: Runtime) -> None:
    """Start and stop the runtime's threads with the Celery worker of this process."""

    def start(**_: object) -> None:
        try:
            runtime.start_working()
            runtime.watch(end_process)
            garbage.settle()
        except SchemaMismatch as error:
            refuse(str(error))
        except UNAVAILABLE:
            refuse("the database cannot be reached")

    def refuse(reason: str) -> NoReturn:
        # Celery logs and forgets what a receiver of a signal raises, except for this.
        log.error("worker_cannot_start", reason=reason)
        raise SystemExit(CANNOT_START)

    def keep_our_logging(**_: object) -> None:
        """Having a receiver of this signal is what stops Celery from setting up logging of its own."""

    # Celery holds receivers weakly, and these closures have no other owner.
    signals.setup_logging.connect(keep_our_logging, weak=False)
    signals.worker_init.connect(start, weak=False)
    signals.worker_shutting_down.connect(lambda **_: runtime.stop_working(), weak=False)
    signals.worker_shutdown.connect(lambda **_: runtime.close(), weak=False)
