"""The embedded worker: Celery inside this process, on a broker in memory, restarted whenever it ends.

`celery.worker.state.should_stop` is global to a process, so there is at most one of these in it.
"""

import os
import threading

import structlog
from celery import Celery
from celery.worker import WorkController

from worker.log import where

log = structlog.get_logger(__name__)

RESTART_PAUSE = 1.0

RESTART_SECONDS = 15.0
"""For a controller that was told to stop: it waits for its tasks, and one that is stuck would be waited for in vain."""


class EmbeddedWorker:
    """Runs `app`'s tasks in threads of this process. Nothing is lost with the memory broker: messages are nudges."""

    def __init__(self, app: Celery, threads: int) -> None:
        self._app = app
        self._threads = threads
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._controller: WorkController | None = None
        self._thread = self._make_thread()

    def start(self, wait_seconds: float = 10.0) -> None:
        """Start it, and wait until it takes tasks. Raises TimeoutError."""
        # The threads of Celery's pool look for a task's address in the application that is the process's default.
        self._app.set_default()
        self._thread.start()
        if not self._ready.wait(wait_seconds):
            raise TimeoutError(f"the embedded Celery worker was not ready within {wait_seconds:.0f} s")

    def alive(self) -> bool:
        """Whether tasks are being taken."""
        return self._thread.is_alive() and self._ready.is_set()

    def stop(self, wait_seconds: float) -> None:
        """Take no more tasks, and let those under way end."""
        self._stopping.set()
        if self._controller is not None:
            self._controller.stop()
        self._thread.join(wait_seconds)

    def restart(self, reason: str) -> None:
        """Replace the controller by a new one, for what the watchdog found. One that cannot be stopped is left behind
        with its thread: this process also receives, and must live on."""
        log.error("embedded_worker_restarted_by_watchdog", reason=reason)
        self._ready.clear()
        stuck = self._controller
        if stuck is not None:
            threading.Thread(target=stuck.stop, name="celery-embedded-stop", daemon=True).start()
        if self._ready.wait(RESTART_SECONDS) or self._stopping.is_set():
            return
        log.error("embedded_worker_left_behind")
        self._thread = self._make_thread()
        self._thread.start()

    def _make_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="celery-embedded", daemon=True)

    def _run(self) -> None:
        while not self._stopping.is_set() and threading.current_thread() is self._thread:
            try:
                self._controller = self._make_controller()
                self._controller.start()
            except Exception as error:  # noqa: BLE001 - whatever ends the worker, the next one begins a second later
                log.error("embedded_worker_died", error=where(error))
            except SystemExit as ended:
                log.warning("embedded_worker_exited", code=ended.code)
            if threading.current_thread() is self._thread:
                # One that was left behind ends when it can, and its successor is ready all the same.
                self._ready.clear()
            self._stopping.wait(RESTART_PAUSE)

    def _make_controller(self) -> WorkController:
        ready = self._ready

        class Controller(WorkController):
            def on_consumer_ready(self, consumer: object) -> None:
                ready.set()

        return Controller(
            app=self._app,
            concurrency=self._threads,
            pool="threads",
            hostname=f"embedded@{os.getpid()}",
            loglevel="ERROR",
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
        )
