"""The calls of a process: greenlets in one loop, which has a thread to itself.

A call waits for its provider most of the time. As threads, those that have their answers would wait for each other to
use the interpreter, and be woken for nothing.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import uvloop

from worker.greenlets import Greenlets, Hub, Pool

ASIDE_THREADS = 4
"""For what takes the processor for long. Nothing that a call does blocks otherwise."""

Result = TypeVar("Result")


class Calls:
    """Runs what waits for providers, as whatever waits by `waiter`. Its thread begins with the first of them, and keeps
    no process from ending."""

    def __init__(self) -> None:
        self.waiter = Greenlets()
        self._lock = threading.Lock()
        self._hub: Hub | None = None

    def start(self, jobs: Iterable[Callable[[], object]]) -> None:
        """Run each job, which must not raise, in a greenlet. Returns at once. Raises, for all of them, what keeps a
        thread from starting."""
        with self._lock:
            hub = self._hub = self._hub or _started()
        begun = list(jobs)

        for job in begun:
            # Each by itself, so that none that breaks takes the others along.
            hub.call(partial(hub.spawn, job))

    def aside(self, function: Callable[[], Result]) -> Result:
        """What `function` returns or raises, while other calls go on."""
        return self.waiter.aside(function)

    def close(self) -> None:
        """End its thread, and what is under way in it: there, GreenletExit is raised."""
        with self._lock:
            hub, self._hub = self._hub, None
        if hub is not None:
            hub.call(hub.abandon)
            hub.call(hub.loop.stop)


def _started() -> Hub:
    hubs: list[Hub] = []
    ready = threading.Event()
    # Here, so that whoever asks hears of it if there are no files left.
    loop = uvloop.new_event_loop()

    def run() -> None:
        pool = Pool("call-aside", ASIDE_THREADS)
        hub = Hub(loop, pool)
        hubs.append(hub)
        ready.set()
        try:
            loop.run_forever()
        finally:
            pool.stop()
            hub.end()
            loop.close()

    try:
        threading.Thread(target=run, name="calls", daemon=True).start()
    except RuntimeError:
        loop.close()
        raise
    ready.wait()
    return hubs[0]
